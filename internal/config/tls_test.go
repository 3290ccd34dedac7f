package config

import (
	"crypto/tls"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestSuitesAreThoseOfCryptoTLS: every number is a suite of crypto/tls for TLS 1.2, under the name that
// OpenSSL has for it.
func TestSuitesAreThoseOfCryptoTLS(t *testing.T) {
	known := map[uint16]string{}
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
			known[s.ID] = s.Name
		}
	}
	out, err := exec.Command("openssl", "ciphers", "-stdname", "ALL:@SECLEVEL=0").Output()
	if err != nil {
		t.Fatalf("running openssl, which this test compares with (make test installs it): %v", err)
	}
	names := map[string]string{} // OpenSSL's to that of the standard
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		names[words[2]] = words[0]
	}
	for _, s := range suites {
		// crypto/tls leaves the hash away in these two names.
		standard := strings.TrimSuffix(names[s.name], "_SHA256")
		if known[s.id] == "" || strings.TrimSuffix(known[s.id], "_SHA256") != standard {
			t.Errorf("suite %#04x is %s to crypto/tls, and %s, OpenSSL's name, means %s", s.id, known[s.id],
				s.name, names[s.name])
		}
	}
	for name, standard := range names {
		offered := slices.ContainsFunc(suites, func(s suite) bool { return s.name == name })
		if !offered && !slices.Contains(suites13, name) && absence(name) == "" {
			t.Errorf("OpenSSL has %s (%s), and nothing is said about why it is not offered", name, standard)
		}
	}
}

// TestCipherStringsAsOpenSSL: of what OpenSSL takes a list to mean, all that crypto/tls has is offered, and
// nothing else.
func TestCipherStringsAsOpenSSL(t *testing.T) {
	for _, text := range []string{
		"HIGH", "HIGH:!aNULL:!MD5", "ECDHE+AESGCM:ECDHE+CHACHA20", "ALL:!kRSA", "kEECDH+aRSA+AES:kRSA",
		"AES128:-ECDHE:!SHA1", "AES256:!ECDSA:+kRSA", "TLSv1.2:!AESGCM", "EECDH:!SHA", "aECDSA",
		"AESGCM:ECDHE-RSA-AES128-SHA:-AES128", "SHA256:SHA1", "CHACHA20,AESGCM", "AES+HIGH:!aRSA",
		"ECDHE-RSA-AES128-GCM-SHA256:NOSUCH:!NOSUCH",
	} {
		out, err := exec.Command("openssl", "ciphers", "-tls1_2", "-v", text+":@SECLEVEL=0").Output()
		if err != nil {
			t.Fatalf("openssl ciphers %q: %v", text, err)
		}
		var theirs, ours []string
		for line := range strings.Lines(string(out)) {
			name, _, _ := strings.Cut(line, " ")
			if slices.ContainsFunc(suites, func(s suite) bool { return s.name == name }) {
				theirs = append(theirs, name)
			}
		}
		for _, i := range evaluateCiphers(text).list {
			ours = append(ours, suites[i].name)
		}
		slices.Sort(theirs)
		slices.Sort(ours)
		if !slices.Equal(theirs, ours) {
			t.Errorf("%q means to OpenSSL\n%q and here\n%q", text, theirs, ours)
		}
	}
}

// TestCurvesAreThoseOfCryptoTLS: by their names there.
func TestCurvesAreThoseOfCryptoTLS(t *testing.T) {
	for name, id := range map[string]tls.CurveID{
		"X25519": tls.X25519, "P-256": tls.CurveP256, "prime256v1": tls.CurveP256, "P-384": tls.CurveP384,
		"P-521": tls.CurveP521, "X25519MLKEM768": tls.X25519MLKEM768,
	} {
		if curves[name] != uint16(id) {
			t.Errorf("%s is %d, to crypto/tls %d", name, curves[name], id)
		}
	}
}

func TestListsOfCertificates(t *testing.T) {
	const text = "# a comment\n" +
		"a.pem\n" +
		"\n" +
		"/b.pem [alpn h2 verify required ca-file c.pem] b.example *.b.example !x.b.example\n" +
		"\tc.pem  [ssl-min-ver TLSv1.3]\r\n" +
		"d.pem [alpn h2 d.example\n" +
		"e.pem [strict-sni] e.example\n" +
		"f.pem f_example f/g\n" +
		"g.pem [alpn] g.example\n" +
		"h.pem [] *\n" +
		"i.pem [ciphers DHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256] !*\n"
	lines, messages := ParseCertificateList(File{Name: "l", Text: []byte(text)},
		&GlobalTLS{CRTBase: "/crt", CABase: "/ca"})
	var got []string
	for _, l := range lines {
		o := l.Options
		got = append(got, strings.Join(append([]string{
			l.Position.String(), l.File, l.OptionText, o.CAFile, o.Verify.String(), o.MinVersion.String(),
			strings.Join(o.ALPN, ","),
		}, l.Filters...), "|"))
	}
	want := []string{
		"l:2|/crt/a.pem|||unset|none|",
		"l:4|/b.pem|alpn h2 verify required ca-file c.pem|/ca/c.pem|required|none|h2|b.example|*.b.example|" +
			"!x.b.example",
		"l:5|/crt/c.pem|ssl-min-ver TLSv1.3||unset|TLSv1.3|",
		"l:10|/crt/h.pem|||unset|none||*",
		"l:11|/crt/i.pem|ciphers DHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256||unset|none||!*",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the lines are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	var said []string
	for _, m := range messages {
		said = append(said, m.String())
	}
	want = []string{
		`l:6: the options of "d.pem" have no closing bracket`,
		`l:7: "crt-list": unknown option "strict-sni"`,
		`l:8: "f/g" is not a host name, nor one with "*." or "!" before it`,
		`l:9: "crt-list": "alpn" expects a value`,
		`l:11: warning: "crt-list ... ciphers": "DHE-RSA-AES128-GCM-SHA256" cannot be offered: ` +
			`crypto/tls has no finite-field Diffie-Hellman (DHE)`,
	}
	if !slices.Equal(said, want) {
		t.Errorf("the messages are\n%s\nwant\n%s", strings.Join(said, "\n"), strings.Join(want, "\n"))
	}
	bind := TLS{MinVersion: TLS12, MaxVersion: TLS13, Verify: VerifyNone, CAFile: "x"}
	merged := bind.With(&lines[1].Options)
	if merged.MinVersion != TLS12 || merged.Verify != VerifyRequired || merged.CAFile != "/ca/c.pem" ||
		!slices.Equal(merged.ALPN, []string{"h2"}) {
		t.Errorf("with the bind line, line 4 is %+v", merged)
	}
}

// TestKeysAreNotShown: a certificate or a key where none belongs is not read line by line, for the messages
// would have it in them.
func TestKeysAreNotShown(t *testing.T) {
	const pem = " -----BEGIN PRIVATE KEY-----\nSECRET+A\n\\x\n-----END PRIVATE KEY-----\n"
	text := pem + "listen a\n bind :1\n" + pem + " bidn :1\n.if 0\n" + pem + ".endif\n" +
		"-----BEGIN EC PRIVATE KEY-----\nSECRET+B\n"
	_, err := Parse([]File{{Name: "c", Text: []byte(text)}}, Options{})
	const where = `certificates and keys have files of their own, for "crt" or "ca-file" to name`
	want := "c:1: " + where + "\nc:7: " + where + "\n" +
		"c:11: unknown keyword \"bidn\" in section listen; did you mean \"bind\"?\nc:18: " + where
	if err == nil || err.Error() != want {
		t.Errorf("the messages about a configuration are\n%v\nwant\n%s", err, want)
	}
	list := File{Name: "l", Text: []byte("a.pem\n" + pem + "b.pem\n")}
	lines, messages := ParseCertificateList(list, &GlobalTLS{})
	if len(lines) != 1 || len(messages) != 1 || messages[0].String() !=
		`l:2: this is a certificate or a key, not a list of their files: "crt" takes it` {
		t.Errorf("of a list %v is read, and said %v", lines, messages)
	}
}
