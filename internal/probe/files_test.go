package probe

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/evidence"
)

// registration is one entry of an epoll set as both sources show it.
type registration struct {
	FD   int
	Mask uint32
	Data uint64
}

// fdinfo reads the registrations of an epoll set from /proc, which holds the set's lock meanwhile:
// proc_pid_fdinfo(5).
func fdinfo(t *testing.T, pid, set int) (list []registration) {
	t.Helper()
	file, err := os.Open(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, set))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var r registration
		text := strings.ReplaceAll(lines.Text(), ":", ": ")
		if n, _ := fmt.Sscanf(text, "tfd: %d events: %x data: %x", &r.FD, &r.Mask, &r.Data); n == 3 {
			list = append(list, r)
		}
	}
	return sorted(list)
}

func sorted(list []registration) []registration {
	slices.SortFunc(list, func(a, b registration) int { return a.FD - b.FD })
	return list
}

// TestIteratorAgreesWithProc compares one pass over a process with more than a thousand registrations
// with what /proc says of it: descriptors, kinds, registrations; and the ready list with what is known to
// be ready.
func TestIteratorAgreesWithProc(t *testing.T) {
	s := startScript(t)
	p := load(t, Options{PID: s.pid()})
	small, large := s.do("epoll"), s.do("epoll")
	ready := map[int]bool{}
	const edge = 1 << 31 // EPOLLET
	for i := range 1500 {
		fd := s.do("eventfd %d", i%2)
		mask := []int{syscall.EPOLLIN, syscall.EPOLLIN | edge, syscall.EPOLLPRI}[i%3]
		s.do("register %d %d %d %d", large, fd, mask, i)
		ready[fd] = i%2 == 1 && mask != syscall.EPOLLPRI
	}
	idle := s.do("eventfd 0")
	s.do("register-data %d %d %d %d", small, idle, syscall.EPOLLIN, 424242)

	table, err := p.reader.read(s.pid(), false)
	if err != nil {
		t.Fatal(err)
	}
	bySet := map[int][]registration{}
	for _, r := range table.registrations {
		set := table.sets[r.Set]
		bySet[set] = append(bySet[set], registration{FD: int(r.Fd), Mask: r.Mask, Data: r.Data})
		if set == large && ready[int(r.Fd)] != (r.Ready != 0) {
			t.Errorf("descriptor %d is ready: %v, want %v", r.Fd, r.Ready != 0, ready[int(r.Fd)])
		}
	}
	for _, set := range []int{small, large} {
		if diff := cmp.Diff(fdinfo(t, s.pid(), set), sorted(bySet[set])); diff != "" {
			t.Errorf("set %d (-proc +iterator):\n%s", set, diff)
		}
	}
	if got := len(bySet[large]); got != 1500 {
		t.Errorf("%d registrations, want 1500", got)
	}

	// Deliver everything: level-triggered entries go back to the ready list, edge-triggered ones do not.
	if n := s.do("wait %d 0", large); n != 500 {
		t.Fatalf("%d events, want 500", n)
	}
	table, err = p.reader.read(s.pid(), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range table.registrations {
		if table.sets[r.Set] != large {
			continue
		}
		if want := ready[int(r.Fd)] && r.Mask&edge == 0; want != (r.Ready != 0) {
			t.Errorf("after the wait descriptor %d is ready: %v, want %v", r.Fd, r.Ready != 0, want)
		}
	}
	compareWithProc(t, s.pid(), table)
}

// compareWithProc compares the list of descriptors and their kinds with the links in /proc/PID/fd.
func compareWithProc(t *testing.T, pid int, table *fileTable) {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	sockets := table.sockets()
	var fds []int
	for _, link := range links {
		fd, err := strconv.Atoi(filepath.Base(link))
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
		text, err := os.Readlink(link)
		if err != nil {
			t.Fatal(err)
		}
		kind := sockets[fd].Kind
		switch {
		case strings.HasPrefix(text, "anon_inode:[eventpoll]"):
			text = "epoll"
		case strings.HasPrefix(text, "anon_inode:["):
			text = strings.TrimSuffix(strings.TrimPrefix(text, "anon_inode:["), "]")
		case strings.HasPrefix(text, "pipe:"):
			text = "pipe"
		case strings.HasPrefix(text, "socket:"):
			if !slices.Contains([]string{"tcp", "udp", "unix", "socket"}, kind) {
				t.Errorf("descriptor %d is a %s, /proc has %s", fd, kind, text)
			}
			continue
		case strings.HasPrefix(text, "/dev/"):
			text = "character device"
		default:
			text = "file"
		}
		if kind != text {
			t.Errorf("descriptor %d is a %q, /proc has %q", fd, kind, text)
		}
	}
	slices.Sort(fds)
	if diff := cmp.Diff(fds, slices.Sorted(maps.Keys(sockets))); diff != "" {
		t.Errorf("descriptors (-proc +iterator):\n%s", diff)
	}
}

// TestSocketsAreDescribed checks what a window says of each kind of descriptor.
func TestSocketsAreDescribed(t *testing.T) {
	s := startScript(t)
	p := load(t, Options{PID: s.pid()})
	listener := s.do("listen")
	ours, theirs, r := s.connection(t, listener)
	defer func() { _ = syscall.Close(ours) }()
	if _, err := syscall.Write(ours, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the data to arrive", func() bool { return receiveQueue(t, p, theirs) == 5 })
	waiting, err := dial(s.do("port %d", listener))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(waiting) }()
	eventually(t, "the connection to wait", func() bool { return receiveQueue(t, p, listener) == 1 })
	closing, closed, rest := s.connection(t, s.do("listen"))
	if err := syscall.Close(closing); err != nil {
		t.Fatal(err)
	}
	set, other := s.do("epoll"), s.do("epoll")
	s.do("register %d %d %d %d", set, theirs, syscall.EPOLLIN, 3)
	s.do("register %d %d %d %d", set, listener, syscall.EPOLLOUT, 3)
	// Registered and closed while a copy lives: once with nothing under its number, once with something
	// else.
	orphan, reused := s.do("eventfd 1"), s.do("eventfd 0")
	copies := map[int]int{}
	for _, fd := range []int{orphan, reused} {
		s.do("register %d %d %d %d", other, fd, syscall.EPOLLIN, 1)
		copies[fd] = s.do("dup %d", fd)
	}
	s.do("close %d", reused)
	if again := s.do("timerfd"); again != reused {
		t.Fatalf("the timerfd got descriptor %d, want %d", again, reused)
	}
	s.do("close %d", orphan)
	eventually(t, "the end of the stream", func() bool {
		table, err := p.reader.read(s.pid(), false)
		return err == nil && table.sockets()[closed].State == "CLOSE_WAIT"
	})

	w := window(t, p, func() {})
	got := map[int]evidence.Socket{}
	for _, d := range w.Descriptors {
		got[d.FD], _ = d.Socket.Get()
	}
	port := fmt.Sprintf("127.0.0.1:%d", s.do("port %d", listener))
	const always = evidence.EventErr | evidence.EventHup // the kernel adds them to every registration
	want := map[int]evidence.Socket{
		listener: {Kind: "tcp", Local: port, Remote: "0.0.0.0:0", State: "LISTEN", ReceiveQueue: 1,
			Registered: true, Cookie: uint64(s.do("cookie %d", listener)), Backlog: 64,
			Interest: evidence.EventOut | always},
		theirs: {Kind: "tcp", Local: r.Local, Remote: r.Remote, State: "ESTABLISHED", ReceiveQueue: 5,
			Cookie: r.Cookie, Registered: true, Ready: true, Interest: evidence.EventIn | always},
		closed: {Kind: "tcp", Local: rest.Local, Remote: rest.Remote, State: "CLOSE_WAIT",
			Cookie:       rest.Cookie,
			ReceiveQueue: got[closed].ReceiveQueue},
		set:    {Kind: "epoll"},
		orphan: {Kind: evidence.SocketClosed, Orphaned: true, Ready: true, Copy: copies[orphan]},
		reused: {Kind: "timerfd", Orphaned: true, Copy: copies[reused]},
	}
	for fd, want := range want {
		if diff := cmp.Diff(want, got[fd], cmp.Comparer(evidence.Equal[uint64])); diff != "" {
			t.Errorf("descriptor %d (-want +got):\n%s", fd, diff)
		}
	}
}

// TestKindsAreTold names descriptors that are no TCP sockets.
func TestKindsAreTold(t *testing.T) {
	s := startScript(t)
	p := load(t, Options{PID: s.pid()})
	want := map[int]string{}
	for command, kind := range map[string]string{"udp": "udp", "unix": "unix", "pipe": "pipe", "file": "file",
		"eventfd": "eventfd", "timerfd": "timerfd", "epoll": "epoll", "directory": "directory"} {
		want[s.do("%s", command)] = kind
	}
	w := window(t, p, func() {})
	for fd, kind := range want {
		if got, _ := descriptor(t, w, fd).Socket.Get(); got.Kind != kind {
			t.Errorf("descriptor %d is a %q, want %q", fd, got.Kind, kind)
		}
	}
}

// TestDirectSetsAreFound tells sets whose data are descriptors from others, by what is registered.
func TestDirectSetsAreFound(t *testing.T) {
	s := startScript(t)
	p := load(t, Options{PID: s.pid()})
	direct, pointers, mixed, empty := s.do("epoll"), s.do("epoll"), s.do("epoll"), s.do("epoll")
	fd := s.do("eventfd 1")
	s.do("register %d %d %d %d", direct, fd, syscall.EPOLLIN, 77)
	s.do("register-data %d %d %d %d", pointers, fd, syscall.EPOLLIN, 123457)
	s.do("register %d %d %d %d", mixed, fd, syscall.EPOLLIN, 1)
	s.do("register-data %d %d %d %d", mixed, s.do("eventfd 0"), syscall.EPOLLIN, 123456)

	table, err := p.reader.read(s.pid(), false)
	if err != nil {
		t.Fatal(err)
	}
	sets := table.epollSets()
	want := map[int]bool{direct: true, pointers: false, mixed: false, empty: false}
	for set, direct := range want {
		if sets[set] == nil || sets[set].direct != direct {
			t.Errorf("set %d: %+v, want direct %v", set, sets[set], direct)
		}
	}

	w := window(t, p, func() {
		s.do("wait %d 0", direct)
		s.do("wait %d 0", pointers)
	})
	d := descriptor(t, w, fd)
	two := []evidence.Delivery{{Mask: evidence.EventIn, Count: 2}}
	if !slices.Equal(d.Deliveries, two) || d.EpollFD != pointers {
		t.Errorf("deliveries %v, the last by set %d, want two IN, the last by set %d", d.Deliveries,
			d.EpollFD, pointers)
	}
}

// TestCountsWithoutALook ends a window without looking at what is open.
func TestCountsWithoutALook(t *testing.T) {
	s := startScript(t)
	set, event, idle := s.do("epoll"), s.do("eventfd 1"), s.do("eventfd 1")
	s.do("register %d %d %d 9", set, event, syscall.EPOLLIN)
	p := load(t, Options{PID: s.pid(), DirectSets: []int{set}})
	r, err := p.Begin()
	if err != nil {
		t.Fatal(err)
	}
	s.do("wait %d 0", set)
	w, err := r.EndCounts()
	if err != nil {
		t.Fatal(err)
	}
	var found bool
	for _, d := range w.Descriptors {
		if d.Socket.IsKnown() || d.FD == idle {
			t.Errorf("descriptor %+v was looked at", d)
		}
		found = found || d.FD == event && d.Delivered() == 1 && d.EpollFD == set
	}
	if !found || w.Hooks.Files.IsKnown() {
		t.Errorf("files by %v, descriptors %+v, want one delivery of %d by %d", w.Hooks.Files, w.Descriptors,
			event, set)
	}
}

// TestMainThreadMayEnd looks at a process whose first thread has ended and whose others go on.
func TestMainThreadMayEnd(t *testing.T) {
	c := startChild(t, "headless", nil)
	c.await(1)
	eventually(t, "the first thread to end", func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.pid()))
		return err == nil && strings.Contains(string(text), ") Z ")
	})
	p := load(t, Options{PID: c.pid()})
	table, err := p.reader.read(c.pid(), false)
	if err != nil {
		t.Fatal(err)
	}
	sets, registrations := 0, 0
	for _, s := range table.epollSets() {
		if s.direct {
			sets++
			registrations += s.registrations
		}
	}
	if sets != 1 || registrations != 3 {
		t.Errorf("%d sets with %d registrations, want 1 with 3: %+v", sets, registrations,
			table.registrations)
	}
	if len(table.files) < 6 {
		t.Errorf("%d files, want at least 6", len(table.files))
	}
	for _, text := range window(t, p, func() {}).Unknown {
		if strings.Contains(text, "not running") {
			t.Errorf("the window says that %s", text)
		}
	}
}

func init() {
	if os.Getenv(childVariable) == "headless" {
		runtime.LockOSThread() // during initialisation: the main goroutine stays on the first thread
	}
	children["headless"] = func() {
		set, err := syscall.EpollCreate1(0)
		check(err)
		for range 3 {
			fd, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, 0, 0)
			if errno != 0 {
				panic(errno)
			}
			event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
			check(syscall.EpollCtl(set, syscall.EPOLL_CTL_ADD, int(fd), &event))
		}
		done := make(chan struct{})
		go func() {
			_, _ = syscall.Write(childDone, []byte{1})
			_, _ = syscall.Read(childStop, make([]byte, 1))
			close(done)
		}()
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT, 0, 0, 0)
	}
}
