package tlsconn

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

// A forger seals records in the name of the peer that the peer itself, being crypto/tls, would not send.
type forger struct {
	aead     cipher.AEAD
	iv       []byte
	sequence uint64
	version  uint16
	secret   []byte // of TLS 1.3
}

const (
	typeHandshake = 22
	typeData      = 23
)

// forge returns a forger for the peer of a link whose handshake is complete and whose client keeps a log of
// its keys; sent is how many records the peer has sealed with its present key. hello is the client's first
// record.
func forge(t *testing.T, l *link, keys string, hello, answer []byte, byClient bool, sent uint64) *forger {
	t.Helper()
	state := l.peer.State()
	f := &forger{version: state.Version, sequence: sent}
	value := func(label string) []byte {
		for line := range strings.Lines(keys) {
			if words := strings.Fields(line); words[0] == label {
				value, _ := hex.DecodeString(words[2])
				return value
			}
		}
		t.Fatalf("no %s in the log of keys", label)
		return nil
	}
	if state.Version == tls.VersionTLS13 {
		if state.CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
			t.Fatalf("the suite is %s", tls.CipherSuiteName(state.CipherSuite))
		}
		f.secret = value("SERVER_TRAFFIC_SECRET_0")
		if byClient {
			f.secret = value("CLIENT_TRAFFIC_SECRET_0")
		}
		f.derive(t)
		return f
	}
	// RFC 5246, section 6.3: the randoms are at the same place in both hellos.
	const at = 5 + 4 + 2
	seed := append(append([]byte("key expansion"), answer[at:at+32]...), hello[at:at+32]...)
	block := prf(value("CLIENT_RANDOM"), seed, 2*16+2*4)
	key, iv := block[16:32], block[36:40]
	if byClient {
		key, iv = block[:16], block[32:36]
	}
	f.aead, f.iv = gcm(t, key), iv
	return f
}

// derive makes the keys of TLS 1.3 from the secret.
func (f *forger) derive(t *testing.T) {
	f.aead, f.iv = gcm(t, expand(t, f.secret, "key", 16)), expand(t, f.secret, "iv", 12)
}

// update goes on to the next keys of TLS 1.3.
func (f *forger) update(t *testing.T) {
	f.secret, f.sequence = expand(t, f.secret, "traffic upd", sha256.Size), 0
	f.derive(t)
}

// seal returns one record.
func (f *forger) seal(kind byte, payload []byte) []byte {
	var sequence [8]byte
	binary.BigEndian.PutUint64(sequence[:], f.sequence)
	f.sequence++
	if f.version == tls.VersionTLS13 {
		nonce := bytes.Clone(f.iv)
		for i, b := range sequence {
			nonce[4+i] ^= b
		}
		plain := append(bytes.Clone(payload), kind)
		header := binary.BigEndian.AppendUint16([]byte{typeData, 3, 3}, uint16(len(plain)+f.aead.Overhead()))
		return f.aead.Seal(header, nonce, plain, header)
	}
	nonce := append(bytes.Clone(f.iv), sequence[:]...)
	more := append(bytes.Clone(sequence[:]), kind, 3, 3)
	more = binary.BigEndian.AppendUint16(more, uint16(len(payload)))
	record := binary.BigEndian.AppendUint16([]byte{kind, 3, 3}, uint16(8+len(payload)+f.aead.Overhead()))
	return f.aead.Seal(append(record, sequence[:]...), nonce, payload, more)
}

func gcm(t *testing.T, key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

// expand is HKDF-Expand-Label of RFC 8446, section 7.1, without a context.
func expand(t *testing.T, secret []byte, label string, n int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(append(info, byte(len("tls13 ")+len(label))), "tls13 "+label...)
	out, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// prf is P_SHA256 of RFC 5246, section 5.
func prf(secret, seed []byte, n int) []byte {
	sum := func(p []byte) []byte {
		h := hmac.New(sha256.New, secret)
		h.Write(p)
		return h.Sum(nil)
	}
	var out []byte
	for a := sum(seed); len(out) < n; a = sum(a) {
		out = append(out, sum(append(bytes.Clone(a), seed...))...)
	}
	return out[:n]
}

// forgedLink returns a link whose handshake is complete, and a forger for the peer.
func forgedLink(t *testing.T, version uint16, testedIsServer bool) (*link, *forger, []byte) {
	t.Helper()
	server, client := configs(version)
	server.SessionTicketsDisabled = true
	var keys strings.Builder
	client.KeyLogWriter = &keys
	client.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	l := newLink(t, server, client, testedIsServer)
	fromServer, fromClient := &l.mine, &l.its
	clientConn, serverConn := l.peer, l.tested
	if !testedIsServer {
		fromServer, fromClient = &l.its, &l.mine
		clientConn, serverConn = l.tested, l.peer
	}
	clientConn.Handshake()
	hello := bytes.Clone(fromClient.sent)
	l.carry()
	serverConn.Handshake()
	answer := bytes.Clone(fromServer.sent)
	l.mustShake()
	sent := uint64(0)
	if version == tls.VersionTLS12 {
		sent = 1 // Finished
	}
	return l, forge(t, l, keys.String(), hello, answer, testedIsServer, sent), hello
}

func TestKeyUpdate(t *testing.T) {
	for _, server := range []bool{true, false} {
		l, f, _ := forgedLink(t, tls.VersionTLS13, server)
		const updateRequested = 1
		for round := range 40 {
			l.mine.in = append(l.mine.in, f.seal(typeHandshake, []byte{24, 0, 0, 1, updateRequested})...)
			f.update(t)
			l.mine.in = append(l.mine.in, f.seal(typeData, []byte("under new keys"))...)
			data, err := drain(l.tested)
			if string(data) != "under new keys" || err != ErrWouldBlock {
				t.Fatalf("server %t, round %d: read %q and %v", server, round, data, err)
			}
			// The answer to the request is the tested side's own update, and what follows is under its new
			// keys. The peer understands both.
			if err := l.tested.Write([]byte("understood")); err != nil {
				t.Fatal(err)
			}
			l.carry()
			data, err = drain(l.peer)
			if string(data) != "understood" || err != ErrWouldBlock {
				t.Fatalf("server %t, round %d: the peer read %q and %v", server, round, data, err)
			}
		}
	}
}

func TestRenegotiationIsRefused(t *testing.T) {
	for _, server := range []bool{true, false} {
		l, f, hello := forgedLink(t, tls.VersionTLS12, server)
		message := []byte{0, 0, 0, 0} // a request of the server
		if server {
			message = hello[recordHeader:]
		}
		l.mine.in = append(l.mine.in, f.seal(typeData, []byte("before"))...)
		l.mine.in = append(l.mine.in, f.seal(typeHandshake, message)...)
		l.mine.in = append(l.mine.in, f.seal(typeData, []byte("after"))...)
		data, err := drain(l.tested)
		if string(data) != "before" || causeOf(err) != CauseRenegotiation {
			t.Errorf("server %t: read %q, then %v", server, data, err)
		}
		if _, again := drain(l.tested); again != err {
			t.Errorf("server %t: then it went on with %v", server, again)
		}
		if len(l.mine.sent) == 0 {
			t.Errorf("server %t: no alert was sent", server)
		}
	}
}

// TestForgedRecordsAreRefused: the peer's next record is not what it sealed.
func TestForgedRecordsAreRefused(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, spoil := range map[string]func(record []byte) []byte{
			"a bit is wrong": func(r []byte) []byte { r[len(r)-1] ^= 1; return r },
			"it is too long": func(r []byte) []byte { r[3], r[4] = 0xff, 0xff; return r },
			"its type is unknown": func(r []byte) []byte {
				r[0] = 99
				return r
			},
			"it comes twice": func(r []byte) []byte { return append(bytes.Clone(r), r...) },
			"it is of another version": func(r []byte) []byte {
				r[1], r[2] = 2, 0
				return r
			},
		} {
			l, f, _ := forgedLink(t, version, true)
			l.mine.in = append(l.mine.in, spoil(f.seal(typeData, []byte("data")))...)
			_, err := drain(l.tested)
			if causeOf(err) != CauseBadRecord {
				t.Errorf("%s, %s: %v", tls.VersionName(version), name, err)
			}
			if len(l.mine.sent) == 0 {
				t.Errorf("%s, %s: no alert was sent", tls.VersionName(version), name)
			}
			l.carry()
			if _, err := drain(l.peer); causeOf(err) != CauseAlert {
				t.Errorf("%s, %s: the peer got %v and no alert", tls.VersionName(version), name, err)
			}
			if err := l.tested.Write([]byte("more")); err == nil {
				t.Errorf("%s, %s: something can be written after the alert", tls.VersionName(version), name)
			}
		}
	}
}
