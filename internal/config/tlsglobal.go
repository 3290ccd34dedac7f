package config

import (
	"slices"
	"strings"
	"time"
)

// Bounds and defaults of what section global says about TLS, those of HAProxy.
const (
	defaultTLSCacheSize = 20000
	defaultTLSLifetime  = 5 * time.Minute
	// maxTLSRecord is the length of the longest record, RFC 8446 section 5.1.
	maxTLSRecord = 16 << 10
	// maxProtocolName is the length of the longest name for ALPN, RFC 7301 section 3.1.
	maxProtocolName = 255
	// minDHParam is the least length in bits of a prime for DHE that HAProxy takes.
	minDHParam = 1024
)

// globalBase reads ca-base and crt-base. As in HAProxy a second one is a mistake.
func (p *parser) globalBase(s *statement) {
	keyword := s.words[0]
	text, ok := s.only(keyword, "a directory")
	if !ok {
		return
	}
	if first, seen := p.seen[keyword]; seen {
		s.errorf("%q was already set at %v", keyword, first)
		return
	}
	p.seen[keyword] = s.Position
	if keyword == "ca-base" {
		p.config.Global.TLS.CABase = text
	} else {
		p.config.Global.TLS.CRTBase = text
	}
}

func (p *parser) globalTLSNumber(s *statement) {
	t := &p.config.Global.TLS
	field, most := &t.MaxConn, maxCount
	switch s.words[0] {
	case "maxsslrate":
		field = &t.MaxRate
	case "tune.ssl.cachesize":
		field = &t.CacheSize
	case "tune.ssl.maxrecord":
		field, most = &t.MaxRecord, maxTLSRecord
	}
	if n, ok := s.onlyNumber(s.words[0], 0, most); ok {
		*field = n
	}
}

// globalTLSLifetime reads a time that is in seconds when it has no unit.
func (p *parser) globalTLSLifetime(s *statement) {
	text, ok := s.only(s.words[0], "a time")
	if !ok {
		return
	}
	if strings.Trim(text, "0123456789") == "" {
		text += "s"
	}
	if d, ok := s.duration(s.words[0], text); ok {
		p.config.Global.TLS.Lifetime = d
	}
}

func (p *parser) globalTLSFlag(s *statement) {
	if !s.atMost(s.words[0], 0) {
		return
	}
	if s.words[0] == "ssl-load-extra-del-ext" {
		p.config.Global.TLS.Extra.ReplaceExtension = true
	} else {
		p.config.Global.TLS.SkipSelfIssued = true
	}
}

// tlsDefaultsOf returns what a keyword of section global is the default for.
func (p *parser) tlsDefaultsOf(keyword string) *tlsDefaults {
	if strings.HasPrefix(keyword, "ssl-default-bind-") {
		return &p.bindDefaults
	}
	return &p.serverDefaults
}

// globalTLSDefault reads the keywords that set ciphers and curves for all lines.
func (p *parser) globalTLSDefault(s *statement) {
	keyword := s.words[0]
	text, ok := s.only(keyword, "a list")
	if !ok {
		return
	}
	to := p.tlsDefaultsOf(keyword)
	switch {
	case strings.HasSuffix(keyword, "-ciphers"):
		to.CipherSuites = s.ciphers(keyword, text, to == &p.bindDefaults)
	case strings.HasSuffix(keyword, "-ciphersuites"):
		s.ciphers13(keyword, text, to == &p.bindDefaults)
	default:
		to.Curves = s.curves(keyword, text)
	}
}

// globalTLSOptions reads the keywords that set options for all lines.
func (p *parser) globalTLSOptions(s *statement) {
	keyword := s.words[0]
	if _, ok := s.argument(keyword, 1, "an option"); !ok {
		return
	}
	to := p.tlsDefaultsOf(keyword)
	options := &parameters{statement: s, label: keyword, at: 1}
	for name, ok := options.next(); ok; name, ok = options.next() {
		switch {
		case to.versions.read(options, name):
		case name == "no-tls-tickets":
			if to.NoTickets = true; to == &p.serverDefaults {
				s.warnf(withoutTickets, keyword)
			}
		case name == "prefer-client-ciphers" && to == &p.bindDefaults:
			s.warnPreference(keyword)
		default:
			known := []string{"no-tls-tickets", "ssl-max-ver", "ssl-min-ver"}
			for option := range protocolOptions {
				known = append(known, "no-"+option, "force-"+option)
			}
			slices.Sort(known)
			s.errorf("%q: unknown option %s%s", keyword, quote(name), suggestion(name, known))
		}
	}
}

// globalDH reads what tunes the finite-field Diffie-Hellman.
func (p *parser) globalDH(s *statement) {
	keyword := s.words[0]
	if keyword == "tune.ssl.default-dh-param" {
		if _, ok := s.onlyNumber(keyword, minDHParam, maxCount); !ok {
			return
		}
	} else if _, ok := s.only(keyword, "a file"); !ok {
		return
	}
	s.warnf("%q is ignored: crypto/tls has no finite-field Diffie-Hellman (DHE)", keyword)
}

// globalServerVerify reads what holds for servers that say nothing about verification.
func (p *parser) globalServerVerify(s *statement) {
	text, ok := s.only("ssl-server-verify", `"none" or "required"`)
	switch {
	case !ok:
	case text == "none":
		p.serverDefaults.verify = VerifyNone
	case text == "required":
		p.serverDefaults.verify = VerifyRequired
	default:
		s.errorf(`"ssl-server-verify": unknown word %s, known ones are "none" and "required"`, quote(text))
	}
}

// globalExtraFiles reads the kinds of files to look for beside a certificate.
func (p *parser) globalExtraFiles(s *statement) {
	if _, ok := s.argument("ssl-load-extra-files", 1, `"all", "none" or kinds of files`); !ok {
		return
	}
	e := ExtraFiles{ReplaceExtension: p.config.Global.TLS.Extra.ReplaceExtension}
	for _, word := range s.words[1:] {
		switch word {
		case "none":
		case "all":
			e.Bundle, e.SCTL, e.OCSP, e.Issuer, e.Key = true, true, true, true, true
		case "bundle":
			e.Bundle = true
		case "sctl":
			e.SCTL = true
		case "ocsp":
			e.OCSP = true
		case "issuer":
			e.Issuer = true
		case "key":
			e.Key = true
		default:
			known := []string{"none", "all", "bundle", "sctl", "ocsp", "issuer", "key"}
			s.errorf(`"ssl-load-extra-files": unknown word %s, known ones are %s%s`, quote(word),
				quoteAll(known), suggestion(word, known))
			return
		}
	}
	p.config.Global.TLS.Extra = e
}
