package config

import "path"

// pendingTLS is a line that speaks TLS, to be completed when all lines are read: defaults may come after it.
type pendingTLS struct {
	statement
	label   string
	options tlsOptions
	bind    *BindTLS   // one of the two
	server  *ServerTLS // is set
	owner   string     // how messages call the server
}

// tlsDefaults are what section global says for all bind lines, or for all servers.
type tlsDefaults struct {
	tlsOptions
	verify Verify
}

// checkTLS completes the lines that speak TLS with the defaults and reports what is missing.
func (p *parser) checkTLS() {
	for i := range p.tls {
		one := &p.tls[i]
		if one.bind != nil {
			p.completeBind(one)
		} else {
			p.completeServer(one)
		}
	}
}

func (p *parser) completeBind(one *pendingTLS) {
	g, b := &p.config.Global.TLS, one.bind
	b.TLS = p.complete(one, &p.bindDefaults)
	if b.Verify == VerifyUnset {
		b.Verify = VerifyNone
	}
	if b.Verify != VerifyNone && b.CAFile == "" {
		one.errorf(`"bind": "verify %s" needs a "ca-file"`, b.Verify)
	}
	if b.CRLFile != "" && b.CAFile == "" {
		one.errorf(`"bind": "crl-file" needs a "ca-file"`)
	}
	switch {
	case len(b.Certificates)+len(b.Lists) > 0:
	case b.StrictSNI:
		one.warnf(`"bind": "ssl" without a certificate: all connections will fail (use "crt")`)
	default:
		one.errorf(`"bind": "ssl" needs a certificate (use "crt")`)
	}
	for i, name := range b.Certificates {
		b.Certificates[i] = under(g.CRTBase, name)
	}
	// As in HAProxy, lists and keys of tickets are not under crt-base, only what lists name.
}

func (p *parser) completeServer(one *pendingTLS) {
	g, s := &p.config.Global.TLS, one.server
	s.TLS = p.complete(one, &p.serverDefaults)
	if s.Verify == VerifyUnset {
		s.Verify = VerifyRequired
		if p.serverDefaults.verify != VerifyUnset {
			s.Verify = p.serverDefaults.verify
		}
	}
	if s.Certificate != "" {
		s.Certificate = under(g.CRTBase, s.Certificate)
	}
	switch {
	case s.Verify == VerifyRequired && s.CAFile == "":
		one.errorf(`"server": the certificate of server %s is to be verified, but no "ca-file" says `+
			`with what: name one, "ca-file %s", or "verify none"`, quote(one.owner), SystemCA)
	case s.Verify == VerifyNone && s.VerifyHost != "":
		one.warnf(`"server": "verifyhost" has no effect with "verify none"`)
	case s.VerifyHost != "" && s.SNI.Name != "" && s.VerifyHost != s.SNI.Name:
		one.warnf(`"server": "verifyhost" has no effect with "sni": the certificate must be for %s`,
			quote(s.SNI.Name))
	}
}

// complete merges the options of a line with the defaults.
func (p *parser) complete(one *pendingTLS, defaults *tlsDefaults) TLS {
	t := one.options.TLS
	if t.CipherSuites == nil {
		t.CipherSuites = defaults.CipherSuites
	}
	if t.Curves == nil {
		t.Curves = defaults.Curves
	}
	t.NoTickets = t.NoTickets || defaults.NoTickets
	t.CAFile = under(p.config.Global.TLS.CABase, t.CAFile)
	t.CRLFile = under(p.config.Global.TLS.CABase, t.CRLFile)
	t.MinVersion, t.MaxVersion = one.versionRange(one.label, one.options.versions.or(defaults.versions))
	return t
}

// versionRange returns the lowest and the highest version that options allow.
func (s *statement) versionRange(label string, v versions) (least, most TLSVersion) {
	if v.allows(tls12) {
		least, most = TLS12, TLS12
	}
	if v.allows(tls13) {
		most = TLS13
		if least == 0 {
			least = TLS13
		}
	}
	old := noProtocol // the oldest one that is asked for
	for p := tls11; p >= ssl30; p-- {
		if v.allows(p) && (v.min != noProtocol || v.max != noProtocol && v.max < tls12) {
			old = p
		}
	}
	switch {
	case least == 0 && old != noProtocol:
		s.errorf("%q: no version of TLS remains: the lowest that is supported is TLSv1.2", label)
	case least == 0:
		s.errorf("%q: all versions of TLS are disabled", label)
	case old != noProtocol:
		s.warnf("%q: %s is not offered: the lowest version that is supported is TLSv1.2", label,
			[...]string{ssl30: "SSLv3", tls10: "TLSv1.0", tls11: "TLSv1.1"}[old])
	}
	return least, most
}

// under returns the name of a file, relative to a directory unless it is absolute.
func under(directory, name string) string {
	if directory == "" || name == "" || path.IsAbs(name) || name[0] == '@' {
		return name
	}
	return directory + "/" + name
}
