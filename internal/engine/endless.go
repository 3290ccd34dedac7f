package engine

import (
	"slices"
	"time"

	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/stream"
)

// The faults in this file keep a worker from coming back to its loop. Both ask whether they are to end, so
// that the order to end the stream and the end of the process find their way where nothing else does.

// ordered reports whether a handler is to end that works for the stream and does not come back to the loop:
// the engine stops, or the end of the stream was ordered, whether the worker has taken in the order or not.
func (w *worker) ordered(c *conn) bool {
	return w.engine.stopped.Load() || len(c.killAnswers) > 0 || w.inbox.condemns(c.id)
}

// condemns reports whether an order to end the stream of that id is among the messages.
func (b *inbox) condemns(id uint64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.messages, func(m message) bool {
		return m.kind == messageKill && m.id == id
	})
}

// handlerLoops reports whether the loop of pump goes on though nothing has moved or its share is used up:
// with the fault it does as long as bytes are left, though the sink takes none. It reads the clock, which is
// no system call, and by which a simulated kernel sees the loop.
func (w *worker) handlerLoops(c *conn, from stream.Side) bool {
	if !c.faults.Has(fault.HandlerLoops) {
		return false
	}
	b := c.buffers[from]
	w.kernel.Now()
	return b != nil && b.buffered() > 0 && !w.ordered(c)
}

// takeTurn takes the lock that streams with the fault have besides the backend's own, and gives the processor
// away while another has it, instead of sleeping until it is free. It reports false when the stream is to
// end.
func (w *worker) takeTurn(c *conn) bool {
	for !c.backend.turn.CompareAndSwap(false, true) {
		if w.ordered(c) {
			return false
		}
		w.yields.Add(1)
		w.kernel.Yield()
	}
	c.turn = true
	return true
}

// leaveTurn gives the lock back, if the stream has it.
func (c *conn) leaveTurn() {
	if c.turn {
		c.turn = false
		c.backend.turn.Store(false)
	}
}

// StuckWorkers returns the workers that have not come back to their loop for that long, without their stacks,
// for which everything has to stand still. It waits for nobody.
func (e *Engine) StuckWorkers(longer time.Duration) []Stuck {
	var stuck []Stuck
	for _, w := range e.workers {
		if w.stuck() >= longer {
			stuck = append(stuck, w.stuckBriefly())
		}
	}
	return stuck
}
