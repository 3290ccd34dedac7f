package symbol

import (
	"encoding/binary"
	"sort"
)

// goFrames says how large the frame of a Go function is at each of its instructions. Functions that call no
// other keep no frame pointer, and neither do those in assembly that make system calls: whoever follows frame
// pointers misses their callers. It reads the program's own table, whose format is that of
// runtime.pcHeader, runtime.functab and runtime._func since Go 1.18.
type goFrames struct {
	data    []byte
	text    uint64 // address of the first function
	count   int    // of functions
	quantum uint64 // of addresses
	values  int    // where in data the tables of values are: runtime.pcHeader.pctabOffset
	table   int    // where the table of functions is: pclnOffset
}

// Magic numbers of the table: Go 1.18 and 1.19, and from 1.20 on.
const (
	goMagic118 = 0xfffffff0
	goMagic120 = 0xfffffff1
)

// parseGoFrames reads the header of the table; nil when it is of another form.
func parseGoFrames(data []byte, text uint64) *goFrames {
	r := &reader{data: data}
	magic := r.u32()
	r.u16()
	g := &goFrames{data: data, text: text, quantum: uint64(r.u8())}
	pointerBytes := r.u8()
	count := r.u64()
	r.take(5 * 8) // number of files, address of the text, names, compilation units, files
	values, table := r.u64(), r.u64()
	size := uint64(len(data))
	if r.bad || magic != goMagic118 && magic != goMagic120 || pointerBytes != 8 || values > size ||
		table > size || count > (size-table)/8 {
		return nil
	}
	g.count, g.values, g.table = int(count), int(values), int(table)
	return g
}

// size returns the distance from the stack pointer to the return address of a function, or to where it would
// be, at an address in the function.
func (g *goFrames) size(address uint64) (bytes uint64, ok bool) {
	if g == nil || address < g.text || address-g.text > 1<<32-1 {
		return 0, false
	}
	offset := uint32(address - g.text)
	entry := func(i int) []byte { return g.data[g.table+8*i:][:8] }
	i := sort.Search(g.count, func(i int) bool { return binary.LittleEndian.Uint32(entry(i)) > offset }) - 1
	if i < 0 {
		return 0, false
	}
	const frameSizes = 16 // runtime._func.pcsp
	start := uint64(binary.LittleEndian.Uint32(entry(i)))
	at := uint64(g.table) + uint64(binary.LittleEndian.Uint32(entry(i)[4:])) + frameSizes
	if at > uint64(len(g.data)) {
		return 0, false
	}
	f := &reader{data: g.data, at: int(at)}
	sizes := uint64(g.values) + uint64(f.u32())
	if f.bad || sizes > uint64(len(g.data)) || sizes == uint64(g.values) {
		return 0, false
	}
	// Pairs of a change of the value, as zigzag, and the number of instructions for which it holds.
	r := &reader{data: g.data, at: int(sizes)}
	value := int64(-1)
	for first, pc := true, start; !r.bad; first = false {
		change := r.uleb()
		if change == 0 && !first {
			break
		}
		value += int64(change>>1) ^ -int64(change&1)
		if pc += r.uleb() * g.quantum; uint64(offset) < pc {
			return uint64(value), value >= 0 && !r.bad
		}
	}
	return 0, false
}

// goCaller returns the return address of the Go function at which a sample was taken, 0 when it is not known.
func (f *frame) goCaller(here Place, read memory) uint64 {
	size, ok := here.Object.goFrames.size(here.Address)
	if !ok {
		return 0
	}
	if leafHasRegister && size == 0 {
		address, _ := f.regs.get(registerLink)
		return address
	}
	if leafHasRegister {
		size = 0 // the lowest word of a frame
	}
	address, _ := read(f.regs.values[registerSP] + size)
	return address
}
