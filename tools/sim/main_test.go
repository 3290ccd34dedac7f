package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/sim"
)

// TestAFailureIsKeptAndHappensAgain: the file that a search leaves is all that is needed to see the failure
// again, to the nanosecond.
func TestAFailureIsKeptAndHappensAgain(t *testing.T) {
	const f = fault.EdgeForgotten
	dir := filepath.Join(t.TempDir(), "made", "when needed")
	if code := many(0, 300, f, dir); code != 1 {
		t.Fatalf("the exit code is %d, should be 1: the fault breaks a rule", code)
	}
	files, err := filepath.Glob(filepath.Join(dir, "sim-edge-forgotten-*.txt"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files are left (%v), should be 1", len(files), err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	s, err := sim.Parse(string(text))
	if err != nil {
		t.Fatalf("the file does not read back: %v", err)
	}
	a, b := sim.Run(s, sim.Options{Transcript: true}), sim.Run(s, sim.Options{})
	if len(a.Violations) == 0 {
		t.Fatalf("no rule is broken when the file is run:\n%s", text)
	}
	if diff := cmp.Diff(a.Violations, b.Violations); diff != "" {
		t.Errorf("it happens differently when it is not recorded:\n%s", diff)
	}
	if first, _, _ := strings.Cut(string(text), "\n"); !strings.HasSuffix(first, a.Violations[0].String()) {
		t.Errorf("the file says %q and what happens is %v", first, a.Violations[0])
	}
	if code := replay(files[0]); code != 1 {
		t.Errorf("the exit code of the replay is %d, should be 1", code)
	}
}

func TestAWrongScenarioFileIsSaid(t *testing.T) {
	if code := replay(filepath.Join(t.TempDir(), "none")); code != 2 {
		t.Errorf("the exit code for a file that is not there is %d, should be 2", code)
	}
	file := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(file, []byte("client 0s: dance\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code := replay(file); code != 2 {
		t.Errorf("the exit code for a wrong file is %d, should be 2", code)
	}
}
