package certificate

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTheCertificateForAName(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example", "*.w.example")
	a.issue("b.pem", ecKey(), "b.example")
	a.issue("c.pem", ecKey(), "c.example", "*.c.example")
	a.write("list", "DIR/a.pem\nDIR/b.pem *.f.example !x.f.example exact.example\nDIR/c.pem *.f.example\n"+
		"DIR/c.pem [alpn h2] exact.c.example\nDIR/a.pem !*\n")
	a.write("list", strings.ReplaceAll(a.read("list"), "DIR", a.dir))
	const unknown = "remote error: tls: unrecognized name"
	tests := []struct{ name, bind, asked, want string }{
		{"its own name", "crt DIR/a.pem crt DIR/b.pem", "b.example", "b.example"},
		{"in capitals", "crt DIR/a.pem crt DIR/b.pem", "B.Example", "b.example"},
		{"a name below", "crt DIR/b.pem crt DIR/a.pem", "x.w.example", "a.example"},
		{"two names below", "crt DIR/b.pem crt DIR/a.pem", "x.y.w.example", "b.example"},
		{"the name above", "crt DIR/b.pem crt DIR/a.pem", "w.example", "b.example"},
		{"no name", "crt DIR/a.pem crt DIR/b.pem", "", "a.example"},
		{"another name", "crt DIR/a.pem crt DIR/b.pem", "z.example", "a.example"},
		{"no name, strictly", "crt DIR/a.pem crt DIR/b.pem strict-sni", "", unknown},
		{"another name, strictly", "crt DIR/a.pem crt DIR/b.pem strict-sni", "z.example", unknown},
		{"its own name, strictly", "crt DIR/a.pem crt DIR/b.pem strict-sni", "b.example", "b.example"},
		{"no certificate, strictly", "strict-sni", "a.example", unknown},
		{"a filter", "crt-list DIR/list", "exact.example", "b.example"},
		{"a filter replaces the names", "crt-list DIR/list strict-sni", "b.example", unknown},
		{"a filter for names below", "crt-list DIR/list", "y.f.example", "b.example"},
		{"an exception of one of two", "crt-list DIR/list", "x.f.example", "c.example"},
		{"the first of a list", "crt-list DIR/list", "z.example", "a.example"},
		{"a certificate that is twice there", "crt-list DIR/list", "exact.c.example", "c.example"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := a.parse("", "ssl "+test.bind, "")
			s, _, err := Load(c, time.Now)
			must(t, err)
			if got := shown(asks(test.asked), s.Listener(c.Proxies[0].Binds[0].TLS)); got != test.want {
				t.Errorf("asked for %q, the client is shown %q, want %q", test.asked, got, test.want)
			}
		})
	}
}

// rsaOnly is a client that cannot use ECDSA.
func rsaOnly(name string) *tls.Config {
	c := asks(name)
	c.MaxVersion = tls.VersionTLS12
	c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	return c
}

func TestCertificatesOfTwoKindsForOneName(t *testing.T) {
	a := newAuthority(t)
	a.issue("r.pem", rsaKey(), "a.example")
	a.issue("e.pem", ecKey(), "a.example")
	a.issue("both.pem.rsa", rsaKey(), "a.example")
	a.issue("both.pem.ecdsa", ecKey(), "a.example")
	for _, bind := range []string{"crt DIR/r.pem crt DIR/e.pem", "crt DIR/e.pem crt DIR/r.pem",
		"crt DIR/both.pem"} {
		_, server := a.bound("", "ssl "+bind)
		for _, name := range []string{"a.example", ""} {
			client := asks(name)
			want := x509.ECDSA
			if name == "" && !strings.HasPrefix(bind, "crt DIR/e.pem") {
				want = x509.RSA // the first one
			}
			c, _, err, _ := shake(client, server)
			must(t, err)
			if got := c.PeerCertificates[0].PublicKeyAlgorithm; got != want {
				t.Errorf("%s: asked for %q, a client that can use both is shown %v", bind, name, got)
			}
			c, _, err, _ = shake(rsaOnly(name), server)
			must(t, err)
			if got := c.PeerCertificates[0].PublicKeyAlgorithm; got != x509.RSA {
				t.Errorf("%s: asked for %q, a client that can use RSA only is shown %v", bind, name, got)
			}
		}
	}
}

func TestAThousandCertificates(t *testing.T) {
	a := newAuthority(t)
	key := ecKey()
	var list strings.Builder
	for i := range 1000 {
		list.WriteString(a.issue(fmt.Sprintf("c%d.pem", i), key, fmt.Sprintf("n%d.example", i)) + "\n")
	}
	a.write("list", list.String())
	s, server := a.bound("", "ssl crt-list DIR/list strict-sni")
	for _, i := range []int{0, 1, 499, 998, 999} {
		name := fmt.Sprintf("n%d.example", i)
		if got := shown(asks(name), server); got != name {
			t.Errorf("asked for %s, the client is shown %s", name, got)
		}
	}
	if names, _ := s.Names(); len(names) != 1000 {
		t.Errorf("there are %d certificates", len(names))
	}
}

func BenchmarkChoose(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := &index{exact: map[string][]*choice{}, below: map[string][]*choice{}}
			for i := range n {
				x.exact[fmt.Sprintf("n%d.example", i)] = []*choice{{}}
			}
			hello := &tls.ClientHelloInfo{ServerName: "n0.example"}
			for b.Loop() {
				if x.choose(hello) == nil {
					b.Fatal("there is none")
				}
			}
		})
	}
}

func TestALineOfAListHasItsOwnWay(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	a.issue("b.pem", ecKey(), "b.example")
	a.write("list", a.path("a.pem")+"\n"+a.path("b.pem")+" [alpn h2 verify required ca-file "+
		a.path("ca.pem")+" ssl-max-ver TLSv1.2]\n")
	_, server := a.bound("", "ssl crt-list DIR/list alpn http/1.1")
	client := asks("a.example")
	client.NextProtos = []string{"h2", "http/1.1"}
	c, _, err, _ := shake(client, server)
	must(t, err)
	if c.NegotiatedProtocol != "http/1.1" || c.Version != tls.VersionTLS13 {
		t.Errorf("for the first name it is %q and version %x", c.NegotiatedProtocol, c.Version)
	}
	client.ServerName = "b.example"
	if _, _, err, _ = shake(client, server); err == nil {
		t.Error("for the second name no certificate of the client is asked for")
	}
	own, err := tls.X509KeyPair([]byte(a.read("a.pem")), []byte(a.read("a.pem")))
	must(t, err)
	client.Certificates = []tls.Certificate{own}
	c, s, err, _ := shake(client, server)
	must(t, err)
	if c.NegotiatedProtocol != "h2" || c.Version != tls.VersionTLS12 || len(s.VerifiedChains) != 1 {
		t.Errorf("for the second name it is %q, version %x and %d chains", c.NegotiatedProtocol, c.Version,
			len(s.VerifiedChains))
	}
}

// A line that limits the versions at one end leaves the other end as the bind line has it.
func TestVersionsOfALine(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	for _, test := range []struct {
		bind, line string
		takes      []uint16
	}{
		{"", "ssl-min-ver TLSv1.3", []uint16{tls.VersionTLS13}},
		{"ssl-min-ver TLSv1.3", "ssl-max-ver TLSv1.3", []uint16{tls.VersionTLS13}},
		{"ssl-min-ver TLSv1.3", "ssl-min-ver TLSv1.2", []uint16{tls.VersionTLS12, tls.VersionTLS13}},
		{"ssl-max-ver TLSv1.2", "ssl-min-ver TLSv1.2", []uint16{tls.VersionTLS12}},
		{"ssl-max-ver TLSv1.2", "no-tlsv12 ssl-max-ver TLSv1.3", []uint16{tls.VersionTLS13}},
		{"", "no-tlsv13", []uint16{tls.VersionTLS12}},
	} {
		a.write("list", a.path("a.pem")+" ["+test.line+"]\n")
		_, server := a.bound("", "ssl crt-list DIR/list "+test.bind)
		for _, version := range versions {
			client := asks("a.example")
			client.MinVersion, client.MaxVersion = version, version
			_, _, err, _ := shake(client, server)
			if want := slices.Contains(test.takes, version); want != (err == nil) {
				t.Errorf("%q with %q: a client with %s gets %v", test.bind, test.line,
					tls.VersionName(version), err)
			}
		}
	}
	a.write("list", a.path("a.pem")+" [ssl-min-ver TLSv1.3]\n")
	_, _, err := Load(a.parse("", "ssl crt-list DIR/list ssl-max-ver TLSv1.2", ""), time.Now)
	const want = "no version of TLS remains: the line and its bind line ask for TLSv1.3 and higher"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("without a version: %v", err)
	}
}

// As with HAProxy, whose clients without a protocol in common go on without ALPN.
func TestNoProtocolInCommon(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	_, server := a.bound("", "ssl crt DIR/a.pem alpn h2,http/1.1")
	for _, test := range []struct {
		theirs []string
		want   string
	}{{nil, ""}, {[]string{"smtp"}, ""}, {[]string{"http/1.1", "h2"}, "h2"}, {[]string{"x", "http/1.1"},
		"http/1.1"}} {
		client := asks("a.example")
		client.NextProtos = test.theirs
		c, _, err, _ := shake(client, server)
		if err != nil || c.NegotiatedProtocol != test.want {
			t.Errorf("a client that speaks %q gets %q and %v", test.theirs, c.NegotiatedProtocol, err)
		}
	}
}

func TestVersionsAndCiphers(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", rsaKey(), "a.example")
	for _, test := range []struct {
		bind, want string // version and suite, or the error
		least      uint16
		most       uint16
	}{
		{"", "TLS 1.3 TLS_AES_128_GCM_SHA256", 0, 0},
		{"ssl-max-ver TLSv1.2 ciphers ECDHE-RSA-AES256-GCM-SHA384",
			"TLS 1.2 TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", 0, 0},
		{"ssl-max-ver TLSv1.2 ciphers AES128-SHA", "TLS 1.2 TLS_RSA_WITH_AES_128_CBC_SHA", 0, 0},
		{"ssl-min-ver TLSv1.3", "remote error: tls: protocol version not supported", 0, tls.VersionTLS12},
		{"", "remote error: tls: protocol version not supported", tls.VersionTLS10, tls.VersionTLS11},
		{"force-tlsv12", "remote error: tls: protocol version not supported", tls.VersionTLS13, 0},
	} {
		_, server := a.bound("", "ssl crt DIR/a.pem "+test.bind)
		client := asks("a.example")
		client.MinVersion, client.MaxVersion = test.least, test.most
		for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
			client.CipherSuites = append(client.CipherSuites, s.ID)
		}
		c, _, err, _ := shake(client, server)
		got := tls.VersionName(c.Version) + " " + tls.CipherSuiteName(c.CipherSuite)
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%q: a client that speaks %x to %x gets %q, want %q", test.bind, test.least, test.most,
				got, test.want)
		}
	}
}
