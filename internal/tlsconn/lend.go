package tlsconn

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// crypto/tls keeps for each connection, for as long as it lives, the buffer into which its largest record was
// read: 50 KiB after a bulk transfer (measured). An idle connection has no use for it, and a worker reads
// from one connection at a time. So a connection is lent a buffer while it is read, and gives it back when
// it has used up what it read. There is no other way to that buffer than to find the field.

// lentSize is the size in bytes of a buffer that is lent: more than two records of the largest size, so that
// crypto/tls, which moves what is left to the front only if it then fits into half of the buffer, never takes
// a larger one.
const lentSize = 40 << 10

// keptBuffers is how many buffers a pool keeps that nobody has.
const keptBuffers = 16

// Buffers are what connections are lent for reading. They belong to one owner and may not be used
// concurrently. The zero value is ready for use.
type Buffers struct {
	free [][]byte
	lent int
}

// Lent is how many buffers connections have now: those in which a part of a record waits for the rest.
func (b *Buffers) Lent() int { return b.lent }

// field finds a buffer in crypto/tls's connection.
func field(name string) (offset uintptr, found bool) {
	f, found := reflect.TypeFor[tls.Conn]().FieldByName(name)
	return f.Offset, found && f.Type == reflect.TypeFor[bytes.Buffer]()
}

var (
	rawInput, hasRawInput = field("rawInput")
	handshake, hasHand    = field("hand")
)

func bufferAt(c *tls.Conn, offset uintptr) *bytes.Buffer {
	return (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(c), offset))
}

// lend gives the connection a buffer if it has none or has nothing in its own.
func (c *Conn) lend() {
	if c.lent || !hasRawInput {
		return
	}
	raw := bufferAt(c.tls, rawInput)
	if raw.Len() > 0 {
		return
	}
	var memory []byte
	if n := len(c.buffers.free); n > 0 {
		memory = c.buffers.free[n-1]
		c.buffers.free = c.buffers.free[:n-1]
	} else {
		memory = make([]byte, 0, lentSize)
	}
	*raw = *bytes.NewBuffer(memory)
	c.lent = true
	c.buffers.lent++
}

// takeBack takes the buffer from a connection that waits for a record. Nothing refers to it then: what Read
// has returned was copied. The part of a record that has come stays where it is, unless the connection is
// over.
func (c *Conn) takeBack(over bool) {
	if !c.lent {
		return
	}
	raw := bufferAt(c.tls, rawInput)
	if raw.Len() > 0 && !over {
		return
	}
	raw.Reset()
	memory := raw.AvailableBuffer()
	*raw = bytes.Buffer{}
	c.lent = false
	c.buffers.lent--
	if cap(memory) >= lentSize && len(c.buffers.free) < keptBuffers {
		c.buffers.free = append(c.buffers.free, memory)
	}
}

// forgetHandshake frees the buffer of handshake messages when it is empty, as after the handshake and between
// the messages that come later: a ticket may have 64 KiB.
func (c *Conn) forgetHandshake() {
	if !hasHand {
		return
	}
	if hand := bufferAt(c.tls, handshake); hand.Len() == 0 && hand.Cap() > 0 {
		*hand = bytes.Buffer{}
	}
}
