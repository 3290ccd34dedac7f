package engine

import (
	"time"

	"github.com/whyspin/whyspin/internal/ktime"
)

// PauseListener takes a listener out of the epoll set of every worker: new clients wait in its backlog and
// what is connected goes on. It comes back when the limit is left that forbids it to accept, or, when none
// does, after the given time. It reports false when no listener has that descriptor. It is an order: each
// worker carries it out in its next turn.
func (e *Engine) PauseListener(fd int, rest time.Duration) bool {
	for _, l := range e.listeners {
		if l.fd != fd {
			continue
		}
		until := ktime.Never
		if e.mayAdmit(l) {
			until = e.kernel.Now().Add(rest)
		}
		for _, w := range e.workers {
			w.post(message{kind: messagePause, listener: l, until: until})
		}
		return true
	}
	return false
}

// obeyPause pauses a listener that the worker has in its epoll set.
func (w *worker) obeyPause(l *listener, until ktime.Time) {
	if !w.deaf && l.fd < len(w.descriptors) && w.descriptors[l.fd].listener == l {
		w.pause(l, until)
	}
}

// SlowRetries makes a stream pause before every further attempt to reach a server. It is an order: the
// stream's worker carries it out in its next turn, and not for a stream that has ended.
func (e *Engine) SlowRetries(id string) {
	if w, n := e.locate(id); w != nil {
		w.post(message{kind: messageSlow, id: n})
	}
}
