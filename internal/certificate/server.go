package certificate

import (
	"crypto/tls"
	"sync/atomic"

	"github.com/whyspin/whyspin/internal/config"
)

// server is how one server is spoken to.
type server struct {
	config *tls.Config
	// own is the certificate for servers that ask for one; it holds nil without.
	own atomic.Pointer[tls.Certificate]
}

// newServer makes the settings for a server. Verification is always done here: that of crypto/tls wants a
// name, which HAProxy looks at only if there is one.
func (s *Store) newServer(t *config.ServerTLS, cas *authorities, crl *revocations) *server {
	v := &server{}
	c := &tls.Config{
		MinVersion: uint16(t.MinVersion), MaxVersion: uint16(t.MaxVersion), CipherSuites: t.CipherSuites,
		NextProtos: t.ALPN, ServerName: t.SNI.Name, Time: s.now, InsecureSkipVerify: true,
		DynamicRecordSizingDisabled: s.global.MaxRecord > 0, // the engine sizes them
	}
	if t.Verify == config.VerifyRequired {
		// No server can be asked for an address, so cs.ServerName is empty then; but it must have it.
		check := &verification{roots: cas.pool, crl: crl, host: t.SNI.Name, now: s.now}
		if check.host == "" {
			check.host = t.VerifyHost
		}
		c.VerifyConnection = check.verify
	}
	if !t.NoTickets && !t.NoReuse {
		c.ClientSessionCache = &serverSessions{
			cache: tls.NewLRUClientSessionCache(serverSessionNames), lookups: &s.serverLookups,
			misses: &s.serverMisses,
		}
	}
	if t.Certificate != "" {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return v.own.Load(), nil
		}
	}
	v.config = c
	return v
}
