package stream

import (
	"strings"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/fault"
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

func TestATimerThatHasNotPassedIsNoCause(t *testing.T) {
	st := established(t)
	for wakeup := 1; wakeup <= fastBudget; wakeup++ {
		st.after(time.Microsecond)
		if suspect := st.fires(time.Minute, time.Minute, false); suspect != (wakeup == fastBudget) {
			t.Fatalf("suspect is %t after %d wakeups by a timer that has not passed", suspect, wakeup)
		}
	}
	if err := st.s.Check(st.now); err == nil || !strings.Contains(err.Error(), "rule 1") {
		t.Errorf("the rules are %v, should be a broken rule 1", err)
	}
}

// TestAnAttemptThatIsNotCountedIsCharged: each attempt sets the connect timer anew and each failure is an
// event of its own, so only the count of attempts tells a storm from progress.
func TestAnAttemptThatIsNotCountedIsCharged(t *testing.T) {
	for _, tt := range []struct {
		faults  fault.Set
		charged uint64
	}{{0, 0}, {fault.RetriesAtOnce, slowBudget}} {
		st := begin(t, Policy{Retries: 2 * slowBudget, Connect: time.Minute}, tt.faults)
		attempt := func(cause Cause, inputs ...func()) {
			st.s.Begin(cause, st.now)
			for _, input := range inputs {
				input()
			}
			st.s.Advance(st.now)
		}
		attempt(CauseAccepted)
		attempt(CauseMore, func() { st.s.Assigned(false, false) })
		suspect := false
		for range slowBudget {
			st.after(maxTurnAround)
			attempt(CauseServerEvent, func() { st.s.ConnectFailed(ConnectRefused) })
			if st.s.ServerState() == TurnAround {
				st.s.Settle(st.now, false, false)
				st.after(maxTurnAround)
				attempt(CauseTimerTurn)
			}
			if st.s.ServerState() != Connecting {
				t.Fatalf("the server's side is %v, should try again", st.s.ServerState())
			}
			suspect = st.s.Settle(st.now, false, false) || suspect
		}
		if a := st.s.Account(); a.Charged != tt.charged || suspect != (tt.charged > 0) {
			t.Errorf("faults %v: %d wakeups are charged and suspect is %t", tt.faults, a.Charged, suspect)
		}
	}
}

// TestWhatAKillCutsOffIsNotComplete: whoever can tell the other side that it got everything, as TLS can, must
// not. What had come to its end before has.
func TestWhatAKillCutsOffIsNotComplete(t *testing.T) {
	for _, ended := range []bool{false, true} {
		st := established(t)
		if ended {
			st.s.EOF(Server)
		}
		st.s.Begin(CauseServerEvent, st.now)
		st.s.Advance(st.now)
		st.s.Settle(st.now, true, true)
		st.s.Kill(KillAdmin)
		st.s.Begin(CauseAdmin, st.now)
		st.s.Advance(st.now)
		if st.s.Failed(Server) == ended || !st.s.Failed(Client) {
			t.Errorf("the server had ended: %v; cut off are the server's bytes: %v, the client's: %v", ended,
				st.s.Failed(Server), st.s.Failed(Client))
		}
	}
}
