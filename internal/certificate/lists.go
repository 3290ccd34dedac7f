package certificate

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/whyspin/whyspin/internal/config"
)

// Certificates come and go while the proxy runs: an empty one is made, filled in by a transaction, put into a
// list of certificates and taken out of it, and at last deleted. Connections that exist go on.

// Create makes a certificate that has nothing yet.
func (s *Store) Create(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[name] != nil {
		return fmt.Errorf("Certificate '%s' already exists!", name)
	}
	if len(s.files) >= maxFiles {
		return fmt.Errorf("there are %d certificates already", maxFiles)
	}
	s.files[name] = &file{name: name, parts: &parts{}}
	return nil
}

// InTransactionError is that a certificate is about to be replaced.
type InTransactionError struct{ Name string }

func (e *InTransactionError) Error() string {
	return fmt.Sprintf("ongoing transaction for the certificate '%s'", e.Name)
}

// Delete forgets a certificate that nothing shows.
func (s *Store) Delete(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.files[name]
	switch {
	case f == nil:
		return fmt.Errorf("certificate '%s' doesn't exist!", name)
	case s.transaction != nil && s.transaction.file == f:
		return &InTransactionError{name}
	case f.uses > 0:
		return fmt.Errorf("certificate '%s' in use, can't be deleted!", name)
	}
	delete(s.files, name)
	return nil
}

// AddToList adds a line to the end of a list of certificates, or of a directory, for every listener that has
// it, and returns how many those are and the name of the certificate.
func (s *Store) AddToList(list string, text []byte) (uses int, certificate string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.list(list)
	if known < 0 {
		return 0, "", fmt.Errorf("crt-list '%s' does not exist!", list)
	}
	old := s.lists[known]
	lines, messages := config.ParseCertificateList(config.File{Name: list, Text: text}, s.global)
	for _, m := range messages {
		if m.Severity == config.Error {
			return 0, "", errors.New(m.Message)
		}
	}
	if len(lines) != 1 {
		return 0, "", errors.New("only one line of payload is supported!")
	}
	line := lines[0]
	f := s.files[line.File]
	inside := strings.HasPrefix(line.File, list+"/")
	switch {
	case !inside && s.isDirectory(list):
		return 0, "", fmt.Errorf("'%s' is a directory, certificate path '%s' must contain the directory path",
			list, line.File)
	case f == nil:
		return 0, line.File, fmt.Errorf("certificate '%s' does not exist!", line.File)
	case len(f.parts.chain) == 0 || f.parts.key == nil:
		return 0, line.File, fmt.Errorf("certificate '%s' is empty!", line.File)
	}
	if line.Line = 0; !s.isDirectory(list) {
		line.Line = old.last + 1
	}
	l := newLoader(s)
	var changed []*listener
	for _, one := range s.binds {
		if !one.has(list) {
			continue
		}
		v := l.variant(line.Position, one, one.bind.TLS.With(&line.Options))
		if v == nil {
			return 0, line.File, errors.Join(l.wrong...)
		}
		changed = append(changed, one)
		one.pending = &entry{file: f, filters: line.Filters, variant: v, line: line.Position}
	}
	for _, one := range changed {
		one.entries = append(one.entries, one.pending)
		one.pending = nil
		f.uses++
		if !slices.Contains(f.listeners, one) {
			f.listeners = append(f.listeners, one)
		}
		one.rebuild()
	}
	s.lists[known] = &List{Name: old.Name, Lines: append(slices.Clone(old.Lines), line), last: old.last + 1}
	return len(changed), line.File, nil
}

// RemoveFromList takes a certificate out of a list, the one of a line if that is not 0.
func (s *Store) RemoveFromList(list, certificate string, line int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.list(list)
	if known < 0 {
		return fmt.Errorf("crt-list '%s' does not exist!", list)
	}
	old := s.lists[known]
	at, err := old.find(certificate, line)
	switch {
	case s.files[certificate] == nil:
		return fmt.Errorf("certificate '%s' does not exist!", certificate)
	case err != nil:
		return err
	}
	position := config.Position{File: list, Line: old.Lines[at].Line}
	leaves := func(e *entry) bool { return e.line == position && e.file.name == certificate }
	for _, one := range s.binds {
		if one.has(list) && len(one.entries) > 0 && leaves(one.entries[0]) {
			return fmt.Errorf("certificate '%s' cannot be deleted, it is used as default certificate by the "+
				"following frontends:\n\t- %s\n", certificate, one.bind.Position)
		}
	}
	for _, one := range s.binds {
		if !one.has(list) {
			continue
		}
		one.entries = slices.DeleteFunc(one.entries, func(e *entry) bool {
			if leaves(e) {
				e.file.uses--
			}
			return leaves(e)
		})
		one.rebuild()
		one.forget()
	}
	lines := slices.Delete(slices.Clone(old.Lines), at, at+1)
	s.lists[known] = &List{Name: old.Name, Lines: lines, last: old.last}
	return nil
}

// find returns the index of the one line of a list that has a certificate, and that number if it is not 0.
func (l *List) find(certificate string, line int) (at int, err error) {
	var numbers []string
	at = -1
	for i := range l.Lines {
		if l.Lines[i].File != certificate {
			continue
		}
		numbers = append(numbers, strconv.Itoa(l.Lines[i].Line))
		if line == 0 || l.Lines[i].Line == line {
			at = i
		}
	}
	switch {
	case len(numbers) == 0:
		return 0, fmt.Errorf("certificate '%s' can't be found in crt-list '%s'!", certificate, l.Name)
	case line == 0 && len(numbers) > 1:
		return 0, fmt.Errorf("found the certificate '%s' in several entries, please specify a line number "+
			"preceded by colons (%s)!", certificate, strings.Join(numbers, ", "))
	case at < 0:
		return 0, fmt.Errorf("found a certificate '%s' but the line number is incorrect, please specify a "+
			"correct line number preceded by colons (%s)!", certificate, strings.Join(numbers, ", "))
	}
	return at, nil
}

// isDirectory reports whether a list is a directory of certificates.
func (s *Store) isDirectory(list string) bool {
	for _, one := range s.binds {
		if slices.Contains(one.bind.Certificates, list) {
			return true
		}
	}
	return false
}

// forget takes the listener out of the certificates that it no longer has.
func (l *listener) forget() {
	for _, f := range l.store.files {
		if !slices.ContainsFunc(l.entries, func(e *entry) bool { return e.file == f }) {
			f.listeners = slices.DeleteFunc(f.listeners, func(other *listener) bool { return other == l })
		}
	}
}

// list returns the index of a list, -1 when there is none of that name.
func (s *Store) list(name string) int {
	return slices.IndexFunc(s.lists, func(l *List) bool { return l.Name == name })
}

// has reports whether the listener has a list or directory.
func (l *listener) has(list string) bool {
	return slices.Contains(l.bind.Lists, list) || slices.Contains(l.bind.Certificates, list)
}

// OCSPKey is how a response of OCSP is named, with the parts of the name.
type OCSPKey struct{ Key, NameHash, KeyHash, Serial string }

// OCSPKeys returns the names of the responses that there are.
func (s *Store) OCSPKeys() []OCSPKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []OCSPKey
	for _, f := range s.files {
		if f.parts.ocsp != nil {
			all = append(all, f.parts.ocsp.describe())
		}
	}
	slices.SortFunc(all, func(a, b OCSPKey) int { return strings.Compare(a.Key, b.Key) })
	return slices.Compact(all)
}

// SetOCSP replaces the response for the certificate that it is about, wherever that is.
func (s *Store) SetOCSP(raw []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	response, err := readOCSP(raw, nil, s.now())
	if err != nil {
		return err
	}
	found := false
	for _, f := range s.files {
		if f.parts.ocsp == nil || f.parts.ocsp.name() != response.name() {
			continue
		}
		found = true
		with := *f.parts
		with.ocsp = response
		f.parts = &with
		for _, l := range f.listeners {
			l.rebuild()
		}
	}
	if !found {
		return errors.New("OCSP single response: Certificate ID does not match any certificate or issuer.")
	}
	return nil
}
