package config

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/whyspin/whyspin/internal/rules"
)

// protocol is a version of SSL or TLS that HAProxy has a word for, in their order.
type protocol uint8

const (
	noProtocol protocol = iota
	ssl30
	tls10
	tls11
	tls12
	tls13
)

// protocols are the words of ssl-min-ver and ssl-max-ver.
var protocols = map[string]protocol{
	"SSLv3": ssl30, "TLSv1.0": tls10, "TLSv1.1": tls11, "TLSv1.2": tls12, "TLSv1.3": tls13,
}

// protocolOptions end the options no-... and force-...
var protocolOptions = map[string]protocol{
	"sslv3": ssl30, "tlsv10": tls10, "tlsv11": tls11, "tlsv12": tls12, "tlsv13": tls13,
}

// versions are the versions that options allow.
type versions struct {
	min, max protocol // noProtocol: not said
	off      [tls13 + 1]bool
}

// or returns the versions with those that are not said taken from the defaults.
func (v versions) or(defaults versions) versions {
	if v.min == noProtocol {
		v.min = defaults.min
	}
	if v.max == noProtocol {
		v.max = defaults.max
	}
	for i := range v.off {
		v.off[i] = v.off[i] || defaults.off[i]
	}
	return v
}

func (v versions) said() bool { return v != versions{} }

// allows reports whether a version is allowed.
func (v versions) allows(p protocol) bool {
	return v.min <= p && (v.max == noProtocol || p <= v.max) && !v.off[p]
}

// read reads an option about versions; it returns false for another option.
func (v *versions) read(p *parameters, name string) bool {
	switch name {
	case "ssl-min-ver", "ssl-max-ver":
		text, ok := p.value(name)
		if !ok {
			return true
		}
		version, known := protocols[text]
		switch {
		case !known:
			p.errorf("%q: %q: unknown version %s, known ones are %s%s", p.label, name, quote(text),
				quoteAll(sortedKeys(protocols)), suggestion(text, sortedKeys(protocols)))
		case name == "ssl-min-ver":
			v.min = version
		default:
			v.max = version
		}
		return true
	}
	if version, ok := protocolOptions[strings.TrimPrefix(name, "no-")]; ok && strings.HasPrefix(name, "no-") {
		v.off[version] = true
		return true
	}
	if version, ok := protocolOptions[strings.TrimPrefix(name, "force-")]; ok &&
		strings.HasPrefix(name, "force-") {
		v.min, v.max = version, version
		return true
	}
	return false
}

// tlsOptions are the settings of one line that speaks of TLS. What they come to is known when all lines are
// read: check puts it into "to".
type tlsOptions struct {
	TLS
	versions versions
	// first is the first option about TLS, "" when there is none.
	first string
	// ssl is true exactly when TLS is asked for.
	ssl bool
}

// tlsCommon are the names that readTLS takes.
var tlsCommon = func() []string {
	names := strings.Fields(`alpn npn ca-file crl-file ciphers ciphersuites verify no-tls-tickets allow-0rtt
		ssl-min-ver ssl-max-ver`)
	for name := range protocolOptions {
		names = append(names, "no-"+name, "force-"+name)
	}
	slices.Sort(names)
	return names
}()

// withoutTickets is said of servers. What listeners keep of sessions instead of tickets is their own matter.
const withoutTickets = `%q: with "no-tls-tickets" every connection negotiates anew: crypto/tls resumes ` +
	"sessions with servers by tickets only"

// readTLS reads one of the options that bind and server lines have in common; it returns false for another
// one. ordered is true exactly when the order of ciphers matters.
func (p *parameters) readTLS(name string, to *tlsOptions, ordered bool) bool {
	label := p.label + " ... " + name
	switch {
	case to.versions.read(p, name):
	case name == "alpn":
		to.ALPN = p.alpn(name)
	case name == "npn":
		p.value(name)
		p.warnf(`%q: "npn" is ignored: no client has it any more, "alpn" took its place`, p.label)
	case name == "ca-file":
		to.CAFile, _ = p.value(name)
	case name == "crl-file":
		to.CRLFile, _ = p.value(name)
	case name == "ciphers":
		if text, ok := p.value(name); ok {
			to.CipherSuites = p.ciphers(label, text, ordered)
		}
	case name == "ciphersuites":
		if text, ok := p.value(name); ok {
			p.ciphers13(label, text, ordered)
		}
	case name == "verify":
		to.Verify = p.verify(name, ordered)
	case name == "no-tls-tickets":
		if to.NoTickets = true; !ordered {
			p.warnf(withoutTickets, p.label)
		}
	case name == "allow-0rtt":
		p.warnf(`%q: "allow-0rtt" is ignored: crypto/tls has no early data`, p.label)
	default:
		return false
	}
	if to.first == "" {
		to.first = name
	}
	return true
}

// alpn reads the list of protocols after the name.
func (p *parameters) alpn(name string) []string {
	text, ok := p.value(name)
	if !ok {
		return nil
	}
	list := strings.Split(text, ",")
	for _, one := range list {
		if one == "" || len(one) > maxProtocolName {
			p.errorf("%q: %q: %s is not a list of protocols of 1 to %d bytes", p.label, name, quote(text),
				maxProtocolName)
			return nil
		}
	}
	return list
}

// verify reads the word after the name; "optional" is for clients only.
func (p *parameters) verify(name string, client bool) Verify {
	text, ok := p.value(name)
	words := []string{"none", "optional", "required"}
	if !client {
		words = []string{"none", "required"}
	}
	switch {
	case !ok:
	case !slices.Contains(words, text):
		p.errorf("%q: %q: unknown word %s, known ones are %s%s", p.label, name, quote(text), quoteAll(words),
			suggestion(text, words))
	case text == "none":
		return VerifyNone
	case text == "optional":
		return VerifyOptional
	default:
		return VerifyRequired
	}
	return VerifyUnset
}

// tlsBindOnly are the names that readBindTLS takes beside those.
var tlsBindOnly = []string{"crt", "crt-list", "curves", "ecdhe", "no-ca-names", "prefer-client-ciphers",
	"ssl", "strict-sni", "tls-ticket-keys"}

// readBindTLS reads an option about TLS of a bind line; it returns false for another one.
func (p *parameters) readBindTLS(name string, to *tlsOptions, bind *BindTLS) bool {
	switch name {
	case "ssl":
		to.ssl = true
		return true
	case "crt", "crt-list":
		if text, ok := p.value(name); ok && name == "crt" {
			bind.Certificates = append(bind.Certificates, text)
		} else if ok {
			bind.Lists = append(bind.Lists, text)
		}
	case "curves", "ecdhe", "no-ca-names":
		p.readLineTLS(name, to)
	case "prefer-client-ciphers":
		p.warnPreference(p.label)
	case "strict-sni":
		bind.StrictSNI = true
	case "tls-ticket-keys":
		bind.TicketKeys, _ = p.value(name)
	default:
		return p.readTLS(name, to, true)
	}
	if to.first == "" {
		to.first = name
	}
	return true
}

// readLineTLS reads an option that a line of a list of certificates may have, too, beside those of readTLS.
func (p *parameters) readLineTLS(name string, to *tlsOptions) bool {
	switch name {
	case "curves", "ecdhe":
		if text, ok := p.value(name); ok {
			to.Curves = p.statement.curves(p.label+" ... "+name, text)
		}
	case "no-ca-names":
		to.NoCANames = true
	default:
		return false
	}
	return true
}

func (s *statement) warnPreference(label string) {
	s.warnf(`%q: "prefer-client-ciphers" has no effect: crypto/tls chooses by itself, and takes ChaCha20 for`+
		" clients that would rather have it", label)
}

// tlsServerOnly are the names that readServerTLS takes beside those that bind lines have, too.
var tlsServerOnly = []string{"check-alpn", "check-sni", "check-ssl", "crt", "no-check-ssl", "no-ssl",
	"no-ssl-reuse", "sni", "ssl", "ssl-reuse", "tls-tickets", "verifyhost"}

// serverTemplate is a Server while its line, or those of its defaults, are read.
type serverTemplate struct {
	Server
	options tlsOptions
	tls     ServerTLS
}

// readServerTLS reads an option about TLS of a server; it returns false for another one.
func (p *parameters) readServerTLS(name string, to *serverTemplate) bool {
	switch name {
	case "ssl", "no-ssl":
		to.options.ssl = name == "ssl"
		return true
	case "crt":
		to.tls.Certificate, _ = p.value(name)
	case "sni":
		to.tls.SNI = p.sni(name)
	case "verifyhost":
		to.tls.VerifyHost, _ = p.value(name)
	case "ssl-reuse", "no-ssl-reuse":
		to.tls.NoReuse = name == "no-ssl-reuse"
	case "tls-tickets":
		to.options.NoTickets = false
	case "check-ssl", "check-sni", "check-alpn":
		if name != "check-ssl" {
			p.value(name)
		}
		p.warnf("%q: %q has no effect: health checks are not supported in this version", p.label, name)
		return true
	case "no-check-ssl":
		return true
	default:
		return p.readTLS(name, &to.options, false)
	}
	if to.options.first == "" {
		to.options.first = name
	}
	return true
}

// sni reads an expression for the name that a server is asked for.
func (p *parameters) sni(name string) SNI {
	source, ok := p.value(name)
	if !ok {
		return SNI{}
	}
	e, err := rules.ParseExpression(source)
	if err != nil {
		p.errorf("%q: %q: %s", p.label, name, explain(err))
		return SNI{}
	}
	if e.Stage() > rules.StageBackend {
		p.errorf("%q: %q: %s has no value before the server is connected", p.label, name, quote(source))
		return SNI{}
	}
	constant, isConstant := e.Constant()
	switch {
	case !isConstant:
		return SNI{From: e}
	case validSNI(constant):
		if _, err := netip.ParseAddr(constant); err == nil {
			p.warnf("%q: %q: crypto/tls asks no server for an address: %s is not sent, but the server's "+
				"certificate must have it", p.label, name, quote(constant))
		}
		return SNI{Name: constant}
	}
	p.errorf("%q: %q: %s is not a host name", p.label, name, quote(constant))
	return SNI{}
}

// validSNI reports whether a name can be asked for: RFC 6066 has host names only.
func validSNI(name string) bool {
	return name != "" && len(name) <= maxHostName && strings.IndexFunc(name, func(r rune) bool {
		return r > 0x7f || !isNameByte(byte(r)) && r != '-' && r != '.'
	}) < 0
}
