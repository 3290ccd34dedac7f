package config

import (
	"time"

	"github.com/whyspin/whyspin/internal/rules"
)

// TLSVersion is a version of TLS by its number on the wire; 0 is none in particular.
type TLSVersion uint16

// The versions that are offered. Older ones are not.
const (
	TLS12 TLSVersion = 0x0303
	TLS13 TLSVersion = 0x0304
)

// String returns the configuration's word for the version.
func (v TLSVersion) String() string {
	switch v {
	case TLS12:
		return "TLSv1.2"
	case TLS13:
		return "TLSv1.3"
	}
	return "none"
}

// Verify says what is asked of the peer's certificate.
type Verify uint8

const (
	// VerifyUnset is that nothing was said. A Bind and a Server never have it; in the line of a list of
	// certificates it means: as on the bind line.
	VerifyUnset Verify = iota
	// VerifyNone asks for no certificate, and takes any.
	VerifyNone
	// VerifyOptional asks for one; one that is given must be valid. Only for clients.
	VerifyOptional
	// VerifyRequired asks for a valid one.
	VerifyRequired
)

// String returns the configuration's word.
func (v Verify) String() string { return [...]string{"unset", "none", "optional", "required"}[v] }

// SystemCA is the name of a CA file that stands for the authorities that the system trusts.
const SystemCA = "@system-ca"

// TLS is what bind lines, server lines and the lines of lists of certificates may say alike. File names have
// the directories of ca-base and crt-base before them already.
type TLS struct {
	MinVersion, MaxVersion TLSVersion
	// CipherSuites are those of TLS 1.2, by their numbers on the wire, in the order in which crypto/tls
	// prefers them; nil: its default. Those of TLS 1.3 cannot be chosen.
	CipherSuites []uint16
	// Curves are groups for the key exchange by their numbers on the wire; nil: crypto/tls's default.
	Curves []uint16
	ALPN   []string
	Verify Verify
	// CAFile has the authorities that peers' certificates are verified with, SystemCA for the system's;
	// CRLFile has what they have revoked.
	CAFile, CRLFile string
	// NoTickets keeps the state of sessions here and gives the clients an opaque name of it only.
	NoTickets bool
	// NoCANames sends clients no list of the authorities' names.
	NoCANames bool
}

// With returns the settings with those of a line of a list of certificates in place of the ones it makes. No
// version may remain: then MinVersion is above MaxVersion.
func (t TLS) With(line *TLS) TLS {
	if line.MinVersion != 0 {
		t.MinVersion = line.MinVersion
	}
	if line.MaxVersion != 0 {
		t.MaxVersion = line.MaxVersion
	}
	if line.CipherSuites != nil {
		t.CipherSuites = line.CipherSuites
	}
	if line.Curves != nil {
		t.Curves = line.Curves
	}
	if line.ALPN != nil {
		t.ALPN = line.ALPN
	}
	if line.Verify != VerifyUnset {
		t.Verify = line.Verify
	}
	if line.CAFile != "" {
		t.CAFile = line.CAFile
	}
	if line.CRLFile != "" {
		t.CRLFile = line.CRLFile
	}
	t.NoCANames = t.NoCANames || line.NoCANames
	return t
}

// BindTLS is how a listener speaks TLS. The listeners of one bind line share it.
type BindTLS struct {
	TLS
	Position
	// Certificates are the files and directories of "crt", Lists the files of "crt-list".
	Certificates, Lists []string
	// StrictSNI refuses a client that asks for no name, or one that no certificate is for.
	StrictSNI bool
	// TicketKeys is the file of the keys of session tickets; empty for keys that are made up.
	TicketKeys string
}

// ServerTLS is how a server is spoken to.
type ServerTLS struct {
	TLS
	Position
	// Certificate is the file with the certificate for servers that ask for one; empty for none.
	Certificate string
	// SNI is the name that the server is asked for.
	SNI SNI
	// VerifyHost is the name that the server's certificate must be for when there is no SNI, whose name it
	// must be for otherwise; empty: the name is not looked at.
	VerifyHost string
	// NoReuse makes every connection negotiate anew.
	NoReuse bool
}

// SNI is where the name comes from that a server is asked for. The zero SNI asks for none.
type SNI struct {
	// Name is always the same name ("str(NAME)").
	Name string
	// From gives the name of each stream, nil for Name; where it has no value, none is asked for.
	From *rules.Expression
}

// GlobalTLS is what section global says about TLS.
type GlobalTLS struct {
	// MaxConn limits the concurrent TLS connections of clients and to servers, MaxRate the TLS connections
	// of clients per second; 0 for no limit.
	MaxConn, MaxRate int
	// CacheSize is the number of sessions that are kept here for clients that may have no tickets; default
	// 20000.
	CacheSize int
	// Lifetime is how long a session may be resumed; default 5 minutes.
	Lifetime time.Duration
	// MaxRecord is the number of bytes of a record above which none is sent, as long as what is sent comes in
	// small amounts; 0: records begin small and grow, as crypto/tls has it.
	MaxRecord int
	// Extra are the files that are looked for beside a certificate.
	Extra ExtraFiles
	// SkipSelfIssued leaves a CA certificate that has issued itself out of the chains that are sent.
	SkipSelfIssued bool
	// CRTBase and CABase are the directories of relative names of certificates and authorities. They are in
	// the names of a Config already; those in lists of certificates are relative to them, too.
	CRTBase, CABase string
}

// ExtraFiles are the kinds of files that belong to a certificate file by their names: NAME.key and so on.
type ExtraFiles struct {
	// Bundle looks for NAME.rsa and NAME.ecdsa where there is no NAME.
	Bundle, SCTL, OCSP, Issuer, Key bool
	// ReplaceExtension looks for the key of NAME.crt in NAME.key.
	ReplaceExtension bool
}
