package engine

import (
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"strings"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/rules"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
	"github.com/whyspin/whyspin/internal/tlsconn"
)

// needsOf is what a frontend has to know of its streams: for its rules, for its log format, and for those of
// the backends that they may go to. Where that is nothing, nothing is kept of them.
func needsOf(p *config.Proxy) (n rules.Needs) {
	for _, list := range [...][]rules.Rule{p.Connection, p.Session, p.Content} {
		n |= needsOfRules(list)
	}
	for _, b := range p.Binds {
		if b.AcceptProxy {
			n |= rules.NeedsSession
		}
	}
	if p.DefaultBackend != nil {
		n |= needsOfBackend(p.DefaultBackend)
	}
	for i := range p.Switches {
		n |= p.Switches[i].If.Needs() | needsOfBackend(p.Switches[i].Backend)
	}
	if p.LogFormat != nil && len(p.Logs) > 0 {
		n |= p.LogFormat.Needs()
	}
	return n
}

func needsOfRules(list []rules.Rule) (n rules.Needs) {
	for i := range list {
		n |= list[i].If.Needs()
	}
	return n
}

func needsOfBackend(p *config.Proxy) rules.Needs {
	n := needsOfRules(p.Content)
	for _, s := range p.Servers {
		if s.SendProxy.Version > 0 {
			n |= needsOfHeader
		}
		if s.TLS != nil && s.TLS.SNI.From != nil {
			n |= s.TLS.SNI.From.Needs()
		}
	}
	return n
}

// newSession returns what rules may ask of a client that was just accepted, nil for a frontend that asks for
// nothing.
func (w *worker) newSession(l *listener, fd int, peer sys.Address) *rules.Session {
	f := l.frontend
	if f.needs == 0 {
		return nil
	}
	s := &rules.Session{
		Source:   peer.IP,
		Frontend: rules.Named{Name: f.config.Name, ID: f.config.ID},
		Listener: rules.Named{Name: l.bind.Name, ID: l.bind.ID},
	}
	if f.needs.Has(rules.NeedsDestination) {
		s.Destination = w.kernel.LocalAddress(fd).IP
	}
	return s
}

// noteServer notes the addresses of the connection to the server.
func (w *worker) noteServer(c *conn) {
	if c.session != nil && c.frontend.needs.Has(rules.NeedsServerAddresses) {
		c.session.Local = w.kernel.LocalAddress(int(c.ends[stream.Server].fd)).IP
		c.session.Remote = c.server.address.IP
	}
}

// noteTLS notes what is known of the TLS of a side once its handshake is complete.
func (c *conn) noteTLS(side stream.Side) {
	needs := rules.NeedsClientTLS
	if side == stream.Server {
		needs = rules.NeedsServerTLS
	}
	if c.session == nil || c.ends[side].tls == nil || !c.frontend.needs.Has(needs) {
		return
	}
	t := describeTLS(c.ends[side].tls.conn.State())
	if side == stream.Client {
		c.session.Client = t
	} else {
		c.session.Server = t
	}
}

// describeTLS says in OpenSSL's words what crypto/tls knows of a connection.
func describeTLS(cs tls.ConnectionState) *rules.TLS {
	t := &rules.TLS{
		Version: config.TLSVersion(cs.Version).String(), Cipher: config.CipherName(cs.CipherSuite),
		SNI: cs.ServerName, ALPN: cs.NegotiatedProtocol, Resumed: cs.DidResume,
	}
	if t.Cipher == "" {
		t.Cipher = tls.CipherSuiteName(cs.CipherSuite) // of TLS 1.3, where both call it the same
	}
	if t.KeyBits = 256; strings.Contains(t.Cipher, "128") {
		t.KeyBits = 128
	}
	if len(cs.PeerCertificates) > 0 {
		t.Peer = describeCertificate(cs.PeerCertificates[0])
	}
	return t
}

func describeCertificate(c *x509.Certificate) *rules.Certificate {
	sum := sha1.Sum(c.Raw)
	return &rules.Certificate{
		DER: c.Raw, Subject: tlsconn.DistinguishedName(c.RawSubject),
		Issuer: tlsconn.DistinguishedName(c.RawIssuer), Serial: c.SerialNumber.Bytes(), SHA1: sum[:],
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, Version: c.Version,
		Key: keyNames[c.PublicKeyAlgorithm], Signature: signatureNames[c.SignatureAlgorithm],
	}
}

// keyNames and signatureNames are OpenSSL's short names of algorithms.
var keyNames = map[x509.PublicKeyAlgorithm]string{
	x509.RSA: "rsaEncryption", x509.DSA: "dsaEncryption", x509.ECDSA: "id-ecPublicKey",
	x509.Ed25519: "ED25519",
}

var signatureNames = map[x509.SignatureAlgorithm]string{
	x509.SHA1WithRSA: "RSA-SHA1", x509.SHA256WithRSA: "RSA-SHA256", x509.SHA384WithRSA: "RSA-SHA384",
	x509.SHA512WithRSA: "RSA-SHA512", x509.ECDSAWithSHA1: "ecdsa-with-SHA1",
	x509.ECDSAWithSHA256: "ecdsa-with-SHA256", x509.ECDSAWithSHA384: "ecdsa-with-SHA384",
	x509.ECDSAWithSHA512: "ecdsa-with-SHA512", x509.SHA256WithRSAPSS: "RSASSA-PSS",
	x509.SHA384WithRSAPSS: "RSASSA-PSS", x509.SHA512WithRSAPSS: "RSASSA-PSS", x509.PureEd25519: "ED25519",
}

// serverTLS returns what the connection to the stream's server is made with: with the name that the server is
// to be asked for, if that is another for each stream.
func (c *conn) serverTLS() *tls.Config {
	t := c.server.tls
	if t == nil || c.server.config.TLS == nil || c.server.config.TLS.SNI.From == nil {
		return t
	}
	name, ok := c.server.config.TLS.SNI.From.Evaluate(c.session)
	if !ok || name.String() == "" {
		return t
	}
	t = t.Clone()
	t.ServerName = name.String()
	if verify := t.VerifyConnection; verify != nil {
		t.VerifyConnection = func(cs tls.ConnectionState) error {
			if cs.ServerName == "" {
				cs.ServerName = name.String() // an address: no server is asked for it, but it must have it
			}
			return verify(cs)
		}
	}
	return t
}
