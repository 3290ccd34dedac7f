package certificate

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// parts are a certificate and what belongs to it. They are not changed once they are in use. No error about
// them has bytes of a key.
type parts struct {
	// chain begins with the certificate itself.
	chain []*x509.Certificate
	key   crypto.Signer
	// issuer is the file beside it, which a response of OCSP may need; nil for none.
	issuer *x509.Certificate
	ocsp   *ocspResponse // nil for none
	scts   [][]byte
}

// The kinds of files beside a certificate, by what is added to its name.
const (
	extKey    = ".key"
	extOCSP   = ".ocsp"
	extIssuer = ".issuer"
	extSCTL   = ".sctl"
)

// extensions are the files beside a certificate.
var extensions = []string{extKey, extOCSP, extIssuer, extSCTL}

// errNoCertificate and errNoKey are what a file has not.
var (
	errNoCertificate = errors.New("there is no certificate in it")
	errNoKey         = errors.New("there is no private key in it")
)

// readPEM reads certificates and a private key. One of them may be missing.
func readPEM(text []byte) (*parts, error) {
	p := &parts{}
	blocks := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		blocks++
		switch block.Type {
		case "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE":
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("certificate %d in it: %w", len(p.chain)+1, err)
			}
			p.chain = append(p.chain, c)
		case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
			if p.key != nil {
				continue // as OpenSSL, which reads the first one
			}
			key, err := parseKey(block)
			if err != nil {
				return nil, err
			}
			p.key = key
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("its private key is encrypted: nobody could type the password in")
		}
	}
	if blocks == 0 {
		return nil, errors.New("it is no PEM file")
	}
	return p, nil
}

// parseKey reads a private key. The error says nothing of what the key is made of.
func parseKey(block *pem.Block) (crypto.Signer, error) {
	if block.Headers["DEK-Info"] != "" {
		return nil, errors.New("its private key is encrypted: nobody could type the password in")
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, errors.New("its private key cannot be read")
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return key, nil
	case *ecdsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, errors.New("its private key is neither RSA nor ECDSA nor Ed25519")
}

// with returns the parts with the file of an extension in place of the one there is; none means the
// certificate itself. now tells whether a response of OCSP is still good.
func (p *parts) with(extension string, text []byte, now time.Time) (*parts, error) {
	n := *p
	switch extension {
	case extKey:
		read, err := readPEM(text)
		if err != nil {
			return nil, err
		}
		if read.key == nil {
			return nil, errNoKey
		}
		n.key = read.key
	case extIssuer:
		read, err := readPEM(text)
		if err != nil {
			return nil, err
		}
		if len(read.chain) == 0 {
			return nil, errNoCertificate
		}
		n.issuer = read.chain[0]
	case extOCSP:
		response, err := readOCSP(text, n.leaf(), now)
		if err != nil {
			return nil, err
		}
		n.ocsp = response
	case extSCTL:
		scts, err := readSCTL(text)
		if err != nil {
			return nil, err
		}
		n.scts = scts
	default:
		read, err := readPEM(text)
		if err != nil {
			return nil, err
		}
		if len(read.chain) == 0 {
			return nil, errNoCertificate
		}
		// What belongs to the old certificate does not belong to the new one.
		n = *read
	}
	return &n, nil
}

func (p *parts) leaf() *x509.Certificate {
	if len(p.chain) == 0 {
		return nil
	}
	return p.chain[0]
}

// check reports what keeps the parts from being used as a certificate with its key.
func (p *parts) check() error {
	switch {
	case len(p.chain) == 0:
		return errNoCertificate
	case p.key == nil:
		return errNoKey
	}
	public, ok := p.key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(p.chain[0].PublicKey) {
		return errors.New("the private key is not that of the certificate")
	}
	return nil
}

// certificate returns what crypto/tls wants.
func (p *parts) certificate(skipSelfIssued bool) *tls.Certificate {
	c := &tls.Certificate{PrivateKey: p.key, Leaf: p.chain[0], SignedCertificateTimestamps: p.scts}
	for i, one := range p.chain {
		if i > 0 && skipSelfIssued && bytes.Equal(one.RawSubject, one.RawIssuer) {
			continue
		}
		c.Certificate = append(c.Certificate, one.Raw)
	}
	if p.ocsp != nil {
		c.OCSPStaple = p.ocsp.raw
	}
	return c
}

// isRSA reports whether the certificate is for clients that take RSA.
func (p *parts) isRSA() bool {
	_, ok := p.chain[0].PublicKey.(*rsa.PublicKey)
	return ok
}

// readSCTL reads a list of signed certificate timestamps as it is sent, RFC 6962 section 3.3.
func readSCTL(text []byte) ([][]byte, error) {
	wrong := errors.New("it is no list of signed certificate timestamps")
	if len(text) < 2 || int(binary.BigEndian.Uint16(text)) != len(text)-2 {
		return nil, wrong
	}
	var scts [][]byte
	for rest := text[2:]; len(rest) > 0; {
		if len(rest) < 2 || len(rest) < 2+int(binary.BigEndian.Uint16(rest)) {
			return nil, wrong
		}
		end := 2 + int(binary.BigEndian.Uint16(rest))
		scts = append(scts, bytes.Clone(rest[2:end]))
		rest = rest[end:]
	}
	return scts, nil
}
