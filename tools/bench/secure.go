package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/whyspin/whyspin/tools/selfsigned"
)

// keyKind is the kind of a certificate's key.
type keyKind struct {
	name     string
	generate func() (crypto.Signer, error)
	// options are those of the signature in a handshake of TLS 1.3.
	options crypto.SignerOpts
	// openssl is how "openssl speed" calls it.
	openssl string
}

var (
	ellipticKey = keyKind{"ECDSA P-256", selfsigned.ECDSA, crypto.SHA256, "ecdsap256"}
	rsaKey      = keyKind{"RSA 2048", selfsigned.RSA,
		&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}, "rsa2048"}
)

// identity is a certificate with its key, in one file.
type identity struct {
	file string
	key  crypto.Signer
	kind keyKind
}

func (b *bench) newIdentity(kind keyKind) (*identity, error) {
	i := &identity{file: filepath.Join(b.directory, kind.openssl+".pem"), kind: kind}
	certificate, err := selfsigned.Write(i.file, kind.generate)
	if err == nil {
		i.key = certificate.PrivateKey.(crypto.Signer)
	}
	return i, err
}

// signing is how much CPU time a signature in a handshake takes, by the same code as in whyspin.
func (b *bench) signing(i *identity) (time.Duration, error) {
	return onThread(func() (time.Duration, error) {
		hash := sha256.Sum256([]byte("what both sides have said so far"))
		before, err := threadCPU()
		if err != nil {
			return 0, err
		}
		began := time.Now()
		for n := time.Duration(1); ; n++ {
			if _, err := i.key.Sign(rand.Reader, hash[:], i.kind.options); err != nil {
				return 0, fmt.Errorf("signing: %w", err)
			}
			if time.Since(began) > b.scaled(500*time.Millisecond) {
				after, err := threadCPU()
				return (after - before) / n, err
			}
		}
	})
}

// What all proxies are to speak, so that they do the same work. crypto/tls prefers this suite where there are
// instructions for AES, HAProxy and nginx are told to.
const (
	theSuite      = tls.TLS_AES_128_GCM_SHA256
	theSuiteName  = "TLS_AES_128_GCM_SHA256"
	theCurve      = tls.X25519
	modernDefault = tls.X25519MLKEM768 // what crypto/tls and recent browsers agree upon when both may
)

// client returns how clients speak TLS.
func client(curve tls.CurveID) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, ServerName: selfsigned.Name, MinVersion: tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{curve},
	}
}

// check reports what is not as it was to be agreed upon.
func check(s tls.ConnectionState, config *tls.Config) error {
	curve := config.CurvePreferences[0]
	if s.Version == tls.VersionTLS13 && s.CipherSuite == theSuite && s.CurveID == curve {
		return nil
	}
	return fmt.Errorf("agreed upon %s, %s, %s, should be TLS 1.3, %s, %s", tls.VersionName(s.Version),
		tls.CipherSuiteName(s.CipherSuite), s.CurveID, theSuiteName, curve)
}

func dialTLS(address string, config *tls.Config) (net.Conn, error) {
	plain, err := dial(address)
	if err != nil {
		return nil, err
	}
	if err = plain.SetDeadline(time.Now().Add(dialPatience)); err != nil {
		plain.Close()
		return nil, err
	}
	c := tls.Client(plain, config)
	if err = c.Handshake(); err == nil {
		err = check(c.ConnectionState(), config)
	}
	if err == nil {
		err = plain.SetDeadline(time.Time{})
	}
	if err != nil {
		plain.Close()
		return nil, fmt.Errorf("the handshake: %w", err)
	}
	return c, nil
}

// shaker makes connections with TLS, one after the other, with one request on each.
type shaker struct {
	address string
	config  *tls.Config
	// resume is true exactly when every handshake but the first is to take up the session of the one before.
	resume    bool
	completed int
}

// shake makes connections through a proxy for a while, so many at a time. The units are connections, each of
// which got its whole answer and an orderly end.
func shake(ctx context.Context, c *contestant, together int, resume bool, over time.Duration) (sample,
	error) {
	began := time.Now()
	shakers, failures := make([]shaker, together), make([]error, together)
	var working sync.WaitGroup
	for i := range shakers {
		config := c.tls
		if resume {
			config = c.tls.Clone()
			config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		}
		s := &shakers[i]
		*s = shaker{address: c.address, config: config, resume: resume}
		working.Go(func() { failures[i] = s.run(ctx, began.Add(over)) })
	}
	working.Wait()
	var s sample
	for i := range shakers {
		s.units += float64(shakers[i].completed)
	}
	s.wall = time.Since(began)
	return s, errors.Join(failures...)
}

func (s *shaker) run(ctx context.Context, deadline time.Time) error {
	for time.Now().Before(deadline) && ctx.Err() == nil {
		if err := s.visit(); err != nil {
			return err
		}
		s.completed++
	}
	return ctx.Err()
}

// visit makes one connection.
func (s *shaker) visit() error {
	c, err := dialTLS(s.address, s.config)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(dialPatience)); err != nil {
		return err
	}
	if resumed := c.(*tls.Conn).ConnectionState().DidResume; resumed != (s.resume && s.completed > 0) {
		return fmt.Errorf("handshake %d of a client takes up a session: %t", s.completed+1, resumed)
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\nHost: bench\r\n\r\n"); err != nil {
		return fmt.Errorf("sending a request: %w", err)
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		return fmt.Errorf("reading an answer: %w", err)
	}
	if !strings.HasSuffix(string(answer), smallBody) {
		return fmt.Errorf("an answer ends with %q, should be %q", answer[max(0, len(answer)-64):], smallBody)
	}
	return nil
}
