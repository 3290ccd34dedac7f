package symbol

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMappingsAreRead(t *testing.T) {
	const text = `00400000-00401000 r--p 00000000 fe:01 12 /usr/bin/a
00401000-00402000 r-xp 00001000 fe:01 12 /usr/bin/a
7f0000000000-7f0000001000 rwxp 00000000 00:00 0
7f0000002000-7f0000003000 r-xp 00000000 fe:01 13                         /tmp/with a blank (deleted)
7ffe00000000-7ffe00002000 r-xp 00000000 00:00 0                          [vdso]
nonsense
7f0000005000-7f0000004000 r-xp 00000000 fe:01 13 /end/before/begin
`
	var got []mapping
	for _, m := range parseMaps([]byte(text)) {
		got = append(got, *m)
	}
	want := []mapping{
		{start: 0x401000, end: 0x402000, offset: 0x1000, device: "fe:01", inode: 12, path: "/usr/bin/a"},
		{start: 0x7f0000000000, end: 0x7f0000001000, device: "00:00"},
		{start: 0x7f0000002000, end: 0x7f0000003000, device: "fe:01", inode: 13, path: "/tmp/with a blank",
			deleted: true},
		{start: 0x7ffe00000000, end: 0x7ffe00002000, device: "00:00", path: "[vdso]"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestFunctionsAreNeverTheNearest(t *testing.T) {
	names := "\x00sized\x00local\x00unsized\x00"
	table := &functionTable{functions: []function{
		{start: 0x100, size: 0x20, name: 1, rank: 0},
		{start: 0x100, size: 0x20, name: 7, rank: 2},
		{start: 0x200, size: 0, name: 13},
	}}
	table.names = append(table.names, io.NewSectionReader(strings.NewReader(names), 0, int64(len(names))))
	for _, tt := range []struct {
		address uint64
		entry   *frameEntry
		want    string
	}{
		{0xff, nil, ""},
		{0x100, nil, "sized"},
		{0x11f, nil, "sized"},
		{0x120, nil, ""},
		{0x200, nil, ""},
		{0x210, &frameEntry{start: 0x200, size: 0x40}, "unsized"},
		{0x250, &frameEntry{start: 0x240, size: 0x40}, ""},
	} {
		if got, _ := table.find(tt.address, tt.entry); got != tt.want {
			t.Errorf("%#x: %q, want %q", tt.address, got, tt.want)
		}
	}
}

// TestGeneratedCodeIsFollowedByFramePointers is code without a file, called by code of a program.
func TestGeneratedCodeIsFollowedByFramePointers(t *testing.T) {
	o := &Object{Name: "program", frames: describe(t), rows: map[uint64]*row{},
		segments: []segment{{0, 0x10000, 0}}}
	const loaded, made, sp = 0x400000, 0x900000, 0x7000
	p := &Process{without: map[string]uint64{}, mappings: []*mapping{
		{start: loaded, end: loaded + 0x10000, object: o}, {start: made, end: made + 0x1000}}}
	var stack []byte
	for _, w := range []uint64{1, 2, sp + 32, loaded + begin + 20, 0, 0} { // at sp+16: frame pointer, return
		stack = binary.LittleEndian.AppendUint64(stack, w)
	}
	regs := make([]uint64, len(perfOrder))
	regs[slices.Index(perfOrder, registerPC)] = made + 0x10
	regs[slices.Index(perfOrder, registerSP)] = sp
	regs[slices.Index(perfOrder, registerFP)] = sp + 16
	trace := p.Unwind(&Sample{Registers: regs, Stack: stack})
	if want := []Place{{nil, made + 0x10}, {o, begin + 19}}; !slices.Equal(trace.Places, want) {
		t.Errorf("%+v, want %+v", trace.Places, want)
	}
	if text := strings.Join(p.Unknown(), "; "); !strings.Contains(text, "made at run time") {
		t.Errorf("said %q", text)
	}
}

// TestDebugFileNamesFunctions separates the symbols of a program from it, as distributions do.
func TestDebugFileNamesFunctions(t *testing.T) {
	directory := t.TempDir()
	source, program := filepath.Join(directory, "a.c"), filepath.Join(directory, "a")
	if err := os.WriteFile(source, []byte("int main(void) { return 0; }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tool := func(name string, arguments ...string) {
		if out, err := exec.Command(name, arguments...).CombinedOutput(); err != nil {
			t.Fatalf("%s is needed, which make deps installs: %v\n%s", name, err, out)
		}
	}
	tool("gcc", "-Wl,--build-id", "-o", program, source)
	whole := openObject(t, program)
	id := buildID(whole.buildID)
	at := filepath.Join(directory, "root", debugDirectory, id[:2])
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	tool("objcopy", "--only-keep-debug", program, filepath.Join(at, id[2:]+".debug"))
	tool("strip", program)

	stripped := openObject(t, program)
	p := &Process{directory: directory}
	place := Place{stripped, whole.symbolAddress("main")}
	if f := p.Name(place); f.Function != "" || f.Start != place.Address {
		t.Errorf("without the debug file: %+v", f)
	}
	p.openDebug(stripped)
	if f := p.Name(place); f.Function != "main" {
		t.Errorf("with the debug file: %+v", f)
	}
	stripped.release()
}

func openObject(t *testing.T, path string) *Object {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	o := newObject(path, bytes.NewReader(data))
	if o.reading != nil {
		t.Fatal(o.reading)
	}
	return o
}

// TestGoFrameSizes reads those of this test, and looks at every instruction of a function.
func TestGoFrameSizes(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := openObject(t, path)
	f := o.goLines.LookupFunc("github.com/whyspin/whyspin/internal/symbol.TestGoFrameSizes")
	if f == nil {
		t.Fatal("this function is not in the table")
	}
	first, ok := o.goFrames.size(f.Entry)
	if !ok || first != 0 {
		t.Errorf("at its entry the frame has %d bytes, %t", first, ok)
	}
	var largest uint64
	for a := f.Entry; a < f.End; a++ {
		if n, ok := o.goFrames.size(a); ok {
			largest = max(largest, n)
		}
	}
	if largest < 16 || largest > 1<<16 {
		t.Errorf("its frame has %d bytes", largest)
	}
}

// FuzzGoFrames feeds damaged tables of a Go program.
func FuzzGoFrames(f *testing.F) {
	table := binary.LittleEndian.AppendUint32(nil, goMagic120)
	table = append(table, 0, 0, 1, 8)
	for _, word := range []uint64{1, 0, 0, 0, 0, 0, 72, 72} {
		table = binary.LittleEndian.AppendUint64(table, word)
	}
	f.Add(append(table, make([]byte, 64)...), uint64(begin))
	f.Fuzz(func(t *testing.T, data []byte, address uint64) {
		parseGoFrames(data, begin).size(address)
	})
}
