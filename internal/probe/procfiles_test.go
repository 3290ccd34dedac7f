package probe

import (
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/evidence"
)

// TestProcStandsIn looks at one process by the iterator and by /proc: both must say the same, but for what
// /proc does not show.
func TestProcStandsIn(t *testing.T) {
	s := startScript(t)
	p := load(t, Options{PID: s.pid()})
	listener := s.do("listen")
	ours, theirs, _ := s.connection(t, listener)
	defer func() { _ = syscall.Close(ours) }()
	if _, err := syscall.Write(ours, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	waiting, err := dial(s.do("port %d", listener))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(waiting) }()
	eventually(t, "the data and the connection to arrive", func() bool {
		return receiveQueue(t, p, theirs) == 5 && receiveQueue(t, p, listener) == 1
	})
	set := s.do("epoll")
	for _, command := range []string{"listen6", "unix", "pipe", "file", "directory", "eventfd 1",
		"timerfd", "epoll"} {
		fd := s.do("%s", command)
		if command == "pipe" || command == "eventfd 1" {
			s.do("register-data %d %d %d 123456", set, fd, syscall.EPOLLIN)
		}
	}
	s.do("register %d %d %d 7", set, theirs, syscall.EPOLLIN)
	s.do("register %d %d %d 7", set, listener, syscall.EPOLLIN)
	closed := s.do("listen")
	s.do("register %d %d %d 7", set, closed, syscall.EPOLLIN)
	s.do("dup %d", closed)
	s.do("close %d", closed)

	iterated, err := p.reader.read(s.pid(), false)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := readProc(s.pid())
	if err != nil {
		t.Fatal(err)
	}
	// A kernel without the modules of sock_diag shows the sockets in /proc/PID/net only.
	noDiag := slices.ContainsFunc(shown.unknown, func(s string) bool {
		return strings.Contains(s, "cookies")
	})
	unready := func(sockets map[int]evidence.Socket) map[int]evidence.Socket {
		for fd, s := range sockets {
			s.Ready = false
			if noDiag {
				s.Cookie, s.Backlog = 0, 0
			}
			sockets[fd] = s
		}
		return sockets
	}
	if diff := cmp.Diff(unready(iterated.sockets()), unready(shown.sockets()),
		cmp.Comparer(evidence.Equal[uint64])); diff != "" {
		t.Errorf("sockets (-iterator +proc):\n%s", diff)
	}
	one, other := iterated.epollSets()[set], shown.epollSets()[set]
	for _, seen := range []*epollSet{one, other} { // the order is the one in which they were found
		slices.SortFunc(seen.wakeups, func(a, b wakeup) int { return int(a.fd) - int(b.fd) })
	}
	if !reflect.DeepEqual(one, other) {
		t.Errorf("set %d: %+v by the iterator, %+v by /proc", set, one, other)
	}
}

// TestWindowWithoutIterator maps the data of events, and describes descriptors, by /proc.
func TestWindowWithoutIterator(t *testing.T) {
	s := startScript(t)
	p, err := Load(Options{PID: s.pid(), procOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	for _, signal := range p.Plan() {
		if text := signal.Unknown(); text != "" {
			t.Errorf("%s: %s", signal.Name, text)
		}
	}
	set, fd := s.do("epoll"), s.do("eventfd 1")
	s.do("control %d %d %d %d %d", set, syscall.EPOLL_CTL_ADD, fd, syscall.EPOLLIN, 0x7f0000001001)
	w := window(t, p, func() { s.do("wait %d 0", set) })
	d := descriptor(t, w, fd)
	want := evidence.Socket{Kind: "eventfd", Registered: true,
		Interest: evidence.EventIn | evidence.EventErr | evidence.EventHup}
	if got, _ := d.Socket.Get(); d.Delivered() != 1 || got != want {
		t.Errorf("%d deliveries of %+v, want one of %+v", d.Delivered(), got, want)
	}
	if w.Hooks.Files != evidence.Know("proc") {
		t.Errorf("the descriptors were seen by %v, want proc", w.Hooks.Files)
	}
	mustSay(t, w, "/proc does not show it")
}

// TestLargeSetsAreNotRead leaves the epoll sets of a process with many descriptors alone, and says so.
func TestLargeSetsAreNotRead(t *testing.T) {
	s := startScript(t)
	set := s.do("epoll")
	for range 2000 {
		s.do("register %d %d %d 0", set, s.do("eventfd 0"), syscall.EPOLLIN)
	}
	table, err := readProc(s.pid())
	if err != nil {
		t.Fatal(err)
	}
	if len(table.registrations) > 0 || len(table.unknown) == 0 ||
		!strings.Contains(table.unknown[0], "could stall a process") {
		t.Errorf("%d registrations were read; unknown %q", len(table.registrations), table.unknown)
	}
}
