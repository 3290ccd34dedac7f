package certificate

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/config"
)

// maxFile is how large a file may be: the largest known are revocation lists of some ten MiB.
const maxFile = 64 << 20

// maxFiles is how many certificates a directory may have.
const maxFiles = 1 << 17

// loader reads the files of a configuration. Every file is read once; every mistake is reported, with the
// line that names the file.
type loader struct {
	store    *Store
	files    known[*file]
	cas      known[*authorities]
	crls     known[*revocations]
	said     map[string]bool
	wrong    []error
	warnings []string
}

// Load reads all files that a configuration names for TLS. The warnings are about certificates that are out
// of date and the like; the error has everything that is wrong, a line each. now is the clock, time.Now.
func Load(c *config.Config, now func() time.Time) (s *Store, warnings []string, err error) {
	s = &Store{
		global: &c.Global.TLS, now: now,
		binds: map[*config.BindTLS]*listener{}, servers: map[*config.ServerTLS]*server{},
		files: map[string]*file{}, cache: newSessions(c.Global.TLS.CacheSize),
		secrets: newSecrets(c.Global.TLS.Lifetime),
	}
	l := newLoader(s)
	for _, p := range c.Proxies {
		for _, b := range p.Binds {
			if b.TLS != nil && s.binds[b.TLS] == nil && !p.Disabled {
				l.listener(p, b)
			}
		}
		for _, v := range p.Servers {
			if v.TLS != nil {
				l.server(v)
			}
		}
	}
	slices.SortFunc(s.lists, func(a, b *List) int { return strings.Compare(a.Name, b.Name) })
	if err := errors.Join(l.wrong...); err != nil {
		return nil, l.warnings, err
	}
	for _, one := range s.binds {
		one.rebuild()
	}
	return s, l.warnings, nil
}

func newLoader(s *Store) *loader {
	return &loader{
		store: s, files: known[*file]{read: s.files},
		cas:  known[*authorities]{read: map[string]*authorities{}},
		crls: known[*revocations]{read: map[string]*revocations{}}, said: map[string]bool{},
	}
}

// fail reports a mistake, once for each line.
func (l *loader) fail(at config.Position, err error) {
	text := fmt.Sprintf("%s: %v", at, err)
	if !l.said[text] {
		l.said[text] = true
		l.wrong = append(l.wrong, errors.New(text))
	}
}

func (l *loader) warn(at config.Position, format string, args ...any) {
	text := fmt.Sprintf("%s: %s", at, fmt.Sprintf(format, args...))
	if !l.said[text] {
		l.said[text] = true
		l.warnings = append(l.warnings, text)
	}
}

// listener loads what the listeners of a bind line need.
func (l *loader) listener(p *config.Proxy, bind *config.Bind) {
	b := bind.TLS
	one := &listener{store: l.store, bind: b, variants: map[string]*variant{}}
	one.place = fmt.Sprintf("%s|%s", p.Name, bind.Address)
	l.store.binds[b] = one
	if b.TicketKeys != "" {
		// Whoever has the same file may resume the sessions: a place would keep them apart.
		one.place = ""
		l.ticketKeys(one)
	}
	base := l.variant(b.Position, one, b.TLS)
	if base == nil {
		return
	}
	one.refusing = base.config.Clone()
	one.refusing.SessionTicketsDisabled = true
	one.config = base.config.Clone()
	one.config.GetConfigForClient = one.configFor
	for _, name := range b.Certificates {
		l.named(one, base, name)
	}
	for _, name := range b.Lists {
		l.list(one, name)
	}
}

func (l *loader) ticketKeys(one *listener) {
	name := one.bind.TicketKeys
	for _, known := range l.store.tickets {
		if known.name == name {
			one.tickets = known
			return
		}
	}
	text, err := read(name)
	if err == nil {
		if one.tickets, err = readTicketKeys(text); err != nil {
			err = fmt.Errorf("%q: %w", name, err)
		}
	}
	if err != nil {
		l.fail(one.bind.Position, fmt.Errorf(`"tls-ticket-keys": %w`, err))
		return
	}
	one.tickets.name = name
	l.store.tickets = append(l.store.tickets, one.tickets)
}

// variant returns the variant for settings; nil after a mistake.
func (l *loader) variant(at config.Position, one *listener, settings config.TLS) *variant {
	var cas *authorities
	var crl *revocations
	ok := true
	switch {
	case settings.MinVersion > settings.MaxVersion:
		l.fail(at, fmt.Errorf("no version of TLS remains: the line and its bind line ask for %s and higher, "+
			"and for %s and lower", settings.MinVersion, settings.MaxVersion))
		return nil
	case settings.CAFile != "":
		cas, crl, ok = l.trust(at, settings.CAFile, settings.CRLFile)
	case settings.Verify != config.VerifyNone:
		l.fail(at, fmt.Errorf(`"verify %s" needs a "ca-file"`, settings.Verify))
		return nil
	}
	if !ok {
		return nil
	}
	v, err := one.variantOf(settings, cas, crl)
	if err != nil {
		l.fail(at, err)
		return nil
	}
	return v
}

// named loads what "crt" names: a file, a directory, or the files of a certificate of several kinds.
func (l *loader) named(one *listener, v *variant, name string) {
	at := one.bind.Position
	info, err := os.Stat(name)
	switch {
	case err != nil && l.bundle(name) != nil:
		for _, kind := range l.bundle(name) {
			l.entry(at, one, v, kind, nil, at)
		}
	case err != nil:
		l.fail(at, fmt.Errorf(`"crt": %w`, err))
	case info.IsDir():
		l.directory(one, v, name)
	default:
		l.entry(at, one, v, name, nil, at)
	}
}

// kinds are the endings of the files of a certificate of several kinds.
var kinds = []string{".rsa", ".ecdsa"}

// bundle returns the files of a certificate of several kinds, nil when there are none.
func (l *loader) bundle(name string) []string {
	if !l.store.global.Extra.Bundle {
		return nil
	}
	var found []string
	for _, kind := range kinds {
		if _, err := os.Stat(name + kind); err == nil {
			found = append(found, name+kind)
		}
	}
	return found
}

// directory loads the certificates of a directory in order of name, but no hidden files.
func (l *loader) directory(one *listener, v *variant, name string) {
	at := one.bind.Position
	entries, err := os.ReadDir(name)
	if err != nil {
		l.fail(at, fmt.Errorf(`"crt": %w`, err))
		return
	}
	list := &List{Name: name}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || slices.Contains(extensions, filepath.Ext(e.Name())) ||
			e.IsDir() || len(list.Lines) == maxFiles {
			continue
		}
		path := filepath.Join(name, e.Name())
		line := config.Position{File: name} // as in HAProxy: without a number
		l.entry(at, one, v, path, nil, line)
		list.Lines = append(list.Lines, config.CertificateLine{Position: line, File: path})
	}
	if len(list.Lines) == 0 {
		l.fail(at, fmt.Errorf(`"crt": there is no certificate in the directory %q`, name))
	}
	l.keep(list)
}

// keep adds a list, once.
func (l *loader) keep(list *List) {
	if !slices.ContainsFunc(l.store.lists, func(known *List) bool { return known.Name == list.Name }) {
		l.store.lists = append(l.store.lists, list)
	}
}

// list loads the certificates of a list.
func (l *loader) list(one *listener, name string) {
	text, err := read(name)
	if err != nil {
		l.fail(one.bind.Position, fmt.Errorf(`"crt-list": %w`, err))
		return
	}
	lines, messages := config.ParseCertificateList(config.File{Name: name, Text: text}, l.store.global)
	for _, m := range messages {
		if m.Severity == config.Error {
			l.fail(m.Position, errors.New(m.Message))
		} else {
			l.warn(m.Position, "%s", m.Message)
		}
	}
	for i := range lines {
		line := &lines[i]
		v := l.variant(line.Position, one, one.bind.TLS.With(&line.Options))
		if v == nil {
			continue
		}
		files := []string{line.File}
		if _, err := os.Stat(line.File); err != nil && l.bundle(line.File) != nil {
			files = l.bundle(line.File)
		}
		for _, file := range files {
			l.entry(line.Position, one, v, file, line.Filters, line.Position)
		}
	}
	if len(lines) == 0 && len(messages) == 0 {
		l.fail(one.bind.Position, fmt.Errorf(`"crt-list": there is no certificate in %q`, name))
	}
	kept := &List{Name: name, Lines: lines}
	if n := len(lines); n > 0 {
		kept.last = lines[n-1].Line
	}
	l.keep(kept)
}

// entry adds a certificate to a listener. line is what names it.
func (l *loader) entry(at config.Position, one *listener, v *variant, name string, filters []string,
	line config.Position,
) {
	f := l.file(at, name)
	if f == nil {
		return
	}
	f.uses++
	if !slices.Contains(f.listeners, one) {
		f.listeners = append(f.listeners, one)
	}
	one.entries = append(one.entries, &entry{file: f, filters: filters, variant: v, line: line})
}

// server loads what a server needs.
func (l *loader) server(v *config.Server) {
	t := v.TLS
	var cas *authorities
	var crl *revocations
	if t.CAFile != "" {
		var ok bool
		if cas, crl, ok = l.trust(t.Position, t.CAFile, t.CRLFile); !ok {
			return
		}
	}
	made := l.store.newServer(t, cas, crl)
	l.store.servers[t] = made
	if t.Certificate == "" {
		return
	}
	if f := l.file(t.Position, t.Certificate); f != nil {
		f.uses++
		f.servers = append(f.servers, made)
		made.own.Store(f.parts.certificate(l.store.global.SkipSelfIssued))
	}
}

// trust loads the authorities, and the lists of what they have revoked if there are any.
func (l *loader) trust(at config.Position, caFile, crlFile string) (*authorities, *revocations, bool) {
	cas, err := l.cas.once(caFile, readAuthorities)
	if err != nil {
		l.fail(at, fmt.Errorf(`"ca-file": %w`, err))
	}
	if crlFile == "" {
		return cas, nil, err == nil
	}
	crl, err2 := l.crls.once(crlFile, func(name string) (*revocations, error) {
		text, err := read(name)
		if err != nil {
			return nil, err
		}
		r, err := readRevocations(text)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", name, err)
		}
		return r, nil
	})
	if err2 != nil {
		l.fail(at, fmt.Errorf(`"crl-file": %w`, err2))
	} else if end := crl.oldest(); !end.IsZero() && l.store.now().After(end) {
		l.warn(at, `"crl-file": %q is out of date since %s: what it is about is refused`, crlFile, day(end))
	}
	return cas, crl, err == nil && err2 == nil
}

// known are the files of one kind that were read, and those that could not be.
type known[V any] struct {
	read   map[string]V
	failed map[string]error
}

// once reads a file that has not been read yet.
func (k *known[V]) once(name string, read func(string) (V, error)) (V, error) {
	if err := k.failed[name]; err != nil {
		return *new(V), err
	}
	if v, ok := k.read[name]; ok {
		return v, nil
	}
	v, err := read(name)
	if err != nil {
		if k.failed == nil {
			k.failed = map[string]error{}
		}
		k.failed[name] = err
		return v, err
	}
	k.read[name] = v
	return v, nil
}

// readAuthorities reads a file, a directory of them, or what the system trusts.
func readAuthorities(name string) (*authorities, error) {
	if name == config.SystemCA {
		pool, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("the authorities of the system: %w", err)
		}
		return &authorities{pool}, nil
	}
	names := []string{name}
	if entries, err := os.ReadDir(name); err == nil {
		names = nil
		for _, e := range entries {
			switch filepath.Ext(e.Name()) {
			case ".pem", ".crt", ".cer":
				names = append(names, filepath.Join(name, e.Name()))
			}
		}
	}
	a := &authorities{x509.NewCertPool()}
	total := 0
	for _, one := range names {
		text, err := read(one)
		if err != nil {
			return nil, err
		}
		n, err := a.read(text)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", one, err)
		}
		total += n
	}
	if total == 0 {
		return nil, fmt.Errorf("%q: %w", name, errNoCertificate)
	}
	return a, nil
}

// file loads a certificate with the files beside it.
func (l *loader) file(at config.Position, name string) *file {
	f, err := l.files.once(name, l.read)
	if err != nil {
		l.fail(at, fmt.Errorf(`"crt": %w`, err))
		return nil
	}
	l.dates(at, f)
	return f
}

// dates warns of certificates that are not valid now.
func (l *loader) dates(at config.Position, f *file) {
	now := l.store.now()
	for i, c := range f.parts.chain {
		what := fmt.Sprintf("the certificate in %q", f.name)
		if i > 0 {
			what = fmt.Sprintf("certificate %d of the chain in %q", i+1, f.name)
		}
		if now.After(c.NotAfter) {
			l.warn(at, "%s has expired on %s", what, day(c.NotAfter))
		} else if now.Before(c.NotBefore) {
			l.warn(at, "%s is not valid before %s", what, day(c.NotBefore))
		}
	}
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// read reads a certificate with the files beside it.
func (l *loader) read(name string) (*file, error) {
	text, err := read(name)
	if err != nil {
		return nil, err
	}
	p, err := readPEM(text)
	if err == nil && len(p.chain) == 0 {
		err = errNoCertificate
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	for _, extension := range extensions {
		if p, err = l.beside(p, name, extension); err != nil {
			return nil, err
		}
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return &file{name: name, parts: p}, nil
}

// beside returns the parts with those of a file beside the certificate, if it is there and wanted.
func (l *loader) beside(p *parts, name, extension string) (*parts, error) {
	extra := &l.store.global.Extra
	wanted := map[string]bool{
		extKey: extra.Key && p.key == nil, extIssuer: extra.Issuer, extOCSP: extra.OCSP, extSCTL: extra.SCTL,
	}[extension]
	if !wanted {
		return p, nil
	}
	file := name + extension
	if extra.ReplaceExtension {
		file = strings.TrimSuffix(name, filepath.Ext(name)) + extension
	}
	text, err := read(file)
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	with, err := p.with(extension, text, l.store.now())
	switch {
	case errors.Is(err, errStale):
		l.warn(config.Position{File: file, Line: 1}, "%v: it is not sent", err)
		return p, nil
	case err != nil:
		return nil, fmt.Errorf("%q: %w", file, err)
	}
	return with, nil
}

// read reads a file.
func read(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s has more than %d bytes", name, maxFile)
	}
	return text, nil
}
