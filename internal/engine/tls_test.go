package engine

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	random "math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/tlsconn"
)

// testTLS returns the configurations of both sides of a connection of the version; the server's certificate
// is its own authority.
func testTLS(version uint16) (server, client *tls.Config) {
	server = &tls.Config{
		Certificates: []tls.Certificate{testCertificate.pair}, MinVersion: version, MaxVersion: version,
	}
	client = &tls.Config{
		ServerName: "server.test", RootCAs: testCertificate.pool, MinVersion: version, MaxVersion: version,
	}
	return server, client
}

var testCertificate = selfSigned()

type certificate struct {
	pair tls.Certificate
	pool *x509.CertPool
}

func selfSigned() certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "server.test"},
		DNSNames: []string{"server.test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return certificate{tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool}
}

// halfConn is what both a TCP and a TLS connection are.
type halfConn interface {
	net.Conn
	CloseWrite() error
}

// serveTLS runs a server that speaks TLS.
func serveTLS(t *testing.T, config *tls.Config, f func(halfConn)) string {
	t.Helper()
	return serve(t, func(c *net.TCPConn) {
		if config == nil {
			f(c)
			return
		}
		s := tls.Server(c, config)
		f(s)
		s.Close()
	})
}

// secureEnds are the ends that speak TLS.
var secureEnds = []struct {
	name           string
	client, server bool
}{
	{"towards the client", true, false},
	{"towards the server", false, true},
	{"on both sides", true, true},
}

// eachEnd runs a test with each version at each end.
func eachEnd(t *testing.T, run func(t *testing.T, front, back settingsTLS)) {
	t.Helper()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, ends := range secureEnds {
			t.Run(tls.VersionName(version)+" "+ends.name, func(t *testing.T) {
				var front, back settingsTLS
				server, client := testTLS(version)
				if ends.client {
					front = settingsTLS{server, client}
				}
				if ends.server {
					back = settingsTLS{server, client}
				}
				run(t, front, back)
			})
		}
	}
}

// settingsTLS are the configurations of the two ends of a connection, nil for none.
type settingsTLS struct{ server, client *tls.Config }

// dialTLS connects a client.
func (p *proxy) dialTLS(config *tls.Config) halfConn {
	p.t.Helper()
	c := p.dial()
	if config == nil {
		return c
	}
	return tls.Client(c, config)
}

func TestTLSBytesArriveInBothDirections(t *testing.T) {
	eachEnd(t, func(t *testing.T, front, back settingsTLS) {
		address := serveTLS(t, back.server, func(c halfConn) {
			_, _ = io.Copy(c, c)
			_ = c.CloseWrite()
		})
		p := start(t, settings{workers: 2, tls: front.server, serverTLS: back.client}, address)
		const size = 3<<20 + 1
		var clients sync.WaitGroup
		for i := range 4 {
			clients.Go(func() {
				c := p.dialTLS(front.client)
				sent, got := sha256.New(), sha256.New()
				clients.Go(func() {
					source := random.NewChaCha8([32]byte{byte(i)})
					if _, err := io.CopyN(io.MultiWriter(c, sent), source, size); err != nil {
						t.Error(err)
					}
					if err := c.CloseWrite(); err != nil {
						t.Error(err)
					}
				})
				n, err := io.Copy(got, c)
				if err != nil || n != size || !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
					t.Errorf("got %d bytes of %d back, or others: %v", n, size, err)
				}
				c.Close()
			})
		}
		clients.Wait()
		for _, r := range p.ended(4) {
			if r.Ending.String() != "--" || r.FromClient != size || r.ToClient != size {
				t.Errorf("logged %s with %d bytes up and %d down, should be -- and %d", r.Ending,
					r.FromClient, r.ToClient, size)
			}
		}
	})
}

// TestTLSConversation: a server that speaks first, small messages, and the end of each direction by itself.
func TestTLSConversation(t *testing.T) {
	eachEnd(t, func(t *testing.T, front, back settingsTLS) {
		address := serveTLS(t, back.server, func(c halfConn) {
			_, _ = io.WriteString(c, banner)
			p := make([]byte, 4)
			for {
				if _, err := io.ReadFull(c, p); err != nil {
					break
				}
				_, _ = c.Write(p)
			}
			_, _ = io.WriteString(c, "bye")
			_ = c.CloseWrite()
		})
		p := start(t, settings{tls: front.server, serverTLS: back.client}, address)
		c := p.dialTLS(front.client)
		got := make([]byte, len(banner))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != banner {
			t.Fatalf("the greeting is %q: %v", got, err)
		}
		for i := range 100 {
			message := fmt.Sprintf("%04d", i)
			_, _ = io.WriteString(c, message)
			if _, err := io.ReadFull(c, got[:4]); err != nil || string(got[:4]) != message {
				t.Fatalf("message %s: %q came back: %v", message, got[:4], err)
			}
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(c); err != nil || string(rest) != "bye" {
			t.Fatalf("after the end: %q, %v", rest, err)
		}
		c.Close()
		if r := p.ended(1)[0]; r.Ending.String() != "--" {
			t.Errorf("it ended with %s", r.Ending)
		}
	})
}

// TestTLSBackpressure: bytes that wait in the TLS layer, in the channel and in what was sealed, in front of a
// peer that does not read for a while, are all there when it does. Meanwhile nothing is woken in vain.
func TestTLSBackpressure(t *testing.T) {
	eachEnd(t, func(t *testing.T, front, back settingsTLS) {
		const size = 24 << 20
		read := make(chan struct{})
		sums := make(chan []byte, 1)
		address := serveTLS(t, back.server, func(c halfConn) {
			_, _ = c.Read(make([]byte, 1))
			<-read
			sum := sha256.New()
			_, _ = io.Copy(sum, c)
			sums <- sum.Sum(nil)
		})
		p := start(t, settings{tls: front.server, serverTLS: back.client}, address)
		c := p.dialTLS(front.client)
		sent := sha256.New()
		var writing sync.WaitGroup
		writing.Go(func() {
			_, _ = c.Write([]byte{0})
			if _, err := io.CopyN(io.MultiWriter(c, sent), random.NewChaCha8([32]byte{}), size); err != nil {
				t.Error(err)
			}
			_ = c.CloseWrite()
		})
		var before StreamView
		eventually(t, "the stream to stand still", func() bool {
			v := p.views()
			still := len(v) == 1 && v[0].Request.Total > 0 && v[0].Request == before.Request &&
				v[0].Account == before.Account && v[0].Ends[stream.Server].WantsWrite
			if len(v) == 1 {
				before = v[0]
			}
			time.Sleep(10 * time.Millisecond)
			return still
		})
		if before.Account.Charged > 0 {
			t.Errorf("%d wakeups were in vain", before.Account.Charged)
		}
		close(read)
		writing.Wait()
		if sum := <-sums; !bytes.Equal(sum, sent.Sum(nil)) {
			t.Error("other bytes arrived than were sent")
		}
		c.Close()
		p.ended(1)
	})
}

// recordHello returns the first bytes that a client sends.
func recordHello(t *testing.T, config *tls.Config) []byte {
	t.Helper()
	here, there := net.Pipe()
	defer there.Close()
	go func() {
		_ = tls.Client(here, config).Handshake()
		here.Close()
	}()
	hello := make([]byte, 5)
	if _, err := io.ReadFull(there, hello); err != nil {
		t.Fatal(err)
	}
	rest := make([]byte, int(hello[3])<<8|int(hello[4]))
	if _, err := io.ReadFull(there, rest); err != nil {
		t.Fatal(err)
	}
	return append(hello, rest...)
}

// TestTLSClientHandshakeIsCut: at every byte of its hello, by an end, by a reset, and by silence.
func TestTLSClientHandshakeIsCut(t *testing.T) {
	server, client := testTLS(tls.VersionTLS13)
	client.CurvePreferences = []tls.CurveID{tls.X25519}
	kernel := newClock()
	p := start(t, settings{kernel: kernel, tls: server, change: func(_ *config.Config, p *config.Proxy) {
		p.Timeouts.ClientHS = 3 * time.Second
	}}, refusing(t))
	hello := recordHello(t, client)
	for at := range len(hello) {
		for _, reset := range []bool{false, true} {
			c := p.dial()
			if _, err := c.Write(hello[:at]); err != nil {
				t.Fatal(err)
			}
			if reset {
				_ = c.SetLinger(0)
			}
			c.Close()
		}
	}
	n := 2 * len(hello)
	for _, r := range p.ended(n) {
		cause := tlsconn.CauseNone
		if e, is := errors.AsType[*tlsconn.Error](r.Handshake); is {
			cause = e.Cause
		}
		switch cause {
		case tlsconn.CauseClosed, tlsconn.CauseCut, tlsconn.CauseBroken:
		default:
			t.Fatalf("a handshake that was cut is recorded with %v", r.Handshake)
		}
		if r.Ending.String() != "CR" || r.Event != RecordHandshake {
			t.Fatalf("a handshake that was cut ended with %s, event %d", r.Ending, r.Event)
		}
	}
	const silents = 20
	for i := range silents {
		c := p.dial()
		if _, err := c.Write(hello[:len(hello)*i/silents]); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the silent clients", func() bool { return len(p.views()) == silents })
	for _, v := range p.views() {
		if v.Ends[stream.Client].TLS.State != evidence.TLSHandshake || v.ServerState != stream.Initial {
			t.Fatalf("a silent client: TLS %q, server %v", v.Ends[stream.Client].TLS, v.ServerState)
		}
	}
	kernel.now.Add(int64(3 * time.Second))
	p.engine.kernel.Wake(p.engine.workers[0].waker)
	for _, r := range p.ended(n + silents)[n:] {
		if r.Ending.String() != "cR" || r.Event != RecordHandshake {
			t.Fatalf("a handshake that took too long ended with %s, event %d", r.Ending, r.Event)
		}
	}
}

// TestTLSServerHandshakeFails: in every way, and ends as a connection that failed, after the retries. Where a
// server does not agree, somebody is told, and once.
func TestTLSServerHandshakeFails(t *testing.T) {
	tests := []struct {
		name string
		f    func(*net.TCPConn)
		want tlsconn.Cause
	}{
		{"it closes", func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 5)) }, tlsconn.CauseNone},
		{"it resets", func(c *net.TCPConn) {
			_, _ = c.Read(make([]byte, 1)) // before that it would be the connect that fails
			_ = c.SetLinger(0)
		}, tlsconn.CauseBroken},
		{"it speaks SMTP", greet, tlsconn.CauseNotTLS},
		{"it alerts", func(c *net.TCPConn) {
			_, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, 40})
			_, _ = io.Copy(io.Discard, c)
		}, tlsconn.CauseAlert},
		{"it has another name", func(c *net.TCPConn) {
			server, _ := testTLS(tls.VersionTLS13)
			_ = tls.Server(c, server).Handshake()
		}, tlsconn.CauseUntrusted},
	}
	for _, test := range tests {
		_, client := testTLS(tls.VersionTLS13)
		client.ServerName = "other.test"
		address := serve(t, test.f)
		p := start(t, settings{serverTLS: client, change: func(_ *config.Config, p *config.Proxy) {
			p.Retries = 1
			p.Timeouts.Connect = 20 * time.Millisecond // the pause before the next attempt
			if test.name == "it has another name" {
				p.Timeouts.Connect = patience
				p.Retries = 0
			}
		}}, address)
		c := p.dial()
		if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
			t.Errorf("%s: the client read %q, %v", test.name, rest, err)
		}
		r := p.ended(1)[0]
		end := r.Ending.String()
		if end != "SC" && end != "sC" || r.Retries != 1 && test.want != tlsconn.CauseUntrusted {
			t.Errorf("%s: it ended with %s after %d retries", test.name, end, r.Retries)
		}
		var cause tlsconn.Cause
		if e, is := errors.AsType[*tlsconn.Error](r.Handshake); is {
			cause = e.Cause
		}
		if test.want != tlsconn.CauseNone && cause != test.want && r.Ending.By == 'S' {
			t.Errorf("%s: the failure is %v, want the cause %q", test.name, r.Handshake, test.want)
		}
		told := fmt.Sprintf("backend mail: TLS with server s1 (%s) fails: %v: ", address, test.want)
		got := strings.Join(p.alerts, "; ")
		switch {
		case !test.want.Disagrees() && got != "":
			t.Errorf("%s: the operator is told %q", test.name, got)
		case got == "" && r.Ending.By == 's': // the timeout passed first
		case test.want.Disagrees() && (!strings.HasPrefix(got, told) || len(p.alerts) > 1):
			t.Errorf("%s: the operator is told %q, want %q", test.name, got, told)
		}
	}
}

// TestTLSServerRefusesOurCertificate: in TLS 1.3 it says so after the handshake.
func TestTLSServerRefusesOurCertificate(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		server, client := testTLS(version)
		server.ClientAuth = tls.RequireAnyClientCert
		address := serve(t, func(c *net.TCPConn) {
			_ = tls.Server(c, server).Handshake()
			_ = c.CloseWrite()
			_, _ = io.Copy(io.Discard, c)
		})
		p := start(t, settings{serverTLS: client, change: func(_ *config.Config, p *config.Proxy) {
			p.Retries = 0
		}}, address)
		c := p.dial()
		if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
			t.Errorf("%s: the client read %q, %v", tls.VersionName(version), rest, err)
		}
		c.Close()
		p.ended(1)
		const want = "TLS with server s1 (ADDRESS) fails: alert received: remote error: tls: "
		if got := strings.Join(p.alerts, "; "); !strings.Contains(strings.ReplaceAll(got, address, "ADDRESS"),
			want) {
			t.Errorf("%s: the operator is told %q", tls.VersionName(version), got)
		}
	}
}

// blocking is a connection that blocks, as a socket of package tlsconn.
type blocking struct{ net.Conn }

func (b blocking) Send(p []byte) { _, _ = b.Write(p) }

type reader func(p []byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }

// TestTLSTruncation: a peer that closes within a record has not ended its data, and the other side can tell.
func TestTLSTruncation(t *testing.T) {
	partial := []byte{23, 3, 3, 0, 100, 1, 2, 3}
	server, client := testTLS(tls.VersionTLS13)
	t.Run("by the server", func(t *testing.T) {
		address := serve(t, func(c *net.TCPConn) {
			s := tls.Server(c, server)
			_, _ = io.WriteString(s, "whole")
			_, _ = c.Write(partial)
		})
		p := start(t, settings{tls: server, serverTLS: client}, address)
		raw := p.dial()
		c := tlsconn.Client(client, blocking{raw}, &tlsconn.Buffers{})
		if done, err := c.Handshake(); !done {
			t.Fatal(err)
		}
		data, err := io.ReadAll(reader(c.Read))
		if string(data) != "whole" || err != nil || !c.Unannounced() {
			t.Errorf("the client read %q, %v; it was told that this is all: %t", data, err, !c.Unannounced())
		}
		raw.Close()
		if r := p.ended(1)[0]; r.Ending.String() != "SD" {
			t.Errorf("it ended with %s, should be SD", r.Ending)
		}
	})
	t.Run("by the client", func(t *testing.T) {
		ends := make(chan error, 1)
		address := serve(t, func(c *net.TCPConn) {
			_, _ = io.WriteString(c, banner)
			_, err := io.Copy(io.Discard, c)
			ends <- err
		})
		p := start(t, settings{tls: server}, address)
		raw := p.dial()
		c := tls.Client(raw, client)
		if _, err := io.ReadFull(c, make([]byte, len(banner))); err != nil {
			t.Fatal(err)
		}
		_, _ = raw.Write(partial)
		raw.Close()
		if r := p.ended(1)[0]; r.Ending.String() != "CD" {
			t.Errorf("it ended with %s, should be CD", r.Ending)
		}
		if err := <-ends; err == nil {
			t.Error("the server was told of an orderly end")
		}
	})
}

// TestTLSCountersReturnToZero: and an engine stops in the middle of a handshake.
func TestTLSCountersReturnToZero(t *testing.T) {
	t.Cleanup(func() {
		stacks := make([]byte, 1<<20)
		if strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "tlsconn.(*Conn).shake") {
			t.Error("the engine has stopped and the coroutine of a handshake is left")
		}
	})
	server, client := testTLS(tls.VersionTLS13)
	address := serveTLS(t, server, func(c halfConn) { _, _ = io.Copy(c, c) })
	p := start(t, settings{tls: server, serverTLS: client}, address)
	client = client.Clone()
	client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	for range 5 {
		c := p.dialTLS(client)
		if _, err := io.WriteString(c, "ping"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	p.ended(5)
	counts := p.engine.TLS()
	all := [2]uint64{5, 5}
	if counts.Current != [2]int{} || counts.Cumulated != all || counts.Handshakes != all ||
		counts.Resumed[stream.Client] != 4 || counts.Failed != 0 {
		t.Errorf("after 5 connections, 4 of which took up a session: %+v", counts)
	}
	half := p.dial()
	if _, err := half.Write(recordHello(t, client)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a handshake to be under way", func() bool {
		return p.engine.TLS().Current[stream.Client] == 1
	})
}

// TestTLSLastBytesAndTheEndInOneEvent: the descriptor says only once that it is at its end.
func TestTLSLastBytesAndTheEndInOneEvent(t *testing.T) {
	server, client := testTLS(tls.VersionTLS13)
	kernel := newClock()
	p := start(t, settings{kernel: kernel, tls: server}, serve(t, echo))
	raw := p.dial()
	c := tls.Client(raw, client)
	ping := make([]byte, 4)
	if _, err := c.Write(ping); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, ping); err != nil {
		t.Fatal(err)
	}
	kernel.inOneBatch(t, p.engine, func() {
		if _, err := c.Write(ping); err != nil {
			t.Error(err)
		}
		if err := raw.CloseWrite(); err != nil {
			t.Error(err)
		}
	})
	if rest, err := io.ReadAll(c); err != nil || len(rest) != len(ping) {
		t.Errorf("%d bytes came back, then %v", len(rest), err)
	}
	p.ended(1)
}
