package sim

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/whyspin/whyspin/internal/tlsconn"
)

// What a seed decides must happen again, and crypto/tls takes its randomness from elsewhere. But nothing
// depends on its bytes: with one suite, one curve and signatures by Ed25519 every message has the same length
// each time, and lengths and the order of events are all that a world looks at.

// tlsTime is the time of day in all worlds.
var tlsTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// tlsVersions are the versions by the name that a scenario has for them.
var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// tlsNames are these names.
var tlsNames = []string{"1.2", "1.3"}

// tlsBase is what connections of one version have in common in all worlds: the configurations, and a session
// to be taken up, since the agreement upon new keys takes longer than all the rest.
type tlsBase struct {
	server, client *tls.Config
	session        *tls.ClientSessionState
	master         []byte // its secret, in TLS 1.2
}

var tlsBases = sync.OnceValue(func() map[string]*tlsBase {
	all := map[string]*tlsBase{}
	certificate := selfSigned()
	for name, version := range tlsVersions {
		common := &tls.Config{
			MinVersion: version, MaxVersion: version, CurvePreferences: []tls.CurveID{tls.X25519},
			CipherSuites: []uint16{suite}, Time: func() time.Time { return tlsTime },
		}
		b := &tlsBase{server: common.Clone(), client: common.Clone()}
		b.server.Certificates = []tls.Certificate{certificate}
		b.server.SetSessionTicketKeys([][32]byte{{1}})
		b.client.ServerName, b.client.InsecureSkipVerify = "server.test", true
		b.makeSession()
		all[name] = b
	}
	return all
})

// selfSigned returns a certificate, the same each time.
func selfSigned() tls.Certificate {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "server.test"},
		DNSNames: []string{"server.test"}, NotBefore: tlsTime, NotAfter: tlsTime.Add(time.Hour),
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// makeSession makes a connection for the sake of its session.
func (b *tlsBase) makeSession() {
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		_, _ = tls.Server(there, b.server).Write([]byte{0})
	}()
	config := b.client.Clone()
	sessions := tls.NewLRUClientSessionCache(1)
	config.ClientSessionCache = sessions
	var keys strings.Builder
	config.KeyLogWriter = &keys
	c := tls.Client(here, config)
	if _, err := c.Read(make([]byte, 1)); err != nil {
		panic(err)
	}
	b.session, _ = sessions.Get("server.test")
	b.master = logged(keys.String(), masterSecret)
}

// tlsWorld is what the connections with TLS of one world have in common.
type tlsWorld struct {
	buffers tlsconn.Buffers
	logging *tlsPeer // whose handshake is going on
}

// sessions are those that clients know: one for each server, or none.
type sessions struct {
	world   *World
	session *tls.ClientSessionState
}

// Get returns the session, unless the world has forgotten it.
func (s sessions) Get(string) (*tls.ClientSessionState, bool) {
	if s.world.strikes(FullHandshake) {
		return nil, false
	}
	return s.session, true
}

// Put forgets a session: the one that there is does for all.
func (s sessions) Put(string, *tls.ClientSessionState) {}

// frontTLS and backTLS are the engine's configurations towards its clients and towards servers, nil for no
// TLS.
func (w *World) frontTLS() *tls.Config {
	if w.scenario.TLSClient == "" {
		return nil
	}
	return tlsBases()[w.scenario.TLSClient].server
}

func (w *World) backTLS() *tls.Config {
	if w.scenario.TLSServer == "" {
		return nil
	}
	return w.clientTLS(w.scenario.TLSServer)
}

// clientTLS returns the configuration of clients of a version.
func (w *World) clientTLS(version string) *tls.Config {
	b := tlsBases()[version]
	c := b.client.Clone()
	c.ClientSessionCache = sessions{w, b.session}
	return c
}

// peerTLS returns the configuration of a peer, which logs its keys.
func (w *World) peerTLS(version string, client bool) *tls.Config {
	var c *tls.Config
	if client {
		c = w.clientTLS(version)
	} else {
		c = tlsBases()[version].server.Clone()
	}
	c.KeyLogWriter = keyLog{w}
	return c
}

// keyLog gives the keys of a peer to it.
type keyLog struct{ world *World }

func (k keyLog) Write(line []byte) (int, error) { return k.world.tls.logging.keys.Write(line) }
