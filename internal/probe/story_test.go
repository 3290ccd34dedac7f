//go:build amd64

package probe

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/evidence"
)

func init() {
	// set, descriptor, rounds, threads
	commands["wait-on-threads"] = func(a []int) (int, error) {
		return waitOnThreads(a[0], a[1], a[2], a[3])
	}
	commands["yield"] = onOneThread(func(a []int) {
		for range a[0] {
			_, _, _ = syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0)
		}
		word := uint32(0)
		const wake = 1
		for range a[1] {
			_, _, _ = syscall.RawSyscall6(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(&word)), wake, 1, 0, 0, 0)
		}
	})
	commands["poll"] = onOneThread(func(a []int) {
		var none [1]uint64
		for range a[0] { // the timeouts 0 and 1 ms
			_, _, _ = syscall.RawSyscall(syscall.SYS_POLL, uintptr(unsafe.Pointer(&none)), 0, 0)
			_, _, _ = syscall.RawSyscall(syscall.SYS_POLL, uintptr(unsafe.Pointer(&none)), 0, 1)
			t := syscall.Timespec{}
			_, _, _ = syscall.RawSyscall6(sysPpoll, 0, 0, uintptr(unsafe.Pointer(&t)), 0, 0, 0)
			t = syscall.Timespec{Nsec: 1e6}
			_, _, _ = syscall.RawSyscall6(sysPpoll, 0, 0, uintptr(unsafe.Pointer(&t)), 0, 0, 0)
		}
	})
	commands["fork"] = func([]int) (int, error) {
		pid, err := syscall.ForkExec("/proc/self/exe", nil, &syscall.ProcAttr{Env: []string{}})
		if err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_, err = syscall.Wait4(pid, nil, 0, nil)
		}
		return pid, err
	}
	// descriptor: sends it into a socket that nobody reads, so that its file lives on in no process at all
	commands["pass"] = func(a []int) (int, error) {
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			return 0, err
		}
		return pair[0], syscall.Sendmsg(pair[0], []byte{1}, syscall.UnixRights(a[0]), nil, 0)
	}
	commands["dup2"] = func(a []int) (int, error) { return 0, syscall.Dup2(a[0], a[1]) }
	commands["dup-above"] = func(a []int) (int, error) {
		const above = 100
		fd, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(a[0]), syscall.F_DUPFD_CLOEXEC, above)
		if errno != 0 {
			return 0, errno
		}
		return int(fd), nil
	}
	commands["connect-later"] = func(a []int) (int, error) { return connectLater(a[0]) }
	// port, how often: attempts on an IPv4 port of this machine, one after the other
	commands["storm"] = func(a []int) (int, error) {
		for range a[1] {
			if fd, err := dial(a[0]); err == nil {
				_ = syscall.Close(fd)
			}
		}
		return 0, nil
	}
	// port, how often: the same without blocking, asking for the outcome by SO_ERROR
	commands["storm-later"] = func(a []int) (int, error) { return stormLater(a[0], a[1]) }
	commands["connect-unix"] = func(a []int) (int, error) {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			return 0, err
		}
		path := fmt.Sprintf("/nonexistent/%d", a[0])
		if a[1] == 1 {
			path = fmt.Sprintf("@whyspin-%d", a[0])
		}
		_ = syscall.Connect(fd, &syscall.SockaddrUnix{Name: path})
		return 0, syscall.Close(fd)
	}
	commands["connect-inet6"] = func(a []int) (int, error) {
		fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM, 0)
		if err != nil {
			return 0, err
		}
		_ = syscall.Connect(fd, &syscall.SockaddrInet6{Addr: [16]byte{15: 1}, Port: a[0]})
		return 0, syscall.Close(fd)
	}
}

// sysPpoll is 271 on x86-64 only; the story is told there.
const sysPpoll = 271

// onOneThread makes a command run without changing threads, and return the thread.
func onOneThread(run func(a []int)) func(a []int) (int, error) {
	return func(a []int) (int, error) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		run(a)
		return syscall.Gettid(), nil
	}
}

// waitOnThreads lets threads wait on a set, one at a time. The first reads the descriptor after each of its
// waits. It returns the first thread.
func waitOnThreads(set, fd, rounds, threads int) (int, error) {
	var first int
	for number := range threads {
		var done sync.WaitGroup
		done.Go(func() {
			runtime.LockOSThread() // not unlocked: every thread is a new one
			if number == 0 {
				first = syscall.Gettid()
			}
			events := make([]syscall.EpollEvent, 8)
			for range rounds {
				_, _ = syscall.EpollWait(set, events, 0)
				if number == 0 {
					_, _ = syscall.Read(fd, make([]byte, 4)) // EINVAL of an eventfd: it stays readable
				}
			}
		})
		done.Wait()
	}
	return first, nil
}

// connectLater begins to connect to a port on this machine.
func connectLater(port int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	err = syscall.Connect(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port})
	if err != syscall.EINPROGRESS {
		return 0, fmt.Errorf("connecting: %v, not in progress", err)
	}
	return fd, nil
}

func stormLater(port, n int) (int, error) {
	const soError = 4
	failures := 0
	for range n {
		fd, err := connectLater(port)
		if err != nil {
			return 0, err
		}
		code, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, soError)
		if err != nil {
			return 0, err
		}
		if code != 0 {
			failures++
		}
		_ = syscall.Close(fd)
	}
	return failures, nil
}

// deliveredTo returns how often a window delivered a descriptor.
func deliveredTo(t *testing.T, w *evidence.Window, fd int) uint64 {
	t.Helper()
	d := descriptor(t, w, fd)
	return d.Delivered()
}

// TestDataMayBeAnything has sets whose data are addresses, indexes and descriptors below a generation,
// some registered before the window and some in it, and waits on them under their own and another number.
func TestDataMayBeAnything(t *testing.T) {
	s := startScript(t)
	p := load(t, Options{PID: s.pid()})
	const address = 0x7f0000001000
	add, mod := syscall.EPOLL_CTL_ADD, syscall.EPOLL_CTL_MOD
	in := syscall.EPOLLIN
	pointers, direct := s.do("epoll"), s.do("epoll")
	again := s.do("dup %d", pointers)
	var early, late [3]int
	for i := range early {
		early[i] = s.do("eventfd 1")
		s.do("control %d %d %d %d %d", pointers, add, early[i], in, address+64*i)
	}
	plain := s.do("eventfd 1")
	s.do("control %d %d %d %d %d", direct, add, plain, in, 9<<32|plain)

	var fresh, made int
	w := window(t, p, func() {
		s.do("wait %d 0", pointers)
		for i := range late {
			late[i] = s.do("eventfd 1")
			s.do("control %d %d %d %d %d", pointers, add, late[i], in, i) // an index
		}
		s.do("control %d %d %d %d %d", pointers, mod, early[0], in, 77777)
		s.do("wait %d 0", again)

		// A direct set that becomes a mixed one, with what it had still direct.
		s.do("wait %d 0", direct)
		fresh = s.do("eventfd 1")
		s.do("control %d %d %d %d %d", direct, add, fresh, in, address)
		s.do("wait %d 0", direct)

		// A set that is made in the window.
		set := s.do("epoll")
		made = s.do("eventfd 1")
		s.do("control %d %d %d %d %d", set, add, made, in, address)
		s.do("wait %d 0", set)
	})
	want := map[int]uint64{plain: 2, fresh: 1, made: 1}
	for _, fd := range early {
		want[fd] = 2
	}
	for _, fd := range late {
		want[fd] = 1
	}
	for fd, n := range want {
		if got := deliveredTo(t, w, fd); got != n {
			t.Errorf("descriptor %d was delivered %d times, want %d", fd, got, n)
		}
	}
	if data := descriptor(t, w, early[0]).Data; data != evidence.Know(uint64(77777)) {
		t.Errorf("the data of descriptor %d are %v, want 77777", early[0], data)
	}
	if w.Losses.Any() {
		t.Errorf("losses %+v, want none", w.Losses)
	}
}

// TestAmbiguousDataAreSaid registers two descriptors with the same data, before and in the window, and one
// with the data of another that was closed before.
func TestAmbiguousDataAreSaid(t *testing.T) {
	s := startScript(t)
	p := load(t, Options{PID: s.pid()})
	const address = 0x7f0000001000
	add, del, in := syscall.EPOLL_CTL_ADD, syscall.EPOLL_CTL_DEL, syscall.EPOLLIN
	before, during, heirs := s.do("epoll"), s.do("epoll"), s.do("epoll")
	one, two := s.do("eventfd 1"), s.do("eventfd 0")
	s.do("control %d %d %d %d %d", before, add, one, in, address)
	s.do("control %d %d %d %d %d", before, add, two, in, address)
	s.do("control %d %d %d %d %d", during, add, one, in, address)
	closed, left := s.do("eventfd 1"), s.do("eventfd 1")
	s.do("control %d %d %d %d %d", heirs, add, closed, in, address)
	s.do("control %d %d %d %d %d", heirs, add, left, in, address+64)

	var heir, other int
	w := window(t, p, func() {
		s.do("wait %d 0", before)
		s.do("wait %d 0", during)
		s.do("control %d %d %d %d %d", during, add, two, in, address)
		s.do("wait %d 0", during)

		heir, other = s.do("eventfd 1"), s.do("eventfd 1")
		s.do("close %d", closed)
		s.do("control %d %d %d %d %d", heirs, add, heir, in, address)
		s.do("control %d %d %d 0 0", heirs, del, left)
		s.do("control %d %d %d %d %d", heirs, add, other, in, address+64)
		s.do("wait %d 0", heirs)
	})
	for fd, n := range map[int]uint64{one: 1, heir: 1, other: 1, closed: 0, left: 0} {
		if got := deliveredTo(t, w, fd); got != n {
			t.Errorf("descriptor %d was delivered %d times, want %d", fd, got, n)
		}
	}
	if want := (evidence.Losses{UnattributedEvents: 2}); w.Losses != want {
		t.Errorf("losses %+v, want %+v", w.Losses, want)
	}
	for _, set := range []int{before, during} {
		mustSay(t, w, fmt.Sprintf("1 events of epoll set %d are counted but not by descriptor: several", set))
	}
}

// TestClosedNumbersAreDelivered has registrations outlive their numbers (F6): closed before the window and in
// it, with a copy in the process or on its way to another one, and with the number given to another file.
func TestClosedNumbersAreDelivered(t *testing.T) {
	s := startScript(t)
	p := load(t, Options{PID: s.pid()})
	const address = 0x7f0000001000
	set, other := s.do("epoll"), s.do("timerfd")
	var fds, copies [4]int
	for i := range fds {
		fds[i] = s.do("eventfd 1")
		s.do("control %d %d %d %d %d", set, syscall.EPOLL_CTL_ADD, fds[i], syscall.EPOLLIN, address+64*i)
	}
	early, late, reused, passed := fds[0], fds[1], fds[2], fds[3]
	for i, fd := range fds[:3] {
		copies[i] = s.do("dup %d", fd)
	}
	s.do("pass %d", passed)
	s.do("close %d", early)

	w := window(t, p, func() {
		s.do("close %d", late)
		s.do("dup2 %d %d", other, reused)
		s.do("close %d", passed)
		s.do("wait %d 0", set)
		s.do("wait %d 0", set)
	})
	eventfd := evidence.Know("eventfd")
	for i, want := range []struct {
		was evidence.Observed[string]
		now string
	}{
		{now: evidence.SocketClosed}, // as at the begin
		{was: eventfd, now: evidence.SocketClosed},
		{was: eventfd, now: "timerfd"},
		{was: eventfd, now: evidence.SocketClosed},
	} {
		d := descriptor(t, w, fds[i])
		if d.Delivered() != 2 || d.Stale != 2 || d.Row != 2 {
			t.Errorf("descriptor %d: %d deliveries, %d stale, in a row of %d; want 2 each", fds[i],
				d.Delivered(), d.Stale, d.Row)
		}
		if data := evidence.Know(uint64(address + 64*i)); d.Data != data {
			t.Errorf("descriptor %d: data %v, want %v", fds[i], d.Data, data)
		}
		now, _ := d.Socket.Get()
		wantNow := evidence.Socket{Kind: want.now, Orphaned: true, Ready: true, Copy: copies[i]}
		if diff := cmp.Diff(wantNow, now, cmp.Comparer(evidence.Equal[uint64])); diff != "" {
			t.Errorf("descriptor %d at the end (-want +got):\n%s", fds[i], diff)
		}
		var was evidence.Observed[string]
		if before, ok := d.Before.Get(); ok {
			was = evidence.Know(before.Kind)
		}
		if was != want.was {
			t.Errorf("descriptor %d was %v at the begin, want %v", fds[i], was, want.was)
		}
	}
}

// TestCopiesAreCounted copies a descriptor in every way there is.
func TestCopiesAreCounted(t *testing.T) {
	s := startScript(t)
	p := load(t, Options{PID: s.pid()})
	fd := s.do("eventfd 1")
	w := window(t, p, func() {
		to := s.do("dup %d", fd)
		s.do("dup2 %d %d", fd, to)
		s.do("dup-above %d", fd)
		s.do("pass %d", fd)
		s.do("fork")
	})
	if d := descriptor(t, w, fd); d.Dups != 3 || d.Passed != 1 {
		t.Errorf("%d copies and %d passed on, want 3 and 1", d.Dups, d.Passed)
	}
	var forks uint64
	for i := range w.Threads {
		forks += w.Threads[i].Forks.Or(0)
	}
	if forks != 1 {
		t.Errorf("%d forks, want 1", forks)
	}
}

// thread returns what a window has of a thread.
func thread(t *testing.T, w *evidence.Window, tid int) evidence.Thread {
	t.Helper()
	i := slices.IndexFunc(w.Threads, func(v evidence.Thread) bool { return v.TID == tid })
	if i < 0 {
		t.Fatalf("the window does not have thread %d", tid)
	}
	return w.Threads[i]
}

// TestRowsAndDeliverers has one descriptor delivered to several threads, of which one acts on it (F7).
func TestRowsAndDeliverers(t *testing.T) {
	s := startScript(t)
	p := load(t, Options{PID: s.pid()})
	set, fd := s.do("epoll"), s.do("eventfd 1")
	s.do("register %d %d %d 0", set, fd, syscall.EPOLLIN|syscall.EPOLLOUT)
	const rounds = 50
	const threads = int(syscallLimitDELIVERERS) + 2
	var acts int
	w := window(t, p, func() { acts = s.do("wait-on-threads %d %d %d %d", set, fd, rounds, threads) })
	d := descriptor(t, w, fd)
	if want := uint64(rounds * (threads - 1)); d.Row != want {
		t.Errorf("a row of %d, want %d", d.Row, want)
	}
	if n := len(d.Deliverers); n != int(syscallLimitDELIVERERS) || d.OtherDeliveries != 2*rounds {
		t.Fatalf("%d deliverers and %d deliveries to others: %+v", n, d.OtherDeliveries, d.Deliverers)
	}
	for _, got := range d.Deliverers {
		want := evidence.Deliverer{TID: got.TID, Count: rounds}
		if got.TID == acts {
			want.Calls = rounds
		}
		if got != want {
			t.Errorf("deliverer %+v, want %+v", got, want)
		}
	}

	w = window(t, p, func() {
		for range 3 {
			s.do("wait %d 0", set)
		}
		s.do("control %d %d %d %d %d", set, syscall.EPOLL_CTL_MOD, fd, syscall.EPOLLOUT, fd)
		for range 2 {
			s.do("wait %d 0", set)
		}
		s.do("dup %d", fd)
		for range 4 {
			s.do("wait %d 0", set)
		}
	})
	if d := descriptor(t, w, fd); d.Row != 4 || d.Delivered() != 9 {
		t.Errorf("a row of %d in %d deliveries, want 4 in 9", d.Row, d.Delivered())
	}
}

// TestDestinationsAreCounted connects again and again (C1), with every outcome and every kind of address.
func TestDestinationsAreCounted(t *testing.T) {
	s := startScript(t)
	p := load(t, Options{PID: s.pid()})
	listener := s.do("listen")
	open := s.do("port %d", listener)
	gone := s.do("listen")
	closed := s.do("port %d", gone)
	s.do("close %d", gone)
	w := window(t, p, func() {
		s.do("storm %d 20", open)
		s.do("storm %d 30", closed)
		s.do("storm-later %d 5", open)
		if n := s.do("storm-later %d 7", closed); n != 7 {
			t.Errorf("%d attempts failed, want 7", n)
		}
		s.do("connect-later %d", open)
		s.do("connect-unix 1 0")
		s.do("connect-unix 2 1")
		s.do("connect-inet6 %d", closed)
	})
	known := evidence.Know[uint64]
	want := []evidence.Destination{
		{Address: "/nonexistent/1", Connects: 1, Refused: 1, Established: known(0)},
		{Address: "@whyspin-2", Connects: 1, Refused: 1, Established: known(0)},
		{Address: fmt.Sprintf("127.0.0.1:%d", open), Connects: 26, Pending: 1, Established: known(25)},
		{Address: fmt.Sprintf("127.0.0.1:%d", closed), Connects: 37, Refused: 30, Failed: 7,
			Established: known(0)},
		{Address: fmt.Sprintf("[::1]:%d", closed), Connects: 1, Refused: 1, Established: known(0)},
	}
	byAddress := func(a, b evidence.Destination) int { return strings.Compare(a.Address, b.Address) }
	slices.SortFunc(want, byAddress)
	if diff := cmp.Diff(want, w.Destinations, cmp.Comparer(evidence.Equal[uint64])); diff != "" {
		t.Errorf("destinations (-want +got):\n%s", diff)
	}
	if w = window(t, p, func() { s.do("storm %d 2", closed) }); len(w.Destinations) != 1 ||
		w.Destinations[0].Connects != 2 {
		t.Errorf("the next window has %+v, want 2 attempts on one", w.Destinations)
	}
	w = window(t, p, func() {
		for i := range int(syscallLimitDESTINATIONS) + 10 {
			s.do("connect-unix %d 1", i)
		}
	})
	if n := len(w.Destinations); n != int(syscallLimitDESTINATIONS) || w.Losses.Destinations != 10 {
		t.Errorf("%d destinations and %d lost, want %d and 10", n, w.Losses.Destinations,
			syscallLimitDESTINATIONS)
	}
}

// TestThreadsAreCounted yields, calls futex, and waits with poll.
func TestThreadsAreCounted(t *testing.T) {
	s := startScript(t)
	p := load(t, Options{PID: s.pid()})
	var yielder, poller int
	w := window(t, p, func() {
		yielder = s.do("yield 30 40")
		poller = s.do("poll 5")
	})
	// The runtime of the script makes calls of its own.
	if got := thread(t, w, yielder); got.Yields.Or(0) < 30 || got.Futexes.Or(0) < 40 ||
		got.Calls.Or(0) < got.Yields.Or(0)+got.Futexes.Or(0) {
		t.Errorf("%+v, want 30 yields and 40 futexes at least", got)
	}
	polls, _ := thread(t, w, poller).Polls.Get()
	var want evidence.Waits
	want[evidence.TimeoutZero][evidence.ResultNone] = 10
	want[evidence.TimeoutPositive][evidence.ResultNone] = 10
	if polls != want {
		t.Errorf("polls %v, want %v", polls, want)
	}
}
