package symbol

import "debug/elf"

// Registers by their DWARF numbers: DWARF for the Arm 64-bit Architecture, section 4.1. The program counter
// has number 32 here, which is not a register of frames; the return address is in x30.
const (
	machine         = elf.EM_AARCH64
	registerFP      = 29
	registerSP      = 31
	registerPC      = 32
	registerLink    = 30
	addressBits     = 48 // what is above may be the signature of a return address
	leafHasRegister = true
)

// PerfRegisters are the registers that a sample has to bring, as bits of
// arch/arm64/include/uapi/asm/perf_regs.h: X0 to X30, SP and PC.
const PerfRegisters = 1<<33 - 1

// perfOrder are the DWARF numbers of those registers, in the order of their bits.
var perfOrder = func() (order []uint8) {
	for i := range uint8(33) {
		order = append(order, i)
	}
	return order
}()
