package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestVerdicts reads what machines print.
func TestVerdicts(t *testing.T) {
	tests := program{name: "a.test", isTest: true}
	const pass = "@@begin a.test\r\n=== RUN   TestA\r\n--- PASS: TestA (0.00s)\r\nPASS\r\n" +
		"\r\n@@end a.test 0\r\n"
	failed := strings.ReplaceAll(strings.ReplaceAll(pass, "PASS", "FAIL"), " 0\r", " 1\r")
	for _, c := range []struct{ name, text, want string }{
		{"everything passes", pass + "@@done\r\n", ""},
		{"the last line of a program is left open",
			strings.Replace(pass, "PASS\r\n\r\n", "PASS\r\nbye\r\n", 1) + "@@done\n", ""},
		{"a test fails", failed + "@@done\n", "tests failed: TestA"},
		{"a test is skipped", strings.Replace(pass, "--- PASS", "--- SKIP", 1) + "@@done\n",
			"tests were skipped, which are not on the list of those left out: TestA"},
		{"the kernel panics", "@@begin a.test\n--- PASS: TestA (0.00s)\n", "a.test did not come to its end"},
		{"it ends well without having run", "@@begin a.test\n\n@@end a.test 0\n@@done\n",
			"a.test did not say PASS"},
		{"the machine stops", pass, "the machine stopped before its programs had ended"},
		{"nothing comes", "", "a.test did not come to its end"},
	} {
		v := newVerdict("machine")
		v.read(strings.NewReader(c.text))
		said := ""
		if err := v.judge([]program{tests}); err != nil {
			said = err.Error()
		}
		if (c.want == "") != (said == "") || !strings.Contains(said, c.want) {
			t.Errorf("%s: %q, want %q", c.name, said, c.want)
		}
	}
}

const plan61 = `{"kernel":"6.1.0-1","signals":[{"name":"syscall","taken":"tp_btf","missing":"it is dark",
	"tries":[{"hook":"tp_btf","on":"a, b"},{"hook":"fexit","on":"c","loses":"d","error":"no such thing"}]}]}`

func reportOf(name, plan string) *report {
	said := bytes.NewBufferString(plan)
	return &report{name: name, said: map[string]*bytes.Buffer{capabilitiesProgram: said}}
}

// TestTable writes a table and compares it with others.
func TestTable(t *testing.T) {
	kernels := []kernel{{series: "6.1", version: "6.1.5-1"}}
	file := filepath.Join(t.TempDir(), "README.md")
	empty := "above\n" + tableBegin + "\n" + tableEnd + "\nbelow\n"
	if err := os.WriteFile(file, []byte(empty), 0o600); err != nil {
		t.Fatal(err)
	}
	make := func(running, plan string) *table {
		made, err := makeTable(kernels, []*report{reportOf("Debian 6.1", plan61), reportOf(running, plan)})
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	fresh := make("Linux 6.18", plan61)
	if err := fresh.compare(file); !errors.Is(err, errOutdated) {
		t.Errorf("compared with nothing: %v", err)
	}
	if err := fresh.write(file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"above\n", "\nbelow\n",
		"| syscall | `tp_btf/a`, `tp_btf/b` | used | used | nothing |\n",
		"| syscall | `fexit/c` | no: no such thing | no: no such thing | d |\n",
		"| syscall | none |  |  | it is dark |\n", "Debian 6.1 is 6.1.0-1 (6.1.5-1)"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the file does not have %q:\n%s", want, text)
		}
	}
	kernels[0].version = "6.1.6-1" // a security update is no difference
	if err := make("Linux 6.18", plan61).compare(file); err != nil {
		t.Errorf("compared with itself: %v", err)
	}
	other := strings.Replace(plan61, `"error":"no such thing"`, `"error":""`, 1)
	if err := make("Linux 6.19", other).compare(file); err != nil {
		t.Errorf("another running kernel: %v", err)
	}
	if err := make("Linux 6.18", other).compare(file); !errors.Is(err, errOutdated) {
		t.Errorf("the same kernel says something else: %v", err)
	}
}

// TestInitialFileSystem has every entry start at a multiple of four bytes, as the kernel wants it.
func TestInitialFileSystem(t *testing.T) {
	var b bytes.Buffer
	a := archive{w: &b}
	a.add("a", modeFile|0o644, []byte("12345"))
	a.add("bc", modeDirectory|0o755, nil)
	if a.err != nil || b.Len()%4 != 0 {
		t.Fatalf("%d bytes, error %v", b.Len(), a.err)
	}
	// A header is 6 + 13*8 = 110 bytes; with the name "a" and its zero 112; then 5 bytes of data and 3 more.
	if text := b.String(); !strings.HasPrefix(text[120:], "070701") || text[112:117] != "12345" {
		t.Errorf("the archive is %q", text)
	}
}

// TestExcludedTestsAreNotRun passes the names to the machine as one expression.
func TestExcludedTestsAreNotRun(t *testing.T) {
	p := program{name: "a.test", arguments: []string{"-test.v"},
		excluded: []exclusion{{"TestA", "it needs haproxy"}, {"TestB", "it needs nginx"}}}
	if got := initScript([]program{p}); !strings.Contains(got,
		"/programs/a.test '-test.v' '-test.skip=^(TestA|TestB)$'\n") {
		t.Errorf("the script is %s", got)
	}
}

// TestAMachineHasASecondTry, and no third.
func TestAMachineHasASecondTry(t *testing.T) {
	for failing := range 3 {
		runs := 0
		r, err := twice("machine", func() (*report, error) {
			if runs++; runs <= failing {
				return nil, errors.New("it failed")
			}
			return &report{}, nil
		})
		failed := failing > 1
		if want := min(failing+1, 2); runs != want || (err != nil) != failed || (r == nil) != failed {
			t.Errorf("%d runs fail: %d runs, %v; %v", failing, runs, r, err)
		}
	}
}
