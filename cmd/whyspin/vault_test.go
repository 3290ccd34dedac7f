package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"sync"
	"testing"
)

// vault is what must not get out of a proxy.
type vault struct {
	t *testing.T
	*authority
	traces  traces
	session sessionSecrets
}

func newVault(t *testing.T) *vault {
	t.Helper()
	return &vault{t: t, authority: newAuthority(t), traces: traces{}}
}

// sessionSecrets takes what crypto/tls writes about the secrets of sessions.
type sessionSecrets struct {
	mu    sync.Mutex
	lines []string
}

func (s *sessionSecrets) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, string(line))
	return len(line), nil
}

// pair issues a certificate with a key that nobody else may see, and returns its file.
func (v *vault) pair(file, name string, rsaKey bool) string {
	v.t.Helper()
	key := newECDSA(v.t)
	if rsaKey {
		key = newRSA(v.t)
	}
	path := v.issue(file, name, key)
	text := v.text(path)
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			// "show ssl cert" shows the serial number.
			before, after, _ := bytes.Cut(block.Bytes, serialOf(v.t, block.Bytes))
			v.traces.structure("the certificate in "+file, before)
			v.traces.structure("the certificate in "+file, after)
		} else {
			v.traces.secret("the key in "+file, block.Bytes)
			body, _, _ := strings.Cut(strings.SplitN(text, block.Type+"-----\n", 2)[1], "-----END")
			v.traces.secret("the text of the key in "+file, []byte(body))
		}
	}
	var numbers []*big.Int
	switch key := key.(type) {
	case *rsa.PrivateKey:
		numbers = append(key.Primes, key.D)
	case *ecdsa.PrivateKey:
		raw, err := key.Bytes()
		if err != nil {
			v.t.Fatal(err)
		}
		numbers = append(numbers, new(big.Int).SetBytes(raw))
	}
	for _, n := range numbers {
		v.traces.secret("a number of the key in "+file, []byte(n.String()))
	}
	return path
}

func serialOf(t *testing.T, raw []byte) []byte {
	t.Helper()
	c, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c.SerialNumber.Bytes()
}

// random makes up a secret of this many bytes.
func (v *vault) random(name string, size int) []byte {
	value := make([]byte, size)
	rand.Read(value)
	v.traces.secret(name, value)
	return value
}

// password makes up a secret that is text.
func (v *vault) password(name string) string {
	text := hex.EncodeToString(v.random(name, 24))
	v.traces.secret(name, []byte(text))
	return text
}

func (v *vault) text(path string) string {
	v.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		v.t.Fatal(err)
	}
	return string(text)
}

// close adds the secrets of the sessions that there were and returns how many.
func (v *vault) close() (n int) {
	v.session.mu.Lock()
	defer v.session.mu.Unlock()
	for _, line := range v.session.lines {
		fields := strings.Fields(line) // its kind, the random bytes of the client, the secret
		value, err := hex.DecodeString(fields[2])
		if err != nil {
			v.t.Fatal(err)
		}
		v.traces.secret("the secret of a session, "+fields[0], value)
	}
	return len(v.session.lines)
}
