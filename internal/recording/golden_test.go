package recording

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/report"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// kept are the recordings in testdata. The name of each begins with the class that it shows, with the number
// of the look-alike that it is, or with "healthy".
const kept = "../../testdata/recording"

// suffix is that of a recording's file.
const suffix = ".json.gz"

// sample is a kept recording.
type sample struct {
	name string
	*Recording
}

func samples(t testing.TB) []sample {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(kept, "*"+suffix))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d recordings: %v", len(files), err)
	}
	var all []sample
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Read(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, sample{strings.TrimSuffix(filepath.Base(file), suffix), r})
	}
	return all
}

// inefficient is the class of what costs CPU and is no finding: the verdict says it.
const inefficient = correlate.Class("B4")

// class is what the recording shows, empty for what is in order.
func (s *sample) class() correlate.Class {
	class, _, _ := strings.Cut(s.name, "-")
	switch {
	case class == string(correlate.L15): // it has a verdict of its own
	case strings.HasPrefix(class, "L"), class == "healthy":
		return correlate.Unknown
	}
	return correlate.Class(class)
}

// needsState are the classes that look the same from the kernel: only the process's own state tells them
// apart, and without it the class is unknown.
var needsState = map[correlate.Class]bool{
	"T1": true, "T2": true, "T3": true, "T4": true, "T5": true, "T7": true,
}

// wrong says what is wrong with a diagnosis of the recording or of a mutant of it: a class that is not the
// one shown. A class that is not named is not wrong.
func (s *sample) wrong(d *correlate.Diagnosis) error {
	for i := range d.Findings {
		f := &d.Findings[i]
		switch {
		case f.Class == correlate.Unknown && s.class() != correlate.Unknown:
		case f.Class != s.class():
			return fmt.Errorf("it is said to have %q (%s), and shows %q", f.Class, culprit(f), s.class())
		case s.class() == correlate.Unknown:
			return fmt.Errorf("a look-alike is accused: %s, %s", f.Class.Name(), culprit(f))
		}
	}
	return nil
}

// culprit is who is blamed, in a few words.
func culprit(f *correlate.Finding) string {
	switch {
	case f.Stream != nil:
		return "stream " + f.Stream.ID
	case f.Listener != nil:
		return fmt.Sprintf("listener %d %s", f.Listener.Number, f.Listener.Address)
	case f.FD != nil:
		return fmt.Sprintf("descriptor %d", f.FD.Number)
	case f.Destination != "":
		return "destination " + f.Destination
	case len(f.Functions) > 0:
		return "function " + f.Functions[0].Name
	}
	return "nobody"
}

func TestRecordingsAreDiagnosedAsTheirGoldensSay(t *testing.T) {
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			d := correlate.Correlate(s.Case)
			var text bytes.Buffer
			fmt.Fprintf(&text, "# %s\n# %s", s.Story, d.Verdict)
			if len(d.Findings) > 0 {
				fmt.Fprintf(&text, ", %s, %s", d.Findings[0].Class.Name(), culprit(&d.Findings[0]))
			}
			text.WriteString("\n\n")
			if err := report.Text(&text, d); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(kept, s.name+".txt")
			if *update {
				if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), text.String()); diff != "" {
				t.Error(diff)
			}
			if s.Story == "" || strings.Contains(s.Story, "\n") {
				t.Errorf("its story is %q, should be one line", s.Story)
			}
			if err := s.wrong(d); err != nil {
				t.Error(err)
			}
			if s.class() == inefficient {
				if d.Verdict != correlate.Inefficient {
					t.Errorf("the verdict is %q, should be %q", d.Verdict, correlate.Inefficient)
				}
				return
			}
			state := s.Case.After != nil && len(s.Case.After.Streams) > 0
			if s.class() != correlate.Unknown && (state || !needsState[s.class()]) &&
				(len(d.Findings) == 0 || d.Findings[0].Class != s.class()) {
				t.Errorf("the class %s is not named", s.class())
			}
		})
	}
}
