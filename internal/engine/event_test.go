package engine

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/sys"
)

// instant is a kernel in which everything succeeds at once and costs nothing, so that what is measured is the
// engine alone. A script says which events a wait brings.
type instant struct {
	now     ktime.Time
	nextFD  int
	data    []uint64 // what a descriptor was registered with
	backlog int      // connections to accept
	eof     []bool   // by descriptor: the next read finds the end
	size    []int    // by descriptor: bytes to read
	events  []sys.Event
	last    int // the descriptor that was opened last
}

const instantDescriptors = 1 << 12

func newInstant() *instant {
	return &instant{now: ktime.Time(time.Hour), nextFD: 10, data: make([]uint64, instantDescriptors),
		eof: make([]bool, instantDescriptors), size: make([]int, instantDescriptors)}
}

// happens adds an event to the next wait.
func (k *instant) happens(fd int, events uint32) {
	e := sys.Event{Events: events}
	e.SetData(k.data[fd])
	k.events = append(k.events, e)
}

// arrives makes bytes readable.
func (k *instant) arrives(fd, n int) {
	k.size[fd] = n
	k.happens(fd, sys.EventIn|sys.EventOut)
}

// ends makes the end of file readable.
func (k *instant) ends(fd int) {
	k.eof[fd] = true
	k.happens(fd, sys.EventIn|sys.EventOut|sys.EventRdHup)
}

func (k *instant) open() int {
	k.nextFD++
	k.last = k.nextFD
	return k.nextFD
}

func (k *instant) EpollWait(_ int, events []sys.Event, _ int, _ bool) (int, sys.Errno) {
	k.now += 1000
	n := copy(events, k.events)
	k.events = k.events[:0]
	return n, 0
}

func (k *instant) EpollAdd(_, fd int, _ uint32, data uint64) sys.Errno {
	k.data[fd] = data
	return 0
}

func (k *instant) Accept(int) (int, sys.Address, sys.Errno) {
	if k.backlog == 0 {
		return -1, sys.Address{}, sys.EAGAIN
	}
	k.backlog--
	return k.open(), sys.Address{IP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), 1000)}, 0
}

func (k *instant) Connect(sys.Address, bool) (int, sys.Errno) { return k.open(), sys.EINPROGRESS }

func (k *instant) Read(fd int, _ []byte) (int, sys.Errno) {
	n := k.size[fd]
	k.size[fd] = 0
	if n == 0 && !k.eof[fd] {
		return 0, sys.EAGAIN
	}
	return n, 0
}

// Close lets the number be used again, as the kernel does: the lowest.
func (k *instant) Close(fd int) sys.Errno {
	k.eof[fd] = false
	if fd == k.nextFD {
		k.nextFD--
	}
	return 0
}

func (k *instant) Now() ktime.Time                                { k.now++; return k.now }
func (k *instant) Write(_ int, p []byte, _ bool) (int, sys.Errno) { return len(p), 0 }
func (k *instant) EpollCreate() (int, error)                      { return k.open(), nil }
func (k *instant) EpollModify(int, int, uint32, uint64) sys.Errno { return 0 }
func (k *instant) EpollDelete(int, int) sys.Errno                 { return 0 }
func (k *instant) Replace(int, int) sys.Errno                     { return 0 }
func (k *instant) HasEvents(int) bool                             { return false }
func (k *instant) NewWaker() (int, error)                         { return k.open(), nil }
func (k *instant) Wake(int)                                       {}
func (k *instant) DrainWaker(int)                                 {}
func (k *instant) SocketError(int) sys.Errno                      { return 0 }
func (k *instant) NoDelay(int)                                    {}
func (k *instant) Acknowledge(int)                                {}
func (k *instant) ShutdownWrite(int) sys.Errno                    { return 0 }
func (k *instant) Duplicate(int) (int, sys.Errno)                 { return -1, sys.EBADF }
func (k *instant) CloseReset(fd int) sys.Errno                    { return k.Close(fd) }
func (k *instant) LocalAddress(int) sys.Address                   { return sys.Address{} }
func (k *instant) Unread(int) int                                 { return 0 }
func (k *instant) Pipe(int) (int, int, sys.Errno)                 { return -1, -1, sys.EMFILE }
func (k *instant) Splice(int, int, int) (int, sys.Errno)          { return 0, sys.EBADF }
func (k *instant) Yield()                                         {}

// bare is an engine on an instant kernel.
type bare struct {
	*Engine
	kernel   *instant
	listener int
}

func newBare(tb testing.TB) *bare {
	tb.Helper()
	front := &config.Proxy{
		Name: "front", ID: 2, IsFrontend: true, IsBackend: true, Binds: []*config.Bind{{ID: 1}},
		Timeouts: config.Timeouts{Connect: time.Second, Client: time.Minute, Server: time.Minute},
		Servers:  []*config.Server{{Name: "s1", ID: 1, Weight: 1}},
	}
	front.DefaultBackend = front
	c := &config.Config{Proxies: []*config.Proxy{front}}
	c.Global.BufferSize, c.Global.MaxAccept = 16384, 4
	b := &bare{kernel: newInstant()}
	b.listener = b.kernel.open()
	var err error
	b.Engine, err = New(Options{
		Config: c, Kernel: b.kernel, Workers: 1, MaxConn: instantDescriptors,
		Listeners: []Listener{{FD: b.listener, Proxy: front, Bind: front.Binds[0]}},
		Resolve: func(*config.Server) (sys.Address, error) {
			return sys.Address{IP: netip.MustParseAddrPort("10.0.0.2:80")}, nil
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// connect opens a stream and returns its descriptors.
func (b *bare) connect() (client, server int) {
	b.kernel.backlog++
	b.kernel.happens(b.listener, sys.EventIn)
	b.Step(0)
	server = b.kernel.last
	b.kernel.happens(server, sys.EventOut)
	b.Step(0)
	return server - 1, server
}

// crowd opens streams.
func (b *bare) crowd(n int) (clients, servers []int) {
	for range n {
		client, server := b.connect()
		clients, servers = append(clients, client), append(servers, server)
	}
	return clients, servers
}

// exchange is a request and its answer on each stream.
func (b *bare) exchange(clients, servers []int) {
	for _, side := range [...][]int{clients, servers} {
		for _, fd := range side {
			b.kernel.arrives(fd, 100)
		}
		b.Step(0)
	}
}

// visit is a connection with one request, which the server closes.
func (b *bare) visit() {
	client, server := b.connect()
	b.kernel.arrives(client, 100)
	b.Step(0)
	b.kernel.arrives(server, 100)
	b.kernel.ends(server)
	b.Step(0)
	b.kernel.ends(client)
	b.Step(0)
}

// TestEventsAllocateNothing: neither requests nor connections take memory that was not there before.
func TestEventsAllocateNothing(t *testing.T) {
	b := newBare(t)
	clients, servers := b.crowd(50)
	b.exchange(clients, servers)
	before := b.workers[0].stats
	if n := testing.AllocsPerRun(1000, func() { b.exchange(clients, servers) }); n != 0 {
		t.Errorf("50 requests and their answers allocate %v times", n)
	}
	// AllocsPerRun runs once more, to warm up.
	after := b.workers[0].stats
	const events = 1001 * 2 * 50
	if got := after.wakeups - before.wakeups; got != events {
		t.Errorf("%d wakeups were measured, should be %d", got, events)
	}
	if got := after.write.Bytes - before.write.Bytes; got != 100*events {
		t.Errorf("%d bytes were written, should be %d", got, 100*events)
	}
	if n := testing.AllocsPerRun(1000, b.visit); n > 0 {
		t.Errorf("a connection allocates %v times", n)
	}
	if got, all := b.workers[0].stats.ended, uint64(1001); got != all || b.Streams() != 50 {
		t.Errorf("%d connections ended and %d are left, should be %d and 50", got, b.Streams(), all)
	}
}

// BenchmarkRequest is a request and its answer, on one of many streams whose events come together, beside
// idle ones.
func BenchmarkRequest(b *testing.B) {
	for _, idle := range []int{0, 1000} {
		b.Run(fmt.Sprintf("idle-%d", idle), func(b *testing.B) {
			const together = 50
			e := newBare(b)
			e.crowd(idle)
			clients, servers := e.crowd(together)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if n%together == 0 {
					e.exchange(clients, servers)
				}
			}
		})
	}
}

// BenchmarkConnection is a connection with one request.
func BenchmarkConnection(b *testing.B) {
	e := newBare(b)
	b.ReportAllocs()
	for b.Loop() {
		e.visit()
	}
}
