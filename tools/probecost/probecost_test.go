package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		runRole(role)
		return
	}
	os.Exit(m.Run())
}

// TestEveryLevelCounts measures little of everything with whyspin's own levels: each must have counted every
// message, or it fails. What it costs is no matter here.
func TestEveryLevelCounts(t *testing.T) {
	o := options{whyspin: filepath.Join(t.TempDir(), "whyspin")}
	o.shorten()
	if err := levels(t.Context(), o, probeLevels(), nil); err != nil {
		t.Error(err)
	}
	build := exec.Command("go", "build", "-o", o.whyspin, "../../cmd/whyspin")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building whyspin: %v: %s", err, text)
	}
	if err := crowdRow(t.Context(), o); err != nil {
		t.Error(err)
	}
}
