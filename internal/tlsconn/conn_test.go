package tlsconn

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"
)

func TestByteByByte(t *testing.T) {
	variants(t, func(t *testing.T, version uint16, server bool) {
		serverConfig, clientConfig := configs(version)
		l := newLink(t, serverConfig, clientConfig, server)
		var got []byte
		for l.limit = 0; ; l.limit++ {
			l.shake()
			if l.peer.Done() && !l.peer.closed {
				l.talk()
				l.carry()
			}
			if l.tested.Done() {
				data, err := drain(l.tested)
				got = append(got, data...)
				if err == io.EOF {
					break
				}
				if err != ErrWouldBlock {
					t.Fatalf("after %d bytes: %v", l.carried, err)
				}
			}
			if l.mineErr != nil || l.peerErr != nil || l.limit > 1<<16 {
				t.Fatalf("after %d bytes: tested %v, peer %v", l.carried, l.mineErr, l.peerErr)
			}
		}
		if string(got) != twoRecords[0]+twoRecords[1] || l.tested.Unannounced() {
			t.Errorf("read %q, unannounced %t", got, l.tested.Unannounced())
		}
	})
}

// TestLargeTransfers: both directions at once, in pieces of any size, with sockets that give any part of what
// they have.
func TestLargeTransfers(t *testing.T) {
	variants(t, func(t *testing.T, version uint16, server bool) {
		random := rand.New(rand.NewPCG(1, 2))
		serverConfig, clientConfig := configs(version)
		l := newLink(t, serverConfig, clientConfig, server)
		l.mustShake()
		data := make([]byte, 1<<20)
		for i := range data {
			data[i] = byte(random.Uint32())
		}
		var toTested, toPeer []byte
		written := 0
		for len(toTested) < len(data) || len(toPeer) < len(data) {
			n := min(1+random.IntN(MaxWrite), len(data)-written)
			for c, e := range map[*Conn]*end{l.tested: &l.mine, l.peer: &l.its} {
				before := len(e.all)
				if err := c.Write(data[written : written+n]); err != nil {
					t.Fatal(err)
				}
				if most := Sealed(n); len(e.all)-before > most {
					t.Fatalf("%d bytes became %d, more than the %d foreseen", n, len(e.all)-before, most)
				}
			}
			written += n
			l.limit = l.carried + random.IntN(1<<17)
			if written == len(data) {
				l.limit = -1
			}
			l.carry()
			l.mine.most = random.IntN(3) * random.IntN(5000)
			read, err := drain(l.tested)
			toTested = append(toTested, read...)
			if err != ErrWouldBlock {
				t.Fatal(err)
			}
			read, err = drain(l.peer)
			toPeer = append(toPeer, read...)
			if err != ErrWouldBlock {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(toTested, data) || !bytes.Equal(toPeer, data) {
			t.Error("what was read is not what was written")
		}
	})
}

// TestRecordsAreLarge: a connection begins with records that fit into one segment each, for latency, and goes
// on with those of the largest size. No record is small because of how bytes are handed over.
func TestRecordsAreLarge(t *testing.T) {
	serverConfig, clientConfig := configs(tls.VersionTLS13)
	l := newLink(t, serverConfig, clientConfig, true)
	l.mustShake()
	first := true
	for range 8 {
		l.mine.writes = 0
		if err := l.tested.Write(make([]byte, MaxWrite)); err != nil {
			t.Fatal(err)
		}
		if first && (l.mine.sent[3] > 4 || l.mine.writes < 5) {
			t.Errorf("the first record has %d bytes of 256, %d records in all", l.mine.sent[3], l.mine.writes)
		}
		first = false
		l.carry()
		drain(l.peer)
	}
	if l.mine.writes != MaxWrite/16384 {
		t.Errorf("%d bytes become %d records in the end, want records of 16384 bytes", MaxWrite,
			l.mine.writes)
	}
}

// TestWhatIsNoHandshake: the peer's first bytes do not begin one.
func TestWhatIsNoHandshake(t *testing.T) {
	tests := []struct {
		name, bytes string
		want        Cause
		alert       bool
	}{
		{"a request of HTTP", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", CausePlainHTTP, false},
		{"a request of HTTP with a body", "POST /x HTTP/1.0\r\n\r\n", CausePlainHTTP, false},
		{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\n", CausePlainHTTP, false},
		{"a greeting of SMTP", "EHLO client.test\r\n", CauseNotTLS, false},
		{"zeros", string(make([]byte, 64)), CauseNotTLS, false},
		{"SSLv2", "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10", CauseNotTLS, true},
		{"a record that is too long", "\x16\x03\x01\xff\xff\x01", CauseBadRecord, true},
		{"a message that is no hello", "\x16\x03\x01\x00\x04\x0e\x00\x00\x00", CauseHandshake, true},
		{"a fatal alert", "\x15\x03\x01\x00\x02\x02\x28", CauseAlert, false},
	}
	for _, test := range tests {
		serverConfig, _ := configs(tls.VersionTLS13)
		var socket end
		c := Server(serverConfig, &socket, &buffers)
		socket.in = []byte(test.bytes)
		done, err := c.Handshake()
		if done || causeOf(err) != test.want {
			t.Errorf("%s: done %t, %v, want the cause %q", test.name, done, err, test.want)
		}
		if sent := len(socket.sent) > 0; sent != test.alert {
			t.Errorf("%s: an alert was sent: %t, want %t", test.name, sent, test.alert)
		}
		if again, err2 := c.Handshake(); again || err2 != err {
			t.Errorf("%s: asked again: %t, %v", test.name, again, err2)
		}
	}
}

// TestDisagreement: the handshake fails by what the two sides offer. Both name it.
func TestDisagreement(t *testing.T) {
	other := newAuthority()
	tests := []struct {
		name           string
		change         func(server, client *tls.Config)
		server, client Cause
	}{
		{"versions", func(server, client *tls.Config) {
			server.MinVersion, server.MaxVersion = tls.VersionTLS13, tls.VersionTLS13
			client.MinVersion, client.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		}, CauseVersion, CauseAlert},
		{"ciphers", func(server, client *tls.Config) {
			server.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
			client.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
		}, CauseVersion, CauseAlert},
		{"the server's certificate is of another authority", func(server, client *tls.Config) {
			client.RootCAs = other.pool
		}, CauseAlert, CauseUntrusted},
		{"the server's certificate has another name", func(server, client *tls.Config) {
			client.ServerName = "other.test"
		}, CauseAlert, CauseUntrusted},
		{"the client has no certificate", func(server, client *tls.Config) {
			server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, testAuthority.pool
		}, CauseUntrusted, CauseAlert},
		{"the client's certificate is of another authority", func(server, client *tls.Config) {
			server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, testAuthority.pool
			client.Certificates = []tls.Certificate{other.sign("client.test", nil)}
			client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &client.Certificates[0], nil
			}
		}, CauseUntrusted, CauseAlert},
		{"no certificate for that name", func(server, client *tls.Config) {
			server.Certificates = nil
			server.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				return nil, io.ErrNoProgress
			}
		}, CauseHandshake, CauseAlert},
	}
	for _, test := range tests {
		server, client := configs(tls.VersionTLS12)
		test.change(server, client)
		l := newLink(t, server, client, true)
		if l.shake() {
			t.Errorf("%s: the handshake succeeded", test.name)
		}
		if got := causeOf(l.mineErr); got != test.server {
			t.Errorf("%s: the server says %v, want the cause %q", test.name, l.mineErr, test.server)
		}
		if got := causeOf(l.peerErr); got != test.client {
			t.Errorf("%s: the client says %v, want the cause %q", test.name, l.peerErr, test.client)
		}
	}
}

// TestOnALockedThread: workers are locked to their threads, and what runs in them must be, too.
func TestOnALockedThread(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	server, client := configs(tls.VersionTLS13)
	l := newLink(t, server, client, true)
	l.mustShake()
	waiting := newLink(t, server, client, true)
	if done, err := waiting.tested.Handshake(); done || err != nil {
		t.Fatalf("a handshake without a peer: %t, %v", done, err)
	}
	waiting.tested.Close()
}

// TestManyHandshakesLeaveNoGoroutines: there is one for each handshake under way, and none after it.
func TestManyHandshakesLeaveNoGoroutines(t *testing.T) {
	server, client := configs(tls.VersionTLS13)
	before := runtime.NumGoroutine()
	var links []*link
	for range 50 {
		l := newLink(t, server, client, true)
		l.limit = 100
		l.shake()
		links = append(links, l)
	}
	if n := runtime.NumGoroutine() - before; n < 50 || n > 100 {
		t.Errorf("%d goroutines for 50 handshakes with both sides here", n)
	}
	for _, l := range links {
		l.limit = -1
		l.mustShake()
	}
	if n := runtime.NumGoroutine() - before; n > 0 {
		t.Errorf("%d goroutines are left for connections that are established", n)
	}
}

func TestNothingIsReadFromAnIdleConnectionTwice(t *testing.T) {
	server, client := configs(tls.VersionTLS13)
	l := newLink(t, server, client, true)
	l.mustShake()
	l.carry()
	drain(l.tested)
	before := l.mine.reads
	if _, err := l.tested.Read(make([]byte, 100)); err != ErrWouldBlock {
		t.Fatal(err)
	}
	if n := l.mine.reads - before; n != 1 {
		t.Errorf("one read became %d reads of the socket", n)
	}
}

// A client that asks for no name looks for the session under the address of the server.
func TestSessionsWithAServerWithoutAName(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		server, client := configs(version)
		client.ServerName, client.InsecureSkipVerify = "", true
		client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		for _, want := range []bool{false, true} {
			l := newLink(t, server, client, false)
			l.mustShake()
			for range 2 { // tickets come after the handshake
				if _, err := drain(l.tested); !errors.Is(err, ErrWouldBlock) {
					t.Fatal(err)
				}
				l.carry()
			}
			if got := l.tested.State().DidResume; got != want {
				t.Errorf("%s: resumed is %t, want %t", tls.VersionName(version), got, want)
			}
		}
	}
}
