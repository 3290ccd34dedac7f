package symbol

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// The call frame information of an executable: for every instruction, where the caller's registers are. Its
// format is that of DWARF 5, section 6.4, with the changes of the Linux Standard Base for .eh_frame ("Core
// Generic", 10.6): relative pointers and augmentations.

// frameTable is a .eh_frame section, sorted for search.
type frameTable struct {
	data []byte
	// base is the address of data.
	base    uint64
	cies    []cie
	entries []frameEntry // by start, without overlap
}

// cie is a Common Information Entry: what several functions share.
type cie struct {
	codeAlign     uint64
	dataAlign     int64
	returnAddress uint64 // the register that stands for it
	encoding      uint8  // of the pointers in its functions
	augmented     bool   // its functions have augmentation data, with their length in front
	signal        bool   // they are called by the kernel on a signal, not by an instruction
	instructions  [2]uint32
}

// frameEntry is the part of a Frame Description Entry that a search needs: one function.
type frameEntry struct {
	start        uint64
	size         uint32
	cie          uint32 // index in cies
	instructions [2]uint32
}

// maxFrameBytes is the largest .eh_frame that is read. That of a browser engine has 30 MiB.
const maxFrameBytes = 64 << 20

// Pointer encodings: DW_EH_PE of the Linux Standard Base.
const (
	pointerOmitted  = 0xff
	pointerIndirect = 0x80
	pointerRelation = 0x70 // what it is relative to
	pointerToItself = 0x10 // its own address
	pointerFormat   = 0x0f
)

// errNoFrames is the error for a section without a function in it.
var errNoFrames = errors.New("there is no function in it")

// parseFrames reads a .eh_frame section that is loaded at an address. Entries of a form that is not known
// are left out, and so is everything behind a record that is damaged.
func parseFrames(data []byte, base uint64) (*frameTable, error) {
	if len(data) > maxFrameBytes {
		return nil, fmt.Errorf("its unwind information has %d bytes, more than %d", len(data), maxFrameBytes)
	}
	t := &frameTable{data: data, base: base}
	index := map[int]int{} // of CIEs by their offset; -1 for one of an unknown form
	r := &reader{data: data}
	for r.at < len(data) {
		from := r.at
		length := uint64(r.u32())
		if length == 0 {
			break // the terminator
		}
		if length == 0xffffffff {
			length = r.u64()
		}
		idAt := r.at
		if r.bad || length < 4 || length > uint64(len(data)-idAt) {
			break
		}
		end := idAt + int(length)
		if id := r.u32(); id == 0 {
			index[from] = t.parseCIE(&reader{data: data[:end], at: r.at})
		} else if c, ok := index[idAt-int(id)]; ok && c >= 0 {
			t.parseFDE(&reader{data: data[:end], at: r.at}, c)
		}
		r.at = end
	}
	if len(t.entries) == 0 {
		return nil, errNoFrames
	}
	slices.SortStableFunc(t.entries, func(a, b frameEntry) int { return cmp.Compare(a.start, b.start) })
	return t, nil
}

// parseCIE reads what follows the id of a CIE and returns its index, -1 when its form is not known.
func (t *frameTable) parseCIE(r *reader) int {
	version := r.u8()
	augmentation := r.text()
	c := cie{}
	if version == 4 {
		r.take(2) // sizes of an address and of a segment selector
	}
	c.codeAlign, c.dataAlign = r.uleb(), r.sleb()
	if version == 1 {
		c.returnAddress = uint64(r.u8())
	} else {
		c.returnAddress = r.uleb()
	}
	if version != 1 && version != 3 && version != 4 || augmentation != "" && augmentation[0] != 'z' {
		return -1
	}
	if augmentation != "" {
		c.augmented = true
		length := r.uleb()
		end := r.at + int(min(length, uint64(len(r.data))))
		for _, letter := range augmentation[1:] {
			switch letter {
			case 'R':
				c.encoding = r.u8()
			case 'P':
				t.pointer(r, r.u8()&^pointerIndirect) // the language's own handler
			case 'L':
				r.u8()
			case 'S':
				c.signal = true
			case 'B', 'G': // arm64: the key of signed return addresses, tagged memory
			default:
				return -1
			}
		}
		r.at = end
	}
	c.instructions = [2]uint32{uint32(r.at), uint32(len(r.data))}
	if r.bad || r.at > len(r.data) || c.encoding == pointerOmitted || c.encoding&pointerIndirect != 0 {
		return -1
	}
	t.cies = append(t.cies, c)
	return len(t.cies) - 1
}

// parseFDE reads what follows the CIE pointer of an FDE.
func (t *frameTable) parseFDE(r *reader, index int) {
	c := &t.cies[index]
	start := t.pointer(r, c.encoding)
	size := t.pointer(r, c.encoding&pointerFormat)
	if c.augmented {
		r.take(int(min(r.uleb(), uint64(len(r.data)))))
	}
	// A linker that throws a function away leaves an entry for address 0.
	if r.bad || start == 0 || size == 0 || size > 1<<32-1 || start+size < start {
		return
	}
	t.entries = append(t.entries, frameEntry{start: start, size: uint32(size), cie: uint32(index),
		instructions: [2]uint32{uint32(r.at), uint32(len(r.data))}})
}

// pointer reads a pointer in one of the encodings that code addresses have.
func (t *frameTable) pointer(r *reader, encoding uint8) uint64 {
	at := t.base + uint64(r.at)
	var n uint64
	switch encoding & pointerFormat {
	case 0x00, 0x04, 0x0c:
		n = r.u64()
	case 0x01:
		n = r.uleb()
	case 0x02:
		n = uint64(r.u16())
	case 0x03:
		n = uint64(r.u32())
	case 0x09:
		n = uint64(r.sleb())
	case 0x0a:
		n = uint64(int16(r.u16()))
	case 0x0b:
		n = uint64(int32(r.u32()))
	default:
		r.bad = true
	}
	switch encoding & pointerRelation {
	case 0:
	case pointerToItself:
		n += at
	default:
		r.bad = true // relative to sections that code addresses are never relative to
	}
	return n
}

// find returns the entry of the function that has the address, nil when there is none.
func (t *frameTable) find(address uint64) *frameEntry {
	i, ok := slices.BinarySearchFunc(t.entries, address, func(e frameEntry, a uint64) int {
		return cmp.Compare(e.start, a)
	})
	if !ok {
		i--
	}
	if i < 0 || address-t.entries[i].start >= uint64(t.entries[i].size) {
		return nil
	}
	return &t.entries[i]
}
