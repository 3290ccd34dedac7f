package stream

import (
	"testing"
	"time"
)

// secured begins a stream whose client has a handshake to go through.
func secured(t *testing.T, policy Policy) *story {
	t.Helper()
	st := begin(t, policy, 0)
	st.s.BeginHandshake(Client, st.now)
	st.wake(CauseAccepted, "nothing")
	st.sides(Established, Initial)
	return st
}

func TestNothingBeginsBeforeTheClientsHandshake(t *testing.T) {
	st := secured(t, smtp)
	st.wake(CauseClientEvent, "nothing")
	st.after(time.Second)
	st.wake(CauseClientEvent, "read-client assign", st.s.Handshaken)
	st.more("read-client connect", func() { st.s.Assigned(true, false) })
	if st.s.Handshaking(Client) {
		t.Error("the handshake is complete and still under way")
	}
	if deadline, timer := st.s.Deadline(); timer != TimerConnect {
		t.Errorf("the next timer is %v at %v", timer, deadline)
	}
}

// TestTheHandshakeHasItsTimeout: bytes do not put it off, as they would put off the client's timeout.
func TestTheHandshakeHasItsTimeout(t *testing.T) {
	policy := smtp
	policy.ClientHandshake = 5 * time.Second
	for _, p := range []Policy{policy, smtp} {
		want := p.ClientHandshake
		if want == 0 {
			want = p.Client
		}
		st := secured(t, p)
		deadline, timer := st.s.Deadline()
		if deadline != st.now.Add(want) || timer != TimerClientHandshake {
			t.Errorf("the timer is %v, in %v, should be in %v", timer, deadline.Sub(st.now), want)
		}
		st.after(want - time.Second)
		st.wake(CauseClientEvent, "nothing")
		st.after(time.Second)
		st.wake(CauseTimerHandshake, "close-client log end")
		st.ended("cR")
	}
}

func TestTheHandshakeFails(t *testing.T) {
	st := secured(t, smtp)
	st.wake(CauseClientEvent, "close-client log end", st.s.HandshakeFailed)
	st.ended("CR")
}

func TestAKillOrderEndsAHandshake(t *testing.T) {
	st := secured(t, smtp)
	st.wake(CauseAdmin, "close-client log end", func() { st.s.Kill(KillAdmin) })
	st.ended("KR")
}

// TestTheHandshakeWithAServerIsPartOfConnecting: of its timeout, and of its retries.
func TestTheHandshakeWithAServerIsPartOfConnecting(t *testing.T) {
	st := begin(t, smtp, 0)
	st.wake(CauseAccepted, "read-client assign")
	st.more("read-client connect", func() { st.s.Assigned(false, false) })
	st.after(time.Second / 2)
	st.wake(CauseServerEvent, "read-client", func() { st.s.BeginHandshake(Server, st.now) })
	if !st.s.Handshaking(Server) || !st.s.ledger.progress {
		t.Errorf("under way: %t, progress: %t", st.s.Handshaking(Server), st.s.ledger.progress)
	}
	deadline, timer := st.s.Deadline()
	if deadline != st.now.Add(time.Second/2) || timer != TimerConnect {
		t.Errorf("the timer is %v, in %v: the handshake has begun it anew", timer, deadline.Sub(st.now))
	}
	st.wake(CauseServerEvent, "read-client close-server", func() { st.s.ConnectFailed(ConnectRefused) })
	st.sides(Established, TurnAround)
	st.after(time.Second)
	st.wake(CauseTimerTurn, "read-client connect")
	if st.s.Handshaking(Server) {
		t.Error("the next attempt begins within a handshake")
	}
	st.wake(CauseServerEvent, "read-client", func() { st.s.BeginHandshake(Server, st.now) })
	st.after(time.Second)
	st.wake(CauseTimerConnect, "read-client connect close-server reset-server")
	st.wake(CauseServerEvent, "read-client", func() { st.s.BeginHandshake(Server, st.now) })
	st.wake(CauseServerEvent, "read-client read-server", st.s.Connected)
	if st.s.Handshaking(Server) {
		t.Error("the server is reached within a handshake")
	}
}
