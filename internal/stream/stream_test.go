package stream

import (
	"strings"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/ktime"
)

// smtp is the policy of the founding case: the server speaks first, redispatch and retries are on.
var smtp = Policy{
	Connect: time.Second, Client: time.Minute, Server: time.Minute, Tunnel: time.Hour, Retries: 3,
	Redispatch: -1,
}

// story drives one stream through a protocol story and fails the test at the first step that is not as told.
type story struct {
	t   *testing.T
	s   Stream
	now ktime.Time
}

func begin(t *testing.T, policy Policy, faults fault.Set) *story {
	t.Helper()
	st := &story{t: t, now: ktime.Time(100 * time.Second)}
	st.s = New(&policy, faults, st.now)
	return st
}

// wake begins a wakeup, lets the inputs happen, and checks what the stream then wants.
func (st *story) wake(cause Cause, want string, inputs ...func()) {
	st.t.Helper()
	st.s.Begin(cause, st.now)
	st.more(want, inputs...)
	st.s.Settle(st.now, false, false)
}

// more is a further Advance within a wakeup.
func (st *story) more(want string, inputs ...func()) {
	st.t.Helper()
	for _, in := range inputs {
		in()
	}
	if got := st.s.Advance(st.now).String(); got != want {
		st.t.Fatalf("wants %q, should want %q", got, want)
	}
	if st.s.faults == 0 {
		if err := st.s.Check(st.now); err != nil {
			st.t.Fatal(err)
		}
	}
}

func (st *story) after(d time.Duration) { st.now = st.now.Add(d) }

func (st *story) ended(ending string) {
	st.t.Helper()
	if !st.s.Ended() || st.s.Ending().String() != ending {
		st.t.Fatalf("ended %t with %s, should have ended with %s", st.s.Ended(), st.s.Ending(), ending)
	}
}

func (st *story) sides(client, server SideState) {
	st.t.Helper()
	if st.s.ClientState() != client || st.s.ServerState() != server {
		st.t.Fatalf("sides are %s and %s, should be %s and %s",
			st.s.ClientState(), st.s.ServerState(), client, server)
	}
}

// connect takes the story to an established stream.
func (st *story) connect() {
	st.t.Helper()
	st.wake(CauseAccepted, "read-client assign")
	st.more("read-client connect", func() { st.s.Assigned(true, false) })
	st.wake(CauseServerEvent, "read-client read-server", st.s.Connected)
	st.sides(Established, Established)
}

func TestServerSpeaksFirstAndClosesFirst(t *testing.T) {
	st := begin(t, smtp, 0)
	st.connect()
	st.wake(CauseServerEvent, "read-client read-server write-client", func() { st.s.Read(Server, 24) })
	st.more("read-client read-server", func() { st.s.Wrote(Client, 24) })
	st.wake(CauseServerEvent, "read-client shut-client", func() { st.s.EOF(Server) })
	st.wake(CauseClientEvent, "release-server close-client close-server log end", func() { st.s.EOF(Client) })
	st.ended("--")
}

func TestClientHalfClosesAndStillGetsTheAnswer(t *testing.T) {
	st := begin(t, smtp, 0)
	st.connect()
	st.wake(CauseClientEvent, "read-client read-server write-server", func() { st.s.Read(Client, 6) })
	st.wake(CauseClientEvent, "read-server write-server", func() { st.s.EOF(Client) })
	st.wake(CauseServerEvent, "read-server shut-server", func() { st.s.Wrote(Server, 6) })
	st.wake(CauseServerEvent, "read-server write-client", func() { st.s.Read(Server, 3) })
	st.wake(CauseServerEvent, "write-client release-server close-server", func() { st.s.EOF(Server) })
	st.wake(CauseClientEvent, "close-client log end", func() { st.s.Wrote(Client, 3) })
	st.ended("--")
}

// TestClientLeavesInTheMiddleOfARedispatch is the founding case: the client's end of file and the connect
// timeout are seen in the same wakeup, the request buffer is empty, and there is another server to go to.
func TestClientLeavesInTheMiddleOfARedispatch(t *testing.T) {
	st := begin(t, smtp, 0)
	st.wake(CauseAccepted, "read-client assign")
	st.more("read-client connect", func() { st.s.Assigned(true, false) })
	st.after(time.Second)
	st.wake(CauseTimerConnect, "release-server close-client close-server reset-server log end",
		func() { st.s.EOF(Client) })
	st.ended("CC")
}

// TestFoundingFaultMakesAnOrphan shows the same wakeup with the two weakened conditions.
func TestFoundingFaultMakesAnOrphan(t *testing.T) {
	st := begin(t, smtp, fault.RedispatchAfterAbort)
	st.wake(CauseAccepted, "read-client assign")
	st.more("read-client connect", func() { st.s.Assigned(true, false) })
	st.after(time.Second)
	st.s.Begin(CauseTimerConnect, st.now)
	st.more("assign release-server close-client close-server reset-server", func() { st.s.EOF(Client) })
	st.more("connect", func() { st.s.Assigned(true, true) })
	st.s.Settle(st.now, false, false)
	st.wake(CauseServerEvent, "nothing", st.s.Connected)
	st.sides(Closed, Established)
	if !st.s.Orphaned() {
		t.Fatal("the stream is not an orphan")
	}

	// The tunnel timeout was armed on directions that are already shut. When it passes nobody acts on it.
	st.after(time.Hour)
	for wakeup := 1; wakeup <= 2*fastBudget; wakeup++ {
		st.s.Begin(CauseTimerTunnel, st.now)
		st.more("nothing")
		suspect := st.s.Settle(st.now, false, false)
		if suspect != (wakeup == fastBudget) {
			t.Fatalf("suspect is %t after %d wakeups without progress", suspect, wakeup)
		}
		st.after(time.Microsecond)
	}
	deadline, timer := st.s.Deadline()
	if timer != TimerTunnel || !deadline.Passed(st.now) {
		t.Fatalf("the %s timer is at %v, it should be the tunnel timer and overdue", timer, deadline)
	}
	if err := st.s.Check(st.now); err == nil || !strings.Contains(err.Error(), "rule 2: the tunnel timer") {
		t.Fatalf("Check says %v", err)
	}

	// HAProxy ignored the operator's kill here. A kill order is total.
	st.s.Kill(KillAdmin)
	st.wake(CauseAdmin, "release-server close-server reset-server log end")
	st.ended("K-")
}

func TestFoundingFaultWithoutTunnelTimeoutIsAnIdleLeak(t *testing.T) {
	policy := smtp
	policy.Tunnel = 0
	st := begin(t, policy, fault.RedispatchAfterAbort)
	st.wake(CauseAccepted, "read-client assign")
	st.more("read-client connect", func() { st.s.Assigned(true, false) })
	st.after(time.Second)
	st.s.Begin(CauseTimerConnect, st.now)
	st.more("assign release-server close-client close-server reset-server", func() { st.s.EOF(Client) })
	st.more("connect", func() { st.s.Assigned(true, true) })
	st.wake(CauseServerEvent, "nothing", st.s.Connected)
	if deadline, _ := st.s.Deadline(); !st.s.Orphaned() || deadline.IsSet() {
		t.Fatalf("orphaned %t with deadline %v; should be orphaned without any", st.s.Orphaned(), deadline)
	}
}

// TestFoundingFaultNeedsTheSameWakeup: the fault does no harm when the client leaves at any other moment.
func TestFoundingFaultNeedsTheSameWakeup(t *testing.T) {
	t.Run("before the timeout", func(t *testing.T) {
		st := begin(t, smtp, fault.RedispatchAfterAbort)
		st.wake(CauseAccepted, "read-client assign")
		st.more("read-client connect", func() { st.s.Assigned(true, false) })
		st.wake(CauseClientEvent, "release-server close-client close-server reset-server log end",
			func() { st.s.EOF(Client) })
		st.ended("CC")
	})
	t.Run("while the second attempt is under way", func(t *testing.T) {
		st := begin(t, smtp, fault.RedispatchAfterAbort)
		st.wake(CauseAccepted, "read-client assign")
		st.more("read-client connect", func() { st.s.Assigned(true, false) })
		st.after(time.Second)
		st.wake(CauseTimerConnect, "read-client assign release-server close-server reset-server")
		st.more("read-client connect", func() { st.s.Assigned(true, true) })
		st.wake(CauseClientEvent, "release-server close-client close-server reset-server log end",
			func() { st.s.EOF(Client) })
		st.ended("CC")
	})
	t.Run("after the second server accepted", func(t *testing.T) {
		st := begin(t, smtp, fault.RedispatchAfterAbort)
		st.connect()
		st.wake(CauseClientEvent, "read-server shut-server", func() { st.s.EOF(Client) })
		st.wake(CauseServerEvent, "release-server close-client close-server log end",
			func() { st.s.EOF(Server) })
		st.ended("--")
	})
}

func TestConnectTimeoutRedispatchesAtOnceWhenThereIsAnotherServer(t *testing.T) {
	st := begin(t, smtp, 0)
	st.wake(CauseAccepted, "read-client assign")
	st.more("read-client connect", func() { st.s.Assigned(true, false) })
	st.after(time.Second)
	st.wake(CauseTimerConnect, "read-client assign release-server close-server reset-server")
	if !st.s.AvoidServer() {
		t.Fatal("the server that did not answer is not to be avoided")
	}
}

func TestConnectTimeoutRetriesTheOnlyServerWithoutPause(t *testing.T) {
	st := begin(t, smtp, 0)
	st.wake(CauseAccepted, "read-client assign")
	st.more("read-client connect", func() { st.s.Assigned(false, false) })
	for range smtp.Retries - 1 {
		st.after(time.Second)
		st.wake(CauseTimerConnect, "read-client connect close-server reset-server")
	}
	// The last retry may redispatch: the slot is given back and the server chosen anew.
	st.after(time.Second)
	st.wake(CauseTimerConnect, "read-client assign release-server close-server reset-server")
	st.more("read-client connect", func() { st.s.Assigned(false, false) })
	st.after(time.Second)
	st.wake(CauseTimerConnect, "release-server close-client close-server reset-server log end")
	st.ended("sC")
}

func TestRefusedConnectionPausesBeforeTheSameServer(t *testing.T) {
	policy := smtp
	policy.Redispatch = 0
	policy.Connect = 300 * time.Millisecond
	st := begin(t, policy, 0)
	st.wake(CauseAccepted, "read-client assign")
	st.more("read-client connect", func() { st.s.Assigned(true, false) })
	for range policy.Retries {
		st.wake(CauseServerEvent, "read-client close-server", func() { st.s.ConnectFailed(ConnectRefused) })
		if timer, deadline := st.s.SideTimer(); timer != TimerTurnAround ||
			deadline.Sub(st.now) != 300*time.Millisecond {
			t.Fatalf("%s timer in %v, should be turn-around in 300ms", timer, deadline.Sub(st.now))
		}
		st.after(300 * time.Millisecond)
		st.wake(CauseTimerTurn, "read-client connect")
	}
	st.wake(CauseServerEvent, "release-server close-client close-server log end",
		func() { st.s.ConnectFailed(ConnectRefused) })
	st.ended("SC")
	if st.s.Retries() != policy.Retries {
		t.Fatalf("%d retries, should be %d", st.s.Retries(), policy.Retries)
	}
}

func TestQueueTimeout(t *testing.T) {
	policy := smtp
	policy.Queue = 5 * time.Second
	st := begin(t, policy, 0)
	st.wake(CauseAccepted, "read-client assign")
	st.more("read-client", st.s.Enqueued)
	st.after(5 * time.Second)
	st.wake(CauseTimerQueue, "leave-queue close-client log end")
	st.ended("sQ")
}

// TestTimesOfTheLogAreThoseOfHAProxy: the time in the queue counts to the last assignment, or to the moment
// at which the place was given up; compared with HAProxy 2.6's log of the same sessions.
func TestTimesOfTheLogAreThoseOfHAProxy(t *testing.T) {
	t.Run("a redispatch after a silent server", func(t *testing.T) {
		st := begin(t, smtp, 0)
		st.wake(CauseAccepted, "read-client assign")
		st.more("read-client connect", func() { st.s.Assigned(true, false) })
		st.after(time.Second)
		st.wake(CauseTimerConnect, "read-client assign release-server close-server reset-server")
		st.more("read-client connect", func() { st.s.Assigned(true, true) })
		st.after(time.Millisecond)
		st.wake(CauseServerEvent, "read-client read-server", st.s.Connected)
		times := st.s.Times()
		w, c := times.Assigned.Sub(times.Accepted), times.Connected.Sub(times.Assigned)
		if w != time.Second || c != time.Millisecond {
			t.Errorf("waited %v and connected in %v, should be 1s and 1ms", w, c)
		}
	})
	t.Run("a place in the queue given up", func(t *testing.T) {
		st := begin(t, smtp, 0)
		st.wake(CauseAccepted, "read-client assign")
		st.more("read-client", st.s.Enqueued)
		st.after(300 * time.Millisecond)
		st.wake(CauseClientEvent, "leave-queue close-client log end", func() { st.s.EOF(Client) })
		times := st.s.Times()
		if w := times.Assigned.Sub(times.Accepted); w != 300*time.Millisecond || times.Connected.IsSet() {
			t.Errorf("waited %v, should be 300ms", w)
		}
	})
}

func TestClientLeavesTheQueue(t *testing.T) {
	st := begin(t, smtp, 0)
	st.wake(CauseAccepted, "read-client assign")
	st.more("read-client", st.s.Enqueued)
	st.wake(CauseClientEvent, "leave-queue close-client log end", func() { st.s.EOF(Client) })
	st.ended("CQ")
}

// TestAClientThatBreaksOffIsGoneDespiteUnsentBytes: what a client sent before its reset is of no use to a
// server that could never answer.
func TestAClientThatBreaksOffIsGoneDespiteUnsentBytes(t *testing.T) {
	t.Run("while connecting", func(t *testing.T) {
		st := begin(t, smtp, 0)
		st.wake(CauseAccepted, "read-client assign")
		st.more("read-client connect", func() { st.s.Assigned(true, false) })
		st.wake(CauseClientEvent, "read-client", func() { st.s.Read(Client, 5) })
		st.wake(CauseClientEvent,
			"release-server close-client close-server reset-server drop-request log end",
			func() { st.s.Broken(Client) })
		st.ended("CC")
	})
	t.Run("in the queue", func(t *testing.T) {
		st := begin(t, smtp, 0)
		st.wake(CauseAccepted, "read-client assign")
		st.more("read-client", st.s.Enqueued)
		st.wake(CauseClientEvent, "leave-queue close-client drop-request log end",
			func() { st.s.Read(Client, 5) }, func() { st.s.Broken(Client) })
		st.ended("CQ")
	})
	t.Run("before another attempt", func(t *testing.T) {
		st := begin(t, smtp, 0)
		st.wake(CauseAccepted, "read-client assign")
		st.more("read-client connect", func() { st.s.Assigned(false, false) })
		st.wake(CauseServerEvent, "read-client close-server", func() { st.s.ConnectFailed(ConnectRefused) })
		st.wake(CauseClientEvent, "release-server close-client drop-request log end",
			func() { st.s.Read(Client, 5) }, func() { st.s.Broken(Client) })
		st.ended("CC")
	})
}

func TestAbortOnCloseGivesUpDespiteUnsentBytes(t *testing.T) {
	for _, abort := range []bool{false, true} {
		policy := smtp
		policy.AbortOnClose = abort
		st := begin(t, policy, 0)
		st.wake(CauseAccepted, "read-client assign")
		st.more("read-client connect", func() { st.s.Assigned(true, false) })
		st.wake(CauseClientEvent, "read-client", func() { st.s.Read(Client, 5) })
		if abort {
			st.wake(CauseClientEvent,
				"release-server close-client close-server reset-server drop-request log end",
				func() { st.s.EOF(Client) })
			st.ended("CC")
			continue
		}
		st.wake(CauseClientEvent, "nothing", func() { st.s.EOF(Client) })
		st.sides(Established, Connecting)
	}
}

func TestClientTimeoutEndsASilentStream(t *testing.T) {
	policy := smtp
	policy.Tunnel = 0
	st := begin(t, policy, 0)
	st.connect()
	st.after(time.Minute)
	// Both sides have been silent for a minute; the client is blamed, as in HAProxy. The server has not said
	// that it is done, so it also gets a reset.
	st.wake(CauseTimerClient, "release-server shut-server close-client close-server reset-server log end")
	st.ended("cD")
}

// impatient has a client timeout that passes while a server is still being reached.
var impatient = Policy{Connect: 2 * time.Second, Client: time.Second, Server: time.Minute, Retries: 1}

// TestAClientTimeoutDoesNotEndTheAttempts: the codes are those of HAProxy 2.6 in the same four cases.
func TestAClientTimeoutDoesNotEndTheAttempts(t *testing.T) {
	connecting := func(t *testing.T) *story {
		st := begin(t, impatient, 0)
		st.wake(CauseAccepted, "read-client assign")
		st.more("read-client connect", func() { st.s.Assigned(false, false) })
		return st
	}
	t.Run("a silent client, and no server answers", func(t *testing.T) {
		st := connecting(t)
		st.after(time.Second)
		st.wake(CauseTimerClient, "read-client")
		st.after(time.Second)
		st.wake(CauseTimerConnect, "read-client connect close-server reset-server")
		st.after(2 * time.Second)
		st.wake(CauseTimerConnect, "release-server close-client close-server reset-server log end")
		st.ended("cC")
	})
	t.Run("a client that has sent, and no server answers", func(t *testing.T) {
		st := connecting(t)
		st.wake(CauseClientEvent, "read-client", func() { st.s.Read(Client, 5) })
		if deadline, timer := st.s.Deadline(); timer != TimerConnect {
			t.Fatalf("the %s timer is armed for %v", timer, deadline.Sub(st.now))
		}
		st.after(2 * time.Second)
		st.wake(CauseTimerConnect, "read-client connect close-server reset-server")
		st.after(2 * time.Second)
		st.wake(CauseTimerConnect,
			"release-server close-client close-server reset-server drop-request log end")
		st.ended("sC")
	})
	t.Run("a silent client, and the server answers late", func(t *testing.T) {
		st := connecting(t)
		st.after(time.Second)
		st.wake(CauseTimerClient, "read-client")
		st.after(time.Second / 2)
		st.wake(CauseServerEvent, "read-server shut-server", st.s.Connected)
		st.wake(CauseServerEvent, "read-server write-client", func() { st.s.Read(Server, 8) })
		st.more("read-server", func() { st.s.Wrote(Client, 8) })
		st.wake(CauseServerEvent, "release-server close-client close-server log end",
			func() { st.s.EOF(Server) })
		st.ended("cC")
	})
	t.Run("a client that has sent, and the server answers late", func(t *testing.T) {
		st := connecting(t)
		st.wake(CauseClientEvent, "read-client", func() { st.s.Read(Client, 5) })
		st.after(3 * time.Second / 2)
		st.wake(CauseServerEvent, "read-client read-server write-server", st.s.Connected)
		st.more("read-client read-server", func() { st.s.Wrote(Server, 5) })
		st.after(time.Second)
		st.wake(CauseTimerClient, "read-server shut-server")
		st.wake(CauseServerEvent, "release-server close-client close-server log end",
			func() { st.s.EOF(Server) })
		st.ended("cD")
	})
	t.Run("a client that speaks after all", func(t *testing.T) {
		st := connecting(t)
		st.after(time.Second)
		st.wake(CauseTimerClient, "read-client")
		st.wake(CauseClientEvent, "read-client", func() { st.s.Read(Client, 5) })
		st.wake(CauseServerEvent, "read-client read-server write-server", st.s.Connected)
		if got := st.s.Ending().String(); got != "--" {
			t.Errorf("blamed with %s, should be --", got)
		}
	})
}

func TestWritingToAClientIsASignOfLife(t *testing.T) {
	policy := smtp
	policy.Tunnel, policy.Server = 0, 0
	st := begin(t, policy, 0)
	st.connect()
	st.after(50 * time.Second)
	st.wake(CauseServerEvent, "read-client read-server write-client", func() { st.s.Read(Server, 1) })
	st.more("read-client read-server", func() { st.s.Wrote(Client, 1) })
	if deadline, timer := st.s.Deadline(); timer != TimerClient || deadline.Sub(st.now) != time.Minute {
		t.Fatalf("%s timer in %v, should be client in 1m0s", timer, deadline.Sub(st.now))
	}
}

func TestClientThatDoesNotReadTimesOut(t *testing.T) {
	policy := smtp
	policy.Tunnel, policy.Server = 0, 0
	st := begin(t, policy, 0)
	st.connect()
	st.s.SetFull(false, true)
	st.wake(CauseServerEvent, "read-client write-client", func() { st.s.Read(Server, 100) })
	st.after(time.Minute)
	st.wake(CauseTimerClient,
		"release-server close-client close-server reset-client reset-server drop-response log end")
	st.ended("cD")
}

func TestClientResetReachesTheServer(t *testing.T) {
	st := begin(t, smtp, 0)
	st.connect()
	st.wake(CauseClientEvent, "release-server close-client close-server reset-server log end",
		func() { st.s.Broken(Client) })
	st.ended("CD")
}

func TestServerResetStillDeliversWhatItSent(t *testing.T) {
	st := begin(t, smtp, 0)
	st.connect()
	st.wake(CauseServerEvent, "write-client release-server close-server",
		func() { st.s.Read(Server, 10) }, func() { st.s.Broken(Server) })
	st.wake(CauseClientEvent, "close-client log end", func() { st.s.Wrote(Client, 10) })
	st.ended("SD")
}

func TestServerThatNoLongerReadsMayStillAnswer(t *testing.T) {
	st := begin(t, smtp, 0)
	st.connect()
	st.wake(CauseClientEvent, "read-client read-server write-server", func() { st.s.Read(Client, 10) })
	st.more("read-server drop-request", func() { st.s.WriteFailed(Server) })
	st.wake(CauseServerEvent, "read-server write-client", func() { st.s.Read(Server, 3) })
	st.wake(CauseServerEvent, "write-client release-server close-server", func() { st.s.EOF(Server) })
	st.wake(CauseClientEvent, "close-client log end", func() { st.s.Wrote(Client, 3) })
	st.ended("SD")
}

// TestAHalfClosedSideWithoutAFinTimeoutKeepsItsDeadline: the end of one direction is no sign of life in the
// other.
func TestAHalfClosedSideWithoutAFinTimeoutKeepsItsDeadline(t *testing.T) {
	policy := smtp
	policy.Tunnel, policy.Client = 0, 0
	st := begin(t, policy, 0)
	st.connect()
	st.after(50 * time.Second)
	st.wake(CauseClientEvent, "read-server shut-server", func() { st.s.EOF(Client) })
	if deadline, timer := st.s.Deadline(); timer != TimerServer || deadline.Sub(st.now) != 10*time.Second {
		t.Fatalf("%s timer in %v, should be server in 10s", timer, deadline.Sub(st.now))
	}
}

func TestHalfClosedSidesHaveTheirFinTimeouts(t *testing.T) {
	policy := smtp
	policy.ServerFin, policy.ClientFin = 7*time.Second, 9*time.Second
	st := begin(t, policy, 0)
	st.connect()
	st.wake(CauseClientEvent, "read-server shut-server", func() { st.s.EOF(Client) })
	if deadline, timer := st.s.Deadline(); timer != TimerServerFin || deadline.Sub(st.now) != 7*time.Second {
		t.Fatalf("%s timer in %v, should be server-fin in 7s", timer, deadline.Sub(st.now))
	}
	st.after(7 * time.Second)
	st.wake(CauseTimerServerFin, "release-server close-client close-server reset-server log end")
	st.ended("sD")
}
