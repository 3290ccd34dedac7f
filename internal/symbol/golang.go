package symbol

import (
	"bytes"
	"debug/elf"
	"debug/gosym"
	"encoding/binary"
	"strings"
)

// goSections are the names that the table of functions and lines of a Go program has had.
var goSections = []string{".gopclntab", ".data.rel.ro.gopclntab"}

// The largest tables that are read. The largest Go programs have 60 MiB of lines and 100 MiB of names.
const (
	maxGoBytes   = 128 << 20
	maxNameTable = 128 << 20
)

// readGo reads the functions of a Go program. A library or a program in another language has none.
func (o *Object) readGo() {
	for _, name := range goSections {
		s := o.file.Section(name)
		if s == nil || s.Type == elf.SHT_NOBITS {
			continue
		}
		if data, err := sectionData(s, maxGoBytes); err == nil {
			o.goLines, o.goFrames = o.goTable(data)
		}
		return
	}
}

// goTable makes the table usable. It holds distances from the first Go function, whose address is in the
// table's header (Go 1.18 to 1.25), or is that of a symbol, or is where the text begins unless a C compiler's
// code comes first; that it does not is seen by the program's entry. It returns nil when the address cannot
// be told: names would be wrong.
func (o *Object) goTable(data []byte) (*gosym.Table, *goFrames) {
	const startAt = 8 + 2*8 // header: magic, quantum, pointer size, number of functions, of files, start
	var candidates []uint64
	if len(data) >= startAt+8 {
		candidates = append(candidates, binary.LittleEndian.Uint64(data[startAt:]))
	}
	candidates = append(candidates, o.symbolAddress("runtime.text"))
	text := o.file.Section(".text")
	if text != nil {
		candidates = append(candidates, text.Addr)
	}
	for i, start := range candidates {
		if text == nil || start < text.Addr || start-text.Addr >= text.Size {
			continue
		}
		table, err := gosym.NewTable(nil, gosym.NewLineTable(data, start))
		if err != nil || len(table.Funcs) == 0 {
			return nil, nil
		}
		first := table.PCToFunc(o.file.Entry)
		if i < 2 || first != nil && first.Entry == o.file.Entry && strings.HasPrefix(first.Name, "_rt0_") {
			return table, parseGoFrames(data, start)
		}
	}
	return nil, nil
}

// symbolAddress returns the address of a symbol of .symtab by its name, 0 when there is none.
func (o *Object) symbolAddress(name string) uint64 {
	symbols, names := o.file.Section(".symtab"), o.file.Section(".strtab")
	if symbols == nil || names == nil {
		return 0
	}
	text, err := sectionData(names, maxNameTable)
	if err != nil {
		return 0
	}
	at := bytes.Index(text, []byte("\x00"+name+"\x00"))
	if at < 0 {
		return 0
	}
	table, err := sectionData(symbols, maxFunctions*symbolBytes)
	if err != nil {
		return 0
	}
	for ; len(table) >= symbolBytes; table = table[symbolBytes:] {
		if binary.LittleEndian.Uint32(table) == uint32(at+1) {
			return binary.LittleEndian.Uint64(table[8:])
		}
	}
	return 0
}

// IsGo reports whether the object is a Go program.
func (o *Object) IsGo() bool { return o != nil && o.goLines != nil }

// goStarts are the functions that a goroutine or a thread of a Go program begins with, and those at which
// its runtime goes over to another stack.
var goStarts = map[string]bool{
	"runtime.goexit": true, "runtime.mstart": true, "runtime.rt0_go": true, "runtime.mcall": true,
	"runtime.mstart.abi0": true, "runtime.rt0_go.abi0": true, "runtime.goexit.abi0": true,
	"runtime.mcall.abi0": true, "runtime.systemstack": true, "runtime.systemstack.abi0": true,
	"runtime.morestack": true, "runtime.morestack.abi0": true, "runtime.sigtramp": true,
}

// startsGoThread reports whether the function at an address is one of those.
func (o *Object) startsGoThread(address uint64) bool {
	if o.goLines == nil {
		return false
	}
	f := o.goLines.PCToFunc(address)
	return f != nil && goStarts[f.Name]
}
