package symbol

import (
	"debug/elf"
	"debug/gosym"
	"errors"
	"fmt"
	"io"
)

// Object is an executable or a shared library of a process. What it has is read when it is needed.
type Object struct {
	// Name is its path as the process sees it, or "[vdso]".
	Name string

	// file is nil when it could not be read; reading says why.
	file    *elf.File
	reading error
	close   io.Closer
	// debug is the file with its debugging symbols, nil when there is none.
	debug *elf.File

	segments []segment
	frames   *frameTable // nil when there is none, and framing says why
	framing  error
	rows     map[uint64]*row
	names    *functionTable // nil until it is asked for
	goLines  *gosym.Table   // nil for what is not a Go program
	goFrames *goFrames      // nil for that, and for one of a Go before 1.18
	buildID  []byte
}

// segment is a part of a file that is loaded.
type segment struct{ offset, size, address uint64 }

// errNotLoaded is the error for what has no part that is loaded.
var errNotLoaded = errors.New("it has no part that can be executed")

// newObject reads the tables of an object that unwinding needs.
func newObject(name string, from io.ReaderAt) *Object {
	o := &Object{Name: name, rows: map[uint64]*row{}}
	file, err := elf.NewFile(from)
	if err == nil && (file.Machine != machine || file.Class != elf.ELFCLASS64 ||
		file.ByteOrder.String() != "LittleEndian") {
		err = fmt.Errorf("it is for another machine (%v, %v)", file.Machine, file.Class)
	}
	if err != nil {
		return &Object{Name: name, reading: err}
	}
	o.file = file
	for _, p := range file.Progs {
		if p.Type == elf.PT_LOAD {
			o.segments = append(o.segments, segment{p.Off, p.Filesz, p.Vaddr})
		}
	}
	if len(o.segments) == 0 {
		return &Object{Name: name, reading: errNotLoaded}
	}
	o.readFrames()
	o.readBuildID()
	o.readGo()
	return o
}

func (o *Object) readFrames() {
	s := o.file.Section(".eh_frame")
	if s == nil || s.Type == elf.SHT_NOBITS {
		o.framing = errors.New("it has no section .eh_frame")
		return
	}
	data, err := sectionData(s, maxFrameBytes)
	if err != nil {
		o.framing = err
		return
	}
	o.frames, o.framing = parseFrames(data, s.Addr)
}

// sectionData reads a section of limited size.
func sectionData(s *elf.Section, limit uint64) ([]byte, error) {
	if s.Size > limit || s.FileSize > limit {
		return nil, fmt.Errorf("its section %s has %d bytes, more than %d", s.Name, s.Size, limit)
	}
	data, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("reading its section %s: %w", s.Name, err)
	}
	return data, nil
}

// address returns where in the file a place is that is loaded distance bytes after the begin of a mapping.
func (o *Object) address(distance, offset uint64) uint64 {
	at := offset + distance
	for _, s := range o.segments {
		if at >= s.offset && at-s.offset < s.size {
			return at - s.offset + s.address
		}
	}
	return at
}

// entry returns the unwind information of the function at an address, nil when there is none.
func (o *Object) entry(address uint64) *frameEntry {
	if o == nil || o.frames == nil {
		return nil
	}
	return o.frames.find(address)
}

// maxRows bounds the rows that are remembered for one object: 560 bytes each. A program that calls from more
// places than this has them computed again.
const maxRows = 8192

// row returns the rules at an address. Most samples come from few places, so they are remembered.
func (o *Object) row(e *frameEntry, address uint64) (*row, error) {
	if r, ok := o.rows[address]; ok {
		return r, nil
	}
	r, err := o.frames.row(e, address)
	if err != nil {
		return nil, err
	}
	if len(o.rows) >= maxRows {
		clear(o.rows)
	}
	o.rows[address] = r
	return r, nil
}

// readBuildID finds the build id: the note NT_GNU_BUILD_ID.
func (o *Object) readBuildID() {
	const maxNote, ntGNUBuildID = 4096, 3
	s := o.file.Section(".note.gnu.build-id")
	if s == nil {
		return
	}
	data, err := sectionData(s, maxNote)
	if err != nil {
		return
	}
	r := &reader{data: data}
	nameBytes, idBytes, kind := r.u32(), r.u32(), r.u32()
	name := r.take(int(nameBytes+3) &^ 3)
	id := r.take(int(idBytes))
	if !r.bad && kind == ntGNUBuildID && string(name) == "GNU\x00" {
		o.buildID = id
	}
}

// release closes the file.
func (o *Object) release() {
	if o.close != nil {
		_ = o.close.Close()
	}
}
