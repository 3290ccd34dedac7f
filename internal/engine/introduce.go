package engine

import (
	"github.com/whyspin/whyspin/internal/proxyheader"
	"github.com/whyspin/whyspin/internal/rules"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
	"github.com/whyspin/whyspin/internal/tlsconn"
)

// A client of a listener with "accept-proxy" is introduced by a PROXY protocol header: it comes before
// anything else, within the time that a handshake may take. For the stream it is a part of the handshake.

// await makes the stream wait for the client's header.
func (w *worker) await(c *conn) {
	c.awaiting = true
	c.stream.BeginHandshake(stream.Client, w.now)
}

// dropHeader forgets what was read of a header that is still awaited.
func (w *worker) dropHeader(c *conn) {
	c.awaiting = false
	if c.header != nil {
		w.buffers.give(c.header)
		c.header = nil
	}
}

// introduce reads the client's header, and goes on with the stream when it is complete. It reports whether
// any call was made.
func (w *worker) introduce(c *conn) bool {
	end := &c.ends[stream.Client]
	if !c.awaits() {
		return false
	}
	b := c.header
	if b == nil {
		b = w.buffers.takeFor(proxyheader.MaxLength)
		c.header = b
	}
	space := b.space()
	n, errno := w.kernel.Read(int(end.fd), space)
	end.reads++
	countIO(&w.stats.read, n, errno)
	switch {
	case errno == sys.EAGAIN:
		end.readsAgain++
		end.ready &^= readable | drain
		if b.buffered() == 0 {
			w.buffers.give(b)
			c.header = nil
		}
		return true
	case errno != 0:
		w.unknown(c, proxyheader.ErrBroken)
		return true
	case n == 0 && b.buffered() == 0:
		w.unknown(c, proxyheader.ErrEmpty)
		return true
	case n == 0:
		w.unknown(c, proxyheader.ErrTruncated)
		return true
	}
	if n < len(space) && !end.unix && end.ready&(drain|finished) == 0 {
		end.ready &^= readable
	}
	b.w += n
	h, length, err := proxyheader.Parse(b.data[b.r:b.w])
	switch {
	case err != nil:
		w.unknown(c, err)
	case length == 0 && len(b.space()) == 0:
		w.unknown(c, proxyheader.ErrInvalid)
	case length > 0:
		b.consume(length)
		c.introduced(&h)
		w.begin(c)
	}
	return true
}

// awaits reports whether the client's header is awaited and there may be something of it.
func (c *conn) awaits() bool {
	end := &c.ends[stream.Client]
	return c.awaiting && end.fd >= 0 && end.ready.has(readable)
}

// unknown ends a stream whose client was not introduced as it should be.
func (w *worker) unknown(c *conn, err error) {
	c.ends[stream.Client].ready &^= readable
	c.failure = err
	w.dropHeader(c)
	c.stream.HandshakeFailed()
}

// introduced takes over what the header says.
func (c *conn) introduced(h *proxyheader.Header) {
	s := c.session
	s.Proxied, s.Authority, s.UniqueID = true, h.Authority, h.UniqueID
	if h.Source.IsValid() {
		c.client = sys.Address{IP: h.Source}
		s.Source, s.Destination = h.Source, h.Destination
	}
}

// begin goes on with a client that was introduced. What came behind the header is the first of the stream,
// or of its handshake.
func (w *worker) begin(c *conn) {
	b := c.header
	c.awaiting, c.header = false, nil
	if b.buffered() == 0 {
		w.buffers.give(b)
		b = nil
	}
	end := &c.ends[stream.Client]
	if c.listener.tls != nil {
		w.secure(c, stream.Client, c.listener.tls)
		if end.tls.early = b; b != nil {
			end.ready |= readable
		}
		return
	}
	switch w.handshaken(c); {
	case b == nil:
	case c.stream.Refused():
		w.buffers.give(b)
	default:
		c.buffers[stream.Client] = b
		c.stream.Read(stream.Client, b.buffered())
	}
}

// introduceTo writes the header that the server is to get before anything else. A connection that is new
// takes it whole; one that does not has failed. It reports whether it was written.
func (w *worker) introduceTo(c *conn) bool {
	o := &c.server.config.SendProxy
	if o.Version == 0 {
		return true
	}
	b, err := proxyheader.Format(o, c.session)
	if err != nil {
		c.stream.ConnectFailed(stream.ConnectInternal)
		return false
	}
	end := &c.ends[stream.Server]
	w.undelay(end)
	n, errno := w.kernel.Write(int(end.fd), b, false)
	end.writes++
	countIO(&w.stats.write, n, errno)
	if errno != 0 || n < len(b) {
		c.stream.ConnectFailed(stream.ConnectRefused)
		return false
	}
	w.stats.sent.Add(w.now, uint64(n))
	return true
}

// needsOfHeader is what a header for a server tells.
const needsOfHeader = rules.NeedsSession | rules.NeedsDestination | rules.NeedsClientTLS

// expired is why what comes before a session, or a connection to a server, failed: it was not there in time,
// or before somebody else ended the stream.
func (c *conn) expired() error {
	by := c.stream.Ending().By
	switch {
	case c.awaiting && by == 'c':
		return proxyheader.ErrTimeout
	case c.awaiting:
		return proxyheader.ErrBroken
	case by == 'C' || by == 'K' || by == 'I':
		return &tlsconn.Error{Cause: tlsconn.CauseAborted, Err: errHandshakeEnded}
	}
	return &tlsconn.Error{Cause: tlsconn.CauseAborted, Err: errHandshakeTime}
}
