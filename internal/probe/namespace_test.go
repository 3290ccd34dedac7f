package probe

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"github.com/whyspin/whyspin/internal/evidence"
)

func init() { children["observer"] = runObserver }

// observerReport is what an observer in a pid namespace saw of another process in it.
type observerReport struct {
	PID, Event int
	Missing    []string
	Window     *evidence.Window
}

// observedWrites is how often the observed process writes while it is watched.
const observedWrites = 321

// runObserver mounts a /proc of this namespace, starts a process, and watches it.
func runObserver() {
	check(syscall.Mount("proc", "/proc", "proc", 0, ""))
	script := exec.Command("/proc/self/exe")
	script.Env = append(os.Environ(), childVariable+"=script")
	script.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := script.StdinPipe()
	check(err)
	answers, err := script.StdoutPipe()
	check(err)
	check(script.Start())
	defer func() { _ = script.Wait() }()
	defer func() { _ = in.Close() }()
	out := bufio.NewReader(answers)
	do := func(format string, args ...any) (n int) {
		_, err := fmt.Fprintf(in, format+"\n", args...)
		check(err)
		_, err = fmt.Fscanf(out, "ok %d\n", &n)
		check(err)
		return n
	}
	report := observerReport{PID: script.Process.Pid, Event: do("eventfd 0")}
	p, err := Load(Options{PID: report.PID})
	check(err)
	for _, s := range p.Plan() {
		if text := s.Unknown(); text != "" {
			report.Missing = append(report.Missing, text)
		}
	}
	r, err := p.Begin()
	check(err)
	for range observedWrites {
		do("send %d 8", report.Event)
	}
	report.Window, err = r.End()
	check(err)
	check(p.Close())
	check(json.NewEncoder(os.Stdout).Encode(report))
}

// TestForeignProcessInOwnNamespace watches, from inside a pid namespace, another process in it. The numbers
// are those of the namespace; the programs in the kernel see others.
func TestForeignProcessInOwnNamespace(t *testing.T) {
	load(t, Options{PID: os.Getpid()})
	c := startChild(t, "observer", func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	})
	var report observerReport
	c.finish(0, &report)
	if len(report.Missing) > 0 {
		t.Errorf("missing: %q", report.Missing)
	}
	if n := descriptor(t, report.Window, report.Event).Write.Calls; n != observedWrites {
		t.Errorf("%d writes, want %d", n, observedWrites)
	}
	own := slices.IndexFunc(report.Window.Threads,
		func(v evidence.Thread) bool { return v.TID == report.PID })
	if own < 0 {
		t.Errorf("process %d has no thread of that number: %+v", report.PID, report.Window.Threads)
	}
	for _, thread := range report.Window.Threads {
		if !thread.Run.IsKnown() || !thread.Calls.IsKnown() {
			t.Errorf("thread %+v, want scheduler data and calls", thread)
		}
	}
}
