// Package proxyheader reads and writes headers of the PROXY protocol, versions 1 and 2: what a proxy tells
// another one of the client for which it connects. It works on bytes only.
//
// https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt
package proxyheader

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// MaxLength is how many bytes a header has at most; the library refuses longer ones.
const MaxLength = prefixLength + 4096

// prefixLength is the length of what every header of version 2 begins with; maxLine that of the longest line
// of version 1.
const (
	prefixLength = 16
	maxLine      = 107
	versionAt    = 12 // of the byte with the version and the command
)

// Why bytes are no header, in the words in which HAProxy logs it.
var (
	// ErrNotHeader is that they do not begin like one.
	ErrNotHeader = errors.New("Received something which does not look like a PROXY protocol header")
	// ErrInvalid is that they break the protocol.
	ErrInvalid = errors.New("Received an invalid PROXY protocol header")
	// ErrProtocol is that they are of a connection that is not by TCP.
	ErrProtocol = errors.New("Received an unhandled protocol in the PROXY protocol header")
	// ErrEmpty is that the connection was closed before the first byte, ErrTruncated in the middle of a
	// header; ErrBroken that it broke.
	ErrEmpty     = errors.New("Connection closed while waiting for PROXY protocol header")
	ErrTruncated = errors.New("Truncated PROXY protocol header received")
	ErrBroken    = errors.New("Connection error while waiting for PROXY protocol header")
	// ErrTimeout is that it was not complete in time.
	ErrTimeout = errors.New("Timeout while waiting for PROXY protocol header")
)

// Header is what a header says.
type Header struct {
	// Source and Destination are the addresses of the client's connection. They are not valid when the
	// sender does not know them, or speaks for itself: then those of its own connection count.
	Source, Destination netip.AddrPort
	// Authority is the name that the client has asked for, UniqueID the sender's name of the connection.
	Authority, UniqueID string
}

// Parse reads a header at the beginning of b and returns how many bytes it has; 0 without an error means that
// it is not complete.
func Parse(b []byte) (h Header, n int, err error) {
	n, err = length(b)
	if n == 0 || err != nil {
		return Header{}, 0, err
	}
	reader := bufio.NewReaderSize(bytes.NewReader(b[:n]), n)
	parsed, err := proxyproto.Read(reader)
	switch {
	case errors.Is(err, proxyproto.ErrCantReadAddressFamilyAndProtocol):
		return Header{}, 0, ErrProtocol
	case err != nil, reader.Buffered() > 0:
		return Header{}, 0, ErrInvalid
	}
	if source, destination, ok := parsed.TCPAddrs(); ok && parsed.Command == proxyproto.PROXY {
		h.Source, h.Destination = addrPort(source), addrPort(destination)
	}
	options, err := parsed.TLVs()
	if err != nil {
		return Header{}, 0, ErrInvalid
	}
	for _, o := range options {
		switch o.Type {
		case proxyproto.PP2_TYPE_AUTHORITY:
			h.Authority = string(o.Value)
		case proxyproto.PP2_TYPE_UNIQUE_ID:
			h.UniqueID = string(o.Value)
		case proxyproto.PP2_TYPE_CRC32C:
			if !checks(b[:n], o.Value) {
				return Header{}, 0, ErrInvalid
			}
		}
	}
	return h, n, nil
}

func addrPort(a *net.TCPAddr) netip.AddrPort {
	p := a.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
}

// length returns the length of the header that b begins with, 0 when that is not known yet.
func length(b []byte) (int, error) {
	switch {
	case begins(b, proxyproto.SIGV2):
		if len(b) > versionAt && b[versionAt]>>4 != 2 {
			return 0, ErrNotHeader
		}
		if len(b) < prefixLength {
			return 0, nil
		}
		n := prefixLength + int(binary.BigEndian.Uint16(b[prefixLength-2:]))
		if n > MaxLength {
			return 0, ErrInvalid
		}
		if len(b) < n {
			return 0, nil
		}
		return n, nil
	case begins(b, append(proxyproto.SIGV1, ' ')):
		end := bytes.IndexByte(b[:min(len(b), maxLine)], '\n')
		switch {
		case end >= 0:
			return end + 1, nil
		case len(b) >= maxLine:
			return 0, ErrInvalid
		}
		return 0, nil
	}
	return 0, ErrNotHeader
}

// begins reports whether b begins like a signature, as far as there is something.
func begins(b, signature []byte) bool {
	n := min(len(b), len(signature))
	return bytes.Equal(b[:n], signature[:n])
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checks reports whether the checksum of a header is the one in it. Its own bytes count as zeros.
func checks(header, sum []byte) bool {
	if len(sum) != crcLength {
		return false
	}
	b := bytes.Clone(header)
	at := checksumAt(b)
	if at < 0 {
		return false
	}
	clear(b[at : at+crcLength])
	return crc32.Checksum(b, castagnoli) == binary.BigEndian.Uint32(sum)
}

const crcLength = 4

// checksumAt returns where in a header the bytes of its checksum are, -1 for one without.
func checksumAt(b []byte) int {
	at := prefixLength
	switch b[13] >> 4 {
	case 1:
		at += 12
	case 2:
		at += 36
	case 3:
		at += 216
	}
	for at+3 <= len(b) {
		size := int(binary.BigEndian.Uint16(b[at+1:]))
		if b[at] == byte(proxyproto.PP2_TYPE_CRC32C) && size == crcLength && at+3+size <= len(b) {
			return at + 3
		}
		at += 3 + size
	}
	return -1
}
