package sim

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
)

// sealer makes the records of a peer whose handshake is complete: those that crypto/tls would make, and
// those that it would not.
type sealer struct {
	aead     cipher.AEAD
	iv       []byte
	sequence uint64
	version  uint16
	secret   []byte // of TLS 1.3
}

// The types of records.
const (
	recordAlert     = 21
	recordHandshake = 22
	recordData      = 23
)

// recordHeader is how long the header of a record is: type, version, and the length of what follows.
const recordHeader = 5

// suite is the one cipher suite of TLS 1.2 that the worlds know.
const suite = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256

// logged returns a secret from a log of keys, nil when it is not there.
func logged(keys, label string) (secret []byte) {
	for line := range strings.Lines(keys) {
		if words := strings.Fields(line); words[0] == label {
			secret, _ = hex.DecodeString(words[2])
		}
	}
	return secret
}

// The secrets in a log of keys.
const (
	masterSecret = "CLIENT_RANDOM" // of TLS 1.2
	clientSecret = "CLIENT_TRAFFIC_SECRET_0"
	serverSecret = "SERVER_TRAFFIC_SECRET_0"
)

// newSealer makes the sealer of a peer from what its handshake has come to.
func newSealer(l *tlsPeer) *sealer {
	state, keys, client := l.conn.State(), l.keys.String(), l.peer.client >= 0
	f := &sealer{version: state.Version}
	if state.Version == tls.VersionTLS13 {
		if state.CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
			panic("a processor without AES: the suite is " + tls.CipherSuiteName(state.CipherSuite))
		}
		f.secret = logged(keys, clientSecret)
		if !client {
			f.secret = logged(keys, serverSecret)
			f.sequence = 1 // the ticket
		}
		f.derive()
		return f
	}
	// RFC 5246, section 6.3.
	random := l.hellos[1].random()
	seed := append(append([]byte("key expansion"), random...), l.hellos[0].random()...)
	master := logged(keys, masterSecret)
	if state.DidResume { // which is not logged
		master = tlsBases()[l.version].master
	}
	block := prf(master, seed, 2*16+2*4)
	key, iv := block[16:32], block[36:40]
	if client {
		key, iv = block[:16], block[32:36]
	}
	f.aead, f.iv = gcm(key), iv
	f.sequence = 1 // Finished
	return f
}

// hello is the beginning of the first record of a client or a server.
type hello []byte

// random is what it contributes to the keys. It follows the headers of record and message, and a version.
func (h hello) random() []byte { return h[recordHeader+4+2 : helloSize] }

// helloSize is how much of it there must be.
const helloSize = recordHeader + 4 + 2 + 32

// take takes what comes, as long as it is of the beginning.
func (h *hello) take(b []byte) {
	*h = append(*h, b[:min(len(b), helloSize-len(*h))]...)
}

// derive makes the keys of TLS 1.3 from the secret.
func (f *sealer) derive() {
	f.aead, f.iv = gcm(expand(f.secret, "key", 16)), expand(f.secret, "iv", 12)
}

// update goes on to the next keys of TLS 1.3.
func (f *sealer) update() {
	f.secret, f.sequence = expand(f.secret, "traffic upd", sha256.Size), 0
	f.derive()
}

// seal returns one record.
func (f *sealer) seal(kind byte, payload []byte) []byte {
	var sequence [8]byte
	binary.BigEndian.PutUint64(sequence[:], f.sequence)
	f.sequence++
	if f.version == tls.VersionTLS13 {
		nonce := bytes.Clone(f.iv)
		for i, b := range sequence {
			nonce[4+i] ^= b
		}
		plain := append(bytes.Clone(payload), kind)
		n := uint16(len(plain) + f.aead.Overhead())
		header := binary.BigEndian.AppendUint16([]byte{recordData, 3, 3}, n)
		return f.aead.Seal(header, nonce, plain, header)
	}
	nonce := append(bytes.Clone(f.iv), sequence[:]...)
	more := append(bytes.Clone(sequence[:]), kind, 3, 3)
	more = binary.BigEndian.AppendUint16(more, uint16(len(payload)))
	n := uint16(len(sequence) + len(payload) + f.aead.Overhead())
	record := binary.BigEndian.AppendUint16([]byte{kind, 3, 3}, n)
	return f.aead.Seal(append(record, sequence[:]...), nonce, payload, more)
}

func gcm(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// expand is HKDF-Expand-Label of RFC 8446, section 7.1, without a context.
func expand(secret []byte, label string, n int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(append(info, byte(len("tls13 ")+len(label))), "tls13 "+label...)
	out, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
	if err != nil {
		panic(err)
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
