package symbol

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// section builds a .eh_frame section by hand.
type section struct{ bytes.Buffer }

func (s *section) u32(n uint32) {
	_ = binary.Write(s, binary.LittleEndian, n)
}

// record writes a record with its length in front.
func (s *section) record(body ...byte) {
	for (len(body)+4)%8 != 0 {
		body = append(body, 0) // DW_CFA_nop
	}
	s.u32(uint32(len(body)))
	s.Write(body)
}

// Registers of x86-64 in these tests.
const (
	rbx = 3
	rbp = 6
	rsp = 7
	rip = 16
)

// base is where the section is loaded, begin where the function begins that it describes.
const (
	base  = 0x5000
	begin = 0x1000
)

// commonEntry is a CIE as gcc writes it: version 1, "zR", rip in memory at CFA-8, CFA = rsp + 8.
var commonEntry = []byte{
	0, 0, 0, 0, 1, 'z', 'R', 0, 1, 0x78, rip, 1, 0x1b,
	0x0c, rsp, 8, 0x80 | rip, 1,
}

// describe builds a section with one function of 100 bytes.
func describe(t *testing.T, instructions ...byte) *frameTable {
	t.Helper()
	s := &section{}
	s.record(commonEntry...)
	at := s.Len() + 4
	body := binary.LittleEndian.AppendUint32(nil, uint32(at)) // distance to the CIE
	start := int64(begin) - int64(base+at+4)
	body = binary.LittleEndian.AppendUint32(body, uint32(int32(start)))
	body = binary.LittleEndian.AppendUint32(body, 100)
	body = append(body, 0) // no augmentation data
	s.record(append(body, instructions...)...)
	s.u32(0)
	table, err := parseFrames(s.Bytes(), base)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestFunctionsAreFoundByAddress(t *testing.T) {
	table := describe(t)
	for address, want := range map[uint64]bool{begin - 1: false, begin: true, begin + 99: true,
		begin + 100: false, 0: false, ^uint64(0): false} {
		if got := table.find(address) != nil; got != want {
			t.Errorf("%#x: %t, should be %t", address, got, want)
		}
	}
}

// TestRulesFollowThePrologue is a function that pushes rbp, makes it the frame pointer, and ends.
func TestRulesFollowThePrologue(t *testing.T) {
	table := describe(t,
		0x41,     // from byte 1:
		0x0e, 16, // CFA = rsp + 16
		0x80|rbp, 2, // rbp at CFA-16
		0x43,      // from byte 4:
		0x0d, rbp, // CFA = rbp + 16
		0x02, 90, // from byte 94:
		0x0a,         // remember
		0x0c, rsp, 8, // CFA = rsp + 8
		0xc0|rbp, // rbp has its value again
		0x41,     // from byte 95:
		0x0b,     // as before
	)
	for _, c := range []struct {
		at       uint64
		register uint64
		offset   int64
		rbp      rule
	}{
		{0, rsp, 8, rule{}},
		{1, rsp, 16, rule{ruleOffset, -16}},
		{4, rbp, 16, rule{ruleOffset, -16}},
		{93, rbp, 16, rule{ruleOffset, -16}},
		{94, rsp, 8, rule{}},
		{95, rbp, 16, rule{ruleOffset, -16}},
	} {
		r, err := table.row(table.find(begin), begin+c.at)
		if err != nil {
			t.Fatal(err)
		}
		if r.cfaRegister != c.register || r.cfaOffset != c.offset || r.registers[rbp] != c.rbp ||
			r.registers[rip] != (rule{ruleOffset, -8}) {
			t.Errorf("byte %d: CFA = %d + %d, rbp %v, rip %v", c.at, r.cfaRegister, r.cfaOffset,
				r.registers[rbp], r.registers[rip])
		}
	}
}

func TestUnknownInstructionsAreSaid(t *testing.T) {
	for name, instructions := range map[string][]byte{
		"an unknown instruction":         {0x3f},
		"a restored state without one":   {0x0b},
		"states without end":             bytes.Repeat([]byte{0x0a}, maxSavedRows+1),
		"a number without an end":        {0x0e, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80},
		"an expression that is too long": {0x0f, 0x7f, 1},
		"an absurdly long expression":    {0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
	} {
		table := describe(t, instructions...)
		if r, err := table.row(table.find(begin), begin+99); err == nil {
			t.Errorf("%s gives %+v", name, r)
		}
	}
}

// TestLinkageTableExpression is what binutils writes for the entries of a procedure linkage table:
// rsp + 8 + ((rip & 15) >= 11) * 8.
func TestLinkageTableExpression(t *testing.T) {
	program := []byte{0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22}
	for at, want := range map[uint64]uint64{0x1020: 0x7008, 0x102a: 0x7008, 0x102b: 0x7010, 0x102f: 0x7010} {
		regs := &registers{}
		regs.put(rsp, 0x7000)
		regs.put(rip, at)
		if got, ok := evaluate(program, nil, regs, nil); !ok || got != want {
			t.Errorf("at %#x: %#x, want %#x", at, got, want)
		}
	}
}

// TestStackIsUnwound walks up three frames of a stack that is laid out by hand.
func TestStackIsUnwound(t *testing.T) {
	table := describe(t, 0x41, 0x0e, 24, 0x80|rbx, 2) // from byte 1: CFA = rsp + 24, rbx at CFA-16
	o := &Object{Name: "program", frames: table, rows: map[uint64]*row{},
		segments: []segment{{0, 0x10000, 0}}}
	const loaded, sp = 0x400000, 0x7000
	p := &Process{without: map[string]uint64{}, mappings: []*mapping{{start: loaded, end: loaded + 0x10000,
		object: o}}}
	words := []uint64{
		0, 77, loaded + begin + 50, // innermost: saved rbx, return address
		0, 78, 0, // its caller, which the thread begins with
	}
	var stack []byte
	for _, w := range words {
		stack = binary.LittleEndian.AppendUint64(stack, w)
	}
	regs := make([]uint64, len(perfOrder))
	regs[slices.Index(perfOrder, registerPC)] = loaded + begin + 10
	regs[slices.Index(perfOrder, registerSP)] = sp
	trace := p.Unwind(&Sample{Registers: regs, Stack: stack})
	want := []Place{{o, begin + 10}, {o, begin + 49}}
	if !trace.Complete || !slices.Equal(trace.Places, want) {
		t.Errorf("%+v, want %+v", trace, want)
	}
	trace = p.Unwind(&Sample{Registers: regs, Stack: stack[:40]})
	if trace.Complete || len(trace.Places) != 2 {
		t.Errorf("with a part of the stack: %+v", trace)
	}
	if text := strings.Join(p.Unknown(), "; "); !strings.Contains(text, "1 stacks are deeper") {
		t.Errorf("said %q", text)
	}
}

// TestFunctionsAreThoseOfReadelf compares every begin of the C library, and the number of rows of
// some, with what binutils decode.
func TestFunctionsAreThoseOfReadelf(t *testing.T) {
	path, err := exec.LookPath("readelf")
	if err != nil {
		t.Fatalf("readelf is missing: make deps installs what the tests need: %v", err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{path, program} {
		f, err := elf.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		s := f.Section(".eh_frame")
		if s == nil {
			continue // a Go program without C
		}
		data, err := s.Data()
		if err != nil {
			t.Fatal(err)
		}
		table, err := parseFrames(data, s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(path, "--debug-dump=frames", file).Output()
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.Count(string(out), " FDE "); len(table.entries) != want {
			t.Errorf("%s: %d functions, readelf has %d", file, len(table.entries), want)
		}
		for i := range table.entries {
			e := &table.entries[i]
			if _, err := table.row(e, e.start+uint64(e.size)-1); err != nil {
				t.Errorf("%s: %#x: %v", file, e.start, err)
			}
		}
	}
}

// FuzzFrames feeds damaged sections: decoding ends and does not panic.
func FuzzFrames(f *testing.F) {
	s := &section{}
	s.record(commonEntry...)
	s.record(20, 0, 0, 0, 0, 0xb0, 0xff, 0xff, 100, 0, 0, 0, 0, 0x41, 0x0e, 16, 0x0a, 0x0b, 0x0f, 2, 0x77, 8)
	f.Add(s.Bytes(), []byte("stack"))
	f.Fuzz(func(t *testing.T, data, stack []byte) {
		table, err := parseFrames(data, base)
		if err != nil {
			return
		}
		o := &Object{frames: table, rows: map[uint64]*row{}, segments: []segment{{0, 1 << 40, 0}}}
		p := &Process{without: map[string]uint64{}, mappings: []*mapping{{end: 1 << 40, object: o}}}
		for i := range table.entries[:min(len(table.entries), 4)] {
			regs := make([]uint64, len(perfOrder))
			regs[slices.Index(perfOrder, registerPC)] = table.entries[i].start
			p.Unwind(&Sample{Registers: regs, Stack: stack})
		}
	})
}

// FuzzExpression feeds damaged expressions.
func FuzzExpression(f *testing.F) {
	f.Add([]byte{0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22})
	f.Fuzz(func(t *testing.T, program []byte) {
		regs := &registers{known: 1<<maxRegisters - 1}
		evaluate(program, []uint64{1}, regs, func(a uint64) (uint64, bool) { return a, true })
	})
}
