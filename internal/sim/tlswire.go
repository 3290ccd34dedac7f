package sim

import (
	"time"

	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// wireLog is what a peer has sent in TLS, and how much of it the engine has read: from this follows what the
// engine was told.
type wireLog struct {
	sent  int    // bytes given to the network
	marks []mark // whose record the engine has not read whole
	read  int    // bytes that the engine has read
	// whole is true exactly when these end with a record.
	whole bool
	// shaken is true exactly when the engine has taken note that the handshake is complete.
	shaken bool
	// in and out are how many bytes the stream says it has read and written.
	in, out uint64
	ended   bool // the stream has shut the direction to the peer
}

// mark is the end of a record.
type mark struct {
	end  int // the bytes sent up to it
	data int // how many bytes of the peer's are in it
	kind markKind
}

type markKind int

const (
	markRecord markKind = iota
	markEnd             // says that nothing more comes
	markBad             // is what the engine cannot accept
	markDoubt           // may be that
)

// enter takes in records of which the first n bytes are sent, and returns how many bytes of the peer's are in
// those that are sent whole.
func (l *wireLog) enter(marks []mark, n int) (data int) {
	for _, m := range marks {
		if m.end <= n {
			data += m.data
		}
		m.end += l.sent
		l.marks = append(l.marks, m)
	}
	l.sent += n
	return data
}

// took enters that the engine has read n bytes more of what the peer sent.
func (s *socket) took(n int) {
	l, t := &s.peer.tls.wire, &s.told
	l.read += n
	l.whole = false
	for len(l.marks) > 0 && l.marks[0].end <= l.read {
		m := l.marks[0]
		l.marks = l.marks[1:]
		l.whole = m.end == l.read
		if t.eof || t.bad {
			continue
		}
		s.peer.taken += m.data
		t.eof = m.kind == markEnd
		t.bad = m.kind == markBad
		t.doubt = t.doubt || m.kind == markBad || m.kind == markDoubt
	}
	if len(l.marks) > 0 && !l.whole && !t.eof {
		t.doubt = t.doubt || l.marks[0].kind == markBad || l.marks[0].kind == markDoubt
	}
}

// noteTLS is note for a connection with TLS. When bytes moved is known from the stream: only it can tell
// which of those read and written count.
func (s *socket) noteTLS(n int, errno sys.Errno, read bool) {
	t, l := &s.told, &s.peer.tls.wire
	s.lost = errno != 0 && !read && t.err == 0
	switch {
	case errno != 0 && s.parting:
		t.parted = true
	case errno != 0:
		if t.err == 0 {
			t.err = errno
		}
	case n > 0 && read:
		s.took(n)
	case n == 0 && read && !t.eof:
		// Without word in TLS the end of a record may be the end, but not before the handshake is complete.
		t.eof = l.whole && l.shaken && !t.parted
		t.bad = !t.eof
		t.doubt = t.doubt || t.bad
	}
	t.stirred = s.world.clock
	if s.peer.client >= 0 || l.shaken {
		return
	}
	if f := &s.peer.of.facts; f.attempt == s.peer && f.failure == 0 {
		switch {
		case errno != 0:
			f.fails(errno, s.world.clock)
		case t.bad && s.peer.tls.seal == nil:
			f.fails(sys.ECONNREFUSED, s.world.clock)
		}
	}
}

// shaking reports whether a client's handshake is not complete, as the engine sees it.
func (p *peer) shaking() bool { return p.tls != nil && !p.tls.wire.shaken }

// handshakeTime is how long a client's handshake may take, 0 for as long as it likes.
func (w *World) handshakeTime() time.Duration {
	if d := w.scenario.Timeouts.ClientHandshake; d > 0 {
		return d
	}
	return w.scenario.Timeouts.Client
}

// completes enters that the engine takes the handshake of a connection for complete.
func (s *socket) completes(now ktime.Time) {
	if l := s.peer.tls; l != nil && !l.wire.shaken {
		l.wire.shaken = true
		s.told.arrives(now)
		if l.foreign {
			s.world.fail("tls", "%s: the handshake cannot be complete", s.peer.name)
		}
	}
}

// shuts enters that a stream has shut a direction, of the connections with TLS: their descriptors are shut
// when word of it is written.
func (p *peer) shuts(s *stream.Stream, now ktime.Time) {
	p.socket.shuts(s.Response().Out, now)
	if server := p.facts.server(); server != nil {
		server.shuts(s.Request().Out, now)
	}
}

func (s *socket) shuts(out stream.EndState, now ktime.Time) {
	if l := s.peer.tls; l != nil && out == stream.Shut && !l.wire.ended {
		l.wire.ended = true
		s.told.stirred = now
	}
}

// count enters which bytes a stream says it has moved, of the connections with TLS.
func (p *peer) count(s *stream.Stream, now ktime.Time) {
	request, response := s.Request(), s.Response()
	p.socket.counts(request.Total, response.Written, now)
	if server := p.facts.server(); server != nil {
		server.counts(response.Total, request.Written, now)
	}
}

func (s *socket) counts(in, out uint64, now ktime.Time) {
	if s.peer.tls == nil {
		return
	}
	l := &s.peer.tls.wire
	if in != l.in || out != l.out {
		s.told.moved = now
	}
	if out != l.out {
		s.told.wrote = now
	}
	l.in, l.out = in, out
}

// unbegun reports whether the engine has reached a server with TLS and has not begun a handshake.
func (p *peer) unbegun() bool { return p.tls != nil && len(p.tls.hellos[0]) == 0 }
