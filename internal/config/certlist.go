package config

import (
	"strings"
)

// CertificateLine is a line of a list of certificates ("crt-list").
type CertificateLine struct {
	Position
	// File is the certificate, under crt-base already.
	File string
	// Options are the settings that hold for this certificate in place of those of the bind line, as for
	// TLS.With; HasOptions is true exactly when the line makes some. OptionText is how they are written,
	// without the brackets.
	Options    TLS
	HasOptions bool
	OptionText string
	// Filters are the names that the certificate is for, as they are written, "*." before those that stand
	// for all names below and "!" before those that are excepted; empty for the names in the certificate.
	Filters []string
}

// ParseCertificateList reads a list of certificates: on each line a file, options in brackets, and the
// names that the certificate is for. What it returns besides are the mistakes and warnings, in order.
func ParseCertificateList(f File, g *GlobalTLS) ([]CertificateLine, []Diagnostic) {
	report := &diagnostics{}
	var all []CertificateLine
	lines := strings.Split(string(f.Text), "\n")
	if len(f.Text) > maxTotalBytes {
		report.errorf(Position{f.Name, 1}, "the list is larger than %d bytes", maxTotalBytes)
		lines = nil
	}
	for i, text := range lines {
		s := &statement{Position: Position{f.Name, i + 1}, report: report}
		if strings.IndexByte(text, 0) >= 0 {
			s.errorf("a zero byte: this is not a text file")
			break
		}
		if beginsPEM(text) { // messages about its lines would show the key
			s.errorf(`this is a certificate or a key, not a list of their files: "crt" takes it`)
			break
		}
		if line, ok := s.certificateLine(text, g); ok {
			all = append(all, line)
		}
		if report.counts[Error] >= maxErrors {
			s.errorf("more than %d errors: what follows is not read", maxErrors)
			break
		}
	}
	return all, report.list
}

// certificateLine reads one line; ok is false for an empty one and for one with a mistake.
func (s *statement) certificateLine(text string, g *GlobalTLS) (line CertificateLine, ok bool) {
	if at := strings.IndexByte(text, '#'); at >= 0 && strings.TrimSpace(text[:at]) == "" {
		return line, false
	}
	text = strings.TrimSpace(text)
	if text == "" {
		return line, false
	}
	errors := s.report.counts[Error]
	line.Position = s.Position
	end := strings.IndexAny(text, " \t")
	if end < 0 {
		end = len(text)
	}
	line.File = under(g.CRTBase, text[:end])
	rest := strings.TrimSpace(text[end:])
	if strings.HasPrefix(rest, "[") {
		inside, after, closed := strings.Cut(rest[1:], "]")
		if !closed {
			s.errorf("the options of %s have no closing bracket", quote(text[:end]))
			return line, false
		}
		s.words = strings.Fields(inside)
		line.OptionText = strings.Join(s.words, " ")
		line.HasOptions = len(s.words) > 0
		line.Options = s.lineOptions(g)
		rest = after
	}
	for _, filter := range strings.Fields(rest) {
		if !validFilter(filter) {
			s.errorf("%s is not a host name, nor one with \"*.\" or \"!\" before it", quote(filter))
			continue
		}
		line.Filters = append(line.Filters, filter)
	}
	return line, s.report.counts[Error] == errors
}

// lineOptions reads the options in brackets.
func (s *statement) lineOptions(g *GlobalTLS) TLS {
	var o tlsOptions
	options := &parameters{statement: s, label: "crt-list"}
	for name, ok := options.next(); ok; name, ok = options.next() {
		switch {
		case name == "no-tls-tickets":
			s.errorf(`"crt-list": "no-tls-tickets" belongs on the bind line`)
		case options.readLineTLS(name, &o), options.readTLS(name, &o, true):
		default:
			options.other(name, unsupportedLine, append([]string{"curves", "ecdhe", "no-ca-names"},
				tlsCommon...))
		}
	}
	options.finish()
	t := o.TLS
	t.CAFile, t.CRLFile = under(g.CABase, t.CAFile), under(g.CABase, t.CRLFile)
	if o.versions.said() {
		t.MinVersion, t.MaxVersion = s.versionRange("crt-list", o.versions)
	}
	// What the line does not say stays as the bind line has it.
	if o.versions.min == noProtocol && !o.versions.off[tls12] {
		t.MinVersion = 0
	}
	if o.versions.max == noProtocol && !o.versions.off[tls13] {
		t.MaxVersion = 0
	}
	return t
}

// unsupportedLine are the other options that a line of a list may have.
var unsupportedLine = arities("ca-verify-file+1")

// validFilter reports whether a word may say which names a certificate is for.
func validFilter(filter string) bool {
	name := strings.TrimPrefix(filter, "!")
	if name == "*" {
		return true
	}
	return validSNI(strings.TrimPrefix(name, "*."))
}
