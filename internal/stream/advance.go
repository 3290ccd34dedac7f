package stream

import (
	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/ktime"
)

// maxSteps bounds the steps of one Advance. Every step raises a state or shuts an end, except a retry, and
// those are counted down; the longest path has fewer than 12 steps.
const maxSteps = 32

// Advance takes in what was recorded since the last call, moves the stream on as far as it goes at now, and
// returns what it wants. The orders among the wants must be carried out, and answered where that is said,
// before the next call.
func (s *Stream) Advance(now ktime.Time) Want {
	s.wants = 0
	if s.ended {
		return 0
	}
	if s.take(inKilled) {
		s.die(now)
		return s.finish(now)
	}
	s.noteTraffic(now)
	s.noteBreaks(now)
	s.checkTimers(now)
	for n := 0; s.step(now); n++ {
		if n == maxSteps {
			panic("BUG: stream does not settle")
		}
	}
	return s.finish(now)
}

// take reports whether the input was recorded, and consumes it.
func (s *Stream) take(in input) bool {
	had := s.inputs&in != 0
	s.inputs &^= in
	return had
}

// step moves the stream by one transition and reports whether there may be another. The server side goes
// first, so that a shutdown that arrives together with a failed attempt meets the state after the failure.
func (s *Stream) step(now ktime.Time) bool {
	if s.stepServer(now) {
		return true
	}
	changed := s.forward(&s.request, &s.client, &s.server, now)
	return s.forward(&s.response, &s.server, &s.client, now) || changed
}

// stepServer moves the server side by one transition and reports whether it did.
func (s *Stream) stepServer(now ktime.Time) bool {
	switch s.server.state {
	case Initial:
		if s.take(inRefused) {
			s.refuse()
			return true
		}
		if s.client.handshake {
			return s.stepHandshake(now)
		}
		s.setServer(Request)
		return true
	case Request:
		return s.stepRequest(now)
	case Queued:
		return s.stepQueued(now)
	case TurnAround:
		return s.stepTurnAround(now)
	case Assigned:
		return s.stepAssigned(now)
	case Connecting:
		return s.stepConnecting(now)
	case Failed:
		s.retry(now)
		return true
	case Established, Closed:
		return false
	}
	panic("BUG: server state out of range")
}

func (s *Stream) stepRequest(now ktime.Time) bool {
	switch {
	case s.take(inAssigned):
		s.assign(now)
	case s.clientGone():
		s.giveUp('C', now)
	case s.take(inEnqueued):
		s.setServer(Queued)
		s.arm(TimerQueue, s.queueTimeout(), now)
	case s.take(inNoServer):
		s.giveUp('S', now)
	default:
		s.wants |= Assign
		return false
	}
	return true
}

func (s *Stream) stepQueued(now ktime.Time) bool {
	switch {
	case s.take(inAssigned):
		s.assign(now)
	case s.clientGone():
		s.giveUp('C', now)
	case s.expired(now):
		s.giveUp('s', now)
	default:
		return false
	}
	return true
}

func (s *Stream) stepTurnAround(now ktime.Time) bool {
	switch {
	case s.clientGone():
		s.giveUp('C', now)
	case s.expired(now):
		s.nextAttempt()
	default:
		return false
	}
	return true
}

func (s *Stream) stepAssigned(now ktime.Time) bool {
	if s.clientGone() {
		s.giveUp('C', now)
		return true
	}
	s.setServer(Connecting)
	s.ledger.repeats = s.ledger.repeats || s.rank() <= s.ledger.maxRank
	s.arm(TimerConnect, s.policy.Connect, now)
	s.wants |= Connect
	return false
}

func (s *Stream) stepConnecting(now ktime.Time) bool {
	switch {
	case s.take(inConnected):
		s.establish(now)
	case s.take(inConnectFailed):
		s.wants |= CloseServer
		s.setServer(Failed)
	case s.clientGone():
		s.giveUp('C', now)
	case s.expired(now):
		s.wants |= CloseServer | ResetServer
		s.connectErr = connectTimeout
		s.setServer(Failed)
	default:
		return false
	}
	return true
}

// connectTimeout is the ConnectError of an attempt that the peer never answered. Only the stream itself
// decides it.
const connectTimeout ConnectError = 0xff

// clientGone reports whether an attempt to reach a server is pointless: the client's side is closed (which,
// while no server is reached, is the one reason for the response's end towards it to be shut), or the client
// has shut its direction and nothing is left that a server would have to get. A shutdown is first pending
// and, once the request buffer is empty, completed: both count. In protocols where the server speaks first
// the buffer is always empty, and the shutdown completes in the very step in which it is seen.
func (s *Stream) clientGone() bool {
	out := s.request.out.state
	if s.faults.Has(faultRedispatch) {
		return out == Pending && (s.request.buffered == 0 || s.policy.AbortOnClose)
	}
	return s.response.out.state == Shut ||
		out != Open && (s.request.buffered == 0 || s.policy.AbortOnClose)
}

// assign takes the server that the engine chose.
func (s *Stream) assign(now ktime.Time) {
	s.times.Assigned = now
	s.avoid = false
	s.setServer(Assigned)
}

// retry decides what follows a failed attempt: another one, here or elsewhere, or the end.
func (s *Stream) retry(now ktime.Time) {
	timedOut := s.connectErr == connectTimeout
	if s.retriesLeft == 0 {
		s.giveUp(s.connectBlame(), now)
		return
	}
	atOnce := s.faults.Has(fault.RetriesAtOnce)
	if !atOnce {
		s.retriesLeft--
	}
	elsewhere := s.mayRedispatch()
	if elsewhere {
		s.releaseSlot()
		s.avoid = true
	}
	// A server that refused is given a pause before it is tried again; one that did not answer has had its
	// pause.
	if s.slow || !timedOut && !(elsewhere && s.others) && !atOnce {
		s.setServer(TurnAround)
		s.arm(TimerTurnAround, s.turnAround(), now)
		return
	}
	s.nextAttempt()
}

// nextAttempt goes on to the server that is still assigned, or to wanting one.
func (s *Stream) nextAttempt() {
	if s.slot {
		s.setServer(Assigned)
		return
	}
	s.setServer(Request)
}

// connectBlame is the first character of the termination state when the last attempt failed.
func (s *Stream) connectBlame() byte {
	switch s.connectErr {
	case connectTimeout:
		return 's'
	case ConnectRefused:
		return 'S'
	case ConnectResource:
		return 'R'
	case ConnectInternal:
		return 'I'
	}
	panic("BUG: connect error out of range")
}

// mayRedispatch reports whether the attempt after a failure may choose its server anew: at once when there
// is another active server, since nothing binds the stream to the one that failed; otherwise at the retries
// that the configuration names.
func (s *Stream) mayRedispatch() bool {
	interval := s.policy.Redispatch
	if interval == 0 {
		return false
	}
	if s.others {
		return true
	}
	if interval > 0 {
		return s.Retries()%interval == 0
	}
	return s.retriesLeft == -interval-1
}

// establish takes the connection that has come about.
func (s *Stream) establish(now ktime.Time) {
	if s.silent {
		s.endBy('c')
		s.shutRead(&s.client, now)
	}
	s.setServer(Established)
	s.times.Connected = now
	s.response.in.timer, s.response.in.timeout = TimerServer, s.policy.Server
	s.request.out.timer, s.request.out.timeout = TimerServer, s.policy.Server
	s.enterTunnel(now)
}

// giveUp ends a stream that has no server connection and will not get one. Both ends towards the client are
// shut, too: there is nobody to talk to.
func (s *Stream) giveUp(by byte, now ktime.Time) {
	if s.silent {
		by = 'c'
	}
	s.endBy(by)
	s.wants &^= Assign | Connect
	s.leaveQueue(now)
	if s.server.state == Connecting {
		s.wants |= CloseServer | ResetServer
	}
	s.closeServer()
	s.shutRead(&s.client, now)
	s.shutWrite(&s.client, now)
}

// leaveQueue asks to be taken out of the queue if the stream is in it, which the engine may have said since
// the last Advance.
func (s *Stream) leaveQueue(now ktime.Time) {
	if s.take(inEnqueued) || s.server.state == Queued {
		s.times.Assigned = now
		s.wants |= LeaveQueue
	}
}

// forward carries the ends of a channel's life from its producer to its consumer and back.
func (s *Stream) forward(c *channel, producer, consumer *side, now ktime.Time) bool {
	changed := false
	if c.in.state == Shut && c.out.state == Open {
		c.out.state = Pending
		changed = true
	}
	if c.out.state == Pending && c.buffered == 0 {
		s.shutWrite(consumer, now)
		changed = true
	}
	if c.out.state == Shut {
		if c.in.state != Shut {
			// Nobody takes the bytes any more, so nobody needs to send them.
			s.shutRead(producer, now)
			changed = true
		}
		if c.buffered > 0 {
			c.buffered = 0
			s.drop(c)
		}
	}
	return changed
}

func (s *Stream) drop(c *channel) {
	if c == &s.request {
		s.wants |= DropRequest
		return
	}
	s.wants |= DropResponse
}

// die carries out a kill order. It asks for no state: whatever the stream was doing, both sides are closed.
func (s *Stream) die(now ktime.Time) {
	by := byte('K')
	if s.killer == KillSpin {
		by = 'I'
	}
	s.endBy(by)
	// What is cut off must not look complete to a peer that can tell.
	cut := [2]bool{s.request.in.state != Shut, s.response.in.state != Shut}
	if s.killer == KillAdmin && s.times.Connected.IsSet() && s.ending.By == by {
		s.ending.During = noPhase
	}
	s.leaveQueue(now)
	switch s.server.state {
	case Connecting:
		s.wants |= CloseServer | ResetServer
	case Established:
		s.wants |= s.breakServer()
	default:
	}
	s.closeServer()
	if s.client.state != Closed {
		s.closeClient()
	}
	for i, c := range []*channel{&s.request, &s.response} {
		c.failed = c.failed || cut[i]
		if c.buffered > 0 {
			c.buffered = 0
			s.drop(c)
		}
	}
}

// finish completes an Advance: what is open is armed and wanted, and a stream with two closed sides ends.
func (s *Stream) finish(now ktime.Time) Want {
	if s.client.state == Closed && s.server.state == Closed {
		s.ended = true
		s.times.Ended = now
		s.wants |= Log | End
	} else {
		s.rearm(now)
		s.wantTraffic()
	}
	s.ledger.note(s, now)
	return s.wants
}

// wantTraffic sets the wants that hold until the next Advance.
func (s *Stream) wantTraffic() {
	if s.request.in.state == Open && !s.request.full && !s.client.handshake {
		s.wants |= ReadClient
	}
	if s.response.buffered > 0 && s.response.out.state != Shut {
		s.wants |= WriteClient
	}
	if s.server.state != Established {
		return
	}
	if s.response.in.state == Open && !s.response.full {
		s.wants |= ReadServer
	}
	if s.request.buffered > 0 && s.request.out.state != Shut {
		s.wants |= WriteServer
	}
}
