// Package tlsconn is one TLS connection on a descriptor that never blocks: crypto/tls, driven a step at a
// time by whoever owns the descriptor. No goroutine belongs to an established connection, and none of its
// own runs beside its owner during the handshake.
//
// crypto/tls expects a connection that blocks. Three facts let it work on one that does not. Reading can be
// interrupted and taken up again wherever the bytes stop, if the connection beneath returns a net.Error whose
// Temporary method says true. The handshake cannot, so it runs as a coroutine: where it would block it hands
// control back to the owner, on the owner's thread, and goes on when it is called again. Writing cannot
// either: crypto/tls keeps every error of a write for good. So what is to be sent is taken whole, always, and
// the owner asks for more only when there is room for it.
package tlsconn

import (
	"crypto/tls"
	"errors"
	"io"
	"iter"
)

// Socket is the descriptor beneath a connection. Its methods are called from within those of Conn and must
// not block.
type Socket interface {
	// Read reads what is there, at most len(p) bytes. It returns ErrWouldBlock when nothing is, io.EOF at the
	// end of file, and any other error when the connection is broken. len(p) is never 0.
	Read(p []byte) (n int, err error)
	// Send takes the bytes of whole records, to be written in this order when that is possible. The slice is
	// the caller's. One call of Conn.Write sends at most Sealed bytes for those that it is given; handshakes
	// and reading send what the protocol makes them answer.
	Send(p []byte)
}

// Conn is one TLS connection. It belongs to the owner of the socket and may not be used concurrently; with a
// handshake under way it must stay with the thread that began it if that is locked (runtime.LockOSThread).
type Conn struct {
	tls  *tls.Conn
	wire wire
	// next goes on with the handshake and stop ends it; nil when none is under way.
	next func() (struct{}, bool)
	stop func()
	done bool
	// failed is what every further read returns: io.EOF, or the error that ended the connection.
	failed error
	// unannounced is true exactly when the peer ended its direction without saying so in TLS (close_notify).
	unannounced bool
	closed      bool // CloseWrite was called
	buffers     *Buffers
	lent        bool // has a buffer of buffers
}

// Server returns the connection of a client that is about to begin its handshake. The configuration is
// crypto/tls's.
func Server(config *tls.Config, socket Socket, buffers *Buffers) *Conn {
	c := &Conn{buffers: buffers}
	c.wire.socket = socket
	c.tls = tls.Server(&c.wire, config)
	return c
}

// Client returns a connection to a server. The configuration is crypto/tls's and must have a ServerName, or
// forgo the verification by itself.
func Client(config *tls.Config, socket Socket, buffers *Buffers) *Conn {
	c := &Conn{buffers: buffers}
	c.wire.socket = socket
	c.tls = tls.Client(&c.wire, config)
	return c
}

// Handshake goes on with the handshake as far as the bytes that are there allow, and reports whether it is
// complete. When it is not, it is to be called again when there may be more bytes. The error is an *Error,
// and final; what was sent before it, an alert for the most part, should still be written.
func (c *Conn) Handshake() (done bool, err error) {
	if c.done || c.failed != nil {
		return c.done, c.failed
	}
	if c.next == nil {
		c.next, c.stop = iter.Pull(c.shake)
	}
	if _, waits := c.next(); waits {
		return false, nil
	}
	c.next, c.stop = nil, nil
	return c.done, c.failed
}

// shake is the coroutine of the handshake. It yields where it would block.
func (c *Conn) shake(yield func(struct{}) bool) {
	c.wire.yield = yield
	err := c.tls.Handshake()
	c.wire.yield = nil
	if err != nil {
		c.failed = c.explain(err)
		return
	}
	c.done = true
	c.wire.open = true
	c.forgetHandshake()
}

// Close gives back what the connection has: the coroutine of a handshake under way, and its buffer. It sends
// nothing, and leaves the socket to the owner. Nothing can be read or written any more.
func (c *Conn) Close() {
	if c.stop != nil {
		c.stop()
		c.next, c.stop = nil, nil
	}
	c.takeBack(true)
	if c.failed == nil {
		c.failed = &Error{CauseAborted, errAborted}
	}
}

// Read reads what the peer has sent, after the handshake. It returns ErrWouldBlock when no whole record is
// there, io.EOF when the peer has ended its direction, in TLS or by the end of file between two records (see
// Unannounced), and otherwise an *Error, which is final. Bytes and an error never come together. After
// anything but ErrWouldBlock there may be more to read, whether or not the socket has more.
func (c *Conn) Read(p []byte) (n int, err error) {
	if c.failed != nil {
		return 0, c.failed
	}
	if len(p) == 0 {
		return 0, nil
	}
	c.lend()
	n, err = c.tls.Read(p)
	switch {
	case err == nil:
	case err == ErrWouldBlock:
		c.takeBack(false)
		c.forgetHandshake()
	default:
		c.failed = c.explain(err)
		err = c.failed
		c.takeBack(true)
	}
	if n > 0 {
		return n, nil
	}
	return 0, err
}

// Write seals p into records and sends them, after the handshake. Sealed tells how many bytes that makes at
// most. The error is an *Error, and final.
func (c *Conn) Write(p []byte) error {
	if _, err := c.tls.Write(p); err != nil {
		return c.explain(err)
	}
	return nil
}

// CloseWrite sends word that nothing more will come (close_notify). The direction from the peer stays open.
// It does nothing the second time, or when the connection is not open.
func (c *Conn) CloseWrite() {
	if !c.done || c.closed {
		return
	}
	c.closed = true
	// What cannot be sent after an alert need not be.
	_ = c.tls.CloseWrite()
}

// MaxWrite is how many bytes should be given to Write at once at most: several records of the largest size,
// so that a socket takes them with one call, and not more than a slow receiver's connection may hold back.
const MaxWrite = 64 << 10

// recordOverhead is the most that the sealing adds to a record: header, explicit nonce, and tag or MAC with
// padding, of the worst suite that crypto/tls knows. minRecord is the least payload of a record that others
// follow in one call of Write.
const (
	recordOverhead = 5 + 16 + 48 + 16
	minRecord      = 1000
)

// Sealed is how many bytes Write sends for n bytes at most.
func Sealed(n int) int { return n + (n/minRecord+2)*recordOverhead }

// Done reports whether the handshake is complete.
func (c *Conn) Done() bool { return c.done }

// Unannounced reports whether the peer's direction ended without word in TLS, so that bytes may be missing
// that somebody cut off.
func (c *Conn) Unannounced() bool { return c.unannounced }

// InRecord reports whether a part of a record has arrived and the rest has not.
func (c *Conn) InRecord() bool { return c.wire.records.inside() }

// Records returns how many whole records have arrived.
func (c *Conn) Records() uint64 { return c.wire.records.whole }

// Failed returns what ended the connection, io.EOF included; nil while nothing has.
func (c *Conn) Failed() error { return c.failed }

// State returns what crypto/tls knows of the connection, after the handshake.
func (c *Conn) State() tls.ConnectionState { return c.tls.ConnectionState() }

// ended reports whether err is how crypto/tls says that the peer's direction has ended.
func ended(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
