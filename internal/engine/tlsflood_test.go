package engine

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/whyspin/whyspin/internal/sys"
)

// forger seals records in the name of a client that crypto/tls would not send: of TLS 1.3 with
// TLS_AES_128_GCM_SHA256, from the first after the handshake.
type forger struct {
	t        *testing.T
	secret   []byte
	sequence uint64
	aead     cipher.AEAD
	iv       []byte
	out      bytes.Buffer
}

// The types of records.
const (
	recordHandshake = 22
	recordData      = 23
)

// dialForged connects a client whose handshake is complete, and that has sent nothing since.
func (p *proxy) dialForged(config *tls.Config) (*net.TCPConn, *forger) {
	p.t.Helper()
	config = config.Clone()
	var keys strings.Builder
	config.KeyLogWriter = &keys
	raw := p.dial()
	c := tls.Client(raw, config)
	if err := c.Handshake(); err != nil {
		p.t.Fatal(err)
	}
	if suite := c.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		p.t.Fatalf("the suite is %s", tls.CipherSuiteName(suite))
	}
	f := &forger{t: p.t}
	for line := range strings.Lines(keys.String()) {
		if words := strings.Fields(line); words[0] == "CLIENT_TRAFFIC_SECRET_0" {
			f.secret, _ = hex.DecodeString(words[2])
		}
	}
	f.derive()
	return raw, f
}

// expand is HKDF-Expand-Label of RFC 8446, section 7.1, without a context.
func (f *forger) expand(label string, n int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(append(info, byte(len("tls13 ")+len(label))), "tls13 "+label...)
	out, err := hkdf.Expand(sha256.New, f.secret, string(append(info, 0)), n)
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

func (f *forger) derive() {
	block, err := aes.NewCipher(f.expand("key", 16))
	if err == nil {
		f.aead, err = cipher.NewGCM(block)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.iv, f.sequence = f.expand("iv", 12), 0
}

// seal adds a record.
func (f *forger) seal(kind byte, payload ...byte) {
	nonce := bytes.Clone(f.iv)
	for i := range 8 {
		nonce[4+i] ^= byte(f.sequence >> (8 * (7 - i)))
	}
	f.sequence++
	plain := append(bytes.Clone(payload), kind)
	header := binary.BigEndian.AppendUint16([]byte{recordData, 3, 3}, uint16(len(plain)+f.aead.Overhead()))
	f.out.Write(f.aead.Seal(header, nonce, plain, header))
}

// updateKeys adds a message that asks for an answer of its kind.
func (f *forger) updateKeys() {
	const keyUpdate, requested = 24, 1
	f.seal(recordHandshake, keyUpdate, 0, 0, 1, requested)
	f.secret = f.expand("traffic upd", sha256.Size)
	f.derive()
}

// turns notes the most bytes that were read between two waits.
type turns struct {
	sys.Linux
	turn, most atomic.Int64
}

func (k *turns) EpollWait(set int, events []sys.Event, timeout int, park bool) (int, sys.Errno) {
	k.turn.Store(0)
	return k.Linux.EpollWait(set, events, timeout, park)
}

func (k *turns) Read(fd int, p []byte) (int, sys.Errno) {
	n, errno := k.Linux.Read(fd, p)
	if turn := k.turn.Add(int64(n)); turn > k.most.Load() {
		k.most.Store(turn)
	}
	return n, errno
}

// TestTLSFloodOfRecords: a record costs something though it holds nothing. A client that sends nothing but
// records of one byte, or such that change the keys, has no longer turns for it than others.
func TestTLSFloodOfRecords(t *testing.T) {
	const count, most = 60000, 200 << 10
	for name, bytesIn := range map[string]int{"of one byte": count, "that change the keys": count / 16} {
		t.Run(name, func(t *testing.T) {
			server, client := testTLS(tls.VersionTLS13)
			kernel := &turns{}
			p := start(t, settings{kernel: kernel, tls: server}, serve(t, func(c *net.TCPConn) {
				_, _ = io.Copy(io.Discard, c)
			}))
			raw, f := p.dialForged(client)
			for i := range count {
				if i%(count/bytesIn) == 0 {
					f.seal(recordData, 'x')
				} else {
					f.updateKeys()
				}
			}
			answers := make(chan int64)
			go func() {
				n, _ := io.Copy(io.Discard, raw)
				answers <- n
			}()
			if _, err := raw.Write(f.out.Bytes()); err != nil {
				t.Fatal(err)
			}
			if err := raw.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			r := p.ended(1)[0]
			if r.Ending.String() != "--" || r.FromClient != uint64(bytesIn) {
				t.Errorf("it ended with %s after %d bytes", r.Ending, r.FromClient)
			}
			// Each order to change the keys has its answer.
			if n := <-answers; n < int64(count-bytesIn)*20 {
				t.Errorf("%d bytes were sent for %d changes of the keys", n, count-bytesIn)
			}
			if n := kernel.most.Load(); n > most {
				t.Errorf("one turn took %d bytes of %d, should be %d at most", n, f.out.Len(), most)
			}
		})
	}
}

// TestTLSKeysAreChangedAfterTheEnd: whoever has been told the end of what is sent is sent no answer any more,
// and the connection goes on until its own end.
func TestTLSKeysAreChangedAfterTheEnd(t *testing.T) {
	server, client := testTLS(tls.VersionTLS13)
	const text = "after the end"
	got := make(chan string, 2)
	p := start(t, settings{tls: server}, serve(t, func(c *net.TCPConn) {
		_ = c.CloseWrite()
		first := make([]byte, len(text))
		_, _ = io.ReadFull(c, first)
		got <- string(first)
		rest, _ := io.ReadAll(c)
		got <- string(rest)
	}))
	raw, f := p.dialForged(client)
	send := func() {
		if _, err := f.out.WriteTo(raw); err != nil {
			t.Fatal(err)
		}
		if s := <-got; s != text {
			t.Errorf("the server got %q", s)
		}
	}
	if rest, err := io.ReadAll(raw); err != nil || len(rest) == 0 {
		t.Fatalf("the client reads %d bytes, %v", len(rest), err)
	}
	f.updateKeys()
	f.seal(recordData, []byte(text)...)
	send()
	f.seal(recordData, []byte(text)...)
	const alert, warning, closeNotify = 21, 1, 0
	f.seal(alert, warning, closeNotify)
	send()
	if r := p.ended(1)[0]; r.Ending.String() != "--" {
		t.Errorf("it ended with %s", r.Ending)
	}
}
