package engine

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
	"github.com/whyspin/whyspin/internal/tlsconn"
)

const (
	// eventsPerWait is how many events one wait takes at most. More stay with the kernel for the next.
	eventsPerWait = 256
	// streamsPerTurn is how many streams run between two waits at most, so that new events and timers are
	// never held up by a long queue, and turnTime after how long no further stream runs before the next
	// wait: enough for several full wakeups of bulk transfers, so that a wait costs next to nothing.
	streamsPerTurn = 256
	turnTime       = time.Millisecond
	// busyWait is the longest wait, in milliseconds, without telling the Go scheduler. A busy worker saves
	// the cost of leaving and entering the scheduler; an idle one must not hold its place in it, see
	// EpollWait.
	busyWait = 2
)

// worker is one event loop on one thread. Everything in it is owned by the worker's goroutine while it
// holds mu, which it lets go while it waits; the control plane looks at it in between (see locked).
type worker struct {
	engine *Engine
	kernel Kernel
	index  int // from 0
	tid    atomic.Int64
	set    int // the epoll set
	waker  int
	load   atomic.Int64 // streams, those in the inbox included

	mu sync.Mutex
	// visit is a look of the control plane that this worker shall make, nil for none; visitors lets in one
	// at a time.
	visit    atomic.Pointer[visit]
	visitors sync.Mutex

	now         ktime.Time
	events      [eventsPerWait]sys.Event
	descriptors []descriptor
	slots       []*conn // streams by the slot in their id
	freeSlots   []int
	spare       []*conn // ended streams, to be used again
	queue       []*conn // streams that are due to run, in order
	timers      timerHeap
	buffers     *bufferPool
	pipes       pipePool
	pausedAt    []pausedListener
	deaf        bool // has let go of the listeners for good
	random      *rand.Rand
	listeners   []listenerAccount   // by the listener's index
	strays      map[uint64]*account // by the epoll data of the registration
	restless    account             // the worker's own: turns that did nothing, without sleep
	turn        uint64              // the number of the present turn
	copies      []int               // of descriptors, which nobody closes
	timeout     int                 // of the next wait, in milliseconds
	busy        bool                // the last wait brought events

	sealing []byte          // the memory in which records are sealed; empty between two calls
	lent    tlsconn.Buffers // what TLS connections are read into

	inbox  inbox
	stats  workerStats
	flight flightRecorder
	// turnBegan and waitBegan are the moments (ktime.Time) at which the present turn and the present wait
	// began, 0 outside of them. They can be read without the lock, and so can published, a summary for the
	// time when the worker does not give its lock.
	turnBegan, waitBegan atomic.Int64
	published            atomic.Pointer[summary]
	// yields counts the times that it gave the CPU away while it waited for a lock.
	yields atomic.Uint64
	// running is the stream that runs in the present turn, or ran last in it; 0 when none has yet.
	running atomic.Uint64
}

// workerStats are the worker's own counters since the start: the ledger of level 0, free because they are
// plain.
type workerStats struct {
	waits    evidence.Waits
	zero     evidence.ZeroTimeouts
	events   uint64 // events delivered
	stale    uint64 // events of descriptors that were closed or reused in the meantime
	foreign  uint64 // events of connections that were handed to another worker
	blocked  time.Duration
	wakeups  uint64
	charged  uint64 // wakeups without progress and with their cause not consumed
	late     uint64 // rule 2: returned from a wakeup with a deadline in the past
	unnamed  uint64 // rule 1: woken without a cause
	timers   uint64 // wakeups by timers
	slots    uint64 // slots granted from a queue
	accepted uint64
	refused  uint64 // calls of accept that failed, otherwise than with EAGAIN
	handed   uint64 // connections accepted here and handed to another worker
	read     evidence.IO
	write    evidence.IO
	sent     Rate   // bytes written
	spliced  uint64 // of them out of pipes
	ended    uint64
	sampled  idleSample
	tls      tlsStats
}

// newWorker opens the worker's epoll set and registers the waker and the listeners.
func newWorker(e *Engine, index, bufferLimit int) (*worker, error) {
	set, err := e.kernel.EpollCreate()
	if err != nil {
		return nil, fmt.Errorf("creating the epoll set of worker %d: %w", index+1, err)
	}
	w := &worker{
		engine: e, kernel: e.kernel, index: index, set: set, waker: -1, timeout: -1,
		buffers:   newBufferPool(e.options.Config.Global.BufferSize, bufferLimit),
		pipes:     newPipePool(e.kernel, &e.options, index),
		random:    rand.New(rand.NewPCG(e.options.Seed, uint64(index))),
		flight:    newFlightRecorder(e.options.FlightMoments),
		listeners: make([]listenerAccount, len(e.listeners)), strays: map[uint64]*account{},
	}
	if w.waker, err = e.kernel.NewWaker(); err != nil {
		w.close()
		return nil, fmt.Errorf("creating the waker of worker %d: %w", index+1, err)
	}
	w.now = e.kernel.Now()
	w.stats.sampled = idleSample{at: w.now, share: 1}
	if errno := w.register(w.waker, descriptor{kind: kindWaker}, sys.EventIn); errno != 0 {
		w.close()
		return nil, fmt.Errorf("registering the waker of worker %d: %w", index+1, errno)
	}
	for _, l := range e.listeners {
		if errno := w.listen(l); errno != 0 {
			w.close()
			return nil, fmt.Errorf("registering the listener of %s: %w", l.bind.Position, errno)
		}
	}
	w.publish()
	return w, nil
}

// close closes the descriptors of the worker and of its streams.
func (w *worker) close() {
	w.endHandshakes()
	for _, c := range w.slots {
		if c == nil {
			continue
		}
		for side := range c.ends {
			if c.ends[side].fd >= 0 {
				w.kernel.Close(int(c.ends[side].fd))
			}
			w.dropBuffer(c, stream.Side(side))
		}
	}
	w.slots = nil
	w.pipes.close()
	for _, fd := range w.copies {
		w.kernel.Close(fd)
	}
	if w.waker >= 0 {
		w.kernel.Close(w.waker)
	}
	w.kernel.Close(w.set)
}

// loop is the worker's life: wait, take in what happened, run what is due.
func (w *worker) loop(ready chan<- struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	w.tid.Store(int64(sys.ThreadID()))
	// The name is for people who look at top -H; the engine works without it.
	_ = sys.NameThread(fmt.Sprintf("worker/%d", w.index+1))
	ready <- struct{}{}
	for !w.engine.stopped.Load() {
		w.step()
	}
	w.endHandshakes()
}

// step is one turn of the loop.
func (w *worker) step() {
	did := w.wait()
	w.mu.Lock()
	w.turn++
	w.now = w.kernel.Now()
	w.turnBegan.Store(int64(w.now))
	w.running.Store(0)
	w.count(did)
	if did.errno == 0 {
		w.dispatch(w.events[:did.n])
	}
	runs := w.stats.wakeups
	worked := w.readInbox()
	if w.engine.stopping.Load() {
		w.letGo()
	}
	w.resumeListeners()
	if did.errno == 0 {
		// An interrupted wait has not looked at the descriptors. Timers are left for the next one, which will
		// not sleep: a client that has gone meanwhile must count before another server is tried.
		w.expireTimers()
	}
	w.runStreams()
	w.settleTurn(did, worked || w.stats.wakeups != runs)
	w.timeout = w.nextTimeout()
	if w.timeout == 0 {
		w.explainZero()
	}
	w.publish()
	w.turnBegan.Store(0)
	w.endTurn()
}

// waited is what one wait was asked and what came of it.
type waited struct {
	timeout int
	began   ktime.Time // not set for a timeout of zero
	n       int
	errno   sys.Errno
}

// wait waits for events, without the lock.
func (w *worker) wait() waited {
	did := waited{timeout: w.timeout}
	park := true
	switch {
	case did.timeout == 0:
		park = false
	case w.busy:
		park = false
		if did.timeout < 0 || did.timeout > busyWait {
			did.timeout = busyWait
		}
	}
	if did.timeout != 0 {
		did.began = w.now // when the turn before ended, but for a few instructions
		w.waitBegan.Store(int64(did.began))
	}
	did.n, did.errno = w.kernel.EpollWait(w.set, w.events[:], did.timeout, park)
	w.waitBegan.Store(0)
	w.busy = did.n > 0
	switch did.errno {
	case 0:
	case sys.EINTR:
		// The runtime wants this thread: without a yield here, workers that wait without telling the
		// scheduler could keep everything else from running.
		runtime.Gosched()
	default:
		panic(fmt.Sprintf("BUG: epoll_wait on the worker's own set: %v", did.errno))
	}
	return did
}

// count enters a wait into the ledger.
func (w *worker) count(did waited) {
	class := evidence.TimeoutPositive
	switch {
	case did.timeout == 0:
		class = evidence.TimeoutZero
	case did.timeout < 0:
		class = evidence.TimeoutInfinite
	}
	result := evidence.ResultNone
	switch {
	case did.errno != 0:
		result = evidence.ResultError
	case did.n > 0:
		result = evidence.ResultEvents
	}
	w.stats.waits[class][result]++
	w.stats.events += uint64(did.n)
	if did.timeout != 0 {
		w.stats.blocked += w.now.Sub(did.began)
	}
}

// nextTimeout returns how long the worker may sleep, in milliseconds, rounded up so that no timer fires
// early. A busy worker sleeps so little that it need not know the next deadline exactly.
func (w *worker) nextTimeout() int {
	if len(w.queue) > 0 {
		return 0
	}
	if w.engine.stopping.Load() && (!w.deaf || w.engine.spoiled.Has(fault.NeverSleeps)) {
		return 0
	}
	resume := w.nextResume()
	if w.busy && ktime.Min(w.timers.bound(), resume).Sub(w.now) > busyWait*time.Millisecond {
		return busyWait
	}
	next := ktime.Min(w.timers.next(), resume)
	if !next.IsSet() {
		return -1
	}
	left := next.Sub(w.kernel.Now())
	if left <= 0 {
		return 0
	}
	const longest = time.Hour
	return int((min(left, longest) + time.Millisecond - 1) / time.Millisecond)
}

// explainZero enters into the ledger why the next wait has a timeout of zero. It looks at what nextTimeout
// should have looked at, and knows nothing of how that came to its result.
func (w *worker) explainZero() {
	z := &w.stats.zero
	if len(w.queue) > 0 {
		z.RunQueue++
		return
	}
	now, next := w.kernel.Now(), ktime.Min(w.timers.next(), w.nextResume())
	switch {
	case next.Passed(now):
		z.Deadline++
	case next.IsSet() && (next.Sub(now) < time.Millisecond || !w.engine.stopping.Load()):
		z.Ahead++
	case w.engine.stopping.Load():
		z.Flag++
	default:
		z.None++
	}
}

// expireTimers makes every stream due whose deadline has passed.
func (w *worker) expireTimers() {
	for c := w.timers.expired(w.now); c != nil; c = w.timers.expired(w.now) {
		_, timer := c.stream.Deadline()
		w.stats.timers++
		w.enqueue(c, timer.Cause())
	}
}

// enqueue makes a stream due to run. A stream that is due already keeps its first cause.
func (w *worker) enqueue(c *conn, cause stream.Cause) {
	if c.due {
		return
	}
	c.due = true
	c.cause = cause
	w.queue = append(w.queue, c)
}

// runStreams runs the streams that were due when the turn began. What becomes due meanwhile waits for the
// next turn, after a look at events and timers. Every stream finds the time as it is when it runs: a deadline
// that counted from the start of a long turn would pass early by its length.
func (w *worker) runStreams() {
	began, due, n := w.now, min(len(w.queue), streamsPerTurn), 0
	for ; n < due && w.now.Sub(began) <= turnTime; n++ {
		c := w.queue[n]
		c.due = false
		w.run(c)
		w.now = w.kernel.Now()
	}
	rest := copy(w.queue, w.queue[n:])
	clear(w.queue[rest:])
	w.queue = w.queue[:rest]
}
