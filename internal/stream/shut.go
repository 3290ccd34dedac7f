package stream

import (
	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/ktime"
)

// ends returns the two ends of a side: where it is read from and where it is written to, with their channels.
func (s *Stream) ends(of *side) (in, out *end) {
	if of == &s.client {
		return &s.request.in, &s.response.out
	}
	return &s.response.in, &s.request.out
}

// shut marks an end as shut and disarms it.
func (e *end) shut() {
	e.state = Shut
	e.deadline = ktime.Never
}

// shutRead stops reading from a side. The connection stays for what is still to be written, and is closed
// when nothing is.
func (s *Stream) shutRead(of *side, now ktime.Time) {
	in, out := s.ends(of)
	if in.state == Shut {
		return
	}
	in.shut()
	if of.state == Established && out.state == Shut {
		s.close(of)
	}
}

// shutWrite tells a side that nothing more will come. An established connection is half-closed, and the
// peer has the fin timeout to close its half; when that was shut before, the connection is closed.
//
// A side that is still on the way to a connection, from the queue to the connect itself, is given up. A
// side between two attempts (Request, Assigned) has nothing to give up: only its ends are marked, and
// whoever takes it out of that state asks clientGone first.
func (s *Stream) shutWrite(of *side, now ktime.Time) {
	in, out := s.ends(of)
	if out.state == Shut {
		return
	}
	switch of.state {
	case Established:
		switch {
		case in.state == Shut || s.broken(of):
			orderly := !s.broken(of)
			s.close(of)
			if orderly && s.wants.Has(ResetServer) && of == &s.server {
				s.wants |= ShutServer // the request itself ended in order
			}
		default:
			out.shut()
			s.wantShut(of)
			s.armFin(of, in, now)
		}
		return
	case Queued, TurnAround, Connecting, Failed:
		s.giveUp('C', now)
	case Initial, Request, Assigned, Closed:
	}
	out.shut()
	in.shut()
}

// broken reports whether the other side of the stream broke off, so that this side is to learn of it by a
// reset and not by an orderly end. As in HAProxy only a client's break is passed on.
func (s *Stream) broken(of *side) bool { return of == &s.server && s.request.failed }

func (s *Stream) wantShut(of *side) {
	if of == &s.client {
		s.wants |= ShutClient
		return
	}
	s.wants |= ShutServer
}

// close closes an established side.
func (s *Stream) close(of *side) {
	if of == &s.client {
		s.closeClient()
		return
	}
	s.wants |= s.breakServer()
	s.closeServer()
}

// breakServer returns the orders that close an established connection to a server. A server whose end was not
// seen gets a reset, as from HAProxy: it could not learn otherwise that it talks to nobody, since a close
// looks to it like the half-close that it may have seen long ago.
func (s *Stream) breakServer() Want {
	if s.broken(&s.server) || !s.response.ended && !s.response.failed {
		return CloseServer | ResetServer
	}
	return CloseServer
}

// closeClient closes the client's side for good.
func (s *Stream) closeClient() {
	s.wants = s.wants&^ShutClient | CloseClient
	s.client.state = Closed
	s.endHandshake()
	s.request.in.shut()
	s.response.out.shut()
}

// closeServer closes the server's side for good. The descriptor, if there is one, is the caller's to want
// closed.
func (s *Stream) closeServer() {
	s.wants &^= ShutServer
	s.setServer(Closed)
	s.releaseSlot()
	s.request.out.shut()
	s.response.in.shut()
}

// releaseSlot gives the slot on the server back.
func (s *Stream) releaseSlot() {
	if s.slot {
		s.slot = false
		s.wants |= ReleaseServer
	}
}

// setServer is the one place that changes the server side's state; its timer belongs to the state and ends
// with it.
func (s *Stream) setServer(state SideState) {
	s.server.state = state
	s.server.handshake = false
	if s.faults.Has(fault.TimerNotDisarmed) {
		return
	}
	s.server.timer, s.server.deadline = TimerNone, ktime.Never
}

// noteBreaks takes in ends of file and errors.
func (s *Stream) noteBreaks(now ktime.Time) {
	if s.inputs&inBreaks == 0 {
		return
	}
	if s.take(inClientEOF) {
		s.request.ended = true
		s.shutRead(&s.client, now)
	}
	if s.take(inServerEOF) {
		s.response.ended = true
		s.shutRead(&s.server, now)
	}
	if s.take(inClientWriteFailed) && s.client.state == Established {
		s.endBy('C')
		s.failWrite(&s.client, now)
	}
	if s.take(inServerWriteFailed) && s.server.state == Established {
		s.endBy('S')
		s.failWrite(&s.server, now)
	}
	if s.take(inClientBroken) && s.client.state == Established {
		s.endBy('C')
		s.request.failed = s.request.failed || s.request.in.state != Shut
		s.close(&s.client)
	}
	if s.take(inServerBroken) && s.server.state == Established {
		s.endBy('S')
		s.response.failed = s.response.failed || s.response.in.state != Shut
		s.close(&s.server)
	}
}

// failWrite shuts the write end of a side on which writing failed. There is no half to close: the peer is
// gone.
func (s *Stream) failWrite(of *side, now ktime.Time) {
	in, out := s.ends(of)
	if in.state == Shut {
		s.close(of)
		return
	}
	out.shut()
	s.armFin(of, in, now)
}
