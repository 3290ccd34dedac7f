package haproxy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/report"
)

// The dumps in testdata/haproxy are of real processes. Their goldens are what is read in them (state.json)
// and what is made of it (report.txt).

const dumps = "../../testdata/haproxy"

// asked is when the dumps are asked for, as far as the tests are concerned.
const asked = ktime.Time(1_000_000 * time.Second)

var update = flag.Bool("update", false, "rewrite the goldens")

// folders are those of the dumps.
func folders(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob(dumps + "/*/show-sess-all.txt")
	if err != nil || len(paths) < 17 {
		t.Fatalf("%d dumps: %v", len(paths), err)
	}
	for i := range paths {
		paths[i] = filepath.Dir(paths[i])
	}
	return paths
}

// read returns a file of a dump, nothing for one that was not made.
func read(t testing.TB, folder, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return text
}

func readInfo(t testing.TB, folder string) Info {
	t.Helper()
	info, err := ReadInfo(bytes.NewReader(read(t, folder, "show-info.txt")))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s: %s", path, diff)
	}
}

// state is everything that is read in one folder.
type state struct {
	Info        Info
	Dump        Summary
	Sessions    []session
	Short       []session         `json:",omitempty"`
	Descriptors []Descriptor      `json:",omitempty"`
	Activity    map[string]uint64 `json:",omitempty"`
}

// session is one session as printed and as evidence.
type session struct {
	Number       uint64
	OfRuntimeAPI bool   `json:",omitempty"`
	Threads      string `json:",omitempty"`
	evidence.Stream
}

func convert(list *[]session) func(*Session) {
	return func(s *Session) {
		*list = append(*list, session{s.Number, s.OfRuntimeAPI(), s.Threads, s.Stream(asked)})
	}
}

func TestDumpsAreReadAsTheirGoldensSay(t *testing.T) {
	for _, folder := range folders(t) {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			s := state{Info: readInfo(t, folder), Activity: map[string]uint64{}}
			reader := func(name string) io.Reader { return bytes.NewReader(read(t, folder, name)) }
			var err error
			if s.Dump, err = ReadSessions(reader("show-sess-all.txt"), convert(&s.Sessions)); err != nil {
				t.Error(err)
			}
			if _, err = ReadShort(reader("show-sess.txt"), convert(&s.Short)); err != nil {
				t.Error(err)
			}
			keep := func(d *Descriptor) { s.Descriptors = append(s.Descriptors, *d) }
			if err := ReadDescriptors(reader("show-fd.txt"), keep); err != nil {
				t.Error(err)
			}
			activity, err := ReadActivity(reader("show-activity.txt"))
			if err != nil {
				t.Error(err)
			}
			for name, c := range activity.Counters {
				s.Activity[name] = c.Total
			}
			got, err := json.MarshalIndent(s, "", " ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join(folder, "state.json"), append(got, '\n'))
			if len(s.Dump.Noted) > 0 {
				t.Errorf("not understood: %q", s.Dump.Noted)
			}
		})
	}
}

// want is what is to be found in a dump.
func want(folder string) (verdict correlate.Verdict, class correlate.Class) {
	switch {
	case strings.HasPrefix(folder, "healthy"):
		return correlate.Healthy, ""
	case strings.HasSuffix(folder, "idle-leak"):
		return correlate.Leak, correlate.T3i
	}
	return correlate.Spin, correlate.T3
}

func TestDumpsAreDiagnosedAsTheirGoldensSay(t *testing.T) {
	for _, folder := range folders(t) {
		name := filepath.Base(folder)
		t.Run(name, func(t *testing.T) {
			c := join(t, folder)
			d := correlate.Correlate(c)
			var text bytes.Buffer
			if err := report.Text(&text, d); err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join(folder, "report.txt"), text.Bytes())
			verdict, class := want(name)
			if d.Verdict != verdict {
				t.Errorf("the verdict is %q, should be %q", d.Verdict, verdict)
			}
			if class == "" {
				if len(d.Findings) > 0 {
					t.Errorf("%d findings in a healthy process", len(d.Findings))
				}
				return
			}
			line, _ := bufio.NewReader(bytes.NewReader(read(t, folder, "show-sess-all.txt"))).ReadString(' ')
			id := strings.TrimSuffix(line, ": ")
			if len(d.Findings) != 1 || d.Findings[0].Class != class || d.Findings[0].Stream.ID != id {
				t.Fatalf("findings %+v, want one of class %s about stream %s", d.Findings, class, id)
			}
			if timer := d.Findings[0].Timer; timer != nil && timer.Overdue.IsKnown() {
				t.Errorf("the timer is overdue by %v, which the dump does not say", timer.Overdue)
			}
		})
	}
}

// join makes the case of a folder: two dumps, or what there is, and the kernel's view.
func join(t *testing.T, folder string) *evidence.Case {
	t.Helper()
	info := readInfo(t, folder)
	c := &evidence.Case{
		Process: evidence.Process{PID: info.PID, Command: "haproxy", Kind: evidence.KindHAProxy,
			Version: info.Version},
		Socket: "/run/haproxy/admin.sock", Window: recordedWindow(t, folder, info.PID),
	}
	begin, end := asked, asked.Add(time.Second)
	if c.Window != nil {
		begin, end = c.Window.Start, c.Window.End
	}
	var d Dumps
	var err error
	first := read(t, folder, "show-sess-all.txt")
	second := read(t, folder, "show-sess-all-2.txt")
	if c.Before, err = d.First(bytes.NewReader(first), info, begin); err != nil {
		t.Fatal(err)
	}
	if second == nil && c.Window == nil {
		// A copy of one dump is all there is: it is what the process said last.
		c.Before, c.After = nil, c.Before
		return c
	}
	if second == nil {
		second = first
	}
	if c.After, err = d.Second(bytes.NewReader(second), info, end); err != nil {
		t.Fatal(err)
	}
	d.Confirm(c.Window)
	return c
}
