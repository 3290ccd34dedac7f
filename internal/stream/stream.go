// Package stream is one proxied stream as a pure state machine: two sides, two channels, their timers, and
// the reasons why the stream was woken.
//
// The engine records what happened (bytes moved, end of file, errors, the result of a connect, an order)
// through the input methods and calls Advance with the time. The stream updates its state and answers with
// what it wants done. It makes no system call, reads no clock, allocates nothing and calls nobody back.
//
// The contract is the six rules in internal/README.md; Check verifies those that can be seen from a single
// stream.
package stream

import (
	"time"

	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/ktime"
)

// Policy is what the configuration says about the streams of one frontend and backend. It is shared and
// immutable. Timeouts of 0 are not set: no limit.
type Policy struct {
	Connect, Client, Server, Tunnel, ClientFin, ServerFin, Queue time.Duration
	// ClientHandshake is for the client's TLS handshake; not set means Client.
	ClientHandshake time.Duration
	// Retries is the number of attempts after the first.
	Retries int
	// Redispatch is 0 to stay with the first server; N > 0 lets every Nth retry, N < 0 the Nth last retry
	// choose another server. A stream that nothing binds to its server chooses at every retry if there is a
	// choice.
	Redispatch int
	// AbortOnClose gives up a connection attempt when the client has shut its side, even if it left bytes.
	AbortOnClose bool
}

// maxTurnAround is the longest pause before the next attempt on the same server: one second, as in HAProxy,
// so that a server that refuses at once is not hammered.
const maxTurnAround = time.Second

// end is one end of a channel: where bytes are read from a side, or where they are written to one.
type end struct {
	state    EndState
	timer    Timer         // which timeout it is
	timeout  time.Duration // 0 for none
	deadline ktime.Time    // Never when not armed
}

// channel is one direction.
type channel struct {
	in, out  end
	buffered int    // bytes read and not yet written
	total    uint64 // bytes read
	written  uint64 // bytes written
	// full is true exactly when the engine has no room to read into; the peer is then not to blame for
	// silence.
	full bool
	// failed is true exactly when reading ended with an error instead of an end of file, ended exactly when
	// it ended with that.
	failed, ended bool
}

// side is one side of the stream.
type side struct {
	state    SideState
	timer    Timer
	deadline ktime.Time // of the client's handshake, connect, queue or turn-around; Never otherwise
	// handshake is true exactly when the TLS handshake of its connection is under way.
	handshake bool
}

// input is what the engine recorded since the last Advance. Of each pair the client's bit comes first, so
// that shifting it by a Side gives that side's.
type input uint32

const (
	inClientRead input = 1 << iota
	inServerRead
	inClientWrote
	inServerWrote
	inClientEOF
	inServerEOF
	inClientBroken
	inServerBroken
	inClientWriteFailed
	inServerWriteFailed
	inConnected
	inConnectFailed
	inAssigned
	inEnqueued
	inNoServer
	inKilled
	inHandshaken
	inHandshakeFailed
	inRefused

	inTraffic = inClientRead | inServerRead | inClientWrote | inServerWrote
	inBreaks  = inClientEOF | inServerEOF | inClientBroken | inServerBroken | inClientWriteFailed |
		inServerWriteFailed
)

// Stream is one proxied stream. It is a value without pointers besides its policy, so a copy is a whole
// second stream. It belongs to one worker; nothing in it may be used concurrently.
type Stream struct {
	policy *Policy
	faults fault.Set

	client, server    side
	request, response channel

	inputs      input
	wants       Want
	killer      Killer
	connectErr  ConnectError
	retriesLeft int
	// slot is true exactly when the stream occupies a slot of its assigned server.
	slot bool
	// others is true exactly when, at the last assignment, the backend had more than one active server.
	others bool
	// avoid is true exactly when the next assignment should choose another server than the last.
	avoid bool
	// silent is true exactly when "timeout client" has passed while no server was reached and the client
	// has sent nothing since. As in HAProxy this does not end the attempts, since it is not the client that
	// everybody waits for; it counts when a server is reached or none is.
	silent       bool
	redispatched bool
	// slow is true exactly when every attempt after a failed one has to wait for the turn-around.
	slow  bool
	ended bool

	ending Ending
	times  Times
	ledger Ledger
}

// Times are the moments of a stream's life; Never for what has not happened.
type Times struct {
	Accepted  ktime.Time // the client's connection was accepted
	Assigned  ktime.Time // a server was assigned for the last time, or the last wait in a queue was given up
	Connected ktime.Time // the server's connection was established
	Ended     ktime.Time // both sides were closed
}

// New returns a stream whose client was accepted at now. The faults are those that this stream shall have.
func New(policy *Policy, faults fault.Set, now ktime.Time) Stream {
	s := Stream{
		policy:      policy,
		faults:      faults,
		client:      side{state: Established, deadline: ktime.Never},
		server:      side{state: Initial, deadline: ktime.Never},
		retriesLeft: policy.Retries,
		times:       Times{Accepted: now, Assigned: ktime.Never, Connected: ktime.Never, Ended: ktime.Never},
		ledger:      newLedger(),
	}
	idle := end{deadline: ktime.Never}
	s.request, s.response = channel{in: idle, out: idle}, channel{in: idle, out: idle}
	s.request.in.timer, s.request.in.timeout = TimerClient, policy.Client
	s.response.out.timer, s.response.out.timeout = TimerClient, policy.Client
	return s
}

// Read records that n bytes were read from a side into the channel's buffer.
func (s *Stream) Read(from Side, n int) {
	s.channel(from).read(n)
	s.inputs |= inClientRead << from
}

// Wrote records that n bytes of the channel's buffer were written to a side.
func (s *Stream) Wrote(to Side, n int) {
	s.channel(1 - to).wrote(n)
	s.inputs |= inClientWrote << to
}

// channel returns the channel that is read from a side.
func (s *Stream) channel(from Side) *channel {
	if from == Client {
		return &s.request
	}
	return &s.response
}

func (c *channel) read(n int) {
	c.buffered += n
	c.total += uint64(n)
}

func (c *channel) wrote(n int) {
	c.buffered -= n
	c.written += uint64(n)
	if c.buffered < 0 {
		panic("BUG: more bytes written than were buffered")
	}
}

// EOF records that a side has shut its write direction and every byte before that was read. Like every
// input from the server's connection it may be given only after the Advance that took Connected.
func (s *Stream) EOF(from Side) { s.inputs |= inClientEOF << from }

// Broken records that a side's established connection is broken in both directions, typically by a reset.
func (s *Stream) Broken(of Side) { s.inputs |= inClientBroken << of }

// WriteFailed records that nothing can be written to a side any more; bytes it sent may still be readable.
func (s *Stream) WriteFailed(to Side) { s.inputs |= inClientWriteFailed << to }

// Assigned answers Assign, or ends the wait in the queue: a server is chosen and a slot on it taken. others
// tells whether the backend has more than one active server, changed whether the server is another than the
// last one.
func (s *Stream) Assigned(others, changed bool) {
	s.inputs |= inAssigned
	s.slot, s.others = true, others
	s.redispatched = s.redispatched || changed
}

// Enqueued answers Assign: every server is at its limit, the stream waits in the queue.
func (s *Stream) Enqueued() { s.inputs |= inEnqueued }

// NoServer answers Assign: no server can be used at all.
func (s *Stream) NoServer() { s.inputs |= inNoServer }

// Connected answers Connect: the connection is established.
func (s *Stream) Connected() { s.inputs |= inConnected }

// ConnectFailed answers Connect: the attempt failed.
func (s *Stream) ConnectFailed(why ConnectError) {
	s.inputs |= inConnectFailed
	s.connectErr = why
}

// SetFull tells whether the engine has room to read from the client and from the server.
func (s *Stream) SetFull(request, response bool) { s.request.full, s.response.full = request, response }

// Kill orders the end of the stream: from every state the next Advance closes both sides (rule 4).
func (s *Stream) Kill(by Killer) {
	s.inputs |= inKilled
	s.killer = by
}

// SlowRetries orders a pause before every further attempt to reach a server.
func (s *Stream) SlowRetries() { s.slow = true }
