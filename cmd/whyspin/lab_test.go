package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/whyspin/whyspin/internal/target"
)

// TestInterruptedLabLeavesNothingBehind: no proxy, no files.
func TestInterruptedLabLeavesNothingBehind(t *testing.T) {
	directory := openDirectory(t)
	c := exec.Command(program, "lab", "write-interest-kept")
	c.Env = append(os.Environ(), "TMPDIR="+directory)
	b := start(t, c)
	pid := 0
	eventually(t, "the proxy to run", func() bool {
		sockets, err := filepath.Glob(filepath.Join(directory, "*", "stats.sock"))
		if err != nil || len(sockets) == 0 {
			return false
		}
		info, err := target.API{Address: sockets[0]}.Info(t.Context())
		pid = info.PID
		return err == nil
	})
	if err := b.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	<-b.ended
	if code := b.ProcessState.ExitCode(); code != exitFailed ||
		!strings.HasSuffix(b.said(), "whyspin lab: interrupted\n") {
		t.Errorf("it exits with %d and says:\n%s", code, b.said())
	}
	if err := syscall.Kill(pid, 0); pid == 0 || err != syscall.ESRCH {
		t.Errorf("the proxy is left: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(directory, "*")); err != nil || len(left) > 0 {
		t.Errorf("files are left: %q %v", left, err)
	}
}
