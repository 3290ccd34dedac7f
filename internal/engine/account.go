package engine

import (
	"fmt"
	"time"

	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
)

// account is a row of wakeups without progress of something that is no stream: a listener, a descriptor that
// is nobody's, or the worker as a whole. Its budget is that of the streams.
type account struct {
	charged     uint64 // all charged wakeups
	consecutive uint64 // those of the present row
	since, last ktime.Time
	suspect     bool // the present row has passed the budget and was reported
}

// rowGap is the longest pause within a row. In a spin the pauses are those that other work on the same worker
// makes, a few milliseconds; what happens less often than fifty times a second keeps nobody awake.
const rowGap = 20 * time.Millisecond

// charge enters a wakeup without progress and reports whether it made the account suspect.
func (a *account) charge(now ktime.Time) (suspect bool) {
	if a.consecutive == 0 || now.Sub(a.last) > rowGap {
		a.consecutive, a.since, a.suspect = 0, now, false
	}
	a.charged++
	a.consecutive++
	a.last = now
	if a.suspect || !stream.OverBudget(a.consecutive, now.Sub(a.since)) {
		return false
	}
	a.suspect = true
	return true
}

// settle ends the row: there was progress.
func (a *account) settle() { a.consecutive, a.suspect = 0, false }

// suspicion is what there is to report of an account that became suspect.
func (a *account) suspicion(cause string) Suspicion {
	return Suspicion{FD: -1, Wakeups: a.consecutive, Since: a.since, Cause: cause}
}

// listenerAccount is the account of one listener at one worker.
type listenerAccount struct {
	account
	taken uint64 // what all workers had taken from it by then
	// share is how many connections the worker takes at the next event, 0 for one; fullAt is the turn in
	// which it took as many.
	share  int
	fullAt uint64
}

// settleListener closes the account of an event of a listener. There was progress if anybody took a
// connection from it since the last one, and the event has been dealt with if the listener is paused.
func (w *worker) settleListener(l *listener) {
	a := &w.listeners[l.index]
	taken := l.taken.Load()
	if taken != a.taken || w.descriptors[l.fd].listener != l {
		a.taken = taken
		a.settle()
		return
	}
	if a.charge(w.now) {
		s := a.suspicion("listener")
		s.FD, s.Listener = l.fd, fmt.Sprintf("%s of frontend %s", w.kernel.LocalAddress(l.fd),
			l.frontend.config.Name)
		w.raise(s)
	}
}

// maxStrays is how many descriptors that are nobody's have an account. Stray events are rare and come one by
// one; what spins comes again at once and gets its account then.
const maxStrays = 64

// stray charges an event that is for nobody at this worker to the registration that it came from.
func (w *worker) stray(data uint64) {
	a := w.strays[data]
	if a == nil {
		if len(w.strays) == maxStrays {
			clear(w.strays)
		}
		a = &account{}
		w.strays[data] = a
	}
	if a.charge(w.now) {
		s := a.suspicion("event for nobody")
		s.FD = int(uint32(data))
		w.raise(s)
	}
}

// settleTurn charges the worker for a turn that did nothing though it had asked not to sleep before it. The
// row lasts until it asks to sleep: work that comes in between is no reason for the turns without.
func (w *worker) settleTurn(did waited, worked bool) {
	if did.timeout != 0 {
		w.restless.settle()
		return
	}
	if did.n == 0 && !worked && w.restless.charge(w.now) {
		w.raise(w.restless.suspicion("asked not to sleep"))
	}
}
