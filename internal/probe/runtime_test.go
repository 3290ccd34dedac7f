package probe

import (
	"os"
	"slices"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/whyspin/whyspin/internal/evidence"
)

// ownVariable is where a program keeps something that is no descriptor, ownDescriptor a variable for one.
var (
	ownVariable   uint64 = 1 << 40
	ownDescriptor        = new(uint64)
)

// TestRuntimeSetIsToldApart finds the Go runtime's epoll set in this process, beside one that is declared,
// one that is empty, and those with eventfds for which a program has reasons of its own.
func TestRuntimeSetIsToldApart(t *testing.T) {
	set, other := newSet(t), newSet(t)
	address := func(v *uint64) uint64 { return uint64(uintptr(unsafe.Pointer(v))) }
	allocated, variable, number := newSet(t), newSet(t), newSet(t)
	addEventfd(t, allocated, func(fd int) uint64 {
		*ownDescriptor = uint64(fd) // as a library does that stores the address of its connection
		return address(ownDescriptor)
	})
	addEventfd(t, variable, func(int) uint64 { return address(&ownVariable) })
	addEventfd(t, number, func(fd int) uint64 { return uint64(fd)<<32 | 1<<20 })
	own := []int{set, other, allocated, variable, number}

	p := load(t, Options{PID: os.Getpid()})
	p.DeclareDirect(set)
	r, err := p.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range own {
		if _, err := unix.EpollWait(s, make([]unix.EpollEvent, 1), 0); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the runtime to wait for a timer", func() bool {
		return slices.ContainsFunc(p.counter.waitSets, func(s syscallWaitSet) bool {
			return s.Key != 0 && !slices.Contains(own, int(uint32(s.Key)))
		})
	})
	w, err := r.End()
	if err != nil {
		t.Fatal(err)
	}
	owners := map[int]evidence.Owner{}
	for _, thread := range w.Threads {
		for _, s := range thread.Sets {
			owners[s.FD] = s.Owner
		}
	}
	runtimes := 0
	for fd, owner := range owners {
		want := evidence.OwnerUnknown
		switch {
		case fd == set:
			want = evidence.OwnerWorker
		case !slices.Contains(own, fd):
			want = evidence.OwnerRuntime
			runtimes++
		}
		if owner != want {
			t.Errorf("set %d is %v, should be %v", fd, owner, want)
		}
	}
	if runtimes != 1 || len(owners) != len(own)+1 {
		t.Errorf("%d sets are the runtime's, want 1: %v", runtimes, owners)
	}
}

func newSet(t *testing.T) int {
	t.Helper()
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(set) })
	return set
}

// addEventfd registers a new eventfd with data of the caller's choice.
func addEventfd(t *testing.T, set int, data func(fd int) uint64) {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	n := data(fd)
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(n), Pad: int32(n >> 32)}
	if err := unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
		t.Fatal(err)
	}
}

func TestTheImageOfAProgram(t *testing.T) {
	const maps = `00400000-00401000 r-xp 00000000 fe:00 12 /opt/my server
00401000-00402000 rw-p 00001000 fe:00 12 /opt/my server
00402000-00404000 rw-p 00000000 00:00 0
00405000-00406000 rw-p 00000000 00:00 0
7f0000000000-7f0000001000 rw-p 00000000 fe:00 13 /lib/libc.so.6
7f0000001000-7f0000002000 rw-p 00000000 00:00 0
`
	for address, want := range map[uint64]bool{
		0x3fffff: false, 0x400000: true, 0x401ff8: true, 0x403ff8: true, 0x404000: false, 0x405000: false,
		0x7f0000000000: false, 0x7f0000001000: false,
	} {
		if got := inImage(maps, "/opt/my server", address); got != want {
			t.Errorf("%#x: %v, want %v", address, got, want)
		}
	}
}
