package probe

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/target"
)

func init() {
	children["plan"] = runPlan
	children["self"] = func() { runSelf(func() error { return nil }) }
	children["self-mount"] = func() {
		if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			panic(err)
		}
		runSelf(func() error { return nil })
	}
	children["dropped"] = func() { runSelf(dropPrivileges) }
}

const nobody = 65534

// planReport is what a process without privileges got.
type planReport struct {
	Load      string
	Sentences []string
	Tries     []tryReport
	Window    *evidence.Window
	Errors    []string
}

type tryReport struct {
	Signal, Hook, Err string
	Refused           bool // errors.Is(err, EPERM)
}

func runPlan() {
	var report planReport
	p, err := Load(Options{PID: os.Getpid(), Samples: true})
	if err != nil {
		report.Load = err.Error()
	} else {
		for _, s := range p.Plan() {
			report.Sentences = append(report.Sentences, s.Unknown())
			for _, try := range s.Tries {
				if try.Err != nil {
					report.Tries = append(report.Tries, tryReport{s.Name, try.Hook, try.Err.Error(),
						errors.Is(try.Err, syscall.EPERM)})
				}
			}
		}
		note := func(err error) {
			if err != nil {
				report.Errors = append(report.Errors, err.Error())
			}
		}
		note(p.WatchResets())
		note(p.MarkListener(0))
		_, _, err = p.Resets()
		note(err)
		_, err = p.Cost()
		note(err)
		r, err := p.BeginSampling()
		note(err)
		if err == nil {
			report.Window, err = r.End()
			note(err)
		}
		note(p.Close())
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		panic(err)
	}
}

// TestWithoutPrivileges loads as nobody: what can be had without probes is had, and the plan says why the
// rest is not.
func TestWithoutPrivileges(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("this test needs root, to become nobody")
	}
	c := startChild(t, "plan", func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	})
	var report planReport
	c.finish(0, &report)
	if report.Load != "" {
		t.Fatalf("loading failed: %s", report.Load)
	}
	if len(report.Tries) != 7 {
		t.Errorf("%d tries failed, want 7", len(report.Tries))
	}
	for _, try := range report.Tries {
		if !try.Refused || !strings.Contains(try.Err, "lacks CAP_BPF and CAP_PERFMON") ||
			strings.Contains(try.Err, "MEMLOCK") {
			t.Errorf("signal %s by %s: %q, refused %v", try.Signal, try.Hook, try.Err, try.Refused)
		}
	}
	const why = ": operation not permitted: this process lacks CAP_BPF and CAP_PERFMON"
	want := []string{
		"system calls are not seen: neither waits nor events nor I/O" + why,
		"TCP resets are not seen" + why,
		"resets on connections that the process makes from now on are not seen" + why,
		"", // files: /proc shows them
		"", // threads
		"no stacks are sampled" + why,
	}
	if !slices.Equal(report.Sentences, want) {
		t.Errorf("sentences %q, want %q", report.Sentences, want)
	}
	if len(report.Errors) != 4 {
		t.Errorf("errors %q, want one for each call that needs a probe", report.Errors)
	}
	w := report.Window
	if w == nil {
		t.Fatal("there is no window")
	}
	if len(w.Threads) == 0 || !w.Threads[0].Run.IsKnown() || w.Threads[0].Calls.IsKnown() {
		t.Errorf("threads %+v, want scheduler data and no calls", w.Threads)
	}
	if (w.Hooks != evidence.Hooks{Files: evidence.Know("proc")}) || len(w.Descriptors) == 0 ||
		w.Samples != nil || len(w.Unknown) != 5 {
		t.Errorf("hooks %+v, %d descriptors, unknown %q", w.Hooks, len(w.Descriptors), w.Unknown)
	}
}

// selfReport is what a process saw of itself.
type selfReport struct {
	Window  *evidence.Window
	Resets  ResetTotals
	Event   int
	TID     int
	Missing []string
}

const selfCalls = 1234

// runSelf watches this very process: it loads, then does what change does, then attaches, makes some
// calls on an eventfd and has one connection reset.
func runSelf(change func() error) {
	runtime.LockOSThread()
	p, err := Load(Options{PID: os.Getpid(), Samples: true})
	check(err)
	check(change())
	check(p.WatchResets())
	report := selfReport{TID: syscall.Gettid()}
	event, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, syscall.O_NONBLOCK, 0)
	if errno != 0 {
		panic(errno)
	}
	report.Event = int(event)
	r, err := p.BeginSampling()
	check(err)
	for began := threadTime(); threadTime()-began < 20*samplePeriod; {
		spinSink += spinMiddle(spinSink)
	}
	buffer := make([]byte, 8)
	for range selfCalls {
		_, _ = syscall.Read(report.Event, buffer) // EAGAIN
	}
	report.Window, err = r.End()
	check(err)

	listener, err := bindListen(syscall.AF_INET)
	check(err)
	check(p.MarkListener(listener))
	name, err := syscall.Getsockname(listener)
	check(err)
	client, err := dial(int(portOf(name)))
	check(err)
	_, _, err = syscall.Accept(listener)
	check(err)
	check(resetClose(client)) // one sent by the client's socket, one received by the accepted one
	for report.Resets.Sent+report.Resets.Received < 2 {
		report.Resets, _, err = p.Resets()
		check(err)
	}
	for _, s := range p.Plan() {
		if text := s.Unknown(); text != "" {
			report.Missing = append(report.Missing, text)
		}
	}
	check(p.Close())
	check(json.NewEncoder(os.Stdout).Encode(report))
}

// threadTime is the CPU time of the calling thread.
func threadTime() time.Duration {
	const rusageThread = 1
	var u syscall.Rusage
	check(syscall.Getrusage(rusageThread, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// dropPrivileges leaves this process in an empty root, as nobody, without capabilities.
func dropPrivileges() error {
	root, err := os.MkdirTemp("", "whyspin-root")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(root) }()
	if err := os.Chmod(root, 0o755); err != nil {
		return err
	}
	if err := syscall.Chroot(root); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setgid(nobody); err != nil {
		return err
	}
	if err := syscall.Setuid(nobody); err != nil {
		return err
	}
	if _, err := os.Stat("/proc"); err == nil {
		return errors.New("the root is not empty")
	}
	if syscall.Setuid(0) == nil {
		return errors.New("root came back")
	}
	return nil
}

// TestOwnProcess has a process watch itself under the conditions in which a proxy runs: as it was
// started, inside a pid namespace with and without a /proc of its own, and after it dropped its
// privileges.
func TestOwnProcess(t *testing.T) {
	load(t, Options{PID: os.Getpid()})
	for _, c := range []struct {
		name, child string
		namespaces  uintptr
	}{
		{"as root", "self", 0},
		{"in a pid namespace, with the outer /proc", "self", syscall.CLONE_NEWPID},
		{"in a pid namespace, with a /proc of its own", "self-mount",
			syscall.CLONE_NEWPID | syscall.CLONE_NEWNS},
		{"after setuid and chroot", "dropped", 0},
		{"after setuid and chroot in a pid namespace", "dropped", syscall.CLONE_NEWPID},
	} {
		t.Run(c.name, func(t *testing.T) {
			child := startChild(t, c.child, func(cmd *exec.Cmd) {
				cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: c.namespaces}
			})
			var report selfReport
			child.finish(0, &report)
			if len(report.Missing) > 0 {
				t.Errorf("missing: %q", report.Missing)
			}
			w := report.Window
			if w.Hooks.Syscall != evidence.Know("tp_btf") {
				t.Errorf("hooks %+v", w.Hooks)
			}
			i := slices.IndexFunc(w.Descriptors,
				func(d evidence.Descriptor) bool { return d.FD == report.Event })
			if i < 0 {
				t.Fatalf("descriptor %d is missing", report.Event)
			}
			d := w.Descriptors[i]
			if want := (evidence.IO{Calls: selfCalls, Again: selfCalls}); d.Read != want {
				t.Errorf("reads %+v, want %+v", d.Read, want)
			}
			if s, _ := d.Socket.Get(); s.Kind != "eventfd" {
				t.Errorf("descriptor %d is %+v, want an eventfd", report.Event, s)
			}
			i = slices.IndexFunc(w.Threads, func(v evidence.Thread) bool { return v.TID == report.TID })
			if i < 0 {
				t.Fatalf("thread %d is missing: %+v", report.TID, w.Threads)
			}
			thread := w.Threads[i]
			if thread.Calls.Or(0) < selfCalls || !thread.Run.IsKnown() || thread.Name == "" {
				t.Errorf("thread %+v, want %d calls and scheduler data", thread, selfCalls)
			}
			// The runtime's own threads may be sampled deep in a stack, or where one is switched.
			if w.Samples == nil || slices.ContainsFunc(w.Samples.Unknown, func(what string) bool {
				return !strings.HasPrefix(what, "1 stacks ") && !strings.HasPrefix(what, "2 stacks ")
			}) {
				t.Fatalf("samples %+v", w.Samples)
			}
			// The process also unwinds what is sampled of it, which takes most of its time in an emulator.
			var found uint64
			for _, k := range w.Samples.Stacks {
				if k.TID == report.TID && slices.ContainsFunc(k.User, func(f evidence.Frame) bool {
					return strings.HasSuffix(f.Function, ".spinHot")
				}) {
					found += k.Count
				}
			}
			if found < 3 {
				t.Errorf("%d samples are in the function that used the time: %+v", found, w.Samples)
			}
			if want := (ResetTotals{Sent: 1, Received: 1}); report.Resets != want {
				t.Errorf("resets %+v, want %+v", report.Resets, want)
			}
		})
	}
}

// TestProcessInAContainer watches, from outside, a process that has a pid namespace of its own: it and
// its threads go by the numbers that they have here.
func TestProcessInAContainer(t *testing.T) {
	load(t, Options{PID: os.Getpid()})
	s := startScriptIn(t, syscall.CLONE_NEWPID)
	event := s.do("eventfd 0")
	p := load(t, Options{PID: s.pid()})
	w := window(t, p, func() { s.do("send %d 8", event) })
	if n := descriptor(t, w, event).Write.Calls; n != 1 {
		t.Errorf("%d writes, want 1", n)
	}
	var calls uint64
	for _, thread := range w.Threads {
		if !thread.Run.IsKnown() || !thread.Calls.IsKnown() || thread.TID < s.pid() {
			t.Errorf("thread %+v, want scheduler data and calls of one that is numbered as here", thread)
		}
		calls += thread.Calls.Or(0)
	}
	if calls < 3 { // it reads the command, does it and answers
		t.Errorf("%d calls, want at least 3", calls)
	}
}

// TestProcessEnds follows a process to its end and beyond.
func TestProcessEnds(t *testing.T) {
	s := startScript(t)
	p := load(t, Options{PID: s.pid()})
	r, err := p.Begin()
	if err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	w, err := r.End()
	if err != nil {
		t.Fatal(err)
	}
	if len(w.Unknown) < 2 {
		t.Errorf("unknown %q, want that neither scheduler data nor descriptors could be read", w.Unknown)
	}
	for _, thread := range w.Threads {
		if thread.Run.IsKnown() {
			t.Errorf("thread %+v of a process that is gone", thread)
		}
	}
	if _, err := p.Begin(); !errors.Is(err, target.ErrGone) {
		t.Errorf("beginning a window: %v, want %v", err, target.ErrGone)
	}
	if _, err := Load(Options{PID: s.pid()}); !errors.Is(err, target.ErrGone) {
		t.Errorf("loading: %v, want %v", err, target.ErrGone)
	}
}

// TestStoppedProcessIsSaid says of a stopped process that it is one.
func TestStoppedProcessIsSaid(t *testing.T) {
	s := startScript(t)
	p := load(t, Options{PID: s.pid()})
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "every thread to stop", func() bool {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.pid()))
		return len(tasks) > 0 && !slices.ContainsFunc(tasks, func(name string) bool {
			text, err := os.ReadFile(name)
			return err != nil || !strings.Contains(string(text), ") T ")
		})
	})
	r, err := p.Begin()
	if err != nil {
		t.Fatal(err)
	}
	w, err := r.End()
	if err != nil {
		t.Fatal(err)
	}
	mustSay(t, w, "state T")
	if w.Length() <= 0 || w.Length() > time.Minute {
		t.Errorf("a window of %v", w.Length())
	}
}
