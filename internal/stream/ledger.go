package stream

import (
	"time"

	"github.com/whyspin/whyspin/internal/ktime"
)

// The budget of wakeups without progress. A stream that passes it is suspect: fast at 1000 in a row within
// a second, or, on a worker that is busy with others, slow at 20 in a row over at least 100 ms. Both mean
// that the stream was due again the moment it had run, each time, so the worker could not sleep because of
// it.
const (
	fastBudget       = 1000
	fastBudgetWithin = time.Second
	slowBudget       = 20
	slowBudgetOver   = 100 * time.Millisecond
)

// timerStep is the least by which a timer must move ahead to count as progress; a deadline one nanosecond
// ahead does not.
const timerStep = time.Millisecond

// Ledger is the account of a stream's wakeups: rule 3 says that a wakeup that neither brings progress nor
// consumes its cause is charged to the stream.
type Ledger struct {
	calls       uint64
	charged     uint64 // all charged wakeups
	consecutive uint64 // charged wakeups since the last that was not
	since       ktime.Time
	last        ktime.Time // the last charged wakeup
	fired       ktime.Time // the last wakeup by a timer
	before      ktime.Time // the deadline when the current wakeup began
	maxRank     int
	cause       Cause
	moved       bool // bytes have moved in the current wakeup
	progress    bool // the current wakeup has made progress
	early       bool // the current wakeup is by a timer that has not passed
	repeats     bool // in the current wakeup an attempt was begun that is not counted as a retry
	suspect     bool // the budget has been passed and reported
}

func newLedger() Ledger {
	return Ledger{since: ktime.Never, last: ktime.Never, fired: ktime.Never, before: ktime.Never, maxRank: -1}
}

// Begin starts a wakeup at now. Every wakeup has a cause (rule 1); CauseNone is kept and reported by Check.
func (s *Stream) Begin(cause Cause, now ktime.Time) {
	l := &s.ledger
	l.calls++
	l.cause = cause
	l.moved, l.progress, l.repeats = false, false, false
	l.before, _ = s.Deadline()
	passed := l.before.Passed(now)
	l.early = cause.timer() && !passed
	again := passed && l.fired.IsSet() && now.Sub(l.fired) < timerStep
	if passed {
		l.fired = now
	}
	if again || !passed {
		// A timer that fires again within a millisecond has not really moved ahead, and one that has not
		// passed need not.
		l.before = ktime.Never
	}
}

// note takes the measure of the stream after an Advance. Progress is monotone: bytes, a rank never reached
// before, a timer moved ahead, the end. Two states that flip raise no rank.
func (l *Ledger) note(s *Stream, now ktime.Time) {
	if l.moved {
		l.moved, l.progress = false, true
	}
	if rank := s.rank(); rank > l.maxRank {
		l.maxRank, l.progress = rank, true
	}
}

// rank orders the stages of a stream's life: attempts before states before shutdowns. It never decreases in
// a healthy stream, since an attempt that starts over is counted as one more.
func (s *Stream) rank() int {
	shut := 0
	for _, e := range [...]*end{&s.request.in, &s.request.out, &s.response.in, &s.response.out} {
		shut += int(e.state)
	}
	if s.client.state == Closed {
		shut++
	}
	if s.server.handshake {
		shut |= 1 << 7
	}
	return s.Retries()<<16 | int(s.server.state)<<8 | shut
}

// Settle closes the wakeup and reports whether it made the stream suspect. again tells that the engine has
// to run the stream again at once; untouched that it was woken by an event on a descriptor on which then
// nothing was done. A timer that has not passed is no cause to consume, and an attempt that is not counted
// does away with the failure before it only to have it again.
func (s *Stream) Settle(now ktime.Time, again, untouched bool) (suspect bool) {
	l := &s.ledger
	deadline, _ := s.Deadline()
	if l.before.IsSet() && deadline.Sub(l.before) >= timerStep {
		l.progress = true
	}
	// A timer that has fired and is set to fire again at once has consumed nothing.
	refires := l.fired == now && deadline.Sub(now) < timerStep
	consumed := !again && !untouched && !refires && !deadline.Passed(now) && !l.early && !l.repeats
	if l.progress || consumed {
		l.consecutive, l.since, l.suspect = 0, ktime.Never, false
		return false
	}
	if l.consecutive == 0 {
		l.since = now
	}
	l.charged++
	l.consecutive++
	l.last = now
	if l.suspect || !OverBudget(l.consecutive, now.Sub(l.since)) {
		return false
	}
	l.suspect = true
	return true
}

// OverBudget reports whether a row of that many wakeups without progress, over so long a time, is suspect.
func OverBudget(consecutive uint64, over time.Duration) bool {
	if consecutive >= slowBudget && over >= slowBudgetOver {
		return true
	}
	return consecutive >= fastBudget && over <= fastBudgetWithin
}

// Account is what the ledger says about a stream.
type Account struct {
	// Calls counts all wakeups, Charged those that neither consumed their cause nor brought progress.
	Calls, Charged uint64
	// Consecutive counts the charged wakeups since the last one that was not; Since is the first of them,
	// Never when there is none, and Last the latest.
	Consecutive uint64
	Since, Last ktime.Time
	// Cause is that of the latest wakeup.
	Cause Cause
	// Suspect is true exactly when the present row of charged wakeups has passed the budget.
	Suspect bool
}

// Account returns the ledger's account.
func (s *Stream) Account() Account {
	l := &s.ledger
	return Account{
		Calls: l.calls, Charged: l.charged, Consecutive: l.consecutive, Since: l.since, Last: l.last,
		Cause: l.cause, Suspect: l.suspect,
	}
}

// Rate is the number of charged wakeups per second in the present row, 0 when there are fewer than two.
func (a Account) Rate() float64 {
	if a.Consecutive < 2 || a.Last <= a.Since {
		return 0
	}
	return float64(a.Consecutive-1) / a.Last.Sub(a.Since).Seconds()
}
