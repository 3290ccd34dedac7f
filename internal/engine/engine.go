// Package engine runs the streams: workers with their epoll sets, the descriptors, timers, buffers,
// listeners and connections. It drives package stream and decides nothing itself about a stream's state.
//
// It knows nothing of probes or verdicts: it publishes its state and its suspicions, and takes orders.
package engine

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// Options say how to run an engine.
type Options struct {
	Config *config.Config
	// Listeners are the open descriptors of the configuration's bind lines; the engine owns them from New on.
	Listeners []Listener
	// Kernel is sys.Linux, or a simulated one.
	Kernel Kernel
	// Workers is the number of event loops, at least 1. MaxConn is the limit of concurrent client
	// connections.
	Workers int
	MaxConn int
	// MaxPipes is how many pipes there may be, two descriptors each; 0 means that nothing is spliced.
	// PipeSize is their size in bytes, 0 for the default.
	MaxPipes, PipeSize int
	// Resolve returns the socket address of a server.
	Resolve func(*config.Server) (sys.Address, error)
	// ServerTLS returns what TLS connections to a server are made with, its ServerName included, nil for
	// connections without TLS. It is called once for each server; nil stands for no TLS anywhere.
	ServerTLS func(*config.Server) *tls.Config
	// Log takes one record for each stream that is to be logged. It is called by workers, so it must not
	// block; nil drops them.
	Log func(*Record)
	// Alert takes a message for the operator about a limit that was reached. It must not block; nil drops
	// them.
	Alert func(message string)
	// Seed makes the choice of faulty streams repeatable.
	Seed uint64
	// FlightMoments is how many moments a worker's flight recorder keeps, 0 for what production needs.
	FlightMoments int
	// Audit makes every worker check the rules of its streams after each wakeup and call it with what is
	// wrong. For tests and simulation; nil in production, where only rule 2 is watched and counted.
	Audit func(id string, wrong error)
	// Observe is called with every stream, and its client's address, before and after it is advanced, by its
	// worker. For simulation, which holds what streams do against what it did to them; nil in production.
	Observe func(client sys.Address, s *stream.Stream, advanced bool, now ktime.Time)
}

func (o *Options) serverTLS(s *config.Server) *tls.Config {
	if o.ServerTLS == nil {
		return nil
	}
	return o.ServerTLS(s)
}

// Engine is a running proxy. Its methods may be called from any goroutine.
type Engine struct {
	options   Options
	kernel    Kernel
	workers   []*worker
	frontends []*frontend
	backends  []*backend
	listeners []*listener
	faults    []config.Fault
	spoiled   fault.Set // the faults of the process as a whole

	maxConn int64
	started ktime.Time
	traffic // of all client connections
	limitsTLS
	opened sharedRate
	serial atomic.Uint64
	// paused counts the registrations of listeners that wait for a limit to be left.
	paused atomic.Int64
	// stopping is set during a soft stop, stopped when the workers shall return.
	stopping, stopped atomic.Bool
	// listening is how many workers have the listeners in their epoll sets.
	listening atomic.Int64

	suspicions chan Suspicion
	running    sync.WaitGroup
}

// Suspicion is the engine's own report that something passed its budget of wakeups without progress: a
// stream; or else a listener, a descriptor that is nobody's, or a worker as a whole.
type Suspicion struct {
	// Stream is the stream's id as in dumps, empty when it is no stream; Worker is the index of the worker,
	// from 1.
	Stream string
	Worker int
	// FD is the listener's descriptor, or the one whose events nobody takes, -1 for neither. Listener is the
	// position of the listener's bind line, empty for no listener.
	FD       int
	Listener string
	At       ktime.Time
	// Wakeups is the number of consecutive wakeups without progress, Since the first of them.
	Wakeups uint64
	Since   ktime.Time
	Cause   string
}

// Subject names what is suspect.
func (s *Suspicion) Subject() string {
	switch {
	case s.Stream != "":
		return "stream " + s.Stream
	case s.Listener != "":
		return fmt.Sprintf("listener %s (descriptor %d) at worker %d", s.Listener, s.FD, s.Worker)
	case s.FD >= 0:
		return fmt.Sprintf("descriptor %d at worker %d", s.FD, s.Worker)
	}
	return fmt.Sprintf("worker %d", s.Worker)
}

// suspicionQueue is how many suspicions may wait to be heard. A stream is reported once per row of wakeups,
// so more than this means that nobody listens.
const suspicionQueue = 64

// MaxWorkers is the highest number of workers: a stream's id has 8 bits for its worker.
const MaxWorkers = 255

// New makes an engine that does nothing yet. On error the listeners are still the caller's.
func New(o Options) (*Engine, error) {
	if o.Workers < 1 || o.Workers > MaxWorkers {
		return nil, fmt.Errorf("%d workers: the number must be from 1 to %d", o.Workers, MaxWorkers)
	}
	e := &Engine{
		options: o, kernel: o.Kernel, maxConn: int64(o.MaxConn), started: o.Kernel.Now(),
		suspicions: make(chan Suspicion, suspicionQueue),
		faults:     o.Config.Global.Whyspin.Faults,
	}
	e.maxSecured, e.maxRate = int64(o.Config.Global.TLS.MaxConn), o.Config.Global.TLS.MaxRate
	e.maxRecord = o.Config.Global.TLS.MaxRecord
	if err := e.build(o.Config, o.Resolve); err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(o.Seed, MaxWorkers))
	e.spoiled = e.chooseFaults(random, "")
	if err := e.adopt(o.Listeners, random); err != nil {
		return nil, err
	}
	bufferLimit := o.MaxConn * 2 * o.Config.Global.BufferSize / o.Workers
	for i := range o.Workers {
		w, err := newWorker(e, i, bufferLimit)
		if err != nil {
			e.closeWorkers()
			return nil, err
		}
		e.workers = append(e.workers, w)
	}
	e.listening.Store(int64(len(e.workers)))
	return e, nil
}

// adopt makes the open listeners the engine's.
func (e *Engine) adopt(open []Listener, random *rand.Rand) error {
	for _, l := range open {
		var front *frontend
		for _, f := range e.frontends {
			if f.config == l.Proxy {
				front = f
			}
		}
		if front == nil {
			return fmt.Errorf("listener %d belongs to no frontend", l.FD)
		}
		if l.Bind.TLS != nil && l.TLS == nil {
			return fmt.Errorf("%s: the listener is to speak TLS and nobody said how", l.Bind.Position)
		}
		e.listeners = append(e.listeners, &listener{
			fd: l.FD, index: len(e.listeners), frontend: front, bind: l.Bind, tls: l.TLS,
			maxConn: int64(l.Bind.MaxConn), faults: e.chooseFaults(random, front.config.Name),
		})
	}
	return nil
}

func (e *Engine) closeWorkers() {
	for _, w := range e.workers {
		w.close()
	}
}

// Start runs each worker on a thread of its own. The Go scheduler gets one processor more than there are
// workers, so that the control plane runs though every worker spins. The number is set even if it is there
// already: otherwise the runtime follows the machine's, looks for it every second, and may take the one more
// away.
func (e *Engine) Start() {
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), len(e.workers)+1))
	ready := make(chan struct{})
	for _, w := range e.workers {
		e.running.Go(func() { w.loop(ready) })
	}
	for range e.workers {
		<-ready
	}
}

// Step runs one turn of a worker, counted from 0, in the caller's goroutine. It is for simulated kernels,
// whose EpollWait decides when the turn goes on; an engine that is stepped is not started.
func (e *Engine) Step(worker int) { e.workers[worker].step() }

// Readiness returns what the engine believes of a descriptor of one of its streams, for the simulator to
// compare with what is true: whether it may be read, whether it may be written, and whether its stream is
// due to run.
func (e *Engine) Readiness(worker, fd int) (canRead, canWrite, due bool) {
	w := e.workers[worker]
	if fd >= len(w.descriptors) || w.descriptors[fd].conn == nil {
		return false, false, false
	}
	d := &w.descriptors[fd]
	r := d.conn.ends[d.kind-kindClient].ready
	return r.has(readable), r.has(writable), d.conn.due
}

// Suspicions is where the engine reports streams that passed their budget.
func (e *Engine) Suspicions() <-chan Suspicion { return e.suspicions }

// StopListening begins a soft stop: the listeners are closed, the streams live on. It is an order: every
// worker lets go of the listeners in its next turn, and the last one closes them. To close them any earlier
// would leave them in the epoll set of a worker that is still in a turn, for as long as another process has
// them open, and that worker could not even remove them (class F6).
func (e *Engine) StopListening() {
	if e.stopping.Swap(true) {
		return
	}
	for _, w := range e.workers {
		e.kernel.Wake(w.waker)
	}
}

// Stop ends all streams without a word to their peers beyond what close(2) says, and returns when every
// worker has returned.
func (e *Engine) Stop() {
	e.StopListening()
	e.stopped.Store(true)
	for _, w := range e.workers {
		e.kernel.Wake(w.waker)
	}
	e.running.Wait()
	for _, w := range e.workers {
		w.letGo()
	}
	e.closeWorkers()
}

// Stopped reports whether Stop was called.
func (e *Engine) Stopped() bool { return e.stopped.Load() }

// Streams returns the number of streams. A worker that is about to find that there is no place for one more
// has counted it already.
func (e *Engine) Streams() int { return int(min(e.conns.Load(), e.maxConn)) }

// chooseFaults returns the faults of a new stream or of a listener of a frontend, or of the process, which
// has none.
func (e *Engine) chooseFaults(random *rand.Rand, frontend string) fault.Set {
	var set fault.Set
	for i := range e.faults {
		f := &e.faults[i]
		if f.Frontend != "" && f.Frontend != frontend {
			continue
		}
		if f.Probability >= 1 || random.Float64() < f.Probability {
			set |= f.Fault
		}
	}
	return set
}

func (e *Engine) alert(format string, args ...any) {
	if e.options.Alert != nil {
		e.options.Alert(fmt.Sprintf(format, args...))
	}
}

// Slots returns how many slots of servers are taken, and how many streams wait for one.
func (e *Engine) Slots() (taken, queued int) {
	for _, b := range e.backends {
		b.mu.Lock()
		for _, s := range b.servers {
			taken += s.slots
		}
		queued += b.queue.Len()
		b.mu.Unlock()
	}
	return taken, queued
}
