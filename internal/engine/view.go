package engine

import (
	"sync"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// StreamView is a copy of all there is to say about one stream at one moment.
type StreamView struct {
	// ID is as printed, Serial counts streams from 0. Worker counts from 1.
	ID     string
	Serial uint64
	Worker int
	At     ktime.Time

	// Frontend and Bind are where the client came in. Backend and Server are nil when there is none (yet).
	Frontend, Backend *config.Proxy
	Bind              *config.Bind
	Server            *config.Server
	// Client is the client's address and FrontAddress the one it connected to; ServerAddress is the
	// server's and BackAddress the one we connect from. The latter two are zero without a connection.
	Client, FrontAddress, ServerAddress, BackAddress sys.Address

	Ends        [2]EndView // by stream.Side
	ClientState stream.SideState
	ServerState stream.SideState
	SideTimer   stream.Timer
	// SideDeadline is when the SideTimer passes, Deadline the nearest of all deadlines, Timer the timer it
	// belongs to.
	SideDeadline, Deadline ktime.Time
	Timer                  stream.Timer

	Request, Response stream.ChannelView
	RequestSize       int // of the buffer, 0 when there is none
	ResponseSize      int
	Times             stream.Times
	Account           stream.Account
	Woken             ktime.Time // its last wakeup
	Requeued          uint64     // wakeups that it asked for itself
	Attempts          uint64     // connections to servers that were tried
	Retries           int
	Redispatched      bool
	Orphaned          bool
	Due               bool // to run in the worker's next turn
	Running           bool // in its wakeup at this very moment
	Ending            stream.Ending
	// History is what the flight recorder has of a stream that is suspect, the oldest first.
	History []evidence.Moment
}

// EndView is one side's connection.
type EndView struct {
	FD            int // -1 when there is none
	Reads, Writes uint32
	// ReadsAgain and WritesAgain are those of them that returned EAGAIN.
	ReadsAgain, WritesAgain uint32
	Ready                   string // letters: R readable, W writable, D drain, H hung up, C connecting
	Generation              uint32
	Events                  uint32
	// Row is the deliveries since the last call on the descriptor, Mask the latest delivery.
	Row, Mask uint32
	// Rewrites is how often what the descriptor is watched for was written anew.
	Rewrites uint32
	// EdgeTriggered is as in evidence.Side.
	EdgeTriggered bool
	// TLS says how the TLS of the connection stands, nil without it.
	TLS *evidence.TLS
	// Sealed is the size of the buffer with what was sealed and the connection has not taken.
	Sealed int
	// WantsRead and WantsWrite are what the stream has use for.
	WantsRead, WantsWrite bool
	// Unread is as in evidence.Side; only State looks.
	Unread int

	ready readiness
}

// Age is the time since the client was accepted.
func (v *StreamView) Age() time.Duration { return v.At.Sub(v.Times.Accepted) }

func (r readiness) String() string {
	text := []byte("-----")
	for i, letter := range []byte("RWDHC") {
		if r&(1<<i) != 0 {
			text[i] = letter
		}
	}
	return string(text)
}

// view copies a stream. The worker's lock is held.
func (w *worker) view(c *conn, now ktime.Time) StreamView {
	s := &c.stream
	v := StreamView{
		ID: idString(c.id), Serial: c.serial, Worker: w.index + 1, At: now,
		Frontend: c.frontend.config, Bind: c.listener.bind, Client: c.client,
		ClientState: s.ClientState(), ServerState: s.ServerState(),
		Request: s.Request(), Response: s.Response(), Times: s.Times(), Account: s.Account(),
		Woken: c.woken, Requeued: c.requeued, Attempts: c.attempts,
		Retries: s.Retries(), Redispatched: s.Redispatched(), Orphaned: s.Orphaned(), Due: c.due,
		Running: w.turnBegan.Load() != 0 && w.running.Load() == c.id, Ending: s.Ending(),
	}
	v.SideTimer, v.SideDeadline = s.SideTimer()
	v.Deadline, v.Timer = s.Deadline()
	if c.backend != nil {
		v.Backend = c.backend.config
	}
	if c.server != nil {
		v.Server, v.ServerAddress = c.server.config, c.server.address
	}
	for side := range c.ends {
		end := &c.ends[side]
		v.Ends[side] = EndView{
			FD: int(end.fd), Reads: end.reads, Writes: end.writes, ReadsAgain: end.readsAgain,
			WritesAgain: end.writesAgain, Ready: end.ready.String(), ready: end.ready,
			WantsRead: c.want.Has(readWant[side]), WantsWrite: c.want.Has(writeWant[side]),
			EdgeTriggered: c.faults&levelFaults[side] == 0 || end.interest&sys.EventEdge != 0,
		}
		if end.tls != nil {
			v.Ends[side].TLS = end.tls.describe(s.InShut(stream.Side(side)))
			if b := end.tls.sealed; b != nil {
				v.Ends[side].Sealed = b.size()
			}
		}
		if end.fd >= 0 {
			v.Ends[side].registered(&w.descriptors[end.fd], end.reads+end.writes)
		}
	}
	if fd := v.Ends[stream.Client].FD; fd >= 0 {
		v.FrontAddress = w.kernel.LocalAddress(fd)
	}
	if fd := v.Ends[stream.Server].FD; fd >= 0 {
		v.BackAddress = w.kernel.LocalAddress(fd)
	}
	if b := c.buffers[stream.Client]; b != nil {
		v.RequestSize = b.size()
	}
	if b := c.buffers[stream.Server]; b != nil {
		v.ResponseSize = b.size()
	}
	if v.suspect() {
		v.History = w.historyOf(c)
	}
	return v
}

// registered enters what is known of the descriptor, on which so many calls were made.
func (v *EndView) registered(d *descriptor, calls uint32) {
	v.Generation, v.Events, v.Mask, v.Rewrites = d.generation, d.events, d.mask, d.rewrites
	if d.calls == calls {
		v.Row = d.row
	}
}

// streamsPerLock is how many slots are looked at while a worker's lock is held: a view takes two
// microseconds, two system calls among them, so the lock is held for half a millisecond.
const streamsPerLock = 256

// viewBatches are the places for the copies of one chunk of streams, each some hundred kilobytes.
var viewBatches = sync.Pool{New: func() any { return new([]StreamView) }}

// Visit calls f with a copy of every stream, which is f's until it returns, in chunks and without holding a
// lock, until f returns false. Streams that begin or end meanwhile may or may not be among them. It returns
// the workers that did not give their lock.
func (e *Engine) Visit(f func(*StreamView) bool) (stuck []Stuck) {
	return e.visit((*worker).view, f)
}

// visit is Visit with the way to copy a stream, which is called with the worker's lock held.
func (e *Engine) visit(view func(*worker, *conn, ktime.Time) StreamView, f func(*StreamView) bool) (
	stuck []Stuck) {
	kept := viewBatches.Get().(*[]StreamView)
	batch := *kept
	defer func() {
		*kept = batch
		viewBatches.Put(kept)
	}()
	for _, w := range e.workers {
		for next := 0; next >= 0; {
			batch = batch[:0]
			from := next
			got := w.locked(func() {
				now := w.kernel.Now()
				end := min(from+streamsPerLock, len(w.slots))
				for _, c := range w.slots[from:end] {
					if c != nil {
						batch = append(batch, view(w, c, now))
					}
				}
				next = end
				if end == len(w.slots) {
					next = -1
				}
			})
			if !got {
				stuck = append(stuck, w.stuckView())
				break
			}
			for i := range batch {
				if !f(&batch[i]) {
					return stuck
				}
			}
		}
	}
	return stuck
}

// Find returns a copy of the stream of that id.
func (e *Engine) Find(id string) (StreamView, bool) {
	var found StreamView
	w, n := e.locate(id)
	if w == nil {
		return found, false
	}
	ok := false
	w.locked(func() {
		if c := w.find(n); c != nil {
			found, ok = w.view(c, w.kernel.Now()), true
		}
	})
	return found, ok
}

// Stuck is a worker that does not come back to its loop.
type Stuck struct {
	Worker int
	TID    int
	For    time.Duration
	// Began is when its turn began.
	Began ktime.Time
	Stack string
	// At is when it last published a summary, Streams how many streams it had then.
	At      ktime.Time
	Streams int
	// Running is the id of the stream that it is at, empty when it is at none.
	Running string
}

func (w *worker) stuckView() Stuck {
	s := w.stuckBriefly()
	s.Stack = w.stack()
	return s
}

// stuckBriefly is stuckView without the stack.
func (w *worker) stuckBriefly() Stuck {
	s := Stuck{Worker: w.index + 1, TID: int(w.tid.Load()), For: w.stuck(),
		Began: ktime.Time(w.turnBegan.Load())}
	if p := w.published.Load(); p != nil {
		s.At, s.Streams = p.at, p.streams
	}
	if id := w.running.Load(); id != 0 {
		s.Running = idString(id)
	}
	return s
}

// DescriptorView is one registered descriptor, or a listener that is paused.
type DescriptorView struct {
	FD     int
	Worker int
	// Kind is "waker", "listener", "client", "server", or "handed over" to another worker.
	Kind       string
	Generation uint32
	Events     uint32
	Ready      string
	// Stream is the id of the stream it belongs to, empty for none.
	Stream      string
	Frontend    *config.Proxy
	Backend     *config.Proxy
	Server      *config.Server
	Local, Peer sys.Address
	Reads       uint32
	Writes      uint32
	State       stream.SideState
	// In is what is read from it and Out what is written to it, for clients and servers.
	In, Out stream.ChannelView
	// Paused says of a listener that the worker has taken it out of its epoll set for a while, Full that its
	// own limit of connections is reached, Limited that another one is: the frontend's or the process's.
	Paused, Full, Limited bool

	ListenerBind *config.Bind
	Accepted     uint64
	Conns        int
}

var kindNames = [...]string{"none", "waker", "listener", "client", "server", "handed over"}

// Descriptors calls f with every registered descriptor and every paused listener of the numbers from first to
// last, in chunks.
func (e *Engine) Descriptors(first, last int, f func(*DescriptorView) bool) (stuck []Stuck) {
	var batch []DescriptorView
	for _, w := range e.workers {
		for next := first; next >= 0 && next <= last; {
			batch = batch[:0]
			from := next
			got := w.locked(func() {
				if from == first {
					batch = w.describePaused(batch, first, last)
				}
				end := min(from+streamsPerLock, len(w.descriptors), last+1)
				for fd := from; fd < end; fd++ {
					if w.descriptors[fd].kind != kindNone {
						batch = append(batch, w.describe(fd))
					}
				}
				next = end
				if end >= len(w.descriptors) || end <= from {
					next = -1
				}
			})
			if !got {
				stuck = append(stuck, w.stuckView())
				break
			}
			for i := range batch {
				if !f(&batch[i]) {
					return stuck
				}
			}
		}
	}
	return stuck
}

// describe copies a descriptor. The worker's lock is held.
func (w *worker) describe(fd int) DescriptorView {
	d := &w.descriptors[fd]
	v := DescriptorView{
		FD: fd, Worker: w.index + 1, Kind: kindNames[d.kind], Generation: d.generation, Events: d.events,
	}
	if d.kind == kindListener {
		w.describeListener(&v, d.listener)
	}
	c := d.conn
	if c == nil {
		return v
	}
	side := stream.Side(d.kind - kindClient)
	end := &c.ends[side]
	v.Stream, v.Frontend = idString(c.id), c.frontend.config
	v.Ready, v.Reads, v.Writes = end.ready.String(), end.reads, end.writes
	v.Local, v.Peer, v.State = w.kernel.LocalAddress(fd), c.client, c.stream.ClientState()
	v.In, v.Out = c.stream.Request(), c.stream.Response()
	if side == stream.Server {
		v.Backend, v.Server = c.backend.config, c.server.config
		v.Peer, v.State = c.server.address, c.stream.ServerState()
		v.In, v.Out = v.Out, v.In
	}
	return v
}

func (w *worker) describeListener(v *DescriptorView, l *listener) {
	v.Frontend, v.ListenerBind, v.Local = l.frontend.config, l.bind, w.kernel.LocalAddress(l.fd)
	v.Accepted, v.Conns = l.accepted.Load(), int(l.conns.Load())
	v.Full = l.maxConn > 0 && l.conns.Load() >= l.maxConn
	v.Limited = !v.Full && !w.engine.mayAdmit(l)
}

// describePaused adds the paused listeners of the numbers from first to last. The worker's lock is held.
func (w *worker) describePaused(to []DescriptorView, first, last int) []DescriptorView {
	for _, p := range w.pausedAt {
		if fd := p.listener.fd; fd >= first && fd <= last {
			v := DescriptorView{FD: fd, Worker: w.index + 1, Kind: kindNames[kindListener], Paused: true}
			w.describeListener(&v, p.listener)
			to = append(to, v)
		}
	}
	return to
}
