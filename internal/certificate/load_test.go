package certificate

import (
	"crypto/x509"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestEveryMistakeIsReported: all at once, each with the line that names the file.
func TestEveryMistakeIsReported(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	cert := a.sign(&x509.Certificate{}, ecKey())
	a.write("nokey.pem", certPEM(cert))
	a.write("keyonly.pem", keyPEM(ecKey()))
	a.write("mismatch.pem", certPEM(cert)+keyPEM(ecKey()))
	a.write("text.pem", "no PEM\n")
	a.write("broken.pem", strings.Replace(a.read("a.pem"), "\nMII", "\nAAA", 1))
	a.write("brokenkey.pem", certPEM(cert)+"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
	a.write("locked.pem", certPEM(cert)+
		"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
	a.write("empty.txt", "# nothing\n")
	a.write("list", a.path("a.pem")+" [nosuch]\n"+a.path("nolist.pem")+"\n"+a.path("a.pem")+
		" [verify required]\n")
	must(t, os.Mkdir(a.path("none"), 0o700))
	c := a.parse("", strings.Join([]string{
		"ssl crt DIR/nosuch.pem crt DIR/nokey.pem crt DIR/keyonly.pem", "ssl crt DIR/mismatch.pem",
		"ssl crt DIR/text.pem crt DIR/broken.pem", "ssl crt DIR/brokenkey.pem crt DIR/locked.pem",
		"ssl crt DIR/none crt-list DIR/nolist crt-list DIR/empty.txt", "ssl crt-list DIR/list",
		"ssl crt DIR/a.pem ca-file DIR/text.pem verify optional crl-file DIR/a.pem",
		"ssl crt DIR/a.pem tls-ticket-keys DIR/a.pem",
	}, "|"), "ssl ca-file DIR/noca.pem|ssl verify none crt DIR/nokey.pem")
	_, _, err := Load(c, time.Now)
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	got := strings.ReplaceAll(err.Error(), a.dir, "DIR")
	want := []string{
		`t.cfg:8: "crt": stat DIR/nosuch.pem: no such file or directory`,
		`t.cfg:8: "crt": "DIR/nokey.pem": there is no private key in it`,
		`t.cfg:8: "crt": "DIR/keyonly.pem": there is no certificate in it`,
		`t.cfg:9: "crt": "DIR/mismatch.pem": the private key is not that of the certificate`,
		`t.cfg:10: "crt": "DIR/text.pem": it is no PEM file`,
		`t.cfg:10: "crt": "DIR/broken.pem": certificate 1 in it: x509: malformed certificate`,
		`t.cfg:11: "crt": "DIR/brokenkey.pem": its private key cannot be read`,
		`t.cfg:11: "crt": "DIR/locked.pem": its private key is encrypted: nobody could type the password in`,
		`t.cfg:12: "crt": there is no certificate in the directory "DIR/none"`,
		`t.cfg:12: "crt-list": open DIR/nolist: no such file or directory`,
		`t.cfg:12: "crt-list": there is no certificate in "DIR/empty.txt"`,
		`DIR/list:1: "crt-list": unknown option "nosuch"`,
		`DIR/list:2: "crt": open DIR/nolist.pem: no such file or directory`,
		`DIR/list:3: "verify required" needs a "ca-file"`,
		`t.cfg:14: "ca-file": "DIR/text.pem": there is no certificate in it`,
		`t.cfg:14: "crl-file": "DIR/a.pem": there is no revocation list in it`,
		`t.cfg:15: "tls-ticket-keys": "DIR/a.pem": line 1 is not in base64`,
		`t.cfg:16: "ca-file": open DIR/noca.pem: no such file or directory`,
		`t.cfg:17: "crt": "DIR/nokey.pem": there is no private key in it`,
	}
	if got != strings.Join(want, "\n") {
		t.Errorf("the messages are\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestAFileThatMayNotBeRead(t *testing.T) {
	a := newAuthority(t)
	must(t, os.Chmod(a.issue("a.pem", ecKey(), "a.example"), 0))
	c := a.parse("", "ssl crt DIR/a.pem", "")
	done := make(chan error)
	go func() {
		if os.Getuid() == 0 { // who may read everything
			// On a thread of its own, which ends with the goroutine: only its rights change.
			lockAsNobody()
		}
		_, _, err := Load(c, time.Now)
		done <- err
	}()
	if err := <-done; !strings.Contains(errText(err), "permission denied") {
		t.Errorf("the error is %v", err)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestWhatIsOutOfDateIsAWarning(t *testing.T) {
	a := newAuthority(t)
	key := ecKey()
	old := a.sign(&x509.Certificate{NotAfter: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}, key)
	early := a.sign(&x509.Certificate{NotBefore: time.Date(2126, 3, 4, 5, 6, 7, 0, time.UTC),
		NotAfter: time.Date(2127, 3, 4, 5, 6, 7, 0, time.UTC)}, key)
	fine := a.sign(&x509.Certificate{}, key)
	a.write("old.pem", certPEM(old)+keyPEM(key))
	a.write("early.pem", certPEM(early)+keyPEM(key))
	a.write("chain.pem", certPEM(fine)+certPEM(old)+keyPEM(key))
	a.revoke("crl.pem", time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
	c := a.parse("", "ssl crt DIR/old.pem crt DIR/early.pem crt DIR/chain.pem|"+
		"ssl crt DIR/old.pem crl-file DIR/crl.pem ca-file DIR/ca.pem", "")
	s, warnings, err := Load(c, time.Now)
	must(t, err)
	got := strings.ReplaceAll(strings.Join(warnings, "\n"), a.dir, "DIR")
	want := `t.cfg:8: the certificate in "DIR/old.pem" has expired on 2026-03-04
t.cfg:8: the certificate in "DIR/early.pem" is not valid before 2126-03-04
t.cfg:8: certificate 2 of the chain in "DIR/chain.pem" has expired on 2026-03-04
t.cfg:9: "crl-file": "DIR/crl.pem" is out of date since 2026-03-04: what it is about is refused
t.cfg:9: the certificate in "DIR/old.pem" has expired on 2026-03-04`
	if got != want || s == nil {
		t.Errorf("the warnings are\n%s\nwant\n%s", got, want)
	}
}

// TestFilesBesideACertificate: the key, the response of OCSP made by OpenSSL, and the timestamps.
func TestFilesBesideACertificate(t *testing.T) {
	a := newAuthority(t)
	key := ecKey()
	cert := a.sign(&x509.Certificate{DNSNames: []string{"a.example"}}, key)
	a.write("a.crt", certPEM(cert))
	a.write("a.crt.key", keyPEM(key))
	a.write("b.crt", certPEM(cert))
	a.write("b.key", keyPEM(key))
	a.write("a.crt.issuer", certPEM(a.cert))
	a.ocsp("a.crt", "a.crt.ocsp", cert, "V", "-ndays", "1")
	a.write("a.crt.sctl", "\x00\x08\x00\x02ab\x00\x02cd")
	a.write("notes.ocsp", "in a directory it is no certificate")
	_, server := a.bound("", "ssl crt DIR/a.crt")
	for _, version := range versions {
		client := asks("a.example")
		client.MaxVersion = version
		c, _, err, _ := shake(client, server)
		must(t, err)
		if string(c.OCSPResponse) != a.read("a.crt.ocsp") || len(c.SignedCertificateTimestamps) != 2 ||
			string(c.SignedCertificateTimestamps[1]) != "cd" {
			t.Errorf("%x: the client is sent %d bytes of OCSP and timestamps %q", version,
				len(c.OCSPResponse), c.SignedCertificateTimestamps)
		}
	}
	if _, server = a.bound("ssl-load-extra-del-ext", "ssl crt DIR/b.crt"); shown(asks("a"), server) != "" {
		t.Error("the certificate with a key in place of its extension is not shown")
	}
	c := a.parse("ssl-load-extra-files none", "ssl crt DIR/a.crt", "")
	if _, _, err := Load(c, time.Now); err == nil {
		t.Error("the key beside the certificate is read though it is not asked for")
	}
	if _, server = a.bound("ssl-load-extra-files key", "ssl crt DIR/a.crt"); server != nil {
		if c, _, err, _ := shake(asks("a.example"), server); err != nil || c.OCSPResponse != nil {
			t.Errorf("without being asked for, %d bytes of OCSP are sent; %v", len(c.OCSPResponse), err)
		}
	}
}

// ocsp lets OpenSSL make a response about a certificate; status is V or R.
func (a *authority) ocsp(file, out string, cert *x509.Certificate, status string, args ...string) {
	a.t.Helper()
	revoked := ""
	if status == "R" {
		revoked = "250101000000Z"
	}
	a.write("index", status+"\t"+cert.NotAfter.UTC().Format("060102150405Z")+"\t"+revoked+"\t"+
		hexSerial(cert)+"\tunknown\t/CN=x\n")
	a.write("ca.key", keyPEM(a.key))
	args = append([]string{"ocsp", "-index", a.path("index"), "-CA", a.path("ca.pem"),
		"-rsigner", a.path("ca.pem"), "-rkey", a.path("ca.key"), "-issuer", a.path("ca.pem"),
		"-cert", a.path(file), "-respout", a.path(out)}, args...)
	if text, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
		a.t.Fatalf("openssl %q: %v\n%s", args, err, text)
	}
}

func hexSerial(c *x509.Certificate) string {
	d := &Details{}
	d.describe(c)
	return d.Serial
}

func TestResponsesOfOCSP(t *testing.T) {
	a := newAuthority(t)
	key := ecKey()
	cert, other := a.sign(&x509.Certificate{}, key), a.sign(&x509.Certificate{}, key)
	a.write("a.pem", certPEM(cert)+keyPEM(key))
	a.write("other.pem", certPEM(other)+keyPEM(key))
	a.ocsp("a.pem", "a.pem.ocsp", cert, "V", "-nmin", "60")
	raw := []byte(a.read("a.pem.ocsp"))
	now := time.Now()
	for _, test := range []struct {
		text []byte
		leaf *x509.Certificate
		at   time.Time
		want string
	}{
		{raw, cert, now, ""},
		{raw, other, now, "it is a response of OCSP about another certificate"},
		{raw, cert, now.Add(2 * time.Hour), "it is a response of OCSP that is out of date"},
		{raw[:len(raw)-1], cert, now, "it is no response of OCSP in DER"},
		{[]byte("text"), cert, now, "it is no response of OCSP in DER"},
		{[]byte{0x30, 3, 0x0a, 1, 6}, cert, now, "it is a response of OCSP without an answer (status 6)"},
	} {
		if _, err := readOCSP(test.text, test.leaf, test.at); !strings.HasPrefix(errText(err), test.want) ||
			(err == nil) != (test.want == "") {
			t.Errorf("%v, want %q", err, test.want)
		}
	}
	a.ocsp("a.pem", "revoked", cert, "R", "-nmin", "60")
	if _, err := readOCSP([]byte(a.read("revoked")), cert, now); !strings.Contains(errText(err), "revoked") {
		t.Errorf("of a revoked certificate: %v", err)
	}
	clock := newClock()
	c := a.parse("", "ssl crt DIR/a.pem", "")
	server := a.load(c, clock.now).Listener(c.Proxies[0].Binds[0].TLS)
	for _, want := range []int{len(raw), 0} {
		got, _, err, _ := shake(asks(""), server)
		must(t, err)
		if len(got.OCSPResponse) != want {
			t.Errorf("%d bytes are sent, want %d", len(got.OCSPResponse), want)
		}
		clock.move(61 * time.Minute)
	}
	_, warnings, err := Load(a.parse("", "ssl crt DIR/a.pem", ""), clock.now)
	must(t, err)
	const stale = "a.pem.ocsp:1: it is a response of OCSP that is out of date: it was good until "
	if text := strings.Join(warnings, "\n"); !strings.Contains(text, stale) {
		t.Errorf("the warnings are %s", text)
	}
}

func TestADirectoryOfCertificates(t *testing.T) {
	a := newAuthority(t)
	must(t, os.Mkdir(a.path("d"), 0o700))
	a.issue("d/b.pem", ecKey(), "b.example")
	a.issue("d/a.pem", ecKey(), "a.example")
	a.write("d/.hidden", "x")
	a.write("d/a.pem.issuer", certPEM(a.cert))
	s, server := a.bound("", "ssl crt DIR/d")
	for asked, want := range map[string]string{"": "a.example", "b.example": "b.example"} {
		if got := shown(asks(asked), server); got != want {
			t.Errorf("asked for %q, the client is shown %q", asked, got)
		}
	}
	if lists := s.Lists(); len(lists) != 1 || lists[0].Name != a.path("d") || len(lists[0].Lines) != 2 {
		t.Errorf("the lists are %+v", lists)
	}
}

func TestAuthoritiesOfADirectoryAndOfTheSystem(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	must(t, os.Mkdir(a.path("cas"), 0o700))
	a.write("cas/ca.pem", a.read("ca.pem"))
	a.write("cas/readme", "no certificate")
	_, there := a.bound("", "ssl crt DIR/a.pem")
	c := a.parse("", "", "ssl ca-file DIR/cas|ssl ca-file @system-ca")
	s := a.load(c, time.Now)
	if _, _, err, _ := shake(s.Server(c.Proxies[0].Servers[0].TLS), there); err != nil {
		t.Errorf("an authority in a directory: %v", err)
	}
	_, _, err, _ := shake(s.Server(c.Proxies[0].Servers[1].TLS), there)
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) {
		t.Errorf("the authorities of the system: %v", err)
	}
}

// lockAsNobody gives up the rights of the thread for good.
func lockAsNobody() {
	runtime.LockOSThread()
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), 65534, ^uintptr(0)); errno != 0 {
		panic(errno)
	}
}
