package certificate

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

// own returns a client with a certificate of a file.
func (a *authority) own(file string) *tls.Config {
	a.t.Helper()
	own, err := tls.X509KeyPair([]byte(a.read(file)), []byte(a.read(file)))
	must(a.t, err)
	c := asks("a.example")
	c.Certificates = []tls.Certificate{own}
	return c
}

// revoke writes a list of revoked certificates that is good for an hour, or was.
func (a *authority) revoke(file string, until time.Time, serials ...int64) {
	a.t.Helper()
	template := &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: until.Add(-2 * time.Hour), NextUpdate: until,
	}
	for _, serial := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: time.Now()})
	}
	raw, err := x509.CreateRevocationList(rand.Reader, template, a.cert, a.key)
	must(a.t, err)
	a.write(file, string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: raw})))
}

func TestCertificatesOfClients(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	a.issue("good.pem", ecKey(), "good")
	a.issue("revoked.pem", ecKey(), "revoked")
	a.revoke("crl.pem", time.Now().Add(time.Hour), a.serial)
	stranger.issue("good.pem", ecKey(), "good")
	old := a.sign(&x509.Certificate{NotAfter: time.Now().Add(-time.Minute)}, rsaKey())
	a.write("old.pem", certPEM(old)+keyPEM(rsaKey()))
	clients := map[string]*tls.Config{
		"none": asks("a.example"), "good": a.own("good.pem"), "revoked": a.own("revoked.pem"),
		"expired": a.own("old.pem"), "strange": stranger.own("good.pem"),
	}
	files := strings.NewReplacer("CA", "ca-file DIR/ca.pem", "CRL", "crl-file DIR/crl.pem")
	for bind, takes := range map[string]string{
		"verify none":                        "none good revoked expired strange",
		"verify none CA":                     "none good revoked expired strange",
		"verify optional CA":                 "none good revoked",
		"verify required CA":                 "good revoked",
		"verify required CA CRL":             "good",
		"verify optional CA CRL":             "none good",
		"verify optional CA no-ca-names":     "none good revoked",
		"verify required CA no-ca-names":     "good revoked",
		"verify required CA no-ca-names CRL": "good",
	} {
		for _, version := range versions {
			_, server := a.bound("", "ssl crt DIR/a.pem "+files.Replace(bind))
			for name, client := range clients {
				client.MaxVersion = version
				_, _, err, serverErr := shake(client, server)
				want := strings.Contains(" "+takes+" ", " "+name+" ")
				if (err == nil && serverErr == nil) != want {
					t.Errorf("%s, %s: a client whose certificate is %s gets %v, the server %v", bind,
						tls.VersionName(version), name, err, serverErr)
				}
				_, is := errors.AsType[*tls.CertificateVerificationError](serverErr)
				if serverErr != nil && name != "none" && !is {
					t.Errorf("%s: %v is not said to be about the certificate", bind, serverErr)
				}
			}
		}
	}
}

func TestNamesOfAuthorities(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	for bind, want := range map[string]int{"": 1, "no-ca-names": 0} {
		_, server := a.bound("", "ssl crt DIR/a.pem verify optional ca-file DIR/ca.pem "+bind)
		client, names := asks("a.example"), -1
		client.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			names = len(r.AcceptableCAs)
			return &tls.Certificate{}, nil
		}
		if _, _, err, _ := shake(client, server); err != nil || names != want {
			t.Errorf("%q: a client is sent %d names of authorities and gets %v", bind, names, err)
		}
	}
}

func TestCertificatesOfServers(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example", "*.w.example")
	a.issue("revoked.pem", ecKey(), "a.example")
	a.revoke("crl.pem", time.Now().Add(time.Hour), a.serial)
	a.revoke("old-crl.pem", time.Now().Add(-time.Minute))
	common := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "cn.example"}}, rsaKey())
	a.write("cn.pem", certPEM(common)+keyPEM(rsaKey()))
	stranger.issue("a.pem", ecKey(), "a.example")
	for _, test := range []struct {
		options, crt string
		of           *authority
		want         string // a part of the error, "" for none
	}{
		{"ca-file DIR/ca.pem", "a.pem", a, ""},
		{"ca-file DIR/ca.pem", "a.pem", stranger, "unknown authority"},
		{"verify none", "a.pem", stranger, ""},
		{"ca-file DIR/ca.pem verifyhost a.example", "a.pem", a, ""},
		{"ca-file DIR/ca.pem verifyhost x.w.example", "a.pem", a, ""},
		{"ca-file DIR/ca.pem verifyhost b.example", "a.pem", a, "not b.example"},
		{"ca-file DIR/ca.pem sni str(a.example)", "a.pem", a, ""},
		{"ca-file DIR/ca.pem sni str(b.example)", "a.pem", a, "not b.example"},
		{"ca-file DIR/ca.pem sni str(b.example) verifyhost a.example", "a.pem", a, "not b.example"},
		{"ca-file DIR/ca.pem sni str(a.example) verifyhost b.example", "a.pem", a, ""},
		{"ca-file DIR/ca.pem sni str(192.0.2.1)", "a.pem", a, "192.0.2.1"},
		{"ca-file DIR/ca.pem sni str(192.0.2.1)", "cn.pem", a, "192.0.2.1"},
		{"ca-file DIR/ca.pem verifyhost cn.example", "cn.pem", a, ""},
		{"ca-file DIR/ca.pem verifyhost other.example", "cn.pem", a, "not valid for any names"},
		{"ca-file DIR/ca.pem crl-file DIR/crl.pem", "a.pem", a, ""},
		{"ca-file DIR/ca.pem crl-file DIR/crl.pem", "revoked.pem", a, "is revoked"},
		{"ca-file DIR/ca.pem crl-file DIR/old-crl.pem", "a.pem", a, "no valid revocation list"},
		{"verify none crl-file DIR/crl.pem", "revoked.pem", a, ""},
	} {
		c := a.parse("", "", "ssl "+test.options)
		s, _, err := Load(c, time.Now)
		must(t, err)
		client := s.Server(c.Proxies[0].Servers[0].TLS)
		_, server := test.of.bound("", "ssl crt DIR/"+test.crt)
		for range 2 { // the second time with a session, if there is one
			_, _, err, _ = shake(client, server)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s, %s: %v, want %q", test.options, test.crt, err, test.want)
			}
			if _, is := errors.AsType[*tls.CertificateVerificationError](err); err != nil && !is {
				t.Errorf("%s, %s: %v is not said to be about the certificate", test.options, test.crt, err)
			}
		}
	}
}

func TestAServerThatAsksForACertificate(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	a.issue("own.pem", ecKey(), "own")
	c := a.parse("crt-base "+a.dir+"\n ca-base "+a.dir,
		"ssl crt a.pem verify required ca-file ca.pem", "ssl verify none crt own.pem|ssl verify none")
	s := a.load(c, time.Now)
	there := s.Listener(c.Proxies[0].Binds[0].TLS)
	_, state, err, _ := shake(s.Server(c.Proxies[0].Servers[0].TLS), there)
	must(t, err)
	if got := state.PeerCertificates[0].Subject.CommonName; got != "own" {
		t.Errorf("the server is shown %s", got)
	}
	if _, _, err, _ = shake(s.Server(c.Proxies[0].Servers[1].TLS), there); err == nil {
		t.Error("without a certificate the server is content")
	}
}

// A session is resumed only as long as nothing says otherwise of the certificate that it began with.
func TestASessionWithAServerEndsWithItsCertificate(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	a.revoke("crl.pem", time.Now().Add(10*time.Minute))
	for options, after := range map[string]time.Duration{
		"ca-file DIR/ca.pem crl-file DIR/crl.pem": 11 * time.Minute, // the list is out of date then
		"ca-file DIR/ca.pem":                      61 * time.Minute, // the certificate is
	} {
		now := newClock()
		c := a.parse("tune.ssl.lifetime 1d", "ssl crt DIR/a.pem", "ssl sni str(a.example) "+options)
		s := a.load(c, now.now)
		server, client := s.Listener(c.Proxies[0].Binds[0].TLS), s.Server(c.Proxies[0].Servers[0].TLS)
		resumes(t, client, server)
		if !resumes(t, client, server) {
			t.Errorf("%s: the session is not resumed", options)
		}
		now.move(after)
		if _, _, err, _ := shake(client, server); err == nil {
			t.Errorf("%s: after %v the certificate is still taken", options, after)
		}
	}
}

// A list of a large authority is asked in each handshake, on the thread of a worker: that must not take
// longer than with a short list.
func TestALongListOfRevocations(t *testing.T) {
	a := newAuthority(t)
	fastest := func(entries int) time.Duration {
		serials := make([]int64, entries)
		for i := range serials {
			serials[i] = int64(i + 1<<40)
		}
		a.revoke("crl.pem", time.Now().Add(time.Hour), serials...)
		r, err := readRevocations([]byte(a.read("crl.pem")))
		must(t, err)
		leaf := a.sign(&x509.Certificate{}, ecKey())
		best := time.Hour
		for range 50 {
			began := time.Now()
			err := r.check([]*x509.Certificate{leaf, a.cert}, time.Now())
			best = min(best, time.Since(began))
			must(t, err)
		}
		leaf.SerialNumber = big.NewInt(serials[entries-1])
		if err := r.check([]*x509.Certificate{leaf, a.cert}, time.Now()); err == nil {
			t.Error("the last one of the list is not revoked")
		}
		return best
	}
	if short, long := fastest(10), fastest(100000); long > 20*short {
		t.Errorf("it takes %v to ask a list of 100000, and %v to ask one of 10", long, short)
	} else {
		t.Logf("it takes %v to ask a list of 100000, and %v to ask one of 10", long, short)
	}
}
