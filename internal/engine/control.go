package engine

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/ktime"
)

// visit is a look of the control plane at a worker that is in a turn: the worker itself makes it, at the
// next place in its turn where everything is in order.
type visit struct {
	look func()
	done chan struct{}
}

// The control plane waits for a worker in a turn visitWaits times visitWait. A worker looks for visits after
// every pass of a stream, which takes it well under a millisecond, so one that does not get there is stuck in
// a handler. The time is cut into pieces because the machine may stop the whole process for longer than all
// of them together (a CPU quota): that ends one piece, and the worker has the others.
const (
	visitWait  = 5 * time.Millisecond
	visitWaits = 10
)

// locked runs f while the worker does nothing else, and reports whether it could: false means that the
// worker did not come back to its loop in time. A worker that waits is visited here, under its lock; one
// that is in a turn makes the visit itself. f must be short, less than a millisecond, and must change
// nothing.
func (w *worker) locked(f func()) bool {
	w.visitors.Lock()
	defer w.visitors.Unlock()
	if w.mu.TryLock() {
		defer w.mu.Unlock()
		f()
		return true
	}
	v := &visit{look: f, done: make(chan struct{})}
	w.visit.Store(v)
	if w.mu.TryLock() {
		// The turn was over before the worker could see the visit, or the visit is made already.
		defer w.mu.Unlock()
		w.makeVisit()
		return true
	}
	piece := time.NewTimer(visitWait)
	defer piece.Stop()
	for range visitWaits {
		select {
		case <-v.done:
			return true
		case <-piece.C:
			piece.Reset(visitWait)
		}
	}
	if w.visit.CompareAndSwap(v, nil) {
		return false
	}
	<-v.done
	return true
}

// makeVisit makes the visit that waits, if one does. The lock is held, and the worker's structures are in
// order.
func (w *worker) makeVisit() {
	if w.visit.Load() == nil {
		return
	}
	if v := w.visit.Swap(nil); v != nil {
		v.look()
		close(v.done)
	}
}

// endTurn lets the lock go. A visit that came too late for makeVisit and too early to find the lock free is
// made now.
func (w *worker) endTurn() {
	w.mu.Unlock()
	if w.visit.Load() != nil {
		w.mu.Lock()
		w.makeVisit()
		w.mu.Unlock()
	}
}

// locate returns the worker whose stream may have that id, nil when no stream can, and the id as a number.
func (e *Engine) locate(id string) (*worker, uint64) {
	n, err := strconv.ParseUint(strings.TrimPrefix(id, "0x"), 16, 64)
	index := int(n >> slotBits & (1<<(32-slotBits) - 1))
	if err != nil || index >= len(e.workers) {
		return nil, 0
	}
	return e.workers[index], n
}

// summary is what a worker published of itself last, for the time when it does not give its lock.
type summary struct {
	at      ktime.Time
	next    ktime.Time // the nearest deadline
	streams int
	queue   int
	stats   workerStats

	buffers, bufferBytes, bufferPeak, bufferLimit int
	pipes, pipesFree, pipeLimit                   int
	pipesRefused                                  uint64
	buffersRefused                                uint64
}

// publishEvery is how old a published summary gets before the worker writes a new one: rarely enough to
// cost nothing.
const publishEvery = 100 * time.Millisecond

func (w *worker) publish() {
	if last := w.published.Load(); last != nil && w.now.Sub(last.at) < publishEvery {
		return
	}
	w.sampleIdle(w.now)
	sum := w.summarize()
	w.published.Store(&sum)
}

// stuck returns how long the worker has been in its present turn.
func (w *worker) stuck() time.Duration {
	began := w.turnBegan.Load()
	if began == 0 {
		return 0
	}
	return w.kernel.Now().Sub(ktime.Time(began))
}

// maxStack is the size of the buffer for the stacks of all goroutines; there are a few dozen.
const maxStack = 1 << 20

// stack returns where the worker's goroutine is.
func (w *worker) stack() string {
	buffer := make([]byte, maxStack)
	buffer = buffer[:runtime.Stack(buffer, true)]
	loop := fmt.Sprintf("(*worker).loop(%p", w)
	for goroutine := range strings.SplitSeq(string(buffer), "\n\n") {
		if strings.Contains(goroutine, loop) {
			return goroutine
		}
	}
	return fmt.Sprintf("the stack of worker %d was not found", w.index+1)
}
