package stream

import (
	"time"

	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/ktime"
)

const faultRedispatch = fault.RedispatchAfterAbort

// armed returns the moment d after now, or Never when d is 0: not set.
func armed(d time.Duration, now ktime.Time) ktime.Time {
	if d == 0 {
		return ktime.Never
	}
	return now.Add(d)
}

// arm starts the server side's own timer.
func (s *Stream) arm(timer Timer, d time.Duration, now ktime.Time) {
	s.server.timer, s.server.deadline = timer, armed(d, now)
}

// expired reports whether the server side's own timer has run out.
func (s *Stream) expired(now ktime.Time) bool { return s.server.deadline.Passed(now) }

// queueTimeout is "timeout queue", and "timeout connect" when that is not set.
func (s *Stream) queueTimeout() time.Duration {
	if s.policy.Queue == 0 {
		return s.policy.Connect
	}
	return s.policy.Queue
}

// turnAround is the pause before the next attempt on the same server.
func (s *Stream) turnAround() time.Duration {
	if s.policy.Connect == 0 {
		return maxTurnAround
	}
	return min(maxTurnAround, s.policy.Connect)
}

// restart starts an end's timer anew.
func (e *end) restart(now ktime.Time) { e.deadline = armed(e.timeout, now) }

// set gives an end another timeout and starts it.
func (e *end) set(timer Timer, d time.Duration, now ktime.Time) {
	e.timer, e.timeout = timer, d
	e.restart(now)
}

// noteTraffic restarts the timers of the ends on which bytes moved. Writing to a peer that reads is a sign
// of life, so it also restarts the timer of reading from it.
func (s *Stream) noteTraffic(now ktime.Time) {
	if s.inputs&inTraffic == 0 {
		return
	}
	if s.take(inClientRead) {
		s.ledger.moved = true
		s.silent = false
		s.request.in.touch(now)
	}
	if s.take(inServerRead) {
		s.ledger.moved = true
		s.response.in.touch(now)
	}
	if s.take(inClientWrote) {
		s.ledger.moved = true
		s.response.out.touch(now)
		s.request.in.touch(now)
	}
	if s.take(inServerWrote) {
		s.ledger.moved = true
		s.request.out.touch(now)
		s.response.in.touch(now)
	}
}

// touch restarts the timer of an end that is not shut.
func (e *end) touch(now ktime.Time) {
	if e.state != Shut {
		e.restart(now)
	}
}

// enterTunnel replaces the timeouts of both sides, now that both are connected and nothing looks at the
// bytes. Every end of a connected side starts anew with its new timeout, whatever the old one had left: a
// deadline is only a promise to look, and checkTimers looks at all of them.
func (s *Stream) enterTunnel(now ktime.Time) {
	if d := s.policy.Tunnel; d > 0 {
		for _, of := range []*side{&s.client, &s.server} {
			if of.state == Established {
				in, out := s.ends(of)
				in.set(TimerTunnel, d, now)
				out.set(TimerTunnel, d, now)
			}
		}
	}
	// A channel that was shut before the connection came about leaves its sides half-closed from the start.
	if d := s.policy.ServerFin; d > 0 && s.server.state == Established {
		if s.request.out.state == Shut {
			s.response.in.set(TimerServerFin, d, now)
		}
		if s.response.in.state == Shut {
			s.request.out.set(TimerServerFin, d, now)
		}
	}
	if d := s.policy.ClientFin; d > 0 && s.client.state == Established && s.request.in.state == Shut {
		s.response.out.set(TimerClientFin, d, now)
	}
}

// armFin gives the peer of a half-closed connection its fin timeout to close the other half; without one
// its timeout goes on as it was.
func (s *Stream) armFin(of *side, in *end, now ktime.Time) {
	timer, d := TimerClientFin, s.policy.ClientFin
	if of == &s.server {
		timer, d = TimerServerFin, s.policy.ServerFin
	}
	if d > 0 {
		in.set(timer, d, now)
	}
}

// checkTimers acts on every end whose deadline has passed.
func (s *Stream) checkTimers(now ktime.Time) {
	if s.timedOut(&s.request.in, now) {
		if s.server.state.connecting() {
			s.silent = true
		} else {
			s.endBy('c')
			s.shutRead(&s.client, now)
		}
	}
	if s.timedOut(&s.response.in, now) {
		s.endBy('s')
		s.shutRead(&s.server, now)
	}
	if s.timedOut(&s.response.out, now) && s.response.buffered > 0 {
		s.endBy('c')
		s.wants |= ResetClient
		s.close(&s.client)
	}
	if s.timedOut(&s.request.out, now) && s.request.buffered > 0 {
		s.endBy('s')
		s.wants |= ResetServer
		s.close(&s.server)
	}
}

// timedOut reports whether an end is open and its deadline has passed. A deadline that has passed is
// disarmed whatever the state of the end: one that stays in the past would wake the stream for ever.
func (s *Stream) timedOut(e *end, now ktime.Time) bool {
	if s.faults.Has(faultRedispatch) && e.state == Shut {
		return false
	}
	if !e.deadline.Passed(now) {
		return false
	}
	e.deadline = ktime.Never
	return e.state != Shut
}

// rearm makes the timers of open ends agree with what is waited for: a peer that we do not read from, or
// that we have nothing for, is not late. Nor is a client whose bytes still wait for a server to be reached.
func (s *Stream) rearm(now ktime.Time) {
	waits := s.server.state.connecting() && (s.request.buffered > 0 || s.silent)
	s.request.in.wait(!s.request.full && !waits && !s.client.handshake, now)
	s.response.out.wait(s.response.buffered > 0, now)
	if s.server.state == Established {
		s.response.in.wait(!s.response.full, now)
		s.request.out.wait(s.request.buffered > 0, now)
	}
}

// wait arms the timer of an end that waits for its peer and disarms that of an end that does not.
func (e *end) wait(waiting bool, now ktime.Time) {
	switch {
	case e.state == Shut:
	case !waiting:
		e.deadline = ktime.Never
	case !e.deadline.IsSet():
		e.restart(now)
	}
}

// Deadline returns the stream's nearest deadline and the timer it belongs to.
func (s *Stream) Deadline() (ktime.Time, Timer) {
	deadline, timer := s.server.deadline, s.server.timer
	if s.client.deadline < deadline {
		deadline, timer = s.client.deadline, s.client.timer
	}
	for _, e := range [...]*end{&s.request.in, &s.request.out, &s.response.in, &s.response.out} {
		if e.deadline < deadline {
			deadline, timer = e.deadline, e.timer
		}
	}
	if !deadline.IsSet() {
		timer = TimerNone
	}
	return deadline, timer
}
