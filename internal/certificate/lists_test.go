package certificate

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

// TestCertificatesComeAndGo: one that is added to a list is shown from then on, until it is taken out again,
// by every listener that has the list.
func TestCertificatesComeAndGo(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	a.issue("new.pem", ecKey(), "new.example")
	a.write("list", a.path("a.pem")+"\n")
	c := a.parse("", "ssl crt-list DIR/list|ssl crt DIR/a.pem crt-list DIR/list|ssl crt DIR/a.pem", "")
	s := a.load(c, time.Now)
	var servers []*tls.Config
	for _, b := range c.Proxies[0].Binds {
		servers = append(servers, s.Listener(b.TLS))
	}
	expect := func(when, asked string, want ...string) {
		t.Helper()
		for i, server := range servers {
			if got := shown(asks(asked), server); got != want[i] {
				t.Errorf("%s, listener %d shows %q to whoever asks for %q, want %q", when, i, got, asked,
					want[i])
			}
		}
	}
	must(t, s.Create("new"))
	if _, _, err := s.AddToList(a.path("list"), []byte("new")); err == nil {
		t.Error("an empty certificate was added")
	}
	_, _, err := s.Set("new", []byte(a.read("new.pem")))
	must(t, err)
	if err := s.Delete("new"); err == nil {
		t.Error("a certificate that is being replaced was deleted")
	}
	_, err = s.Commit("new")
	must(t, err)
	expect("before", "new.example", "a.example", "a.example", "a.example")
	uses, name, err := s.AddToList(a.path("list"), []byte("new [ssl-min-ver TLSv1.3] !not.example *.example"))
	if uses != 2 || name != "new" || err != nil {
		t.Fatalf("%d uses of %q, %v", uses, name, err)
	}
	expect("added", "new.example", "new.example", "new.example", "a.example")
	expect("added", "not.example", "a.example", "a.example", "a.example")
	old := asks("x.example")
	old.MaxVersion = tls.VersionTLS12
	if _, _, err, _ := shake(old, servers[0]); err == nil {
		t.Error("the options of the line that was added do not count")
	}
	// A certificate that was added is replaced like any other.
	a.issue("newer.pem", ecKey(), "newer.example")
	_, _, err = s.Set("new", []byte(a.read("newer.pem")))
	must(t, err)
	if uses, err := s.Commit("new"); uses != 2 || err != nil {
		t.Errorf("it is replaced in %d places, %v", uses, err)
	}
	expect("replaced", "new.example", "newer.example", "newer.example", "a.example")
	if err := s.Delete("new"); err == nil {
		t.Error("a certificate in use was deleted")
	}
	if err := s.RemoveFromList(a.path("list"), a.path("a.pem"), 0); err == nil {
		t.Error("the certificate for clients without a name was taken out")
	}
	must(t, s.RemoveFromList(a.path("list"), "new", 2))
	expect("removed", "new.example", "a.example", "a.example", "a.example")
	must(t, s.Delete("new"))
	if names, _ := s.Names(); len(names) != 1 {
		t.Errorf("there are %q", names)
	}
}

// TestKeysOfTicketsAreAdded: one by one, as their file would be. What is encrypted by the key before is
// still read, what is older than the two others is not.
func TestKeysOfTicketsAreAdded(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	key := func() string {
		raw := make([]byte, longTicketKey)
		rand.Read(raw)
		return base64.StdEncoding.EncodeToString(raw)
	}
	keys := []string{key(), key(), key(), key(), key(), key()}
	a.write("keys", strings.Join(keys[:3], "\n")+"\n")
	s, server := a.bound("", "ssl crt DIR/a.pem tls-ticket-keys DIR/keys")
	client := remembers("a.example", tls.VersionTLS12)
	resumes(t, client, server)
	session, _ := client.ClientSessionCache.Get("a.example")
	for i, want := range []bool{true, false, false} {
		id := map[bool]string{true: "#0", false: a.path("keys")}[i == 0]
		must(t, s.AddTicketKey(id, keys[3+i]))
		one := remembers("a.example", tls.VersionTLS12)
		one.ClientSessionCache.Put("a.example", session)
		if got := resumes(t, one, server); got != want {
			t.Errorf("after %d new keys: resumed is %t", i+1, got)
		}
	}
	// Another process that has read the file as it would be now takes the tickets of this one.
	a.write("keys", strings.Join(keys[3:], "\n")+"\n")
	_, other := a.bound("", "ssl crt DIR/a.pem tls-ticket-keys DIR/keys")
	client = remembers("a.example", tls.VersionTLS12)
	resumes(t, client, server)
	if !resumes(t, client, other) {
		t.Error("a session is not resumed by who has the same keys")
	}
	for _, bad := range [][2]string{{"#1", key()}, {"nosuch", key()}, {"#0", "!"}, {"#0", "AAAA"}} {
		if err := s.AddTicketKey(bad[0], bad[1]); err == nil || strings.Contains(err.Error(), bad[1]) {
			t.Errorf("%q for %s: %v", bad[1], bad[0], err)
		}
	}
}

// TestAResponseOfOCSPIsReplaced: for the certificate that it is about.
func TestAResponseOfOCSPIsReplaced(t *testing.T) {
	a := newAuthority(t)
	key := ecKey()
	cert := a.sign(&x509.Certificate{DNSNames: []string{"a.example"}}, key)
	a.write("a.pem", certPEM(cert)+keyPEM(key))
	a.ocsp("a.pem", "a.pem.ocsp", cert, "V", "-ndays", "1")
	a.ocsp("a.pem", "newer", cert, "V", "-ndays", "2")
	a.issue("b.pem", ecKey(), "b.example")
	s, server := a.bound("", "ssl crt DIR/a.pem crt DIR/b.pem")
	sent := func() string {
		c, _, err, _ := shake(asks("a.example"), server)
		must(t, err)
		return string(c.OCSPResponse)
	}
	if sent() != a.read("a.pem.ocsp") {
		t.Fatal("the response beside the certificate is not sent")
	}
	must(t, s.SetOCSP([]byte(a.read("newer"))))
	if sent() != a.read("newer") {
		t.Error("the new response is not sent")
	}
	if keys := s.OCSPKeys(); len(keys) != 1 || len(keys[0].NameHash) != 40 || keys[0].Serial == "" {
		t.Errorf("there are %+v", keys)
	}
	if err := s.SetOCSP([]byte("no response")); err == nil || sent() != a.read("newer") {
		t.Errorf("what is no response: %v", err)
	}
}
