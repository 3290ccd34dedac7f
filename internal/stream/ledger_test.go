package stream

import (
	"testing"
	"time"
)

// fires is one wakeup by a timer of the client's end: its deadline was before, and is after when the stream
// has run, seen from now. again tells that the stream is due again.
func (st *story) fires(before, after time.Duration, again bool) (suspect bool) {
	st.s.request.in.deadline = st.now.Add(before)
	st.s.Begin(CauseTimerTunnel, st.now)
	st.s.inputs, st.s.wants = 0, 0
	st.s.ledger.note(&st.s, st.now)
	st.s.request.in.deadline = st.now.Add(after)
	return st.s.Settle(st.now, again, false)
}

// established is a story whose stream has reached all the ranks that it reaches here.
func established(t *testing.T) *story {
	t.Helper()
	st := begin(t, smtp, 0)
	st.connect()
	st.wake(CauseMore, "read-client read-server")
	return st
}

func TestATimerThatIsSetANanosecondAheadIsNoProgress(t *testing.T) {
	for _, tt := range []struct {
		name string
		// overdue is by how much the timer was late each time it fired.
		overdue time.Duration
	}{
		{"fired in time", time.Nanosecond},
		// Measured from where it was it has moved by milliseconds, but it has fired just now.
		{"fired late", 5 * timerStep},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := established(t)
			for wakeup := 1; wakeup <= fastBudget+1; wakeup++ {
				st.after(time.Microsecond)
				if st.fires(-tt.overdue, time.Nanosecond, false) {
					return
				}
			}
			t.Errorf("never suspected: %+v", st.s.Account())
		})
	}
}

func TestATimerThatMovesAheadByAMillisecondIsProgress(t *testing.T) {
	st := established(t)
	for range 10 * slowBudget {
		st.after(slowBudgetOver / slowBudget)
		if st.fires(0, timerStep, true) {
			t.Fatal("suspected though the timer moves on each time")
		}
	}
	if a := st.s.Account(); a.Charged != 0 {
		t.Errorf("%d wakeups were charged, should be none", a.Charged)
	}
}

func TestAnEventThatNobodyTouchesIsCharged(t *testing.T) {
	st := established(t)
	for wakeup := 1; wakeup <= fastBudget; wakeup++ {
		st.after(time.Microsecond)
		st.s.Begin(CauseClientEvent, st.now)
		st.s.Advance(st.now)
		if suspect := st.s.Settle(st.now, false, true); suspect != (wakeup == fastBudget) {
			t.Fatalf("suspect is %t after %d untouched events", suspect, wakeup)
		}
	}
	// An event on which something was done is consumed, whatever came of it.
	st.s.Begin(CauseClientEvent, st.now)
	st.s.Advance(st.now)
	st.s.Settle(st.now, false, false)
	if a := st.s.Account(); a.Consecutive != 0 || a.Suspect {
		t.Errorf("%d wakeups are still charged after one that was consumed", a.Consecutive)
	}
}

func TestWakeupsThatLeaveTheStreamDueAreChargedUntilThereIsProgress(t *testing.T) {
	st := established(t)
	due := func() (suspect bool) {
		st.s.Begin(CauseMore, st.now)
		st.s.Advance(st.now)
		return st.s.Settle(st.now, true, false)
	}
	for range 50 {
		if due() {
			t.Fatal("suspected within a millisecond with fewer wakeups than the budget")
		}
	}
	if a := st.s.Account(); a.Consecutive != 50 || a.Cause != CauseMore {
		t.Fatalf("%d wakeups charged to %q, should be 50 to %q", a.Consecutive, a.Cause, CauseMore)
	}
	st.after(slowBudgetOver)
	if !due() {
		t.Fatal("not suspected after 51 wakeups without progress over 100 ms")
	}
	st.wake(CauseClientEvent, "read-client read-server write-server", func() { st.s.Read(Client, 1) })
	if a := st.s.Account(); a.Consecutive != 0 || a.Suspect {
		t.Fatal("progress did not clear the account")
	}
}
