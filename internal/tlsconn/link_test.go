package tlsconn

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"testing"
	"time"
)

// end is one end of a connection in memory: a Socket.
type end struct {
	in     []byte // what has arrived
	sent   []byte // what this end has sent and the link has not carried
	eof    bool   // the end of file has arrived
	broken error
	most   int // a read returns at most so many bytes; 0 for no limit
	reads  int
	writes int
	all    []byte // that this end has sent
}

func (e *end) Read(p []byte) (int, error) {
	e.reads++
	switch {
	case len(e.in) > 0:
		if e.most > 0 {
			p = p[:min(e.most, len(p))]
		}
		n := copy(p, e.in)
		e.in = e.in[n:]
		return n, nil
	case e.broken != nil:
		return 0, e.broken
	case e.eof:
		return 0, io.EOF
	}
	return 0, ErrWouldBlock
}

func (e *end) Send(p []byte) {
	e.sent = append(e.sent, p...)
	e.all = append(e.all, p...)
	e.writes++
}

// link joins the end that is tested with that of its peer. Bytes go from end to end when the link carries
// them, up to limit bytes from the peer in all.
type link struct {
	t                *testing.T
	tested, peer     *Conn
	mine, its        end
	limit            int // -1 for none
	carried          int // bytes from the peer
	peerErr, mineErr error
}

// buffers are those of all tests, which run one after the other.
var buffers Buffers

// newLink joins a tested connection with a peer; role says which the tested one is.
func newLink(t *testing.T, server, client *tls.Config, testedIsServer bool) *link {
	l := &link{t: t, limit: -1}
	if testedIsServer {
		l.tested, l.peer = Server(server, &l.mine, &buffers), Client(client, &l.its, &buffers)
	} else {
		l.tested, l.peer = Client(client, &l.mine, &buffers), Server(server, &l.its, &buffers)
	}
	return l
}

// carry takes what both ends have sent to the other, and reports whether there was anything.
func (l *link) carry() bool {
	n := len(l.its.sent)
	if l.limit >= 0 {
		n = min(n, l.limit-l.carried)
	}
	moved := n > 0 || len(l.mine.sent) > 0
	l.carried += n
	l.mine.in = append(l.mine.in, l.its.sent[:n]...)
	l.its.sent = append([]byte(nil), l.its.sent[n:]...)
	l.its.in = append(l.its.in, l.mine.sent...)
	l.mine.sent = nil
	return moved
}

// shake goes on with both handshakes until nothing moves any more, and reports whether both are complete.
func (l *link) shake() bool {
	for more := true; more; more = l.carry() {
		if !l.peer.Done() && l.peerErr == nil {
			_, l.peerErr = l.peer.Handshake()
		}
		if !l.tested.Done() && l.mineErr == nil {
			_, l.mineErr = l.tested.Handshake()
		}
	}
	return l.tested.Done() && l.peer.Done()
}

// mustShake completes both handshakes.
func (l *link) mustShake() {
	l.t.Helper()
	if !l.shake() {
		l.t.Fatalf("the handshake came to no end: tested %v, peer %v", l.mineErr, l.peerErr)
	}
}

// drain reads from a connection until it has no more, and returns the bytes and how it stopped.
func drain(c *Conn) (data []byte, err error) {
	p := make([]byte, 4096)
	for {
		n, err := c.Read(p)
		data = append(data, p[:n]...)
		if err != nil {
			return data, err
		}
		if n == 0 {
			return data, errors.New("a read returned neither bytes nor an error")
		}
	}
}

// causeOf is the cause of an error of this package.
func causeOf(err error) Cause {
	if e, is := errors.AsType[*Error](err); is {
		return e.Cause
	}
	return CauseNone
}

// authority signs the certificates of the tests.
type authority struct {
	key  ed25519.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

var testAuthority = newAuthority()

func newAuthority() *authority {
	public, key, _ := ed25519.GenerateKey(rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	a := &authority{key: key, cert: cert, pool: x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a
}

// sign returns a certificate for a name; with curve the key is ECDSA's, else Ed25519's.
func (a *authority) sign(name string, curve elliptic.Curve) tls.Certificate {
	var public, key any
	if curve != nil {
		k, _ := ecdsa.GenerateKey(curve, rand.Reader)
		public, key = &k.PublicKey, k
	} else {
		public, key, _ = ed25519.GenerateKey(rand.Reader)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

var serverCertificate = testAuthority.sign("server.test", nil)

// configs returns the two configurations of a link that speaks the version.
func configs(version uint16) (server, client *tls.Config) {
	server = &tls.Config{
		Certificates: []tls.Certificate{serverCertificate}, MinVersion: version, MaxVersion: version,
		CurvePreferences: []tls.CurveID{tls.X25519},
	}
	client = &tls.Config{
		ServerName: "server.test", RootCAs: testAuthority.pool, MinVersion: version, MaxVersion: version,
		CurvePreferences: []tls.CurveID{tls.X25519},
	}
	return server, client
}

// variants runs a test with both versions in both roles.
func variants(t *testing.T, run func(t *testing.T, version uint16, testedIsServer bool)) {
	t.Helper()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, server := range []bool{true, false} {
			role := "as the client"
			if server {
				role = "as the server"
			}
			t.Run(tls.VersionName(version)+" "+role, func(t *testing.T) { run(t, version, server) })
		}
	}
}
