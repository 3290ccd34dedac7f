package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/sys"
)

// epoch is when a world begins: any moment but zero.
const epoch = ktime.Time(1000 * time.Second)

// maxCallCost is the longest that a simulated system call takes. During a call the world goes on, so peers
// act between any two calls of the engine.
const maxCallCost = 3 * time.Microsecond

// firstFD is the first descriptor number, as if the process had a few open.
const firstFD = 10

// World is a simulated kernel and network. It implements engine.Kernel. It is used by one goroutine at a
// time.
type World struct {
	scenario *Scenario
	random   *rand.Rand
	now      ktime.Time
	plan     plan // what will happen
	sequence uint64

	files  []file // by descriptor
	free   []int
	byFD   map[int]*socket
	ports  uint16
	peers  []*peer
	client map[sys.Address]*peer
	server map[sys.Address]*server
	listen *listener
	copies bool // descriptors were duplicated
	deaf   int  // how many edges until one is lost; 0 for never
	turn   bool // a worker is in a turn
	calls  int  // in that turn, the clock's included
	// trouble is when a listener last had to rest.
	trouble ktime.Time
	// happened counts the hazards.
	happened [hazards]int
	// talking is how many connections of servers have sent something.
	talking int
	// clock is the time as the engine knows it; acting is the client of the stream that runs, or ran last.
	clock  ktime.Time
	acting *peer
	// held are the sockets whose last bytes wait for the end of the direction.
	held []*socket
	// running is set once the engine is made, so that it is not for want of memory that it is not.
	running bool

	tls tlsWorld

	// yield suspends the worker that waits, see EpollWait.
	yield map[int]func(timeout int) bool
	fail  func(rule string, format string, args ...any)
	tell  func(format string, args ...any)
}

// file is what a descriptor stands for: one of the fields is set.
type file struct {
	set      *epollSet
	waker    *waker
	listener *listener
	socket   *socket
	// outlet and inlet are the ends of a pipe.
	outlet, inlet *pipe
}

// epollSet is an epoll instance.
type epollSet struct {
	stale     []sys.Event // events that may be delivered once more
	interests map[registration]*interest
	ready     []*interest // in the order in which they became ready
}

// registration is what the kernel knows an interest by: the number, and what the number stood for then. As
// long as a copy of a closed descriptor is open, its registration stays.
type registration struct {
	fd   int
	file file
}

// interest is a registration.
type interest struct {
	set     *epollSet
	of      registration
	events  uint32
	data    uint64
	queued  bool // in the ready list
	removed bool
	mask    func() uint32
}

type waker struct {
	count     uint64
	interests []*interest
}

// listener is the engine's listening socket.
type listener struct {
	backlog   []*socket
	interests []*interest
	closed    bool
}

// close resets whoever waits in the backlog; who comes later is refused.
func (l *listener) close() {
	l.closed = true
	for _, s := range l.backlog {
		s.world.tell("%s: is reset in the backlog", s.peer.name)
		s.state = closed
		s.peer.over, s.peer.gone = true, true
	}
	l.backlog = nil
}

// server is a server of the scenario and the attempts it has seen.
type server struct {
	script   *ServerScript
	index    int
	attempts int
	down     bool // during an outage
}

// happening is something that will happen.
type happening struct {
	at       ktime.Time
	sequence uint64
	do       func()
}

type plan []happening

func (p plan) Len() int { return len(p) }
func (p plan) Less(i, j int) bool {
	return p[i].at < p[j].at || p[i].at == p[j].at && p[i].sequence < p[j].sequence
}
func (p plan) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p *plan) Push(x any)   { *p = append(*p, x.(happening)) }
func (p *plan) Pop() any {
	last := (*p)[len(*p)-1]
	(*p)[len(*p)-1] = happening{}
	*p = (*p)[:len(*p)-1]
	return last
}

func newWorld(s *Scenario) *World {
	w := &World{
		scenario: s, random: rand.New(rand.NewPCG(s.Seed, 0x5eed)), now: epoch,
		byFD: map[int]*socket{}, client: map[sys.Address]*peer{},
		server: map[sys.Address]*server{}, yield: map[int]func(int) bool{}, ports: 40000,
		trouble: ktime.Never,
	}
	for i := range s.Servers {
		w.server[s.serverAddress(i)] = &server{script: &s.Servers[i], index: i}
	}
	return w
}

// serverAddress is the address of a server, clientAddress that of a client.
func (s *Scenario) serverAddress(i int) sys.Address {
	if s.Unix {
		return sys.Address{Path: fmt.Sprintf("/server%d", i+1)}
	}
	return sys.Address{IP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i + 1)}), 25)}
}

func clientAddress(i int) sys.Address {
	return sys.Address{IP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 2, 0, byte(i + 1)}),
		uint16(1000+i))}
}

// after makes something happen later.
func (w *World) after(d time.Duration, do func()) {
	w.sequence++
	heap.Push(&w.plan, happening{w.now.Add(d), w.sequence, do})
}

// pass lets time go on to a moment, with all that happens until then.
func (w *World) pass(to ktime.Time) {
	for len(w.plan) > 0 && w.plan[0].at <= to {
		h := heap.Pop(&w.plan).(happening)
		w.now = max(w.now, h.at)
		h.do()
	}
	w.now = max(w.now, to)
}

// call lets the time of one system call go by.
func (w *World) call() {
	w.spend()
	w.pass(w.now.Add(time.Duration(w.random.Int64N(int64(maxCallCost)))))
}

// open gives a number to a file: one that was closed, as the kernel does at once.
func (w *World) open(f file) int {
	if n := len(w.free); n > 0 && !w.strikes(NewNumber) {
		w.did(Reuse)
		fd := w.free[n-1]
		w.free = w.free[:n-1]
		w.files[fd-firstFD] = f
		return fd
	}
	w.files = append(w.files, f)
	return firstFD + len(w.files) - 1
}

func (w *World) file(fd int) *file {
	if fd < firstFD || fd >= firstFD+len(w.files) || w.files[fd-firstFD] == (file{}) {
		w.fail("descriptors", "a call on descriptor %d, which is not open", fd)
		return &file{}
	}
	return &w.files[fd-firstFD]
}

// openFiles is the number of open descriptors.
func (w *World) openFiles() int {
	n := 0
	for _, f := range w.files {
		if f != (file{}) {
			n++
		}
	}
	return n
}

// callsPerTurn is how many calls a worker may make between two waits; the busiest healthy turn of 3000 seeds
// made 220. A turn with more does not end.
const callsPerTurn = 10_000

// endlessTurn is what the kernel panics with, because nothing else ends such a turn.
type endlessTurn struct{}

// spend counts a call against the budget of the turn.
func (w *World) spend() {
	if !w.turn {
		return
	}
	if w.calls++; w.calls > callsPerTurn {
		w.fail("endless turn", "a worker made %d calls without coming back to its loop", w.calls)
		w.calls = 0
		panic(endlessTurn{})
	}
}

// Now reads the clock. A handler that loops without a call cannot be stopped in a simulation; the fault that
// does so reads the clock instead.
func (w *World) Now() ktime.Time {
	w.spend()
	w.clock = w.now
	return w.now
}

// Yield lets time go by. The other workers stand still meanwhile: in a simulation no worker may wait for
// another within its turn.
func (w *World) Yield() { w.call() }

// EpollCreate opens an epoll set.
func (w *World) EpollCreate() (int, error) {
	return w.open(file{set: &epollSet{interests: map[registration]*interest{}}}), nil
}

// NewWaker opens a waker.
func (w *World) NewWaker() (int, error) { return w.open(file{waker: &waker{}}), nil }

// Wake makes a waker readable.
func (w *World) Wake(fd int) {
	v := w.file(fd).waker
	v.count++
	for _, i := range v.interests {
		i.raise()
	}
}

// DrainWaker makes it unreadable.
func (w *World) DrainWaker(fd int) { w.file(fd).waker.count = 0 }

// EpollAdd registers a descriptor.
func (w *World) EpollAdd(set, fd int, events uint32, data uint64) sys.Errno {
	w.call()
	s := w.file(set).set
	f := w.file(fd)
	of := registration{fd, *f}
	if s.interests[of] != nil {
		w.fail("descriptors", "descriptor %d is registered twice", fd)
	}
	i := &interest{set: s, of: of, events: events, data: data}
	if w.running && w.strikes(NoWatch) {
		w.trouble = w.now
		if s := f.socket; s != nil && s.peer.client < 0 && len(s.interests) == 0 {
			s.told.connected = ktime.Never
			w.acting.facts.fails(sys.ENOMEM, w.clock)
		}
		return sys.ENOMEM
	}
	switch {
	case f.waker != nil:
		f.waker.interests = append(f.waker.interests, i)
		i.mask = func() uint32 { return when(f.waker.count > 0, sys.EventIn) }
	case f.listener != nil:
		l := f.listener
		l.interests = append(l.interests, i)
		i.mask = func() uint32 { return when(len(l.backlog) > 0, sys.EventIn) }
	case f.socket != nil:
		f.socket.interests = append(f.socket.interests, i)
		i.mask = f.socket.mask
	default:
		w.fail("descriptors", "descriptor %d cannot be polled", fd)
		return sys.EPERM
	}
	s.interests[of] = i
	i.raise()
	return 0
}

// EpollModify changes what a descriptor is watched for; what holds now is delivered again.
func (w *World) EpollModify(set, fd int, events uint32, data uint64) sys.Errno {
	w.call()
	i := w.file(set).set.interests[registration{fd, *w.file(fd)}]
	if i == nil {
		w.fail("descriptors", "descriptor %d is modified in a set it is not in", fd)
		return sys.EINVAL
	}
	i.events, i.data = events, data
	i.raise()
	return 0
}

// EpollDelete removes a registration.
func (w *World) EpollDelete(set, fd int) sys.Errno {
	w.call()
	s := w.file(set).set
	i := s.interests[registration{fd, *w.file(fd)}]
	if i == nil {
		w.fail("descriptors", "descriptor %d is removed from a set it is not in", fd)
		return sys.EINVAL
	}
	i.remove()
	if l := w.file(fd).listener; l != nil {
		kept := l.interests[:0]
		for _, other := range l.interests {
			if other != i {
				kept = append(kept, other)
			}
		}
		l.interests = kept
	}
	return 0
}

// Replace gives the number of a set to another.
func (w *World) Replace(set, by int) sys.Errno {
	w.call()
	w.file(set).set.close()
	w.file(set).set = w.file(by).set
	w.file(by).set = nil
	w.free = append(w.free, by)
	return 0
}

// close removes every registration.
func (s *epollSet) close() {
	for _, i := range s.interests {
		i.remove()
	}
}

func (i *interest) remove() {
	i.removed = true
	delete(i.set.interests, i.of)
}

// raise is an edge: it puts a registration on the ready list, unless nothing it asked for holds.
func (i *interest) raise() {
	if i == nil || i.removed || i.queued || i.current() == 0 {
		return
	}
	i.queued = true
	i.set.ready = append(i.set.ready, i)
}

// current is what would be delivered now. ERR and HUP cannot be masked.
func (i *interest) current() uint32 {
	return i.mask() & (i.events | sys.EventErr | sys.EventHup)
}

// EpollWait suspends the worker until the runner lets it go on, and then delivers what is ready.
func (w *World) EpollWait(set int, events []sys.Event, timeout int, _ bool) (int, sys.Errno) {
	w.checkHeld()
	w.yield[set](timeout)
	w.calls = 0
	s := w.file(set).set
	n := 0
	var again []*interest
	for len(s.ready) > 0 && n < len(events) {
		i := s.ready[0]
		s.ready = s.ready[1:]
		i.queued = false
		if i.removed {
			continue
		}
		mask := i.current()
		if mask == 0 {
			continue
		}
		events[n].Events = mask
		events[n].SetData(i.data)
		i.of.file.socket.announce(mask)
		n++
		if i.events&sys.EventEdge == 0 {
			again = append(again, i)
		}
		if w.chance(Stale) {
			s.stale = append(s.stale, events[n-1])
		}
	}
	for _, i := range again {
		i.raise()
	}
	n += w.disturb(s, events[n:])
	if n == 0 && timeout != 0 && w.strikes(Interrupted) {
		return 0, sys.EINTR
	}
	return n, 0
}

// disturb adds the events that a kernel may deliver though nothing new has happened.
func (w *World) disturb(s *epollSet, events []sys.Event) int {
	n := 0
	if len(s.stale) > 0 && n < len(events) && w.random.IntN(2) == 0 {
		events[n] = s.stale[0]
		s.stale = s.stale[1:]
		// A stale event of a live descriptor would be a lie about it; only closed ones are delivered again,
		// and no set has another's.
		if !s.has(events[n].Data()) {
			w.did(Stale)
			n++
		}
	}
	if n < len(events) && w.chance(Spurious) {
		for fd := firstFD; fd < firstFD+len(w.files); fd++ {
			i := s.interests[registration{fd, w.files[fd-firstFD]}]
			if i == nil || w.file(fd).socket == nil || i.current() == 0 || w.random.IntN(3) > 0 {
				continue
			}
			events[n].Events = i.current()
			events[n].SetData(i.data)
			i.of.file.socket.announce(i.current())
			w.did(Spurious)
			return n + 1
		}
	}
	return n
}

// has reports whether a registration with that data is there.
func (s *epollSet) has(data uint64) bool {
	for _, i := range s.interests {
		if i.data == data {
			return true
		}
	}
	return false
}

// HasEvents reports whether a wait on the set would return events.
func (w *World) HasEvents(set int) bool {
	for _, i := range w.file(set).set.ready {
		if !i.removed && i.current() != 0 {
			return true
		}
	}
	return false
}

func when(condition bool, bits uint32) uint32 {
	if condition {
		return bits
	}
	return 0
}

// Unread returns how many bytes have arrived and were not read.
func (w *World) Unread(fd int) int { return len(w.file(fd).socket.receive) }

var proxyAddress = netip.AddrFrom4([4]byte{10, 0, 0, 1})

// LocalAddress returns some address.
func (w *World) LocalAddress(fd int) sys.Address {
	if l := w.file(fd).listener; l != nil {
		return sys.Address{IP: netip.AddrPortFrom(proxyAddress, 25)}
	}
	return sys.Address{IP: netip.AddrPortFrom(proxyAddress, uint16(fd))}
}

// describe names a descriptor for messages.
func (w *World) describe(fd int) string {
	if s := w.byFD[fd]; s != nil {
		return fmt.Sprintf("descriptor %d (%s)", fd, s.peer.name)
	}
	return fmt.Sprintf("descriptor %d", fd)
}
