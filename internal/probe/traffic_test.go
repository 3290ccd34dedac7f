package probe

import (
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"unsafe"

	"github.com/whyspin/whyspin/internal/evidence"
)

func init() {
	// descriptor, size: a receive that leaves everything where it is
	commands["peek"] = func(a []int) (int, error) {
		n, _, err := syscall.Recvfrom(a[0], make([]byte, a[1]), syscall.MSG_PEEK)
		return n, err
	}
	// descriptor, size, by which call
	commands["receive"] = func(a []int) (int, error) { return transfer(a, receives) }
	commands["transmit"] = func(a []int) (int, error) { return transfer(a, transmits) }
	commands["fail-receive"] = func(a []int) (int, error) {
		_, _, err := syscall.Recvfrom(a[0], make([]byte, 1), syscall.MSG_DONTWAIT)
		if err != syscall.EAGAIN {
			return 0, fmt.Errorf("receiving nothing: %w", err)
		}
		return 0, nil
	}
}

// A call moves at most size bytes and returns how many it moved.
type call func(fd, size int) (int, error)

// transfer makes one kind of call until all is moved.
func transfer(a []int, calls []call) (moved int, err error) {
	for moved < a[1] {
		n, err := calls[a[2]](a[0], a[1]-moved)
		if err != nil {
			return moved, err
		}
		if n == 0 {
			return moved, io.ErrUnexpectedEOF
		}
		moved += n
	}
	return moved, nil
}

// The kinds of calls; bySplice is told apart because not every way sees it.
const (
	bySplice = 3
	kinds    = 4
)

var receives = []call{
	func(fd, size int) (int, error) { return syscall.Read(fd, make([]byte, size)) },
	func(fd, size int) (int, error) {
		n, _, err := syscall.Recvfrom(fd, make([]byte, size), 0)
		return n, err
	},
	func(fd, size int) (int, error) {
		n, _, _, _, err := syscall.Recvmsg(fd, make([]byte, size), nil, 0)
		return n, err
	},
	func(fd, size int) (int, error) {
		return throughPipe(func(_, in int) (int, error) { return splice(fd, in, size) })
	},
}

var transmits = []call{
	func(fd, size int) (int, error) { return syscall.Write(fd, make([]byte, size)) },
	func(fd, size int) (int, error) { return size, syscall.Sendto(fd, make([]byte, size), 0, nil) },
	func(fd, size int) (int, error) {
		return syscall.SendmsgN(fd, make([]byte, size), nil, nil, 0)
	},
	func(fd, size int) (int, error) {
		return throughPipe(func(out, in int) (int, error) {
			n, err := syscall.Write(in, make([]byte, size))
			if err != nil {
				return n, err
			}
			return splice(out, fd, n)
		})
	},
}

// throughPipe hands a pipe to a function.
func throughPipe(f func(out, in int) (int, error)) (int, error) {
	var p [2]int
	if err := syscall.Pipe2(p[:], 0); err != nil {
		return 0, err
	}
	defer func() { _, _ = syscall.Close(p[0]), syscall.Close(p[1]) }()
	return f(p[0], p[1])
}

func splice(from, to, size int) (int, error) {
	n, err := syscall.Splice(from, nil, to, nil, size, 0)
	return int(n), err
}

// loadTrafficBy loads a probe that counts what goes through sockets, by one way only.
func loadTrafficBy(t *testing.T, pid int, hook string) (p *Probe, extra int) {
	t.Helper()
	p = load(t, Options{PID: pid, Traffic: true})
	for _, w := range p.ways {
		if w.try.Hook != hook {
			w.try.Err = &HookError{Doing: loading, Hook: w.try.Hook, Reason: "not wanted"}
			continue
		}
		extra = len(w.loaded) - 1
	}
	return p, extra
}

// usableTrafficWays are the hooks by which this kernel lets bytes be counted by socket: one at least.
func usableTrafficWays(t *testing.T) (hooks []string) {
	t.Helper()
	p := load(t, Options{PID: syscall.Getpid(), Traffic: true})
	for _, w := range p.ways {
		if w.try.Err == nil {
			hooks = append(hooks, w.try.Hook)
		} else {
			t.Logf("not here: %v", w.try.Err)
		}
	}
	if len(hooks) == 0 {
		t.Fatalf("no way to count by socket: %v", p.ways[0].try.Err)
	}
	return hooks
}

// TestTrafficIsExact moves known amounts through one socket in every way that there is, peeks and fails in
// between, and compares what was counted to the byte.
func TestTrafficIsExact(t *testing.T) {
	for _, hook := range usableTrafficWays(t) {
		t.Run(hook, func(t *testing.T) {
			s := startScript(t)
			peer, fd := connectTo(t, s)
			p, extra := loadTrafficBy(t, s.pid(), hook)
			for round := range 2 { // a window has nothing of the one before
				received, sent, spliced := 0, 0, 0
				w := window(t, p, func() {
					for kind := range kinds {
						size := 1000*(kind+1) + round
						exchange(t, peer, size, func() {
							s.do("fail-receive %d", fd)
							if kind == bySplice {
								spliced += size
							} else {
								received += size
							}
						}, func() {
							s.do("peek %d %d", fd, 10)
							s.do("receive %d %d %d", fd, size, kind)
							s.do("transmit %d %d %d", fd, size, kind)
							sent += size
						})
					}
				})
				if hook != "tp_btf" || extra > 0 {
					received += spliced
				}
				checkTraffic(t, w, hook, fd, received, sent)
				want := evidence.Traffic{Received: uint64(received), Sent: uint64(sent)}
				if got, ok := w.Traffic.Get(); !ok || got != want {
					t.Errorf("in all %+v, want %+v", got, want)
				}
			}
		})
	}
}

// exchange has the peer send size bytes between before and after, and then read as many.
func exchange(t *testing.T, peer net.Conn, size int, before, after func()) {
	t.Helper()
	before()
	if _, err := peer.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	after()
	if _, err := io.ReadFull(peer, make([]byte, size)); err != nil {
		t.Fatal(err)
	}
}

// connectTo connects this process to the script, and returns this end and the descriptor of the other.
func connectTo(t *testing.T, s *script) (net.Conn, int) {
	t.Helper()
	listener := s.do("listen")
	peer, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.do("port %d", listener)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	return peer, s.do("accept %d", listener)
}

func checkTraffic(t *testing.T, w *evidence.Window, hook string, fd, received, sent int) {
	t.Helper()
	if w.Hooks.Traffic != evidence.Know(hook) {
		t.Errorf("seen by %v, want %s; unknown %q", w.Hooks.Traffic, hook, w.Unknown)
	}
	socket, _ := descriptor(t, w, fd).Socket.Get()
	if socket.Received != evidence.Know(uint64(received)) || socket.Sent != evidence.Know(uint64(sent)) {
		t.Errorf("descriptor %d received %v and sent %v, want %d and %d", fd, socket.Received, socket.Sent,
			received, sent)
	}
}

// TestTrafficStaysWithItsSocket moves a socket to another descriptor, and gives its number to another
// socket: each has its own traffic, and so has one that is closed within the window.
func TestTrafficStaysWithItsSocket(t *testing.T) {
	for _, hook := range usableTrafficWays(t) {
		t.Run(hook, func(t *testing.T) {
			s := startScript(t)
			first, number := connectTo(t, s)
			p, _ := loadTrafficBy(t, s.pid(), hook)
			port := s.do("port %d", number)
			var moved int
			w := window(t, p, func() {
				s.do("transmit %d 100 0", number)
				moved = s.do("dup %d", number)
				s.do("close %d", number)
				if again := s.do("connect %d", port); again != number {
					t.Fatalf("the new socket has descriptor %d, want %d", again, number)
				}
				s.do("transmit %d 7 0", number)
				s.do("transmit %d 20 0", moved)
				if _, err := io.ReadFull(first, make([]byte, 120)); err != nil {
					t.Fatal(err)
				}
				gone := s.do("connect %d", port)
				s.do("transmit %d 3 0", gone)
				s.do("reset %d", gone)
			})
			checkTraffic(t, w, hook, moved, 0, 120)
			checkTraffic(t, w, hook, number, 0, 7)
			want := evidence.Traffic{Sent: 130, GoneSent: 3}
			if got, ok := w.Traffic.Get(); !ok || got != want {
				t.Errorf("in all %+v, want %+v", got, want)
			}
			// By number the two are one.
			if n := descriptor(t, w, number).Write.Bytes; n != 107 {
				t.Errorf("%d bytes written by descriptor %d, want 107", n, number)
			}
		})
	}
}

// TestTrafficThroughIORing sends through a ring, which makes no system call that has the descriptor among
// its arguments: only the socket tells.
func TestTrafficThroughIORing(t *testing.T) {
	for _, hook := range usableTrafficWays(t) {
		t.Run(hook, func(t *testing.T) {
			s := startScript(t)
			_, fd := connectTo(t, s)
			ring := s.do("ring")
			p, _ := loadTrafficBy(t, s.pid(), hook)
			w := window(t, p, func() { s.do("ring-send %d %d 50", ring, fd) })
			checkTraffic(t, w, hook, fd, 0, 50)
			if n := descriptor(t, w, fd).Write.Calls; n != 0 {
				t.Errorf("%d calls by descriptor, want none", n)
			}
		})
	}
}

func init() {
	commands["ring"] = func([]int) (int, error) { return theRing.open() }
	// ring, descriptor, size
	commands["ring-send"] = func(a []int) (int, error) { return theRing.send(a[0], a[1], a[2]) }
}

// ring is an io_uring of one entry: include/uapi/linux/io_uring.h.
type ring struct {
	parameters struct {
		entries, completions, flags, cpu, idle, features, queue uint32
		reserved                                                [3]uint32
		submission                                              struct {
			head, tail, mask, entries, flags, dropped, array, reserved uint32
			address                                                    uint64
		}
		completion struct {
			head, tail, mask, entries, overflow, events, flags, reserved uint32
			address                                                      uint64
		}
	}
	queue, entries []byte
}

var theRing ring

const (
	sysRingSetup = 425
	sysRingEnter = 426
)

func (r *ring) open() (int, error) {
	fd, _, errno := syscall.Syscall(sysRingSetup, 1, uintptr(unsafe.Pointer(&r.parameters)), 0)
	if errno != 0 {
		return 0, errno
	}
	const page, entriesOffset, flags = 4096, 0x10000000, syscall.MAP_SHARED | syscall.MAP_POPULATE
	const access = syscall.PROT_READ | syscall.PROT_WRITE
	var err error
	if r.queue, err = syscall.Mmap(int(fd), 0, page, access, flags); err != nil {
		return 0, err
	}
	r.entries, err = syscall.Mmap(int(fd), entriesOffset, page, access, flags)
	return int(fd), err
}

// send submits one IORING_OP_SEND, waits for it and returns its result.
func (r *ring) send(ring, fd, size int) (int, error) {
	const opSend, getEvents = 26, 1
	buffer := make([]byte, size)
	word := func(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.queue[offset])) }
	clear(r.entries[:64])
	r.entries[0] = opSend
	*(*int32)(unsafe.Pointer(&r.entries[4])) = int32(fd)
	*(*uint64)(unsafe.Pointer(&r.entries[16])) = uint64(uintptr(unsafe.Pointer(&buffer[0])))
	*(*uint32)(unsafe.Pointer(&r.entries[24])) = uint32(size)
	*word(r.parameters.submission.array) = 0
	*word(r.parameters.submission.tail)++
	if _, _, errno := syscall.Syscall6(sysRingEnter, uintptr(ring), 1, 1, getEvents, 0, 0); errno != 0 {
		return 0, errno
	}
	// struct io_uring_cqe: user data, then the result.
	result := *(*int32)(unsafe.Pointer(&r.queue[r.parameters.completion.events+8]))
	if result < 0 {
		return 0, syscall.Errno(-result)
	}
	return int(result), nil
}
