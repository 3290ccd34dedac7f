package engine

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
	"github.com/whyspin/whyspin/internal/tlsconn"
)

// wantsRead reports whether the TLS of an end can go on only with bytes of its peer: those of the handshake,
// or the rest of a record.
func (s *secured) wantsRead() bool { return (s.shaking || s.conn.InRecord()) && !s.arrived }

// tlsWait is what the TLS of an end waits for.
type tlsWait uint8

const (
	tlsShaking  tlsWait = 1 << iota // for the end of the handshake
	tlsRead                         // for bytes of the peer
	tlsWrite                        // for the connection to take what was sealed
	tlsInRecord                     // for the rest of a record
	tlsKept                         // for nothing: reading has failed, and the stream was not told
)

func (v tlsWait) has(bit tlsWait) bool { return v&bit != 0 }

// String names what is waited for as evidence.TLS does.
func (v tlsWait) String() string {
	var words []string
	for i, word := range [...]string{
		"handshake", "want-read", "want-write", "record incomplete", "error not passed up",
	} {
		if v.has(1 << i) {
			words = append(words, word)
		}
	}
	return strings.Join(words, ", ")
}

// waits returns what the TLS of an end waits for; told is whether the stream knows that nothing more can be
// read.
func (s *secured) waits(told bool) (v tlsWait) {
	read := s.conn.Failed()
	for _, part := range [...]struct {
		bit tlsWait
		is  bool
	}{
		{tlsShaking, s.shaking},
		{tlsRead, read == nil && s.wantsRead()},
		{tlsWrite, s.sealed != nil},
		{tlsInRecord, read == nil && s.conn.InRecord()},
		{tlsKept, read != nil && read != io.EOF && s.failure == nil && !told},
	} {
		if part.is {
			v |= part.bit
		}
	}
	return v
}

// tlsWaits is waits for both sides of a stream.
func (c *conn) tlsWaits() (v [2]tlsWait) {
	for side := range c.ends {
		if s := c.ends[side].tls; s != nil {
			v[side] = s.waits(c.stream.InShut(stream.Side(side)))
		}
	}
	return v
}

// describe says how the TLS of an end stands, for dumps; told is whether the stream knows that nothing more
// can be read. The details of a failure are left out: they hold what the peer has written.
func (s *secured) describe(told bool) *evidence.TLS {
	read, waits := s.conn.Failed(), s.waits(told)
	v := &evidence.TLS{
		State: evidence.TLSEstablished, WantsRead: waits.has(tlsRead), WantsWrite: waits.has(tlsWrite),
		Incomplete: waits.has(tlsInRecord),
	}
	switch {
	case s.failure != nil:
		v.State = causeOf(s.failure)
		return v
	case s.shaking:
		v.State = evidence.TLSHandshake
	case read == io.EOF && s.conn.Unannounced():
		v.State = evidence.TLSCutOff
	case read == io.EOF:
		v.State = evidence.TLSEnded
	}
	if waits.has(tlsKept) {
		v.Error = causeOf(read)
	}
	return v
}

// causeOf names what ended TLS: the error of the socket if that was it, which holds nothing that the peer has
// written.
func causeOf(err error) string {
	e, is := err.(*tlsconn.Error)
	if !is {
		return "failed"
	}
	if errno, is := errors.AsType[sys.Errno](e.Err); is {
		return fmt.Sprintf("%v: %v", e.Cause, errno)
	}
	return e.Cause.String()
}
