package tlsconn

import (
	"errors"
	"io"
	"net"
	"time"
)

// ErrWouldBlock says that there is nothing to read now.
var ErrWouldBlock error = wouldBlock{}

// wouldBlock is an error after which crypto/tls can be asked again.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "no bytes to read yet" }
func (wouldBlock) Timeout() bool   { return false }
func (wouldBlock) Temporary() bool { return true }

// errAborted ends a handshake for which its owner has no more use.
var errAborted = errors.New("the handshake was given up")

// wire is the connection as crypto/tls sees it.
type wire struct {
	socket Socket
	// yield gives control back to the owner until it calls again, and reports false when the handshake is to
	// end; nil after the handshake, when reads return instead.
	yield   func(struct{}) bool
	records records
	started bool // bytes have come
	open    bool // the handshake is complete
	ended   bool // the end of file was read
	broken  error
}

// Read reads from the socket.
func (w *wire) Read(p []byte) (int, error) {
	for {
		n, err := w.socket.Read(p)
		switch {
		case n > 0:
			w.started = true
			w.records.pass(p[:n])
			return n, nil
		case err == io.EOF:
			w.ended = true
			return 0, io.EOF
		case err != ErrWouldBlock:
			w.broken = err
			return 0, err
		case w.yield == nil:
			return 0, ErrWouldBlock
		case !w.yield(struct{}{}):
			return 0, errAborted
		}
	}
}

// Write hands the bytes on. It always takes them all.
func (w *wire) Write(p []byte) (int, error) {
	w.socket.Send(p)
	return len(p), nil
}

// The rest of net.Conn. crypto/tls sets deadlines when it says that nothing more comes; the owner's timers
// stand for them. The descriptor is the owner's to close.

func (w *wire) Close() error                     { return nil }
func (w *wire) LocalAddr() net.Addr              { return nil }
func (w *wire) RemoteAddr() net.Addr             { return peer{} }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// peer is the address of any peer: crypto/tls asks for it to find the session with a server without a name.
type peer struct{}

func (peer) Network() string { return "" }
func (peer) String() string  { return "peer" }

// recordHeader is how long the header of a record is: type, version, and the length of what follows.
const recordHeader = 5

// records follows the boundaries of records in the bytes that pass.
type records struct {
	header [recordHeader]byte
	have   int // bytes of the header
	left   int // bytes of the body that have not come
	whole  uint64
}

// pass takes in the bytes that have come.
func (r *records) pass(p []byte) {
	for len(p) > 0 {
		if r.have < recordHeader {
			n := copy(r.header[r.have:], p)
			r.have += n
			p = p[n:]
			if r.have < recordHeader {
				return
			}
			r.left = int(r.header[3])<<8 | int(r.header[4])
		}
		n := min(r.left, len(p))
		r.left -= n
		p = p[n:]
		if r.left == 0 {
			r.have = 0
			r.whole++
		}
	}
}

// inside reports whether a record has begun and not ended.
func (r *records) inside() bool { return r.have > 0 }
