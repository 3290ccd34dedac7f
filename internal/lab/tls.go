package lab

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// serverName is whose certificate the proxy has in cases with TLS.
const serverName = "proxy.example"

// certificate makes a certificate that signs itself, and returns the file with it and its key.
func (s *stage) certificate() (file string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("making a key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: serverName},
		DNSNames:  []string{serverName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return "", fmt.Errorf("making a certificate: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("writing a key: %w", err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
	file = filepath.Join(s.directory, "proxy.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return "", fmt.Errorf("writing a certificate: %w", err)
	}
	return file, nil
}

// secured begins TLS on a connection to the proxy. What matters is what the proxy does with it, not who the
// proxy is.
func secured(c net.Conn) *tls.Conn {
	return tls.Client(c, &tls.Config{ServerName: serverName, InsecureSkipVerify: true})
}

// sayOneSecured is a client that says one thing in TLS and has its answer. The connection beneath is c.
func (s *stage) sayOneSecured() (c *net.TCPConn, t *tls.Conn, err error) {
	if c, err = s.dial(); err != nil {
		return nil, nil, err
	}
	t = secured(c)
	return c, t, exchange(t, "EHLO client.example\r\n")
}

// halfRecord is the header of a record of TLS, of 256 bytes, and a few of these.
const halfRecord = "\x17\x03\x03\x01\x00the beginning"

// sayHalf is a client that goes silent in the middle of a record.
func sayHalf(_ context.Context, s *stage) error {
	c, _, err := s.sayOneSecured()
	if err != nil {
		return err
	}
	s.blame(c)
	_, err = io.WriteString(c, halfRecord)
	return err
}

// sayAndReset is a client that resets its connection after its first answer.
func sayAndReset(_ context.Context, s *stage) error {
	c, _, err := s.sayOneSecured()
	if err != nil {
		return err
	}
	s.blame(c)
	return reset(c)
}

// hello is the first message of a client's handshake.
func hello() ([]byte, error) {
	var sent bytes.Buffer
	// There is nothing to read, so that the handshake ends after what the client says first.
	_ = secured(recorder{Writer: &sent}).Handshake()
	if sent.Len() == 0 {
		return nil, errors.New("a client of TLS has sent nothing")
	}
	return sent.Bytes(), nil
}

// recorder is a connection that keeps what is written, and has ended.
type recorder struct {
	net.Conn
	io.Writer
}

func (r recorder) Write(p []byte) (int, error)    { return r.Writer.Write(p) }
func (recorder) Read([]byte) (int, error)         { return 0, io.EOF }
func (recorder) SetWriteDeadline(time.Time) error { return nil }
func (recorder) Close() error                     { return nil }

// stopWithin has clients stop within their handshake and within a record, others send their handshake in
// pieces, and one not read what it is sent.
func stopWithin(ctx context.Context, s *stage) error {
	first, err := hello()
	if err != nil {
		return err
	}
	for i := range 10 {
		c, err := s.dial()
		if err != nil {
			return err
		}
		if _, err := c.Write(first[:len(first)*(i+1)/11]); err != nil {
			return err
		}
		if c, _, err = s.sayOneSecured(); err != nil {
			return err
		}
		if _, err := io.WriteString(c, halfRecord[:1+i]); err != nil {
			return err
		}
	}
	_, deaf, err := s.sayOneSecured()
	if err != nil {
		return err
	}
	s.running.Go(func() {
		for piece := strings.Repeat("x", 64<<10); err == nil; {
			_, err = io.WriteString(deaf, piece)
		}
	})
	s.repeat(4, 0, func() error {
		return s.visit(func(c *net.TCPConn) error { return exchange(secured(slow{c, s}), message) })
	})
	return errors.Join(s.awaitDone(ctx, 8), s.awaitWaiting(ctx))
}

// slow is a connection on which everything is sent in small pieces with pauses.
type slow struct {
	net.Conn
	stage *stage
}

func (c slow) Write(p []byte) (n int, err error) {
	const piece, pause = 100, 5 * time.Millisecond
	for n < len(p) && err == nil {
		var sent int
		sent, err = c.Conn.Write(p[n:min(len(p), n+piece)])
		n += sent
		c.stage.pause(pause)
	}
	return n, err
}

// awaitWaiting waits until TLS waits in each of the ways.
func (s *stage) awaitWaiting(ctx context.Context) error {
	return until(ctx, patience, "TLS to wait in each of the ways", func() (bool, error) {
		dump, err := s.proxy.order(ctx, "show sess all")
		for _, way := range []string{
			"tls-client=handshake, want-read", "tls-client=established, want-read, record incomplete",
			", want-write",
		} {
			if !strings.Contains(dump, way) {
				return false, err
			}
		}
		return true, err
	})
}
