package main

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
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority issues certificates into a directory.
type authority struct {
	t         *testing.T
	directory string
	cert      *x509.Certificate
	key       crypto.Signer
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, directory: openDirectory(t), key: newECDSA(t)}
	a.cert = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Test Root"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}, a.key.Public())
	a.write("ca.pem", block("CERTIFICATE", a.cert.Raw))
	return a
}

func newECDSA(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRSA(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func block(kind string, raw []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}))
}

func (a *authority) sign(template *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	a.t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = serial
	// As clients demand it today: for less than 398 days.
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().AddDate(0, 0, 300)
	parent := a.cert
	if parent == nil {
		parent = template
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, public, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	c, err := x509.ParseCertificate(raw)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// issue writes a certificate for a name with its key and returns the name of the file.
func (a *authority) issue(file, name string, key crypto.Signer) string {
	a.t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		KeyUsage: x509.KeyUsageDigitalSignature, CRLDistributionPoints: []string{"http://ca.example/crl"}}
	c := a.sign(template, key.Public())
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.write(file, block("CERTIFICATE", c.Raw)+block("PRIVATE KEY", raw))
}

func (a *authority) path(file string) string { return filepath.Join(a.directory, file) }

func (a *authority) write(file, text string) string {
	a.t.Helper()
	if err := os.WriteFile(a.path(file), []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return a.path(file)
}

// startTLS runs a proxy in front of an HTTP server that says "hello". In the lines, which follow those of
// section defaults, DIR is the directory of the authority, PORTn the nth port and BACKEND the server.
func (a *authority) startTLS(lines string) (p *proxy, ports []string) {
	a.t.Helper()
	backend := startHello(a.t)
	socket := a.path("api")
	text := fmt.Sprintf("global\n stats socket %s level admin\n nbthread 2\n log stdout format raw daemon\n"+
		"defaults\n log global\n option tcplog\n timeout connect 10s\n timeout client 30s\n"+
		" timeout server 30s\n%s", socket, lines)
	for i := 1; strings.Contains(text, fmt.Sprint("PORT", i)); i++ {
		ports = append(ports, freePort(a.t))
		text = strings.ReplaceAll(text, fmt.Sprint("PORT", i), "127.0.0.1:"+ports[i-1])
	}
	text = strings.NewReplacer("DIR", a.directory, "BACKEND", backend).Replace(text)
	return startProxy(a.t, socket, a.write("cfg", text), nil, nil), ports
}

// startHello runs a server of HTTP that answers everything with "hello".
func startHello(t *testing.T) (address string) {
	t.Helper()
	return serve(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096)) // whatever it asks
		_, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	})
}

// curl asks for a name at a port and returns what it prints and its exit code.
func (a *authority) curl(name, port string, arguments ...string) output {
	a.t.Helper()
	arguments = append([]string{"-sS", "--max-time", "30", "--cacert", a.path("ca.pem"), "--resolve",
		name + ":" + port + ":127.0.0.1", "https://" + name + ":" + port + "/"}, arguments...)
	return execute(a.t, need(a.t, "curl"), arguments...)
}

// TestTLSOnBothSides: clients of every kind reach a server through a listener with TLS, and another listener
// reaches that one by TLS.
func TestTLSOnBothSides(t *testing.T) {
	a := newAuthority(t)
	a.issue("rsa.pem", "rsa.example", newRSA(t))
	a.issue("ecdsa.pem", "ecdsa.example", newECDSA(t))
	a.issue("client.pem", "client", newECDSA(t))
	p, ports := a.startTLS(`
listen tls
 bind PORT1 ssl crt DIR/rsa.pem crt DIR/ecdsa.pem alpn http/1.1
 server s BACKEND
listen plain
 bind PORT2
 server good PORT1 ssl ca-file DIR/ca.pem sni str(ecdsa.example)
listen wrong
 bind PORT3
 server bad PORT1 ssl ca-file DIR/ca.pem verifyhost other.example
listen mutual
 bind PORT4 ssl crt DIR/rsa.pem ca-file DIR/ca.pem verify required
 server s BACKEND
listen shown
 bind PORT5
 server s PORT4 ssl verify none crt DIR/client.pem
`)
	for _, name := range []string{"rsa.example", "ecdsa.example"} {
		for _, version := range []string{"1.2", "1.3"} {
			o := a.curl(name, ports[0], "--tlsv"+version, "--tls-max", version)
			if o.out != "hello" || o.code != 0 {
				t.Errorf("%s, TLS %s: %d %q %s", name, version, o.code, o.out, o.errors)
			}
		}
	}
	if o := a.curl("rsa.example", ports[0], "--tls-max", "1.1"); o.code == 0 {
		t.Error("TLS 1.1 is spoken")
	}
	o := execute(t, need(t, "curl"), "-sS", "--max-time", "30", "http://127.0.0.1:"+ports[0]+"/")
	if o.code == 0 || o.out == "hello" {
		t.Errorf("a listener with TLS serves a client without: %q", o.out)
	}
	for port, want := range map[string]string{ports[1]: "hello", ports[2]: "", ports[4]: "hello"} {
		o := execute(t, need(t, "curl"), "-sS", "--max-time", "30", "http://127.0.0.1:"+port+"/")
		if o.out != want {
			t.Errorf("to a server by TLS: %q %s, want %q", o.out, o.errors, want)
		}
	}
	if o := a.curl("rsa.example", ports[3]); o.out == "hello" || o.code == 0 {
		t.Errorf("without a certificate a client is served: %q", o.out)
	}
	if o := a.curl("rsa.example", ports[3], "--cert", a.path("client.pem")); o.out != "hello" {
		t.Errorf("with a certificate: %d %q %s", o.code, o.out, o.errors)
	}
	s := execute(t, need(t, "openssl"), "s_client", "-connect", "127.0.0.1:"+ports[0], "-servername",
		"ecdsa.example", "-alpn", "h2,http/1.1", "-CAfile", a.path("ca.pem"), "-verify_return_error")
	for _, want := range []string{"ALPN protocol: http/1.1", "CN = ecdsa.example",
		"Verify return code: 0 (ok)"} {
		if !strings.Contains(s.out, want) {
			t.Errorf("s_client does not say %q:\n%s%s", want, s.out, s.errors)
		}
	}
	eventually(t, "all connections to be closed", func() bool { return p.info("CurrSslConns") == 0 })
	if n := p.info("CumSslConns"); n < 12 {
		t.Errorf("%d connections with TLS were counted", n)
	}
}

// TestAThousandNames: each client is shown the certificate for the name that it asks for.
func TestAThousandNames(t *testing.T) {
	a := newAuthority(t)
	key := newECDSA(t)
	var list strings.Builder
	for i := range 1000 {
		list.WriteString(a.issue(fmt.Sprintf("%d.pem", i), fmt.Sprintf("n%d.example", i), key) + "\n")
	}
	a.write("list", list.String())
	_, ports := a.startTLS("listen l\n bind PORT1 ssl crt-list DIR/list strict-sni\n server s BACKEND\n")
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	for i := 0; i < 1000; i += 37 {
		name := fmt.Sprintf("n%d.example", i)
		c, err := tls.Dial("tcp", "127.0.0.1:"+ports[0], &tls.Config{ServerName: name, RootCAs: roots})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		c.Close()
	}
	_, err := tls.Dial("tcp", "127.0.0.1:"+ports[0], &tls.Config{ServerName: "other.example", RootCAs: roots})
	if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("for a name that is not there: %v", err)
	}
}

// TestACertificateIsReplacedWithoutAReload: new connections are shown the new one, an old one goes on, and
// sessions are taken up again.
func TestACertificateIsReplacedWithoutAReload(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", "a.example", newECDSA(t))
	a.issue("new.pem", "new.example", newECDSA(t))
	p, ports := a.startTLS("listen l\n bind PORT1 ssl crt DIR/a.pem\n server s BACKEND\n")
	client := &tls.Config{ServerName: "a.example", InsecureSkipVerify: true,
		ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	dial := func() *tls.Conn {
		t.Helper()
		c, err := tls.Dial("tcp", "127.0.0.1:"+ports[0], client)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(patience)) // a socket takes any
		t.Cleanup(func() { c.Close() })
		return c
	}
	shows := func(c *tls.Conn) string { return c.ConnectionState().PeerCertificates[0].Subject.CommonName }
	get := func(c *tls.Conn) string {
		t.Helper()
		if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		return string(answer)
	}
	before := dial()
	text, err := os.ReadFile(a.path("new.pem"))
	if err != nil {
		t.Fatal(err)
	}
	api, err := net.Dial("unix", a.path("api"))
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	_, err = fmt.Fprintf(api, "set ssl cert %s <<\n%s\ncommit ssl cert %[1]s\n", a.path("a.pem"), text)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(api)
	if err != nil || !strings.Contains(string(answer), "Success!") {
		t.Fatalf("%v, answered %q", err, answer)
	}
	after := dial()
	if shows(before) != "a.example" || shows(after) != "new.example" {
		t.Errorf("before the change %s is shown, after it %s", shows(before), shows(after))
	}
	for _, c := range []*tls.Conn{before, after} {
		if got := get(c); !strings.HasSuffix(got, "hello") {
			t.Errorf("a connection brings %q", got)
		}
	}
	if again := dial(); !again.ConnectionState().DidResume || !strings.HasSuffix(get(again), "hello") {
		t.Error("the session is not taken up again")
	}
	if full, all := p.info("SslFrontendMaxKeyRate"), p.info("CumSslConns"); full > 2 || full < 1 || all != 3 {
		t.Errorf("%d connections, at most %d keys in a second", all, full)
	}
	secret := strings.Split(string(text), "-----BEGIN PRIVATE KEY-----\n")[1][:30]
	p.stop(t)
	if strings.Contains(p.said(), secret) {
		t.Errorf("a key is in the log:\n%s", p.said())
	}
}

// TestTLSIsCounted: the fields of "show info". HAProxy 2.6.12 has the same numbers after the same, only that
// each of its threads begins a session of its own with a server.
func TestTLSIsCounted(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", "a.example", newECDSA(t))
	p, ports := a.startTLS(`
global
 maxsslconn 100
 maxsslrate 200
listen inner
 bind PORT1 ssl crt DIR/a.pem no-tls-tickets
 server s BACKEND
listen outer
 bind PORT2
 server s PORT1 ssl verify none
`)
	client := &tls.Config{ServerName: "a.example", InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	open, err := tls.Dial("tcp", "127.0.0.1:"+ports[0], client)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	again, err := tls.Dial("tcp", "127.0.0.1:"+ports[0], client)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	expect := func(when string, fields map[string]int) {
		t.Helper()
		for field, want := range fields {
			if got := p.info(field); got != want {
				t.Errorf("%s %s is %d, want %d", when, field, got, want)
			}
		}
	}
	eventually(t, "both handshakes to be over", func() bool { return p.info("CurrSslConns") == 2 })
	expect("with a session resumed,", map[string]int{
		"CumSslConns": 2, "SslCacheLookups": 1, "SslCacheMisses": 0, "MaxSslConns": 100, "SslRateLimit": 200,
		"SslBackendMaxKeyRate": 0, "SslServerSessionLookups": 0,
	})
	for range 2 {
		o := execute(t, need(t, "curl"), "-sS", "--max-time", "30", "http://127.0.0.1:"+ports[1]+"/")
		if o.out != "hello" {
			t.Fatalf("through both listeners: %q %s", o.out, o.errors)
		}
	}
	expect("with two connections to a server,", map[string]int{
		"CumSslConns": 6, "SslCacheLookups": 2, "SslCacheMisses": 0,
		"SslServerSessionLookups": 2, "SslServerSessionMisses": 1,
	})
	for _, field := range []string{"MaxSslRate", "SslFrontendMaxKeyRate", "SslBackendMaxKeyRate"} {
		if p.info(field) == 0 {
			t.Errorf("%s is 0", field)
		}
	}
}
