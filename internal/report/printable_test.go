package report

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/evidence"
)

func TestPrintable(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"plain text", "epoll_wait(timeout=0)=0", "epoll_wait(timeout=0)=0"},
		{"other alphabets", "прокси café", "прокси café"},
		{"an escape sequence", "\x1b[2J\x1b[31mHEALTHY", `\x1b[2J\x1b[31mHEALTHY`},
		{"a carriage return", "SPIN\rHEALTHY", `SPIN\x0dHEALTHY`},
		{"newline, tab and bell", "a\nb\tc\a", `a\nb\tc\x07`},
		{"delete", "a\x7f", `a\x7f`},
		{"the control sequence introducer of 8 bits", "\u009b2J", `\u009b2J`},
		{"the same as a single byte", "\x9b2J", `\x9b2J`},
		{"a change of the direction of writing", "a\u202eb", `a\u202eb`},
		{"a character beyond 16 bits that is not seen", "\U000e0001", `\U000e0001`},
		{"a replacement character is one to be seen", "\ufffd", "\ufffd"},
	} {
		if got := Printable(test.text); got != test.want {
			t.Errorf("%s: %q becomes %q, want %q", test.name, test.text, got, test.want)
		}
	}
}

// poison puts control characters into every string that can be reached.
func poison(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			poison(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				poison(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			poison(v.Index(i))
		}
	case reflect.String:
		if v.CanSet() && v.String() != "" {
			v.SetString(v.String() + "\x1b[31m\r\u009b\u202e\U000e0001\x9b")
		}
	}
}

// TestNothingFromOutsideReachesTheTerminal has a report in which every string is what an attacker chose.
func TestNothingFromOutsideReachesTheTerminal(t *testing.T) {
	for name, d := range diagnoses() {
		verdict := d.Verdict
		poison(reflect.ValueOf(d))
		d.Verdict = verdict
		for i := range d.Findings {
			if fd := d.Findings[i].FD; fd != nil {
				fd.Mask = evidence.Know("IN\x1b[31m")
			}
		}
		d.Hooks.Syscall = evidence.Know("tp_btf\x1b[31m")
		var text, doc bytes.Buffer
		for out, write := range map[*bytes.Buffer]func(*bytes.Buffer) error{
			&text: func(b *bytes.Buffer) error { return Text(b, d) },
			&doc:  func(b *bytes.Buffer) error { return JSON(b, d) },
		} {
			if err := write(out); err != nil {
				t.Fatal(err)
			}
			bad := func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }
			if at := strings.IndexFunc(out.String(), bad); at >= 0 {
				t.Errorf("%s: there is a control character at %d of:\n%q", name, at, out)
			}
			if !strings.Contains(out.String(), d.Process.Command[:3]) {
				t.Errorf("%s: the report is empty:\n%s", name, out)
			}
		}
		var back struct{ Target struct{ Command string } }
		if err := json.Unmarshal(doc.Bytes(), &back); err != nil {
			t.Errorf("%s: the escaped JSON is none: %v", name, err)
		}
		if want := strings.ToValidUTF8(d.Process.Command, "\ufffd"); back.Target.Command != want {
			t.Errorf("%s: the name %q comes back as %q", name, want, back.Target.Command)
		}
	}
}

func TestALineOfAFindingIsPrintable(t *testing.T) {
	f := &correlate.Finding{Class: correlate.C1, Destination: "192.0.2.1:25\x7f\u202e", Remedy: "none"}
	if line := Line(f); !strings.Contains(line, `192.0.2.1:25\u007f\u202e`) {
		t.Errorf("the line is %q", line)
	}
}
