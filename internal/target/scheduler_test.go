package target

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func open(t *testing.T, pid int) *Scheduler {
	t.Helper()
	s, err := OpenScheduler(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func read(t *testing.T, s *Scheduler) *Reading {
	t.Helper()
	r, err := s.Read()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// start runs a command that lives until it is killed.
func start(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// TestBusyThreadIsToldFromSleepingOne has one thread of this process spin and one sleep between two
// readings.
func TestBusyThreadIsToldFromSleepingOne(t *testing.T) {
	s := open(t, os.Getpid())
	ids, stop := make(chan int, 2), make(chan struct{})
	var stopped atomic.Bool
	done := make(chan struct{}, 2)
	go func() {
		runtime.LockOSThread()
		ids <- syscall.Gettid()
		for !stopped.Load() {
		}
		done <- struct{}{}
	}()
	busy := <-ids
	go func() {
		runtime.LockOSThread()
		ids <- syscall.Gettid()
		<-stop
		done <- struct{}{}
	}()
	idle := <-ids
	first := read(t, s)
	var threads []evidence.Thread
	eventually(t, "the busy thread to run for 50 ms", func() bool {
		threads = read(t, s).Since(first)
		i := slices.IndexFunc(threads, func(v evidence.Thread) bool { return v.TID == busy })
		return i >= 0 && threads[i].Run.Or(0) >= 50*time.Millisecond
	})
	stopped.Store(true)
	close(stop)
	<-done
	<-done
	if !slices.IsSortedFunc(threads, func(a, b evidence.Thread) int { return a.TID - b.TID }) {
		t.Error("the threads are not in order")
	}
	for _, v := range threads {
		switch v.TID {
		case busy:
			if v.Name == "" || !v.Queued.IsKnown() || !v.InvoluntarySwitches.IsKnown() {
				t.Errorf("the busy thread: %+v", v)
			}
		case idle:
			if run := v.Run.Or(time.Hour); run > 10*time.Millisecond {
				t.Errorf("the idle thread ran for %v", run)
			}
			if v.VoluntarySwitches.Or(1000) > 10 {
				t.Errorf("the idle thread switched %v times", v.VoluntarySwitches)
			}
		}
	}
}

// TestThreadsComeAndGo compares readings that do not have the same threads.
func TestThreadsComeAndGo(t *testing.T) {
	know := evidence.Know[time.Duration]
	count := evidence.Know[uint64]
	a := func(started uint64, run, queued time.Duration, voluntary, involuntary uint64) account {
		return account{name: "x", started: started, run: know(run), queued: know(queued),
			voluntary: count(voluntary), involuntary: count(involuntary)}
	}
	before := &Reading{threads: map[int]account{
		1: a(10, 100, 10, 5, 1),
		2: a(10, 100, 10, 5, 1),
		3: a(10, 100, 10, 5, 1),
		4: {name: "x", started: 10},
		6: a(10, 100, 10, 5, 1),
	}}
	after := &Reading{threads: map[int]account{
		1: a(10, 150, 12, 6, 3), // lived through
		3: a(20, 30, 1, 2, 0),   // another thread with the same id
		4: a(10, 150, 12, 6, 3), // could not be read before
		5: a(20, 30, 1, 2, 0),   // born
		6: a(10, 50, 5, 2, 0),   // went backwards, which no counter does
	}}
	thread := func(tid int, run, queued time.Duration, voluntary, involuntary uint64) evidence.Thread {
		return evidence.Thread{TID: tid, Name: "x", Run: know(run), Queued: know(queued),
			VoluntarySwitches: count(voluntary), InvoluntarySwitches: count(involuntary)}
	}
	want := []evidence.Thread{
		thread(1, 50, 2, 1, 2),
		{TID: 2, Name: "x"}, // ended: nothing is known of its last part
		thread(3, 30, 1, 2, 0),
		{TID: 4, Name: "x"},
		thread(5, 30, 1, 2, 0),
		{TID: 6, Name: "x"},
	}
	got := after.Since(before)
	if len(got) != len(want) {
		t.Fatalf("%d threads, want %d", len(got), len(want))
	}
	for i := range want {
		g, w := got[i], want[i]
		if g.TID != w.TID || g.Name != w.Name || g.Run != w.Run || g.Queued != w.Queued ||
			g.VoluntarySwitches != w.VoluntarySwitches || g.InvoluntarySwitches != w.InvoluntarySwitches {
			t.Errorf("thread %d: %+v, want %+v", w.TID, g, w)
		}
	}
}

// TestStateOfAProcess follows a process from running over stopped to gone.
func TestStateOfAProcess(t *testing.T) {
	cmd := start(t, "sleep", "1000")
	s := open(t, cmd.Process.Pid)
	if state := read(t, s).State; !state.Runs() {
		t.Errorf("state %c, want one that runs", state)
	}
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process to stop", func() bool { return read(t, s).State == StateStopped })
	if read(t, s).Runs() {
		t.Error("a stopped process runs")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process to end", func() bool { return read(t, s).State == StateZombie })
	if err := s.Alive(); err != nil {
		t.Errorf("a zombie is not there: %v", err)
	}
	_ = cmd.Wait()
	if _, err := s.Read(); !errors.Is(err, ErrGone) {
		t.Errorf("reading: %v, want %v", err, ErrGone)
	}
	if err := s.Alive(); !errors.Is(err, ErrGone) {
		t.Errorf("looking: %v, want %v", err, ErrGone)
	}
	if _, err := OpenScheduler(cmd.Process.Pid); !errors.Is(err, ErrGone) {
		t.Errorf("opening: %v, want %v", err, ErrGone)
	}
}

// TestDirectory finds the directory of this process and of another.
func TestDirectory(t *testing.T) {
	if d, err := Directory(os.Getpid()); err != nil || d != "/proc/self" {
		t.Errorf("this process is in %q, %v", d, err)
	}
	if d, err := Directory(1); err != nil || d != "/proc/1" {
		t.Errorf("process 1 is in %q, %v", d, err)
	}
}

// TestOtherNamespace runs this test binary in a pid namespace that /proc does not show: it finds itself,
// with the ids that it knows, and takes no other process for the one that is asked for.
func TestOtherNamespace(t *testing.T) {
	const variable = "WHYSPIN_TEST_NAMESPACE"
	if os.Getenv(variable) != "" {
		inOtherNamespace(t)
		return
	}
	if os.Getuid() != 0 {
		t.Fatal("making a pid namespace needs root: run the tests as root")
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestOtherNamespace$")
	cmd.Env = append(os.Environ(), variable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func inOtherNamespace(t *testing.T) {
	if os.Getpid() != 1 {
		t.Fatalf("this is process %d, want 1", os.Getpid())
	}
	runtime.LockOSThread()
	r := read(t, open(t, 1))
	if _, ok := r.threads[syscall.Gettid()]; !ok {
		t.Errorf("thread %d is not among %v", syscall.Gettid(), r.threads)
	}
	if _, err := Directory(2); err == nil || !strings.Contains(err.Error(), "another pid namespace") {
		t.Errorf("process 2: %v, want that /proc belongs to another pid namespace", err)
	}
}

func TestStatIsParsed(t *testing.T) {
	tail := strings.Repeat(" 1", 18) + " 4711 7 8"
	for _, c := range []struct {
		name, text, wantName string
		wantState            State
		ok                   bool
	}{
		{"an ordinary name", "12 (sleep) S" + tail, "sleep", 'S', true},
		{"a name that looks like the rest", "12 (a) R 1 (b) T" + tail, "a) R 1 (b", 'T', true},
		{"too few fields", "12 (sleep) S 1 2 3", "", 0, false},
		{"no name", "12 sleep S", "", 0, false},
		{"nothing", "", "", 0, false},
	} {
		name, state, started, ok := parseStat([]byte(c.text))
		if name != c.wantName || state != c.wantState || ok != c.ok || (ok && started != 4711) {
			t.Errorf("%s: %q %c %d %v", c.name, name, state, started, ok)
		}
	}
}

func TestSchedstatIsParsed(t *testing.T) {
	for _, c := range []struct {
		text        string
		run, queued evidence.Observed[time.Duration]
	}{
		{"1500 200 3\n", evidence.Know(time.Duration(1500)), evidence.Know(time.Duration(200))},
		{"0 0 0\n", evidence.Observed[time.Duration]{}, evidence.Observed[time.Duration]{}}, // no accounting
		{"1500\n", evidence.Observed[time.Duration]{}, evidence.Observed[time.Duration]{}},
		{"a b c\n", evidence.Observed[time.Duration]{}, evidence.Observed[time.Duration]{}},
	} {
		if run, queued := parseSchedstat([]byte(c.text)); run != c.run || queued != c.queued {
			t.Errorf("%q: %v %v", c.text, run, queued)
		}
	}
}

// BenchmarkRead is the cost of reading one process with a handful of threads.
func BenchmarkRead(b *testing.B) {
	s, err := OpenScheduler(os.Getpid())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	threads := 0
	for b.Loop() {
		r, err := s.Read()
		if err != nil {
			b.Fatal(err)
		}
		threads = len(r.threads)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*threads), "ns/thread")
}
