package symbol

import "debug/elf"

// Registers by their DWARF numbers: System V ABI, AMD64 Supplement, figure 3.36.
const (
	machine         = elf.EM_X86_64
	registerFP      = 6 // rbp
	registerSP      = 7 // rsp
	registerPC      = 16
	registerLink    = registerPC // there is none
	addressBits     = 64
	leafHasRegister = false // a call puts the return address on the stack
)

// PerfRegisters are the registers that a sample has to bring, as bits of
// arch/x86/include/uapi/asm/perf_regs.h: AX to IP, and R8 to R15.
const PerfRegisters = 0x1ff | 0xff<<16

// perfOrder are the DWARF numbers of those registers, in the order of their bits.
var perfOrder = []uint8{0, 3, 2, 1, 4, 5, 6, 7, 16, 8, 9, 10, 11, 12, 13, 14, 15}
