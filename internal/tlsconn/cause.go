package tlsconn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
)

// Cause is what ended a connection or its handshake.
type Cause uint8

// The causes.
const (
	// CauseNone: nothing did.
	CauseNone Cause = iota
	// CauseClosed: the peer closed its connection before it had sent a byte of its handshake.
	CauseClosed
	// CauseCut: it closed in the middle of the handshake.
	CauseCut
	// CauseTruncated: it closed in the middle of a record. What the record held is lost, and nobody can tell
	// whether there was more.
	CauseTruncated
	// CauseBroken: the connection beneath broke, by a reset for the most part.
	CauseBroken
	// CauseAlert: the peer sent a fatal alert.
	CauseAlert
	// CausePlainHTTP: the peer speaks HTTP without TLS; CauseNotTLS: something else that is not TLS.
	CausePlainHTTP
	CauseNotTLS
	// CauseVersion: there is no version of TLS, or no cipher suite, that both sides accept.
	CauseVersion
	// CauseUntrusted: the peer's certificate is missing, or was not accepted.
	CauseUntrusted
	// CauseRenegotiation: the peer asked for another handshake on the same connection.
	CauseRenegotiation
	// CauseBadRecord: what the peer sent cannot be read: the key does not fit, it is too long, or it has no
	// place here.
	CauseBadRecord
	// CauseHandshake: the handshake failed for another reason.
	CauseHandshake
	// CauseAborted: the owner gave the handshake up.
	CauseAborted
)

var causeNames = [...]string{
	"none", "closed before the handshake", "closed during the handshake", "closed within a record",
	"connection broken", "alert received", "plain HTTP", "not TLS", "no common version or cipher",
	"certificate not trusted", "renegotiation", "bad record", "handshake failed", "handshake given up",
}

// String names the cause as dumps and logs print it.
func (c Cause) String() string { return causeNames[c] }

// Disagrees reports whether it is that both sides do not agree about how to speak, or whom to trust, and not
// that one of them went away.
func (c Cause) Disagrees() bool {
	switch c {
	case CauseAlert, CausePlainHTTP, CauseNotTLS, CauseVersion, CauseUntrusted, CauseBadRecord,
		CauseHandshake:
		return true
	}
	return false
}

// Error is why a connection cannot go on.
type Error struct {
	Cause Cause
	// Err is what crypto/tls or the socket said.
	Err error
}

// Error says what happened, with the details.
func (e *Error) Error() string { return fmt.Sprintf("%v: %v", e.Cause, e.Err) }

// Unwrap returns what crypto/tls or the socket said.
func (e *Error) Unwrap() error { return e.Err }

// explain finds the cause of what crypto/tls returned. It returns io.EOF for the end of the peer's direction,
// and otherwise an *Error.
func (c *Conn) explain(err error) error {
	w := &c.wire
	switch {
	case errors.Is(err, errAborted):
		return &Error{CauseAborted, err}
	case w.broken != nil && errors.Is(err, w.broken):
		return &Error{CauseBroken, err}
	case ended(err) && w.ended && !w.started:
		return &Error{CauseClosed, err}
	case ended(err) && w.ended && !w.open:
		return &Error{CauseCut, err}
	case ended(err) && w.ended && w.records.inside():
		return &Error{CauseTruncated, io.ErrUnexpectedEOF}
	case ended(err):
		c.unannounced = w.ended
		return io.EOF
	}
	return &Error{c.causeOf(err), err}
}

// causeOf sorts what crypto/tls says of the peer.
func (c *Conn) causeOf(err error) Cause {
	if header, is := errors.AsType[tls.RecordHeaderError](err); is {
		switch {
		case header.Conn == nil && !strings.Contains(header.Msg, "SSLv2"):
			return CauseBadRecord
		case speaksHTTP(header.RecordHeader[:]):
			return CausePlainHTTP
		}
		return CauseNotTLS
	}
	if _, is := errors.AsType[*tls.CertificateVerificationError](err); is {
		return CauseUntrusted
	}
	operation, _ := errors.AsType[*net.OpError](err)
	text := err.Error()
	says := func(part string) bool { return strings.Contains(text, part) }
	switch {
	case operation != nil && operation.Op == "remote error":
		return CauseAlert
	case c.done && (says("no renegotiation") || says("clientHelloMsg")):
		return CauseRenegotiation
	case c.done, operation != nil && operation.Op == "local error":
		return CauseBadRecord
	case says("unsupported version"), says("protocol version"), says("no cipher suite"),
		says("mutually supported"), says("no supported versions"):
		return CauseVersion
	case says("didn't provide a certificate"), says("unsupported certificate"), says("client certificate"):
		return CauseUntrusted
	}
	return CauseHandshake
}

// methods are the first bytes of a request of HTTP, as many as a record has in its header at most.
var methods = [][]byte{
	[]byte("GET /"), []byte("HEAD "), []byte("POST "), []byte("PUT /"), []byte("PATCH"), []byte("DELET"),
	[]byte("OPTIO"), []byte("CONNE"), []byte("TRACE"), []byte("PRI *"), []byte("GET h"),
}

// speaksHTTP reports whether what should be the header of a record begins a request of HTTP.
func speaksHTTP(header []byte) bool {
	return slices.ContainsFunc(methods, func(m []byte) bool { return bytes.HasPrefix(header, m) })
}
