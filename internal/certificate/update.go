package certificate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// transaction is a replacement of a certificate that is being prepared. There is one at a time.
type transaction struct {
	file  *file
	parts *parts
}

// Why the commands about certificates fail, in HAProxy's words.
var (
	// ErrNotFound is that the configuration has no such certificate.
	ErrNotFound = errors.New("Can't replace a certificate which is not referenced by the configuration!")
	// ErrNoTransaction is that there is nothing to commit or to abort.
	ErrNoTransaction = errors.New("No ongoing transaction!")
	// ErrIncomplete is that a certificate or its key is missing.
	ErrIncomplete = errors.New("The transaction must contain at least a certificate and a private key!")
)

// OngoingError is that the transaction is about another certificate.
type OngoingError struct{ Ongoing, Asked string }

func (e *OngoingError) Error() string {
	return fmt.Sprintf("The ongoing transaction is about '%s' but you are trying to set '%s'", e.Ongoing,
		e.Asked)
}

// Set prepares the replacement of a certificate, or of the file beside one whose name ends in .key, .issuer,
// .ocsp or .sctl (the last two in base64). It returns the certificate's name and whether this began
// a transaction. What is in use does not change before Commit.
func (s *Store) Set(name string, text []byte) (certificate string, began bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, extension := s.find(name)
	if f == nil {
		return "", false, ErrNotFound
	}
	if s.transaction != nil && s.transaction.file != f {
		return "", false, &OngoingError{s.transaction.file.name, f.name}
	}
	if extension == extOCSP || extension == extSCTL {
		text, err = base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(text), nil)))
		if err != nil {
			return "", false, errors.New("it is not in base64")
		}
	}
	base := f.parts
	if s.transaction != nil {
		base = s.transaction.parts
	}
	parts, err := base.with(extension, text, s.now())
	if err != nil {
		return "", false, err
	}
	began = s.transaction == nil
	s.transaction = &transaction{file: f, parts: parts}
	return f.name, began, nil
}

// find returns the certificate of a name, and the extension by which it names a file beside one.
func (s *Store) find(name string) (*file, string) {
	if f := s.files[name]; f != nil {
		return f, ""
	}
	for _, extension := range extensions {
		if base, ok := strings.CutSuffix(name, extension); ok && s.files[base] != nil {
			return s.files[base], extension
		}
	}
	return nil, ""
}

// Commit puts the certificate that was prepared into use, for all handshakes from now on at once, and
// returns in how many places. Connections that exist go on.
func (s *Store) Commit(name string) (uses int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.transaction
	switch {
	case t == nil:
		return 0, ErrNoTransaction
	case t.file.name != name:
		return 0, &OngoingError{t.file.name, name}
	case len(t.parts.chain) == 0 || t.parts.key == nil:
		return 0, ErrIncomplete
	}
	if err := t.parts.check(); err != nil {
		return 0, fmt.Errorf("inconsistencies between private key and certificate loaded '%s'.", name)
	}
	t.file.parts = t.parts
	for _, l := range t.file.listeners {
		l.rebuild()
	}
	for _, v := range t.file.servers {
		v.own.Store(t.parts.certificate(s.global.SkipSelfIssued))
	}
	s.transaction = nil
	return t.file.uses, nil
}

// Abort forgets the certificate that was prepared.
func (s *Store) Abort(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.transaction == nil:
		return ErrNoTransaction
	case s.transaction.file.name != name:
		return &OngoingError{s.transaction.file.name, name}
	}
	s.transaction = nil
	return nil
}

// Names returns the names of the certificates in order, and that of the one that a transaction is about,
// empty without one.
func (s *Store) Names() (all []string, ongoing string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.files {
		all = append(all, name)
	}
	slices.Sort(all)
	if s.transaction != nil {
		ongoing = s.transaction.file.name
	}
	return all, ongoing
}

// Details are what may be shown of a certificate. Nothing of its key is.
type Details struct {
	// Used is true exactly when something shows it.
	Used                bool
	Serial              string // hexadecimal
	NotBefore, NotAfter time.Time
	// Names are its alternative names that are host names.
	Names []string
	// Algorithm is the kind and length of its key: RSA2048, EC256.
	Algorithm   string
	Fingerprint string // SHA-1, hexadecimal
	// Subject and Issuer are distinguished names as OpenSSL prints them on one line.
	Subject, Issuer string
	// ChainSubjects and ChainIssuers are those of the other certificates that are sent.
	ChainSubjects, ChainIssuers []string
	// OCSP is the name of the response of OCSP; empty without one.
	OCSP string
}

// Details returns those of a certificate; of the one that is prepared when ongoing is set.
func (s *Store) Details(name string, ongoing bool) (*Details, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var p *parts
	d := &Details{}
	switch f := s.files[name]; {
	case f == nil || ongoing && (s.transaction == nil || s.transaction.file != f):
		return nil, false
	case ongoing:
		p = s.transaction.parts
	default:
		p = f.parts
		d.Used = f.uses > 0
	}
	if leaf := p.leaf(); leaf != nil {
		d.describe(leaf)
		for _, c := range p.chain[1:] {
			d.ChainSubjects = append(d.ChainSubjects, oneLine(c.RawSubject))
			d.ChainIssuers = append(d.ChainIssuers, oneLine(c.RawIssuer))
		}
	}
	if p.ocsp != nil {
		d.OCSP = p.ocsp.name()
	}
	return d, true
}

func (d *Details) describe(leaf *x509.Certificate) {
	d.Serial = fmt.Sprintf("%02X", leaf.SerialNumber.Bytes())
	if d.Serial == "" {
		d.Serial = "00"
	}
	d.NotBefore, d.NotAfter = leaf.NotBefore, leaf.NotAfter
	d.Names = leaf.DNSNames
	d.Fingerprint = fmt.Sprintf("%X", sha1.Sum(leaf.Raw))
	d.Subject, d.Issuer = oneLine(leaf.RawSubject), oneLine(leaf.RawIssuer)
	switch key := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		d.Algorithm = fmt.Sprintf("RSA%d", key.N.BitLen())
	case *ecdsa.PublicKey:
		d.Algorithm = fmt.Sprintf("EC%d", key.Curve.Params().BitSize)
	default:
		d.Algorithm = leaf.PublicKeyAlgorithm.String()
	}
}
