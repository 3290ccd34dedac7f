// Package rules is what the configuration says by samples: expressions (a fetch and its converters), ACLs and
// the conditions made of them, the rules of tcp-request, and log formats. The language is HAProxy's
// (configuration manual, sections 7 and 8.2.6), as far as mode tcp needs it and a fetch is there.
//
// The package is pure: it asks a Session, which is filled in by whoever knows the facts.
package rules

import (
	"net/netip"
	"time"
)

// Session is what fetches can ask for. It is filled in as a stream goes on, see Stage; what is not known yet
// has its zero value.
type Session struct {
	// Source and Destination are the addresses of the client's connection, or those that a PROXY protocol
	// header has given; not valid for a unix socket.
	Source, Destination netip.AddrPort
	// Proxied is true exactly when a PROXY protocol header has given the addresses. Authority and UniqueID
	// are what it has said of them.
	Proxied             bool
	Authority, UniqueID string
	Frontend, Listener  Named
	// Client is nil for a client without TLS.
	Client *TLS
	// Handshake is how long the handshakes of the client's connection took.
	Handshake time.Duration

	Backend Named // as soon as it is chosen
	Target  Named // the server
	// Local and Remote are the addresses of the connection to the server, not valid when there is none or
	// for a unix socket; Server is nil without TLS.
	Local, Remote netip.AddrPort
	Server        *TLS
}

// Named is the name and the number of a part of the configuration.
type Named struct {
	Name string // empty when it has none
	ID   int
}

// TLS is what is known of a TLS connection after its handshake.
type TLS struct {
	// Version and Cipher are OpenSSL's names: TLSv1.3, TLS_AES_128_GCM_SHA256.
	Version, Cipher string
	// KeyBits is the length of the cipher's key.
	KeyBits int
	// SNI is the name that the server was asked for, ALPN the protocol that was agreed upon.
	SNI, ALPN string
	// Resumed is true exactly when a session was taken up again.
	Resumed bool
	// Peer is the certificate of the other end, nil without.
	Peer *Certificate
}

// Certificate is what may be asked of a certificate.
type Certificate struct {
	DER                 []byte
	Subject, Issuer     Name
	Serial, SHA1        []byte
	NotBefore, NotAfter time.Time
	// Version is the number of the format, 3 for all that are made today.
	Version int
	// Key and Signature are the names of the algorithms, as OpenSSL's short names.
	Key, Signature string
}

// Name is a distinguished name, in the order of the certificate.
type Name []Attribute

// Attribute is one part of a distinguished name: its short name, such as CN, or the number of its type, and
// its value.
type Attribute struct{ Type, Value string }

// String prints the name as OpenSSL does on one line: /C=CH/CN=name.
func (n Name) String() string {
	text := ""
	for _, a := range n {
		text += "/" + a.Type + "=" + a.Value
	}
	return text
}

// Get returns the value of the attribute of a type that comes as the occurrence-th: 1 is the first, -1 the
// last one.
func (n Name) Get(kind string, occurrence int) (string, bool) {
	step, at := 1, 0
	if occurrence < 0 {
		step, at, occurrence = -1, len(n)-1, -occurrence
	}
	for ; at >= 0 && at < len(n); at += step {
		if n[at].Type != kind {
			continue
		}
		if occurrence--; occurrence <= 0 {
			return n[at].Value, true
		}
	}
	return "", false
}

// Stage is how far a stream has come: at each, more is known of it.
type Stage uint8

// The stages.
const (
	// StageConnection: the client's connection was accepted.
	StageConnection Stage = iota
	// StageSession: its handshakes are complete.
	StageSession
	// StageContent: the same; a backend is about to be chosen.
	StageContent
	// StageBackend: the backend is chosen.
	StageBackend
	// StageLog: all is over, or the server is reached.
	StageLog
)

// String says what is evaluated at the stage.
func (s Stage) String() string {
	return [...]string{"tcp-request connection", "tcp-request session", "the frontend's rules",
		"the backend's rules", "logs"}[s]
}

// Needs is a set of facts that cost something to find out, or to keep.
type Needs uint8

// The facts.
const (
	NeedsDestination Needs = 1 << iota
	NeedsClientTLS
	NeedsServerTLS
	NeedsServerAddresses
	// NeedsSession is any of the rest.
	NeedsSession
)

// Has reports whether all of v are in n.
func (n Needs) Has(v Needs) bool { return n&v == v }
