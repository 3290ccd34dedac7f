package certificate

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/whyspin/whyspin/internal/config"
)

// listener is how the listeners of one bind line speak TLS.
type listener struct {
	store  *Store
	bind   *config.BindTLS
	config *tls.Config
	// refusing is for clients for whose name there is no certificate: they have no sessions either.
	refusing *tls.Config
	entries  []*entry
	index    atomic.Pointer[index]
	// tickets are the secrets of a file; nil for those of the store.
	tickets *ticketFile
	// pending is an entry that is about to be added.
	pending *entry
	// place tells the sessions of this listener from those of others.
	place string
	// variants are the ways to speak: that of the bind line, and those that lines of lists ask for.
	variants map[string]*variant
}

// entry is one certificate of a listener, with the line that names it.
type entry struct {
	file    *file
	filters []string
	variant *variant
	// line is that of the configuration, or of a list or directory, that names it.
	line config.Position
}

// variant is one way to speak TLS.
type variant struct {
	listener *listener
	settings config.TLS
	// config is used for clients that have a protocol in common, plain for others: they go on without ALPN,
	// as with HAProxy, where crypto/tls would refuse them.
	config, plain *tls.Config
	crl           *revocations
	// purpose tells its sessions from those of others; version is that of the secrets behind its keys.
	purpose string
	version atomic.Uint64
}

// variantOf returns the variant for settings, which it makes at the first time.
func (l *listener) variantOf(settings config.TLS, cas *authorities, crl *revocations) (*variant, error) {
	key := fmt.Sprintf("%+v", settings)
	if v := l.variants[key]; v != nil {
		return v, nil
	}
	v := &variant{listener: l, settings: settings, crl: crl}
	// What is asked of a client's certificate must not be evaded by a session from where less was asked.
	v.purpose = fmt.Sprintf("%s|%s|%s|%s", l.place, settings.Verify, settings.CAFile, settings.CRLFile)
	c := &tls.Config{
		MinVersion: uint16(settings.MinVersion), MaxVersion: uint16(settings.MaxVersion),
		CipherSuites: settings.CipherSuites, NextProtos: settings.ALPN,
		GetCertificate: l.certificate, Time: l.store.now,
		WrapSession: v.wrap, UnwrapSession: v.unwrap,
		SessionTicketsDisabled:      settings.NoTickets && l.store.global.CacheSize == 0,
		DynamicRecordSizingDisabled: l.store.global.MaxRecord > 0, // the engine sizes them
	}
	for _, curve := range settings.Curves {
		c.CurvePreferences = append(c.CurvePreferences, tls.CurveID(curve))
	}
	switch settings.Verify {
	case config.VerifyOptional:
		c.ClientAuth = tls.VerifyClientCertIfGiven
	case config.VerifyRequired:
		c.ClientAuth = tls.RequireAndVerifyClientCert
	case config.VerifyNone, config.VerifyUnset:
	}
	if c.ClientAuth != tls.NoClientCert {
		c.ClientCAs = cas.pool
		if settings.NoCANames {
			c = v.withoutNames(c)
		}
		if crl != nil {
			c.VerifyConnection = chain(c.VerifyConnection, v.checkRevoked)
		}
	}
	v.config, v.plain = c, c
	if len(settings.ALPN) > 0 {
		v.plain = c.Clone()
		v.plain.NextProtos = nil
	}
	if err := v.refreshKeys(l.store.now()); err != nil {
		return nil, err
	}
	l.variants[key] = v
	return v, nil
}

// withoutNames makes a config that sends clients no names of authorities: it then has to verify what comes
// by itself.
func (v *variant) withoutNames(c *tls.Config) *tls.Config {
	roots := c.ClientCAs
	required := c.ClientAuth == tls.RequireAndVerifyClientCert
	c.ClientCAs = nil
	c.ClientAuth = tls.RequestClientCert
	if required {
		c.ClientAuth = tls.RequireAnyClientCert
	}
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		if len(cs.PeerCertificates) == 0 {
			return nil
		}
		chains, err := verifyClient(cs, roots, v.listener.store.now())
		if err == nil && v.crl != nil {
			err = v.crl.checkAny(chains, v.listener.store.now())
		}
		return untrusted(cs, err)
	}
	return c
}

func verifyClient(cs tls.ConnectionState, roots *x509.CertPool, now time.Time) (
	chains [][]*x509.Certificate, err error,
) {
	options := x509.VerifyOptions{
		Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, one := range cs.PeerCertificates[1:] {
		options.Intermediates.AddCert(one)
	}
	return cs.PeerCertificates[0].Verify(options)
}

// chain returns the first function if there is one, else the second: the first does the second's work, too.
func chain(first, second func(tls.ConnectionState) error) func(tls.ConnectionState) error {
	if first != nil {
		return first
	}
	return second
}

// checkRevoked refuses clients whose certificates are revoked.
func (v *variant) checkRevoked(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return nil
	}
	return untrusted(cs, v.crl.checkAny(cs.VerifiedChains, v.listener.store.now()))
}

// configFor is tls.Config.GetConfigForClient of a listener.
func (l *listener) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	c := l.index.Load().choose(hello)
	if c == nil {
		return l.refusing, nil
	}
	v := c.variant
	if err := v.refreshKeys(l.store.now()); err != nil {
		return nil, err
	}
	for _, theirs := range hello.SupportedProtos {
		if slices.Contains(v.settings.ALPN, theirs) {
			return v.config, nil
		}
	}
	return v.plain, nil
}

// certificate is tls.Config.GetCertificate: without one crypto/tls refuses the name, if it has to show one.
func (l *listener) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c := l.index.Load().choose(hello)
	if c == nil {
		return nil, nil
	}
	return c.at(l.store.now()), nil
}

// refreshKeys gives the variant new keys of tickets when it is time.
func (v *variant) refreshKeys(now time.Time) error {
	if v.settings.NoTickets {
		return nil
	}
	var all []secret
	var version uint64
	if v.listener.tickets != nil {
		all, version = v.listener.tickets.current()
	} else {
		all, version = v.listener.store.secrets.current(now)
	}
	if v.version.Load() == version {
		return nil
	}
	keys, err := keysFor(all, v.purpose)
	if err != nil {
		return err
	}
	v.config.SetSessionTicketKeys(keys)
	v.version.Store(version)
	return nil
}

// wrap is tls.Config.WrapSession: it makes a ticket of a session.
func (v *variant) wrap(cs tls.ConnectionState, state *tls.SessionState) ([]byte, error) {
	s := v.listener.store
	expires := s.now().Add(s.global.Lifetime)
	if !v.settings.NoTickets {
		stamp(state, expires)
		return v.config.EncryptTicket(cs, state)
	}
	// The purpose is kept with the session: the cache is one for all listeners.
	state.Extra = append(state.Extra, []byte(purposePrefix+v.purpose))
	raw, err := state.Bytes()
	if err != nil {
		return nil, err
	}
	return s.cache.put(raw, expires), nil
}

const purposePrefix = "whyspin-purpose:"

// unwrap is tls.Config.UnwrapSession: it finds the session of a ticket, nil when there is none.
func (v *variant) unwrap(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
	s := v.listener.store
	if !v.settings.NoTickets {
		state, err := v.config.DecryptTicket(ticket, cs)
		if err != nil || state == nil || !fresh(state, s.now()) {
			return nil, nil // the handshake goes on without it
		}
		return state, nil
	}
	raw := s.cache.get(ticket, s.now())
	if raw == nil {
		return nil, nil
	}
	state, err := tls.ParseSessionState(raw)
	if err != nil {
		return nil, nil
	}
	if !slices.ContainsFunc(state.Extra, func(extra []byte) bool {
		return bytes.Equal(extra, []byte(purposePrefix+v.purpose))
	}) {
		return nil, nil
	}
	return state, nil
}

// rebuild makes the index of the listener anew, after a certificate was replaced. The caller holds the lock
// of the store.
func (l *listener) rebuild() {
	x := &index{exact: map[string][]*choice{}, below: map[string][]*choice{}, strict: l.bind.StrictSNI}
	for _, e := range l.entries {
		x.add(e, l.store.global.SkipSelfIssued)
	}
	x.completeDefault()
	l.index.Store(x)
}

// names are what a certificate is for when no filter says it.
func (p *parts) names() []string {
	leaf := p.chain[0]
	var names []string
	for _, name := range append([]string{leaf.Subject.CommonName}, leaf.DNSNames...) {
		if name = strings.ToLower(name); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
