package engine

import (
	"time"

	"github.com/whyspin/whyspin/internal/stream"
)

// KillResult is what became of an order to end a stream.
type KillResult uint8

const (
	// KillUnknown: there is no such stream (any more).
	KillUnknown KillResult = iota
	// KillEnded: the stream was there and has ended.
	KillEnded
	// KillOrdered: the worker has not come back to its loop yet. If it has such a stream, it ends it as
	// soon as it does.
	KillOrdered
)

// Kill orders the end of the stream of that id (as printed, "0x...") and waits as long for its worker as
// every look at one does. The order stands even when the worker did not come back in that time.
func (e *Engine) Kill(id string, by stream.Killer) KillResult {
	answer := e.OrderKill(id, by)
	piece := time.NewTimer(visitWait)
	defer piece.Stop()
	for range visitWaits {
		select {
		case ended := <-answer:
			if ended {
				return KillEnded
			}
			return KillUnknown
		case <-piece.C:
			piece.Reset(visitWait)
		}
	}
	return KillOrdered
}

// OrderKill orders the end of the stream of that id without waiting. The answer is whether there was such a
// stream, once it has ended.
func (e *Engine) OrderKill(id string, by stream.Killer) (answer <-chan bool) {
	to := make(chan bool, 1)
	w, n := e.locate(id)
	if w == nil {
		to <- false
		return to
	}
	w.post(message{kind: messageKill, id: n, killer: by, answer: to})
	return to
}

// kill makes the stream of that id due to be ended, in this turn or, when the worker has too much to do, in
// one of the next.
func (w *worker) kill(id uint64, by stream.Killer, answer chan<- bool) {
	c := w.find(id)
	if c == nil {
		answer <- false
		return
	}
	c.killed, c.killer = true, by
	c.killAnswers = append(c.killAnswers, answer)
	cause := stream.CauseAdmin
	if by == stream.KillSpin {
		cause = stream.CauseSpin
	}
	w.enqueue(c, cause)
}

// answerKills tells those who ordered the end of a stream that it has come.
func (c *conn) answerKills() {
	for _, answer := range c.killAnswers {
		answer <- true
	}
	c.killAnswers = nil
}
