package engine

import (
	"errors"
	"strings"
	"unicode"

	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/tlsconn"
)

// shake goes on with the handshake of a side if that may bring something, and tells the stream when it is at
// its end. It reports whether it did.
func (w *worker) shake(c *conn, side stream.Side) bool {
	end := &c.ends[side]
	s := end.tls
	if s == nil || !s.shaking || !s.mayShake(end) {
		return false
	}
	s.begun = true
	vain := s.conn.Failed() != nil
	done, err := s.conn.Handshake()
	w.flush(s)
	switch {
	case err != nil && c.swallows(side, err):
		end.ready &^= readable
		return !vain
	case err != nil:
		w.fail(s, err)
	case s.failure == nil && !done:
		s.wait(end)
		return true
	}
	s.shaking = false
	if s.failure != nil {
		end.ready &^= readable
		c.failure = s.failure
		w.stats.tls.failed++
		if side == stream.Client {
			c.stream.HandshakeFailed()
		} else {
			w.serverTrouble(c.server, s.failure)
			c.stream.ConnectFailed(stream.ConnectRefused)
		}
		return true
	}
	// The last bytes of the handshake may have come with the first of what follows.
	end.ready |= readable
	w.stats.tls.complete(side, s.conn.State().DidResume, w.now)
	if side == stream.Client {
		// crypto/tls has sent its tickets before, so nothing answers the client's last message; by Nagle's
		// algorithm its first bytes would wait for the acknowledgement, and that for bytes to go with.
		w.kernel.Acknowledge(int(end.fd))
		w.handshaken(c)
	} else {
		c.noteTLS(stream.Server)
		c.stream.Connected()
	}
	return true
}

// serverTrouble tells the operator that this side and a server do not agree about TLS, in the handshake or,
// if it is this side's certificate in TLS 1.3, after it. The access log cannot tell that from a server that
// is down, and the next attempt will not be better.
func (w *worker) serverTrouble(to *server, failure error) {
	e, is := failure.(*tlsconn.Error)
	if !is || !e.Cause.Disagrees() || !w.mayAlert(&to.alerted) {
		return
	}
	text := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?' // names in a certificate can hold anything
		}
		return r
	}, e.Error())
	w.engine.alert("backend %s: TLS with server %s (%s) fails: %.300s", to.backend.config.Name,
		to.config.Name, to.address, text)
}

// mayShake reports whether a step of the handshake may bring something: the first of a client, which has to
// speak first, and any for which there are bytes.
func (s *secured) mayShake(end *endpoint) bool {
	return end.fd >= 0 && (end.ready.has(readable) || !s.begun && s.side == stream.Server)
}

// connected tells the stream that the connection to its server is established, or begins its handshake.
func (w *worker) connected(c *conn) {
	c.ends[stream.Server].ready |= writable
	w.noteServer(c)
	if !w.introduceTo(c) {
		return
	}
	if config := c.serverTLS(); config != nil {
		if !w.engine.enterServerTLS() {
			c.stream.ConnectFailed(stream.ConnectResource)
			return
		}
		w.secure(c, stream.Server, config)
		w.shake(c, stream.Server)
		return
	}
	c.stream.Connected()
}

// flushPending writes what was sealed of an end and is none of the stream's business, or is that of its past.
func (w *worker) flushPending(end *endpoint) bool {
	if s := end.tls; s != nil && s.sealed != nil && end.fd >= 0 && end.ready.has(writable) {
		w.flush(s)
		return true
	}
	return false
}

// due reports whether the TLS of an end has something to do.
func (s *secured) due(end *endpoint) bool {
	return s.shaking && s.mayShake(end) || s.sealed != nil && end.ready.has(writable)
}

// shutWrite shuts the write direction of a side: with TLS, after word of it in TLS.
func (w *worker) shutWrite(c *conn, side stream.Side) {
	s := c.ends[side].tls
	if s == nil {
		c.ends[side].held = false
		w.kernel.ShutdownWrite(int(c.ends[side].fd))
		return
	}
	s.conn.CloseWrite()
	if s.dead {
		w.kernel.ShutdownWrite(int(c.ends[side].fd))
		return
	}
	s.shut = true
	w.flush(s)
}

// closeSecured ends the TLS of one end that is about to be closed. There is word of it in TLS, unless the
// other side's bytes ended in an error: then some may be missing, and the peer can tell.
func (w *worker) closeSecured(c *conn, side stream.Side, reset bool) {
	s := c.ends[side].tls
	if s == nil {
		return
	}
	if !reset && s.failure == nil && !s.dead && !c.stream.Failed(1-side) {
		s.conn.CloseWrite()
		// What the connection does not take at once is lost; so would be what it has taken if the peer is
		// gone.
		_, _ = w.sendSealed(s)
	}
	if s.shaking && s.failure == nil {
		c.failure = c.expired()
	}
	s.conn.Close()
	w.die(s)
	w.dropEarly(s)
	w.stats.tls.end(side)
	if side == stream.Server {
		w.engine.leaveTLS(true)
		w.engine.resume()
	}
	c.ends[side].tls = nil
}

// errHandshakeTime and errHandshakeEnded say why a handshake was given up.
var (
	errHandshakeTime  = errors.New("the handshake was not complete in time")
	errHandshakeEnded = errors.New("the stream ended before the handshake was complete")
)

// endHandshakes ends all handshakes that are under way, on the thread on which they began.
func (w *worker) endHandshakes() {
	for _, c := range w.slots {
		if c == nil {
			continue
		}
		for side := range c.ends {
			if s := c.ends[side].tls; s != nil {
				s.conn.Close()
			}
		}
	}
}
