package sim

import (
	"time"

	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// The oracle says how a stream may end, and when. It has the configuration and what the world told the
// engine, call by call.

// facts are what the world told the engine about a stream, kept with its client.
type facts struct {
	accepted ktime.Time
	opened   ktime.Time    // when its worker first looked at it, 0 for not yet
	killed   bool          // the operator ordered its end
	queued   ktime.Time    // when it began to wait for a slot, for the last time
	granted  bool          // it got a slot just now
	ahead    int           // how many streams waited for one when it wanted a server
	attempts int           // to reach a server
	attempt  *peer         // the last of them
	began    ktime.Time    // when that was started
	failure  sys.Errno     // what came of it, if that was an error
	failed   ktime.Time    // when it was told of that
	ending   stream.Ending // of which it was blamed
	// state is that of the server's side, before what it was before the stream was last advanced.
	state, before stream.SideState
}

// told is what the world told the engine of a connection.
type told struct {
	err       sys.Errno  // the first error
	eof       bool       // that what the peer sends has an end
	connected ktime.Time // that it is established; Never for not yet
	moved     ktime.Time // when bytes last moved, either way, or it began
	wrote     ktime.Time // when it last took bytes, or it began
	stirred   ktime.Time // the same, or when anything else was told
	// Of TLS: bad is set when what the peer sent cannot be accepted, doubt when it may be that it cannot.
	bad, doubt bool
	// parted is set when word that nothing more comes met with an error, which reading will tell.
	parted bool
}

// failed reports whether the engine may have found the connection broken.
func (t *told) failed() bool { return t.err != 0 || t.bad || t.doubt || t.parted }

func newTold(now ktime.Time) told {
	return told{connected: ktime.Never, moved: now, wrote: now, stirred: now}
}

// arrives enters that the connection is established.
func (t *told) arrives(now ktime.Time) {
	t.connected, t.moved, t.wrote, t.stirred = now, now, now, now
}

// announce is what an event says without being asked: that a connection is established, and that the peer
// has shut its direction. An event of a broken connection says neither.
func (s *socket) announce(mask uint32) {
	if s == nil {
		return
	}
	s.announced = mask
	if mask&(sys.EventErr|sys.EventHup) == 0 {
		s.finKnown = s.finKnown || mask&sys.EventRdHup != 0
	}
}

// learn enters that the engine takes an announced connection for established, which it does before anything
// else.
func (s *socket) learn() {
	const broken = sys.EventErr | sys.EventHup
	if s.peer.tls != nil {
		return // there is a handshake to come
	}
	if s.peer.client < 0 && !s.told.connected.IsSet() && s.announced&(sys.EventOut|broken) == sys.EventOut {
		s.told.arrives(s.world.clock)
	}
}

// note enters the result of a call that moves bytes. wanted is for how many there was room.
func (s *socket) note(n, wanted int, errno sys.Errno, read bool) (int, sys.Errno) {
	s.learn()
	t := &s.told
	if s.peer.tls != nil {
		if errno != sys.EAGAIN {
			s.noteTLS(n, errno, read)
		}
		return n, errno
	}
	switch {
	case errno == sys.EAGAIN:
		return n, errno
	case errno != 0:
		if t.err == 0 {
			t.err = errno
		}
	case n == 0 && read:
		t.eof = true
	default:
		// A short read of one that has shut its direction was the last.
		t.eof = t.eof || read && n < wanted && s.finKnown && len(s.receive) == 0
		t.moved = s.world.clock
		if !read {
			t.wrote = t.moved
		}
	}
	t.stirred = s.world.clock
	return n, errno
}

// tell is note for the result of a look at the error.
func (s *socket) tell(errno sys.Errno) {
	switch {
	case s.peer.client < 0 && s.peer.of.facts.state == stream.Connecting:
		if errno != 0 {
			s.told.connected = ktime.Never
			s.peer.of.facts.fails(errno, s.world.clock)
			return
		}
		if s.peer.tls == nil {
			s.told.arrives(s.world.clock)
		}
	case errno != 0:
		s.note(0, 0, errno, true)
	}
}

// attempted enters an attempt to reach a server that the stream of the acting client makes.
func (w *World) attempted(p *peer, errno sys.Errno) {
	f := &w.acting.facts
	if f.attempts > 0 && f.failure != 0 && w.scenario.Redispatch == 0 && w.clock.Sub(f.failed) < w.pause() {
		w.fail("timer", "%s: the server is tried again %v after it failed, should be %v", w.acting.name,
			w.clock.Sub(f.failed), w.pause())
	}
	if p != nil {
		p.of = w.acting
	}
	f.attempts++
	f.attempt, f.began = p, w.clock
	f.failure, f.failed = 0, ktime.Never
	if most := 1 + w.scenario.Retries; f.attempts > most {
		w.fail("retries", "%s: %d attempts to reach a server with %d retries", w.acting.name, f.attempts,
			w.scenario.Retries)
	}
	if errno != 0 && errno != sys.EINPROGRESS {
		f.fails(errno, w.clock)
	}
}

// fails enters that the last attempt failed.
func (f *facts) fails(errno sys.Errno, now ktime.Time) { f.failure, f.failed = errno, now }

// pause is how long a server that refused is left alone.
func (w *World) pause() time.Duration {
	if d := w.scenario.Timeouts.Connect; d > 0 {
		return min(time.Second, d)
	}
	return time.Second
}

// judge holds what a stream says of its end against the facts.
func (r *run) judge(p *peer, s *stream.Stream, now ktime.Time) {
	f, e := &p.facts, s.Ending()
	server := f.server()
	if e == f.ending {
		switch {
		case e.By != 0:
		case p.socket.told.err != 0:
			r.fail("ending", "%s: its connection failed (%v) and nobody is blamed", p.name, p.socket.told.err)
		case server != nil && server.told.err != 0:
			r.fail("ending", "%s: %s failed (%v) and nobody is blamed", p.name, server.peer.name,
				server.told.err)
		case s.Ended() && (p.socket.told.bad || server != nil && server.told.bad):
			r.fail("ending", "%s: what came cannot be accepted and nobody is blamed", p.name)
		case s.Ended() && !(p.socket.told.eof && server != nil && server.told.eof):
			r.fail("ending", "%s: the stream ended without an error before both sides had", p.name)
		}
		return
	}
	if f.ending.By != 0 {
		r.fail("ending", "%s: the ending was %v and is %v", p.name, f.ending, e)
	}
	f.ending = e
	if why := r.objection(p, s, e, now); why != "" {
		r.fail("ending", "%s: it ends with %v: %s", p.name, e, why)
	}
}

// server returns the connection to the server that the stream has reached, nil when it has reached none.
func (f *facts) server() *socket {
	if f.attempt == nil || f.attempt.socket == nil || !f.attempt.socket.told.connected.IsSet() {
		return nil
	}
	return f.attempt.socket
}

// objection returns what speaks against an ending, nothing when it is admissible.
func (r *run) objection(p *peer, s *stream.Stream, e stream.Ending, now ktime.Time) string {
	f := &p.facts
	reached := f.server() != nil
	switch e.During {
	case 'R':
		if f.attempts > 0 || f.queued.IsSet() {
			return "a server was wanted already"
		}
	case 'Q':
		// Put into the queue and ended at the same moment, it was in the queue.
		if f.before != stream.Queued && !(f.before == stream.Request && r.world.scenario.ServerMaxConn > 0) {
			return "it did not wait for a slot"
		}
	case 'C':
		if reached && f.before >= stream.Established {
			return "the server was reached"
		}
		if f.before == stream.Initial || f.before == stream.Queued && !f.granted {
			return "no server was being reached"
		}
	case 'D', '-':
		if !reached || e.During == '-' && e.By != 'K' {
			return "no server was reached"
		}
	case 'L':
		if !reached || s.ServerState() != stream.Closed {
			return "the server's side is not closed"
		}
	default:
		return "there is no such phase"
	}
	switch e.By {
	case 'K':
		if reached && f.before >= stream.Established && e.During != '-' {
			return "once the server is reached there is nothing to say of the phase"
		}
		return unless(f.killed, "the operator gave no order")
	case 'C':
		return r.blameClient(p, e)
	case 'c':
		return r.blameSilentClient(p, e, now)
	case 'S', 'R':
		return r.blameServer(f, e)
	case 's':
		return r.blameSilentServer(p, e, now)
	}
	return "there is nobody to blame"
}

// unless returns what is wrong unless all is well.
func unless(well bool, wrong string) string {
	if well {
		return ""
	}
	return wrong
}

// blameClient: the client has broken off or, while no server is reached, left without anything to be sent.
func (r *run) blameClient(p *peer, e stream.Ending) string {
	t := &p.socket.told
	if t.failed() || t.eof && p.shaking() {
		return ""
	}
	if e.During != 'Q' && e.During != 'C' {
		return "its connection did not fail"
	}
	if !t.eof {
		return "it has neither broken off nor sent its end"
	}
	return unless(p.taken == 0 || r.world.scenario.AbortOnClose, "it has sent bytes and waits for an answer")
}

// blameServer: the last attempt failed, or the connection.
func (r *run) blameServer(f *facts, e stream.Ending) string {
	if e.During == 'D' {
		return unless(e.By == 'S' && f.server().told.failed(), "the server's connection did not fail")
	}
	if e.During != 'C' {
		return "servers are tried in another phase"
	}
	if f.attempts == 0 {
		return unless(e.By == 'S' && r.world.scenario.NoServers, "no server was tried")
	}
	local := false
	switch f.failure {
	case 0:
		if f.attempt == nil || f.attempt.socket == nil {
			return "the last attempt did not fail"
		}
		if local = f.attempt.unbegun() && r.world.scenario.MaxSSLConn > 0; !local &&
			!f.attempt.socket.told.doubt {
			return "the last attempt did not fail"
		}
	case sys.EMFILE, sys.ENOMEM, sys.EADDRNOTAVAIL:
		local = true
	case sys.EAGAIN: // of a unix server: its queue is full
		local = !r.world.scenario.Unix
	}
	if local != (e.By == 'R') {
		return "the last attempt failed with " + f.failure.Error()
	}
	return unless(f.attempts == 1+r.world.scenario.Retries, "there are retries left")
}

// blameSilentClient: a timeout of the client's side has passed.
func (r *run) blameSilentClient(p *peer, e stream.Ending, now ktime.Time) string {
	t := &r.world.scenario.Timeouts
	if e.During == 'R' && p.shaking() {
		limit := r.world.handshakeTime()
		return unless(limit > 0 && now.Sub(p.facts.accepted) >= limit, "it has time left for its handshake")
	}
	if e.During == 'Q' || e.During == 'C' {
		nothing := p.taken == 0 || p.socket.told.doubt // with a wrong length it may all be one record
		return unless(t.Client > 0 && nothing && now.Sub(p.facts.accepted) >= t.Client,
			"the client's timeout has not passed without a byte from it")
	}
	server := p.facts.server()
	if server == nil {
		return "the client has no timeout in this phase"
	}
	waits := server.peer.taken > p.got()
	return unless(r.world.overdue(p.socket, server, server, waits, t.Client, t.ClientFin, now),
		"no timeout of the client's side has passed")
}

// blameSilentServer: the connect timeout, the queue's, or one of the server's side has passed.
func (r *run) blameSilentServer(p *peer, e stream.Ending, now ktime.Time) string {
	f, t := &p.facts, &r.world.scenario.Timeouts
	switch e.During {
	case 'Q':
		limit := t.Queue
		if limit == 0 {
			limit = t.Connect
		}
		return unless(limit > 0 && now.Sub(f.queued) >= limit, "the queue's timeout has not passed")
	case 'C':
		if f.failure != 0 || f.attempts < 1+r.world.scenario.Retries {
			return "the last attempt has failed, or there are retries left"
		}
		return unless(t.Connect > 0 && now.Sub(f.began) >= t.Connect, "the connect timeout has not passed")
	case 'D':
		waits := p.taken > f.attempt.got()
		return unless(
			r.world.overdue(f.server(), p.socket, f.server(), waits, t.Server, t.ServerFin, now),
			"no timeout of the server's side has passed")
	}
	return "the server's side has no timeout in this phase"
}

// overdue reports whether a side has been still for as long as one of its timeouts, or has not taken the
// bytes that wait for it: its own or the tunnel's and, once one direction is shut, the one for that. With TLS
// a direction is shut when word of it is sealed, be it that the connection does not take that.
func (w *World) overdue(of, other, server *socket, waits bool, own, fin time.Duration, now ktime.Time) bool {
	limit, since := own, ktime.Time(0)
	if d := w.scenario.Timeouts.Tunnel; d > 0 {
		limit, since = d, server.told.connected
	}
	halfClosed := of.shut || of.told.eof || of.told.failed() || of.peer.tls != nil && other.told.eof
	passed := func(from ktime.Time) bool {
		still := now.Sub(max(from, since))
		return limit > 0 && still >= limit || fin > 0 && halfClosed && still >= fin
	}
	return passed(of.told.moved) || waits && passed(of.told.wrote)
}
