package probe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/whyspin/whyspin/internal/evidence"
)

// kernelIDs are the programs, maps and links that a probe has in the kernel.
type kernelIDs struct {
	programs map[ebpf.ProgramID]string
	maps     map[ebpf.MapID]string
}

// idsOf asks the kernel for what belongs to a probe.
func idsOf(t *testing.T, p *Probe) kernelIDs {
	t.Helper()
	ids := kernelIDs{map[ebpf.ProgramID]string{}, map[ebpf.MapID]string{}}
	collections := []*ebpf.Collection{p.counter.collection, p.watcher.collection, p.watcher.outgoing,
		p.reader.files, p.reader.tasks}
	for _, h := range p.hooks {
		collections = append(collections, h.loaded)
	}
	for _, c := range collections {
		if c == nil {
			continue
		}
		for name, program := range c.Programs {
			info, err := program.Info()
			if err != nil {
				t.Fatal(err)
			}
			id, _ := info.ID()
			ids.programs[id] = name
		}
		for name, m := range c.Maps {
			info, err := m.Info()
			if err != nil {
				t.Fatal(err)
			}
			id, _ := info.ID()
			ids.maps[id] = name
		}
	}
	return ids
}

// left lists what of them the kernel still has.
func (ids kernelIDs) left(t *testing.T) (names []string) {
	t.Helper()
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if name, ok := ids.programs[next]; ok {
			names = append(names, name)
		}
		id = next
	}
	for id := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if name, ok := ids.maps[next]; ok {
			names = append(names, name)
		}
		id = next
	}
	return names
}

// links counts the links to programs of the probe.
func (ids kernelIDs) links(t *testing.T) (n int) {
	t.Helper()
	for {
		n, err := ids.countLinks()
		// Another process is just making a link: the kernel has no complete list at this moment.
		if errors.Is(err, syscall.EAGAIN) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
}

func (ids kernelIDs) countLinks() (n int, err error) {
	all := link.Iterator{}
	defer all.Close()
	for all.Next() {
		info, err := all.Link.Info()
		if err != nil {
			return 0, err
		}
		if _, ok := ids.programs[info.Program]; ok {
			n++
		}
	}
	return n, all.Err()
}

// TestManyWindowsLeaveNothing records two hundred windows in a row on one probe, each exact, and closes it.
func TestManyWindowsLeaveNothing(t *testing.T) {
	s := startScript(t)
	event := s.do("eventfd 1")
	set := s.do("epoll")
	s.do("register %d %d %d 1", set, event, syscall.EPOLLIN)
	p := load(t, Options{PID: s.pid()})
	if err := p.WatchResets(); err != nil {
		t.Fatal(err)
	}
	ids := idsOf(t, p)
	const windows = 200
	var before int
	for i := range windows {
		r, err := p.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Begin(); !errors.Is(err, ErrRecording) {
			t.Fatalf("a second window: %v, want %v", err, ErrRecording)
		}
		for range i % 7 {
			s.do("wait %d 0", set)
		}
		w, err := r.End()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.End(); err == nil {
			t.Fatal("a window ended twice")
		}
		delivered, waits := eventsAndWaits(w)
		if delivered != uint64(i%7) || waits != uint64(i%7) || w.Losses.Any() {
			t.Fatalf("window %d: %d events in %d waits, want %d; losses %+v", i, delivered, waits, i%7,
				w.Losses)
		}
		if n := descriptorCount(t); i == 0 {
			before = n
		} else if n != before {
			t.Fatalf("after window %d there are %d descriptors, after the first %d", i, n, before)
		}
		if n := ids.links(t); n != 3 {
			t.Fatalf("after window %d there are %d links, want the 3 that watch resets", i, n)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatalf("closing twice: %v", err)
	}
	eventually(t, "the kernel to forget programs and maps", func() bool { return len(ids.left(t)) == 0 })
	if n := ids.links(t); n != 0 {
		t.Errorf("%d links are left", n)
	}
	everythingIsClosed(t, p)
}

// eventsAndWaits sums over a window, without the Go runtime's own set.
func eventsAndWaits(w *evidence.Window) (delivered, waits uint64) {
	for _, d := range w.Descriptors {
		delivered += d.Delivered()
	}
	for _, thread := range w.Threads {
		for _, set := range thread.Sets {
			if set.Owner != evidence.OwnerRuntime {
				waits += set.Waits.Total()
			}
		}
	}
	return delivered, waits
}

// everythingIsClosed checks that a probe that is closed says so.
func everythingIsClosed(t *testing.T, p *Probe) {
	t.Helper()
	for name, err := range map[string]error{
		"Begin":        func() error { _, err := p.Begin(); return err }(),
		"WatchResets":  p.WatchResets(),
		"MarkListener": p.MarkListener(0),
		"Resets":       func() error { _, _, err := p.Resets(); return err }(),
		"Cost":         func() error { _, err := p.Cost(); return err }(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v, want %v", name, err, ErrClosed)
		}
	}
}

// TestCloseEndsAWindow closes the probe in the middle of a window.
func TestCloseEndsAWindow(t *testing.T) {
	p := load(t, Options{PID: os.Getpid()})
	ids := idsOf(t, p)
	r, err := p.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.End(); !errors.Is(err, ErrClosed) {
		t.Errorf("ending the window: %v, want %v", err, ErrClosed)
	}
	eventually(t, "the kernel to forget programs and maps", func() bool { return len(ids.left(t)) == 0 })
}

// TestGarbageCollectorKeepsProbes collects garbage all the time. The library closes links, maps and
// programs that nobody references; a probe would then count nothing, without an error.
func TestGarbageCollectorKeepsProbes(t *testing.T) {
	s := startScript(t)
	event := s.do("eventfd 0")
	listener := s.do("listen")
	p := load(t, Options{PID: s.pid()})
	runtime.GC()
	if err := p.WatchResets(); err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	r, err := p.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		runtime.GC() // finalizers and cleanups run after one cycle, what they free after another
	}
	for range 10 {
		s.do("send %d 8", event)
	}
	ours, _, _ := s.connection(t, listener)
	if err := resetClose(ours); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the reset", func() bool {
		totals, _, err := p.Resets()
		return err == nil && totals.Received == 1
	})
	w, err := r.End()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range w.Descriptors {
		if d.FD == event && d.Write.Calls != 10 {
			t.Errorf("%d writes, want 10", d.Write.Calls)
		}
	}
	if len(w.Resets) != 1 {
		t.Errorf("%d resets in the window, want 1", len(w.Resets))
	}
}

// TestLostIsCounted overflows what is bounded: the events of one wait, and the table of descriptors.
func TestLostIsCounted(t *testing.T) {
	s := startScript(t)
	set := s.do("epoll")
	const ready = int(syscallLimitMAX_EVENTS) + 100
	var last int
	for range ready {
		last = s.do("eventfd 1")
		s.do("register %d %d %d 1", set, last, syscall.EPOLLIN)
	}
	p := load(t, Options{PID: s.pid(), MaxDescriptors: last - 9}) // the last ten are beyond it
	r, err := p.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if n := s.do("wait-many %d %d", set, ready); n != ready {
		t.Fatalf("%d events, want %d", n, ready)
	}
	s.do("send %d 8", last)
	w, err := r.End()
	if err != nil {
		t.Fatal(err)
	}
	var delivered uint64
	for _, d := range w.Descriptors {
		delivered += d.Delivered()
	}
	if want := uint64(syscallLimitMAX_EVENTS); delivered != want {
		t.Errorf("%d deliveries, want %d", delivered, want)
	}
	// Events come in the order in which the descriptors became ready, so those beyond the table are among
	// the unread.
	if want := (evidence.Losses{UnreadEvents: 100, BeyondTable: 1}); w.Losses != want {
		t.Errorf("losses %+v, want %+v", w.Losses, want)
	}
}

// TestRestartsAreNotCounted interrupts a thread inside a read, which the kernel restarts, and inside a
// wait, which it does not.
func TestRestartsAreNotCounted(t *testing.T) {
	c := startChild(t, "interrupted", nil)
	p := load(t, Options{PID: c.pid()})
	awaitCalls(t, c.pid(), 1, syscall.SYS_READ, childGo)
	tid := threadInCall(t, c.pid(), syscall.SYS_READ, childGo)

	r, err := p.Begin()
	if err != nil {
		t.Fatal(err)
	}
	interrupt := func() {
		before := switches(t, c.pid(), tid)
		_, _, errno := syscall.Syscall(syscall.SYS_TGKILL, uintptr(c.pid()), uintptr(tid),
			uintptr(syscall.SIGURG))
		if errno != 0 {
			t.Fatal(errno)
		}
		eventually(t, "the thread to sleep again", func() bool { return switches(t, c.pid(), tid) > before })
	}
	interrupt()
	interrupt()
	c.goAhead(1)
	set := waitSet(t, c.pid())
	interrupt() // EINTR; the child waits again
	c.goAhead(1)
	c.await(1)
	awaitCalls(t, c.pid(), 1, syscall.SYS_READ, childStop)
	w, err := r.End()
	if err != nil {
		t.Fatal(err)
	}
	c.finish(1, nil)

	for _, thread := range w.Threads {
		if thread.TID != tid {
			continue
		}
		// One read, one write; the ends of three signal handlers are none. The interrupted wait, and the
		// one after it that found something to do.
		if thread.Calls != evidence.Know(uint64(2)) {
			t.Errorf("%v calls, want 2", thread.Calls)
		}
		want := evidence.EpollSet{FD: set, Slept: evidence.Know(uint64(2)), Events: 1}
		want.Waits[evidence.TimeoutInfinite] = [evidence.ResultClasses]uint64{0, 1, 1}
		if len(thread.Sets) != 1 || thread.Sets[0] != want {
			t.Errorf("sets %+v, want %+v", thread.Sets, want)
		}
	}
	for _, d := range w.Descriptors {
		if d.FD == childGo && d.Read != (evidence.IO{Calls: 1, Bytes: 1, Tiny: 1}) {
			t.Errorf("reads %+v, want one", d.Read)
		}
	}
}

func init() {
	children["interrupted"] = func() {
		runtime.LockOSThread()
		set, err := syscall.EpollCreate1(0)
		check(err)
		event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: childGo}
		check(syscall.EpollCtl(set, syscall.EPOLL_CTL_ADD, childGo, &event))
		interrupted(set)
	}
}

// threadInCall finds the thread that is inside a system call with this number and first argument.
func threadInCall(t *testing.T, pid int, nr, argument uint64) int {
	t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	for _, name := range tasks {
		text, _ := os.ReadFile(name)
		if strings.HasPrefix(string(text), fmt.Sprintf("%d 0x%x ", nr, argument)) {
			var tid int
			_, _ = fmt.Sscanf(strings.TrimPrefix(name, fmt.Sprintf("/proc/%d/task/", pid)), "%d", &tid)
			return tid
		}
	}
	t.Fatalf("no thread of process %d is in call %d", pid, nr)
	return 0
}

// waitSet waits until a thread of the process is inside a wait for the set of the child above and returns
// the set.
func waitSet(t *testing.T, pid int) (set int) {
	t.Helper()
	eventually(t, "the thread to wait", func() bool {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
		for _, name := range tasks {
			text, _ := os.ReadFile(name)
			var nr, fd, events, most int
			n, _ := fmt.Sscanf(string(text), "%d 0x%x 0x%x 0x%x", &nr, &fd, &events, &most)
			if n == 4 && nr == syscall.SYS_EPOLL_PWAIT && most == interruptedMost {
				set = fd
				return true
			}
		}
		return false
	})
	return set
}

// switches is the number of voluntary context switches of a thread.
func switches(t *testing.T, pid, tid int) (n int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/status", pid, tid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
			_, _ = fmt.Sscan(v, &n)
		}
	}
	return n
}

// TestCost checks that the measurement measures something, and leaves nothing attached.
func TestCost(t *testing.T) {
	p := load(t, Options{PID: os.Getpid()})
	ids := idsOf(t, p)
	var cost Cost
	// On a machine that has something else to do a round may be disturbed.
	eventually(t, "a measurement that shows the cost of a wait", func() bool {
		var err error
		if cost, err = p.Cost(); err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", cost)
		return cost.Wait > 0 && cost.Wait < 100_000
	})
	if cost.Hook != "tp_btf" {
		t.Errorf("cost %+v, want that of tp_btf", cost)
	}
	if n := ids.links(t); n != 0 {
		t.Errorf("%d links are left", n)
	}
}

// BenchmarkWindow is the cost of beginning and ending a window on a process with few descriptors. Most of
// it is the wait for a grace period, which takes no CPU time.
func BenchmarkWindow(b *testing.B) {
	p := load(b, Options{PID: os.Getpid()})
	for b.Loop() {
		r, err := p.Begin()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.End(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLoad is the cost of loading everything.
func BenchmarkLoad(b *testing.B) {
	load(b, Options{PID: os.Getpid()})
	for b.Loop() {
		p, err := Load(Options{PID: os.Getpid()})
		if err != nil {
			b.Fatal(err)
		}
		if err := p.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// interruptedMost is the number of events that the child below asks for, by which its wait is recognised.
const interruptedMost = 77

// interrupted reads a byte, waits for the next without end and says so. It runs on a locked thread and,
// having no stack check, is not interrupted by the scheduler.
//
//go:nosplit
//go:norace
func interrupted(set int) {
	buffer := &interruptedBuffer
	address := uintptr(unsafe.Pointer(buffer))
	_, _, _ = syscall.RawSyscall(syscall.SYS_READ, childGo, address, 1)
	for {
		n, _, _ := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(set), address, interruptedMost,
			^uintptr(0), 0, 8)
		if n == 1 {
			break
		}
	}
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, childDone, address, 1)
	_, _, _ = syscall.RawSyscall(syscall.SYS_READ, childStop, address, 1)
}

var interruptedBuffer [interruptedMost]syscall.EpollEvent
