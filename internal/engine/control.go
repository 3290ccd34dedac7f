package engine

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
)

// lock takes the worker's lock for the worker itself, after whoever of the control plane waits for it.
func (w *worker) lock() {
	if w.wanted.Load() > 0 {
		w.turn.Lock()
		//lint:ignore SA2001 the lock is only waited for
		w.turn.Unlock()
	}
	w.mu.Lock()
}

// lockPatience is how long the control plane waits for a worker's lock. A turn lasts microseconds to a few
// milliseconds; a worker that keeps its lock longer is stuck in a handler.
const lockPatience = 50 * time.Millisecond

// A turn is mostly shorter than lockSpin; a worker that is still in one after that is looked at every
// lockPoll.
const (
	lockSpin = 200 * time.Microsecond
	lockPoll = 100 * time.Microsecond
)

// locked runs f with the worker's lock held, between two turns of the worker, and reports whether it could:
// false means that the worker did not come back to its loop in time. f must be short: less than a
// millisecond.
func (w *worker) locked(f func()) bool {
	w.wanted.Add(1)
	w.turn.Lock()
	got := w.mu.TryLock()
	for began := w.kernel.Now(); !got; got = w.mu.TryLock() {
		waited := w.kernel.Now().Sub(began)
		if waited > lockPatience {
			break
		}
		if waited < lockSpin {
			runtime.Gosched()
		} else {
			time.Sleep(lockPoll)
		}
	}
	w.turn.Unlock()
	w.wanted.Add(-1)
	if !got {
		return false
	}
	defer w.mu.Unlock()
	f()
	return true
}

// Kill orders the end of the stream of that id (as printed, "0x..."). It reports whether there is such a
// stream; it is ended in the next turn of its worker.
func (e *Engine) Kill(id string, by stream.Killer) bool {
	w, n := e.locate(id)
	if w == nil {
		return false
	}
	found := false
	w.locked(func() {
		c := w.find(n)
		if c == nil {
			return
		}
		found = true
		c.killed, c.killer = true, by
		cause := stream.CauseAdmin
		if by == stream.KillSpin {
			cause = stream.CauseSpin
		}
		w.enqueue(c, cause)
	})
	if found {
		e.kernel.Wake(w.waker)
	}
	return found
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
	streams int
	queue   int
	stats   workerStats

	buffers, bufferBytes, bufferPeak, bufferLimit int
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
