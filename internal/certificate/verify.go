package certificate

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// authorities are those of a CA file.
type authorities struct {
	pool *x509.CertPool
}

// readAuthorities adds the certificates of a PEM file.
func (a *authorities) read(text []byte) (int, error) {
	n := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !isCertificate(block) {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return n, fmt.Errorf("certificate %d in it: %w", n+1, err)
		}
		a.pool.AddCert(c)
		n++
	}
	return n, nil
}

func isCertificate(block *pem.Block) bool {
	switch block.Type {
	case "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE":
		return true
	}
	return false
}

// revocations are the lists of a CRL file.
type revocations struct {
	lists []*revocationList
}

// revocationList is one of them, made ready to be asked in every handshake: a list may have megabytes.
type revocationList struct {
	*x509.RevocationList
	revoked map[string]bool // by serial number, in hexadecimal
	// signed has for the certificates of issuers that were asked about, in DER, whether the list is theirs.
	signed sync.Map
}

func newRevocationList(from *x509.RevocationList) *revocationList {
	l := &revocationList{RevocationList: from, revoked: map[string]bool{}}
	for i := range from.RevokedCertificateEntries {
		l.revoked[from.RevokedCertificateEntries[i].SerialNumber.Text(16)] = true
	}
	from.RevokedCertificateEntries = nil
	return l
}

// isOf reports whether the list is that of an issuer, and says something at a time.
func (l *revocationList) isOf(issuer *x509.Certificate, now time.Time) bool {
	if !bytes.Equal(l.RawIssuer, issuer.RawSubject) || !l.NextUpdate.IsZero() && now.After(l.NextUpdate) {
		return false
	}
	// Issuers are few: what a peer sends as one counts only if one that is trusted has signed it.
	name := string(issuer.Raw)
	signed, known := l.signed.Load(name)
	if !known {
		signed = l.CheckSignatureFrom(issuer) == nil
		l.signed.Store(name, signed)
	}
	return signed.(bool)
}

// readRevocations reads the lists of a PEM file.
func readRevocations(text []byte) (*revocations, error) {
	r := &revocations{}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "X509 CRL" {
			continue
		}
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("list %d in it: %w", len(r.lists)+1, err)
		}
		r.lists = append(r.lists, newRevocationList(list))
	}
	if len(r.lists) == 0 {
		return nil, errors.New("there is no revocation list in it")
	}
	return r, nil
}

// oldest is when the first of the lists is replaced by a newer one; the zero Time when none says it.
func (r *revocations) oldest() time.Time {
	var first time.Time
	for _, l := range r.lists {
		if !l.NextUpdate.IsZero() && (first.IsZero() || l.NextUpdate.Before(first)) {
			first = l.NextUpdate
		}
	}
	return first
}

// check reports a chain that has a revoked certificate, or one about which no valid list says anything:
// as OpenSSL, for every certificate but the last.
func (r *revocations) check(chain []*x509.Certificate, now time.Time) error {
	for i, c := range chain[:len(chain)-1] {
		if err := r.checkOne(c, chain[i+1], now); err != nil {
			return err
		}
	}
	return nil
}

func (r *revocations) checkOne(c, issuer *x509.Certificate, now time.Time) error {
	said := false
	for _, l := range r.lists {
		if !l.isOf(issuer, now) {
			continue
		}
		if said = true; l.revoked[c.SerialNumber.Text(16)] {
			return fmt.Errorf("the certificate of %q is revoked", c.Subject)
		}
	}
	if !said {
		return fmt.Errorf("no valid revocation list of %q says anything about the certificate of %q",
			issuer.Subject, c.Subject)
	}
	return nil
}

// checkAny reports chains none of which is free of revoked certificates.
func (r *revocations) checkAny(chains [][]*x509.Certificate, now time.Time) error {
	err := errors.New("there is no chain")
	for _, chain := range chains {
		if err = r.check(chain, now); err == nil {
			return nil
		}
	}
	return err
}

// verification is how a server's certificate is verified.
type verification struct {
	roots *x509.CertPool
	crl   *revocations // nil for none
	// host is the name or address that it must be for unless the server was asked for another name; empty
	// when that does not matter.
	host string
	now  func() time.Time
}

// verify is tls.Config.VerifyConnection. A session that is resumed was verified when it began, and crypto/tls
// does not resume one of a certificate that has expired: then only what else may have changed is looked at.
func (v *verification) verify(cs tls.ConnectionState) error {
	return untrusted(cs, v.check(cs))
}

// untrusted says of an error that it is about the peer's certificate, in crypto/tls's way.
func untrusted(cs tls.ConnectionState, err error) error {
	if err == nil {
		return nil
	}
	return &tls.CertificateVerificationError{UnverifiedCertificates: cs.PeerCertificates, Err: err}
}

func (v *verification) check(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the server has no certificate")
	}
	leaf, now := cs.PeerCertificates[0], v.now()
	host := v.host
	if cs.ServerName != "" {
		host = cs.ServerName
	}
	if host != "" {
		if err := isFor(leaf, host); err != nil {
			return err
		}
	}
	if cs.DidResume && v.crl == nil {
		return nil
	}
	options := x509.VerifyOptions{
		Roots: v.roots, Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, c := range cs.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	chains, err := leaf.Verify(options)
	if err != nil {
		return err
	}
	if v.crl != nil {
		return v.crl.checkAny(chains, now)
	}
	return nil
}

// isFor reports a certificate that is for another host. As in HAProxy the common name counts, too, here only
// in certificates without alternative names.
func isFor(leaf *x509.Certificate, host string) error {
	err := leaf.VerifyHostname(host)
	if err == nil || len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses)+len(leaf.URIs) > 0 {
		return err
	}
	name := strings.ToLower(leaf.Subject.CommonName)
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if name == host && name != "" {
		return nil
	}
	if below, wild := strings.CutPrefix(name, "*."); wild {
		if _, rest, ok := strings.Cut(host, "."); ok && rest == below {
			return nil
		}
	}
	return err
}
