package symbol

import (
	"cmp"
	"debug/elf"
	"encoding/binary"
	"io"
	"slices"
)

// functionTable is the functions that the symbol tables of a file name, sorted for search. Names stay in
// the file until they are asked for: those of a large program have a hundred megabytes.
type functionTable struct {
	functions []function
	// omitted is true exactly when there were more than maxFunctions.
	omitted bool
	names   []*io.SectionReader
}

// function is one symbol. A size of 0 means that the table does not say where the function ends.
type function struct {
	start uint64
	size  uint32
	name  uint32 // in its string table
	table uint8  // index in names
	rank  uint8  // global before weak before local
}

// maxFunctions bounds what is remembered of the symbol tables of one file: 24 bytes each. Browsers and
// proxies of the largest kind have a million.
const maxFunctions = 2 << 20

// maxNameBytes is the longest name that is read. Those of C++ may be longer and are cut.
const maxNameBytes = 4096

// functions returns the symbol tables of the object: .symtab of the file or of its debug file, and .dynsym.
func (o *Object) functions() *functionTable {
	if o.names != nil {
		return o.names
	}
	t := &functionTable{}
	o.names = t
	for _, f := range []*elf.File{o.file, o.debug} {
		if f == nil {
			continue
		}
		for _, s := range f.Sections {
			if s.Type == elf.SHT_SYMTAB || s.Type == elf.SHT_DYNSYM && f == o.file {
				t.read(f, s)
			}
		}
	}
	slices.SortStableFunc(t.functions, func(a, b function) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.rank, b.rank))
	})
	return t
}

// symbolBytes is the size of Elf64_Sym.
const symbolBytes = 24

// read takes over the functions of one symbol table. What cannot be read is not in it.
func (t *functionTable) read(f *elf.File, s *elf.Section) {
	if int(s.Link) >= len(f.Sections) || s.Flags&elf.SHF_COMPRESSED != 0 {
		return
	}
	names := f.Sections[s.Link]
	t.names = append(t.names, io.NewSectionReader(names, 0, int64(names.FileSize)))
	buffer := make([]byte, symbolBytes*2048)
	for at := int64(0); ; {
		n, err := s.ReadAt(buffer, at)
		at += int64(n)
		for b := buffer[:n]; len(b) >= symbolBytes; b = b[symbolBytes:] {
			t.add(b[:symbolBytes])
		}
		if err != nil || n < len(buffer) {
			return
		}
	}
}

// add takes over a symbol if it is a function that is defined in the file.
func (t *functionTable) add(b []byte) {
	const kindFunction, kindIndirect = 2, 10 // STT_FUNC, STT_GNU_IFUNC
	kind, binding := b[4]&0xf, b[4]>>4
	section := binary.LittleEndian.Uint16(b[6:])
	size := binary.LittleEndian.Uint64(b[16:])
	if kind != kindFunction && kind != kindIndirect || section == 0 || size > 1<<32-1 {
		return
	}
	if len(t.functions) == maxFunctions {
		t.omitted = true
		return
	}
	rank := [...]uint8{2, 0, 1}[min(binding, 2)] // STB_LOCAL, STB_GLOBAL, STB_WEAK
	t.functions = append(t.functions, function{
		start: binary.LittleEndian.Uint64(b[8:]), size: uint32(size),
		name: binary.LittleEndian.Uint32(b), table: uint8(len(t.names) - 1), rank: rank,
	})
}

// maxOverlap is how many symbols before the nearest are looked at: those of assembly overlap.
const maxOverlap = 8

// find returns the name of the function that has the address: one whose size says so, or one without a size
// that begins where, by the unwind information, the function begins (entry, nil when there is none). Never
// the nearest: between two exported functions may lie a hundred others.
func (t *functionTable) find(address uint64, entry *frameEntry) (name string, ok bool) {
	i, _ := slices.BinarySearchFunc(t.functions, address+1, func(f function, a uint64) int {
		return cmp.Compare(f.start, a)
	})
	var found *function
	for n := i - 1; n >= 0 && n >= i-maxOverlap; n-- {
		f := &t.functions[n]
		covers := address-f.start < uint64(f.size) ||
			f.size == 0 && entry != nil && f.start == entry.start
		// The last of those with the same start that covers is the one that sorts first.
		if covers && (found == nil || f.start == found.start) {
			found = f
		}
	}
	if found == nil {
		return "", false
	}
	name = t.text(found)
	return name, name != ""
}

// text reads the name of a function.
func (t *functionTable) text(f *function) string {
	var b []byte
	for len(b) < maxNameBytes {
		var part [64]byte
		n, err := t.names[f.table].ReadAt(part[:], int64(f.name)+int64(len(b)))
		if end := slices.Index(part[:n], 0); end >= 0 {
			return string(append(b, part[:end]...))
		}
		b = append(b, part[:n]...)
		if err != nil {
			return ""
		}
	}
	return string(b)
}
