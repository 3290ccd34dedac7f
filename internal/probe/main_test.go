package probe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whyspin/whyspin/internal/evidence"
)

// The tests need a kernel that runs the programs, and root. A machine that has none must say so:
//
//	WHYSPIN_PROBES=absent go test ./internal/probe/
//
// skips every test that attaches something. Without it a test fails when the plan is not complete, with
// the plan's own sentence; nothing is ever skipped silently.
const probesVariable = "WHYSPIN_PROBES"

// childVariable makes the test binary run as one of the children below.
const childVariable = "WHYSPIN_TEST_CHILD"

// The descriptors over which the parent and a child talk: the child reads a byte from childGo to start,
// writes one to childDone when it is through, and reads one from childStop before it reports.
const (
	childGo   = 3
	childDone = 4
	childStop = 5
)

var children = map[string]func(){}

func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		run, ok := children[name]
		if !ok {
			fmt.Fprintf(os.Stderr, "there is no child %q\n", name)
			os.Exit(2)
		}
		run()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// load loads a probe that must be able to do everything; the classic tracepoints only where tracefs is
// mounted.
func load(t testing.TB, o Options) *Probe {
	t.Helper()
	if os.Getenv(probesVariable) == "absent" {
		t.Skipf("%s=absent", probesVariable)
	}
	p, err := Load(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	for _, s := range p.Plan() {
		if text := s.Unknown(); text != "" {
			t.Fatalf("%s (say %s=absent if this machine has no probes)", text, probesVariable)
		}
	}
	return p
}

// child is a process that runs one of the children and talks over pipes.
type child struct {
	t     testing.TB
	cmd   *exec.Cmd
	start *os.File // the child reads from it to start
	done  *os.File // the child writes to it
	stop  *os.File // the child reads from it to stop
	out   bytes.Buffer
	errs  bytes.Buffer
}

// startChild starts this binary as the named child. prepare may change the command before it runs.
func startChild(t testing.TB, name string, prepare func(*exec.Cmd)) *child {
	t.Helper()
	c := &child{t: t}
	c.cmd = exec.Command("/proc/self/exe")
	c.cmd.Env = append(os.Environ(), childVariable+"="+name, "GODEBUG=asyncpreemptoff=1")
	c.cmd.Stdout, c.cmd.Stderr = &c.out, &c.errs
	var theirs []*os.File
	pipe := func(childReads bool) *os.File {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		ours, its := r, w
		if childReads {
			ours, its = w, r
		}
		theirs = append(theirs, its)
		t.Cleanup(func() { _ = ours.Close() })
		return ours
	}
	c.start, c.done, c.stop = pipe(true), pipe(false), pipe(true)
	c.cmd.ExtraFiles = theirs
	if prepare != nil {
		prepare(c.cmd)
	}
	// What another test has left open for a moment is none of the child's.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range theirs {
		_ = f.Close()
	}
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		if t.Failed() && c.errs.Len() > 0 {
			t.Logf("child %s: %s", name, c.errs.String())
		}
	})
	return c
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// await waits for the child to write n bytes.
func (c *child) await(n int) {
	c.t.Helper()
	_ = c.done.SetReadDeadline(time.Now().Add(60 * time.Second))
	if _, err := io.ReadFull(c.done, make([]byte, n)); err != nil {
		c.t.Fatalf("waiting for the child: %v; it said %q", err, c.errs.String())
	}
}

// goAhead lets n threads of the child start.
func (c *child) goAhead(n int) {
	c.t.Helper()
	if _, err := c.start.Write(make([]byte, n)); err != nil {
		c.t.Fatal(err)
	}
}

// finish lets the child stop, waits for it and decodes what it printed.
func (c *child) finish(n int, report any) {
	c.t.Helper()
	if _, err := c.stop.Write(make([]byte, n)); err != nil {
		c.t.Fatal(err)
	}
	if err := c.cmd.Wait(); err != nil {
		c.t.Fatalf("the child failed: %v: %s", err, c.errs.String())
	}
	if report == nil {
		return
	}
	if err := json.Unmarshal(c.out.Bytes(), report); err != nil {
		c.t.Fatalf("the child said %q: %v", c.out.String(), err)
	}
}

// awaitCalls waits until n threads of a process are inside a system call with this number and first
// argument.
func awaitCalls(t testing.TB, pid, n int, nr, argument uint64) {
	t.Helper()
	prefix := fmt.Sprintf("%d 0x%x ", nr, argument)
	eventually(t, fmt.Sprintf("%d threads of process %d in call %s", n, pid, prefix), func() bool {
		found := 0
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
		for _, name := range tasks {
			text, _ := os.ReadFile(name)
			if strings.HasPrefix(string(text), prefix) {
				found++
			}
		}
		return found == n
	})
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// mustSay checks that the window says that something is not known.
func mustSay(t *testing.T, w *evidence.Window, what string) {
	t.Helper()
	if !slices.ContainsFunc(w.Unknown, func(s string) bool { return strings.Contains(s, what) }) {
		t.Errorf("the window says %q, and not %q", w.Unknown, what)
	}
}

// window records a window while f runs.
func window(t *testing.T, p *Probe, f func()) *evidence.Window {
	t.Helper()
	r, err := p.Begin()
	if err != nil {
		t.Fatal(err)
	}
	f()
	w, err := r.End()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// descriptor returns what a window has of a descriptor.
func descriptor(t *testing.T, w *evidence.Window, fd int) evidence.Descriptor {
	t.Helper()
	for _, d := range w.Descriptors {
		if d.FD == fd {
			return d
		}
	}
	t.Fatalf("the window does not have descriptor %d", fd)
	return evidence.Descriptor{}
}

// inOwnMounts gives the calling thread, which is not used again after the test, mounts of its own, with
// tracefs among them. The machine's mounts stay as they are.
func inOwnMounts(t testing.TB) {
	t.Helper()
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tracefs", tracefs, "tracefs", 0, ""); err != nil && err != syscall.EBUSY {
		t.Fatal(err)
	}
}

// descriptorCount is the number of descriptors that this process has open.
func descriptorCount(t testing.TB) int {
	t.Helper()
	names, err := os.ReadDir("/proc/" + strconv.Itoa(os.Getpid()) + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}
