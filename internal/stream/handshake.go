package stream

import "github.com/whyspin/whyspin/internal/ktime"

// A side whose connection is secured with TLS has a handshake to go through between the connection and the
// first byte. The client's comes before anything else: until it is complete the server's side stays in
// Initial, as HAProxy makes no stream before that. The server's is a part of Connecting and of "timeout
// connect"; a handshake that fails is an attempt that failed.

// BeginHandshake records that the handshake of a side begins: the client's before the first Advance, the
// server's when its connection is established, before Connected or ConnectFailed says what came of it.
func (s *Stream) BeginHandshake(of Side, now ktime.Time) {
	if of == Server {
		s.server.handshake = true
		return
	}
	if s.client.handshake {
		return // what came before it was a part of it
	}
	d := s.policy.ClientHandshake
	if d == 0 {
		d = s.policy.Client
	}
	s.client.handshake = true
	s.client.timer, s.client.deadline = TimerClientHandshake, armed(d, now)
}

// Handshaken records that the client's handshake is complete.
func (s *Stream) Handshaken() { s.inputs |= inHandshaken }

// HandshakeFailed records that the client's handshake failed.
func (s *Stream) HandshakeFailed() { s.inputs |= inHandshakeFailed }

// Refuse records that the configuration does not allow the stream. It is given before the first Advance, or
// instead of Handshaken.
func (s *Stream) Refuse() { s.inputs |= inRefused }

// Refused reports whether Refuse was called.
func (s *Stream) Refused() bool { return s.inputs&inRefused != 0 || s.ending.By == 'P' }

// refuse ends a stream that is not allowed.
func (s *Stream) refuse() {
	s.endBy('P')
	s.closeServer()
	s.closeClient()
}

// Follow gives the stream another policy before it asks for a server. What it says of the client must be the
// same.
func (s *Stream) Follow(policy *Policy) {
	s.policy, s.retriesLeft = policy, policy.Retries
}

// Handshaking reports whether the handshake of a side is under way.
func (s *Stream) Handshaking(of Side) bool {
	if of == Client {
		return s.client.handshake
	}
	return s.server.handshake
}

// stepHandshake waits for the client's handshake.
func (s *Stream) stepHandshake(now ktime.Time) bool {
	by := byte('C')
	switch {
	case s.take(inHandshaken):
		s.endHandshake()
		return true
	case s.take(inHandshakeFailed):
	case s.client.deadline.Passed(now):
		by = 'c'
	default:
		return false
	}
	s.endBy(by)
	s.closeServer()
	s.closeClient()
	return true
}

// endHandshake disarms the client's handshake, if there is one.
func (s *Stream) endHandshake() {
	s.client.handshake = false
	s.client.timer, s.client.deadline = TimerNone, ktime.Never
}

// Failed reports whether what a side sent ended with an error instead of an end, so that bytes may be
// missing.
func (s *Stream) Failed(from Side) bool { return s.channel(from).failed }
