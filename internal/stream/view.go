package stream

import (
	"errors"
	"fmt"

	"github.com/whyspin/whyspin/internal/ktime"
)

// ChannelView is one direction of a stream, for dumps and tests.
type ChannelView struct {
	In, Out EndState
	// Buffered is the bytes read and not yet written, Total the bytes read, Written the bytes written.
	Buffered       int
	Total, Written uint64
	// InTimer and OutTimer are the timeouts of the ends, InDeadline and OutDeadline when they pass.
	InTimer, OutTimer       Timer
	InDeadline, OutDeadline ktime.Time
	// Full is true exactly when there was no room to read into.
	Full bool
}

func (c *channel) view() ChannelView {
	return ChannelView{
		In: c.in.state, Out: c.out.state, Buffered: c.buffered, Total: c.total, Written: c.written,
		InTimer: c.in.timer, OutTimer: c.out.timer, InDeadline: c.in.deadline, OutDeadline: c.out.deadline,
		Full: c.full,
	}
}

// Request returns the direction from the client to the server.
func (s *Stream) Request() ChannelView { return s.request.view() }

// Response returns the direction from the server to the client.
func (s *Stream) Response() ChannelView { return s.response.view() }

// ClientState returns the state of the client's side: Established or Closed.
func (s *Stream) ClientState() SideState { return s.client.state }

// ServerState returns the state of the server's side.
func (s *Stream) ServerState() SideState { return s.server.state }

// SideTimer returns the server side's own timer: connect, queue or turn-around.
func (s *Stream) SideTimer() (Timer, ktime.Time) { return s.server.timer, s.server.deadline }

// InShut reports whether the end of what a side sends has been reached: nothing will be read from it any
// more.
func (s *Stream) InShut(from Side) bool { return s.channel(from).in.state == Shut }

// MayWrite reports whether bytes that were read from the other side may be written to this one.
func (s *Stream) MayWrite(to Side) bool {
	if to == Client {
		return s.client.state == Established && s.response.out.state != Shut
	}
	return s.server.state == Established && s.request.out.state != Shut
}

// ShutPending reports whether a side is to be told that nothing more comes as soon as the bytes that are
// buffered for it are written.
func (s *Stream) ShutPending() bool {
	return s.request.out.state == Pending || s.response.out.state == Pending
}

// Ending returns why the stream ended, as far as it has.
func (s *Stream) Ending() Ending { return s.ending }

// Times returns the moments of the stream's life.
func (s *Stream) Times() Times { return s.times }

// Retries returns the number of attempts after the first that were started.
func (s *Stream) Retries() int { return s.policy.Retries - s.retriesLeft }

// Redispatched reports whether a retry went to another server than the one before.
func (s *Stream) Redispatched() bool { return s.redispatched }

// AvoidServer reports whether the assignment that is wanted should leave out the last server.
func (s *Stream) AvoidServer() bool { return s.avoid }

// Ended reports whether both sides are closed.
func (s *Stream) Ended() bool { return s.ended }

// Policy returns the policy the stream was made with.
func (s *Stream) Policy() *Policy { return s.policy }

// Orphaned reports whether the stream is a half-state that nothing will ever move: one side closed, the
// other not, and no direction open. It costs a CPU when a timer is armed (T3) and only memory when none is
// (T3i).
func (s *Stream) Orphaned() bool {
	if (s.client.state == Closed) == (s.server.state == Closed) {
		return false
	}
	return s.request.in.state == Shut && s.request.out.state == Shut &&
		s.response.in.state == Shut && s.response.out.state == Shut
}

// Check returns what is wrong with a stream on return from Advance at now, nil when nothing is. It covers
// those rules of the contract that can be seen from a single stream; a healthy stream never fails it.
func (s *Stream) Check(now ktime.Time) error {
	var wrong []error
	bad := func(is bool, format string, args ...any) {
		if is {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	deadline, timer := s.Deadline()
	bad(s.ledger.calls > 0 && s.ledger.cause == CauseNone, "rule 1: the stream was woken without a cause")
	bad(s.ledger.early, "rule 1: the stream was woken by the %v and none of its timers has passed",
		s.ledger.cause)
	bad(deadline.Passed(now), "rule 2: the %s timer is %v overdue and still armed", timer, now.Sub(deadline))
	bad(s.Orphaned(), "orphaned half-state: client %s, server %s, both channels shut",
		s.client.state, s.server.state)
	bad(s.client.state == Closed && s.server.state.connecting(),
		"a server is being reached (%s) for a client that has gone", s.server.state)
	bad(s.ended != (s.client.state == Closed && s.server.state == Closed),
		"ended is %t with client %s and server %s", s.ended, s.client.state, s.server.state)
	s.checkSide(&s.client, "client", bad)
	s.checkSide(&s.server, "server", bad)
	s.checkChannel(&s.request, "request", bad)
	s.checkChannel(&s.response, "response", bad)
	bad(s.slot && s.inputs&inAssigned == 0 && (s.server.state <= Queued || s.server.state == Closed),
		"a slot is held in server state %s", s.server.state)
	bad(s.client.handshake && (s.client.state != Established || s.server.state != Initial),
		"a handshake of the client is under way in state %s, server %s", s.client.state, s.server.state)
	bad(s.server.handshake && s.server.state != Connecting,
		"a handshake of the server is under way in state %s", s.server.state)
	bad(s.client.deadline.IsSet() && !s.client.handshake, "the %s timer is armed without a handshake",
		s.client.timer)
	bad(s.server.deadline.IsSet() && !s.server.state.connecting(),
		"the %s timer is armed in server state %s", s.server.timer, s.server.state)
	return errors.Join(wrong...)
}

func (s *Stream) checkSide(of *side, name string, bad func(bool, string, ...any)) {
	in, out := s.ends(of)
	open := in.state != Shut || out.state != Shut
	bad(of.state == Closed && open, "the %s side is closed with an open end", name)
	bad(of.state == Established && !open, "the %s side is established with both ends shut", name)
}

func (s *Stream) checkChannel(c *channel, name string, bad func(bool, string, ...any)) {
	bad(c.out.state == Shut && c.buffered > 0, "the %s channel holds %d bytes that nobody will write",
		name, c.buffered)
	bad(c.in.state == Shut && c.out.state == Open, "the end of the %s channel was not passed on", name)
	bad(c.out.state == Shut && c.in.state != Shut, "the %s channel is read though nobody takes the bytes",
		name)
	bad(c.out.state == Pending && c.buffered == 0 && s.ended,
		"a shutdown of the %s channel is still pending", name)
	bad(c.total < c.written, "the %s channel wrote more bytes than it read", name)
}
