package certificate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
)

// patience bounds every wait for a condition. A test that reaches it has hung.
const patience = 30 * time.Second

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// authority issues certificates.
type authority struct {
	t      *testing.T
	dir    string
	cert   *x509.Certificate
	key    crypto.Signer
	serial int64
}

// rsaKey is one for all certificates of RSA: making one takes long.
var rsaKey = sync.OnceValue(func() crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func ecKey() crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

// newAuthority makes one whose files are in a directory of the test.
func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir(), key: ecKey()}
	a.cert = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Test Root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, a.key)
	a.write("ca.pem", certPEM(a.cert))
	return a
}

// sign issues a certificate that is valid for an hour, unless it says otherwise.
func (a *authority) sign(template *x509.Certificate, key crypto.Signer) *x509.Certificate {
	a.t.Helper()
	a.serial++
	template.SerialNumber = big.NewInt(a.serial)
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Hour)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent := a.cert
	if parent == nil {
		parent = template
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	must(a.t, err)
	c, err := x509.ParseCertificate(raw)
	must(a.t, err)
	return c
}

// issue issues one for names and writes it, with its key, into a file whose name it returns.
func (a *authority) issue(file string, key crypto.Signer, names ...string) string {
	a.t.Helper()
	c := a.sign(&x509.Certificate{DNSNames: names, Subject: pkix.Name{CommonName: names[0]}}, key)
	return a.write(file, certPEM(c)+keyPEM(key))
}

func certPEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func keyPEM(key crypto.Signer) string {
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
}

// path returns the name of a file of the authority.
func (a *authority) path(file string) string { return filepath.Join(a.dir, file) }

func (a *authority) write(file, text string) string {
	a.t.Helper()
	must(a.t, os.WriteFile(a.path(file), []byte(text), 0o600))
	return a.path(file)
}

func (a *authority) read(file string) string {
	a.t.Helper()
	text, err := os.ReadFile(a.path(file))
	must(a.t, err)
	return string(text)
}

// parse reads a configuration in which DIR stands for the directory of the authority. It begins with lines of
// section global, then has those after bind and those after server in turn, separated by "|".
func (a *authority) parse(global, bind, server string) *config.Config {
	a.t.Helper()
	text := "global\n " + global + "\ndefaults\n timeout client 1s\n timeout connect 1s\n" +
		" timeout server 1s\nlisten l\n"
	for i, options := range strings.Split(bind, "|") {
		text += " bind 127.0.0.1:" + string(rune('1'+i)) + " " + options + "\n"
	}
	for i, options := range strings.Split(server, "|") {
		text += " server s" + string(rune('1'+i)) + " 127.0.0.1:25 " + options + "\n"
	}
	text = strings.ReplaceAll(text, "DIR", a.dir)
	c, err := config.Parse([]config.File{{Name: "t.cfg", Text: []byte(text)}}, config.Options{})
	must(a.t, err)
	return c
}

// clock is a clock that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// load loads a configuration that has no mistakes.
func (a *authority) load(c *config.Config, now func() time.Time) *Store {
	a.t.Helper()
	s, warnings, err := Load(c, now)
	must(a.t, err)
	if len(warnings) > 0 {
		a.t.Errorf("warnings: %q", warnings)
	}
	return s
}

// bound loads one bind line and returns its settings, too.
func (a *authority) bound(global, bind string) (*Store, *tls.Config) {
	a.t.Helper()
	c := a.parse(global, bind, "")
	s := a.load(c, time.Now)
	return s, s.Listener(c.Proxies[0].Binds[0].TLS)
}

// pair returns the two ends of a connection. A pipe in the program would not do: both ends may write at once.
func pair() (near, far net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err == nil {
		far, err = l.Accept()
	}
	if err != nil {
		panic(err)
	}
	deadline := time.Now().Add(patience)
	if err := errors.Join(near.SetDeadline(deadline), far.SetDeadline(deadline)); err != nil {
		panic(err)
	}
	return near, far
}

// shake makes a connection between a client and a server, sends a byte each way, so that tickets arrive, and
// returns what both ends say of it.
func shake(client, server *tls.Config) (c, s tls.ConnectionState, clientErr, serverErr error) {
	near, far := pair()
	defer near.Close()
	defer far.Close()
	ended := make(chan struct{})
	there := tls.Server(far, server)
	go func() {
		defer close(ended)
		if serverErr = there.Handshake(); serverErr == nil {
			_, serverErr = io.CopyN(there, there, 1)
		}
		s = there.ConnectionState()
		far.Close()
	}()
	here := tls.Client(near, client)
	if clientErr = here.Handshake(); clientErr == nil {
		if _, clientErr = here.Write([]byte("x")); clientErr == nil {
			_, clientErr = io.ReadFull(here, make([]byte, 1))
		}
	}
	c = here.ConnectionState()
	near.Close()
	<-ended
	return c, s, clientErr, serverErr
}

// asks is a client that asks for a name and takes any certificate.
func asks(name string) *tls.Config { return &tls.Config{ServerName: name, InsecureSkipVerify: true} }

// shown returns the name in the certificate that a client is shown, or the error.
func shown(client, server *tls.Config) string {
	c, _, err, _ := shake(client, server)
	if err != nil {
		return err.Error()
	}
	return c.PeerCertificates[0].Subject.CommonName
}
