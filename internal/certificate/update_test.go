package certificate

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestACertificateIsReplacedWhileConnectionsRun(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	a.issue("b.pem", ecKey(), "b.example")
	a.issue("new.pem", ecKey(), "new.example", "a.example")
	s, server := a.bound("", "ssl crt DIR/a.pem crt DIR/b.pem")
	near, far := pair()
	defer near.Close()
	defer far.Close()
	there, here := tls.Server(far, server), tls.Client(near, asks("a.example"))
	go io.Copy(there, there)
	must(t, here.Handshake())

	name, began, err := s.Set(a.path("a.pem"), []byte(a.read("new.pem")))
	if name != a.path("a.pem") || !began || err != nil {
		t.Fatalf("set: %q, %t, %v", name, began, err)
	}
	if got := shown(asks("a.example"), server); got != "a.example" {
		t.Errorf("before the commit, clients are shown %s", got)
	}
	uses, err := s.Commit(name)
	if uses != 1 || err != nil {
		t.Errorf("commit: %d uses, %v", uses, err)
	}
	for asked, want := range map[string]string{"a.example": "new.example", "new.example": "new.example",
		"": "new.example", "b.example": "b.example"} {
		if got := shown(asks(asked), server); got != want {
			t.Errorf("after the commit, a client that asks for %q is shown %q, want %q", asked, got, want)
		}
	}
	_, err = here.Write([]byte("still here"))
	must(t, err)
	if _, err := io.ReadFull(here, make([]byte, len("still here"))); err != nil {
		t.Errorf("the connection from before: %v", err)
	}
}

func TestReplacingWhileManyShakeHands(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	texts := []string{a.read("a.pem")}
	a.issue("b.pem", ecKey(), "b.example")
	texts = append(texts, a.read("b.pem"))
	s, server := a.bound("", "ssl crt DIR/a.pem")
	stop := make(chan struct{})
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got := shown(asks("x"), server); got != "a.example" && got != "b.example" {
					t.Errorf("a client is shown %q", got)
				}
			}
		})
	}
	for i := range 50 {
		_, _, err := s.Set(a.path("a.pem"), []byte(texts[i%2]))
		must(t, err)
		_, err = s.Commit(a.path("a.pem"))
		must(t, err)
	}
	close(stop)
	running.Wait()
}

func TestTransactions(t *testing.T) {
	a := newAuthority(t)
	key := ecKey()
	a.issue("a.pem", ecKey(), "a.example")
	a.issue("b.pem", ecKey(), "b.example")
	a.issue("new.pem", key, "new.example")
	newText := a.read("new.pem")
	bare := newText[:strings.Index(newText, "-----BEGIN PRIVATE KEY")]
	s, _ := a.bound("", "ssl crt DIR/a.pem crt DIR/b.pem")
	step := func(command, file, text, want string) {
		t.Helper()
		var err error
		name := a.path(file)
		switch command {
		case "set":
			_, _, err = s.Set(name, []byte(text))
		case "commit":
			_, err = s.Commit(name)
		case "abort":
			err = s.Abort(name)
		}
		if got := strings.ReplaceAll(errText(err), a.dir, "DIR"); got != want {
			t.Errorf("%s %s: %q, want %q", command, file, got, want)
		}
	}
	step("commit", "a.pem", "", "No ongoing transaction!")
	step("abort", "a.pem", "", "No ongoing transaction!")
	step("set", "c.pem", newText, "Can't replace a certificate which is not referenced by the configuration!")
	step("set", "a.pem", "garbage", "it is no PEM file")
	step("commit", "a.pem", "", "No ongoing transaction!")
	step("set", "a.pem", bare, "")
	step("set", "b.pem", newText,
		"The ongoing transaction is about 'DIR/a.pem' but you are trying to set 'DIR/b.pem'")
	step("commit", "b.pem", "",
		"The ongoing transaction is about 'DIR/a.pem' but you are trying to set 'DIR/b.pem'")
	step("abort", "b.pem", "",
		"The ongoing transaction is about 'DIR/a.pem' but you are trying to set 'DIR/b.pem'")
	step("commit", "a.pem", "", "The transaction must contain at least a certificate and a private key!")
	step("set", "a.pem.key", keyPEM(ecKey()), "")
	step("commit", "a.pem", "", "inconsistencies between private key and certificate loaded 'DIR/a.pem'.")
	step("set", "a.pem.key", keyPEM(key), "")
	step("set", "a.pem.ocsp", "no base64!", "it is not in base64")
	step("set", "a.pem.sctl", base64.StdEncoding.EncodeToString([]byte("\x00\x03\x00\x01x")), "")
	step("commit", "a.pem", "", "")
	step("commit", "a.pem", "", "No ongoing transaction!")
	if d, _ := s.Details(a.path("a.pem"), false); d.Subject != "/CN=new.example" {
		t.Errorf("in use is %s", d.Subject)
	}
	step("set", "b.pem", newText, "")
	if _, ongoing := s.Names(); ongoing != a.path("b.pem") {
		t.Errorf("the transaction is about %q", ongoing)
	}
	step("abort", "b.pem", "", "")
	if d, _ := s.Details(a.path("b.pem"), false); d.Subject != "/CN=b.example" {
		t.Errorf("after an abort in use is %s", d.Subject)
	}
	var ongoing *OngoingError
	if errors.As(s.Abort(a.path("b.pem")), &ongoing) {
		t.Error("there is still a transaction")
	}
}

func TestTheCertificateForServersIsReplaced(t *testing.T) {
	a := newAuthority(t)
	a.issue("a.pem", ecKey(), "a.example")
	a.issue("own.pem", ecKey(), "own")
	a.issue("new.pem", ecKey(), "new")
	c := a.parse("", "ssl crt DIR/a.pem verify required ca-file DIR/ca.pem",
		"ssl verify none no-ssl-reuse crt DIR/own.pem")
	s := a.load(c, time.Now)
	there, here := s.Listener(c.Proxies[0].Binds[0].TLS), s.Server(c.Proxies[0].Servers[0].TLS)
	_, _, err := s.Set(a.path("own.pem"), []byte(a.read("new.pem")))
	must(t, err)
	_, err = s.Commit(a.path("own.pem"))
	must(t, err)
	_, state, err, _ := shake(here, there)
	must(t, err)
	if got := state.PeerCertificates[0].Subject.CommonName; got != "new" {
		t.Errorf("the server is shown %s", got)
	}
}

// TestSecretsAreNotPrinted: neither the keys nor what tickets are made of, however the values are printed.
func TestSecretsAreNotPrinted(t *testing.T) {
	a := newAuthority(t)
	key := ecKey()
	a.issue("a.pem", key, "a.example")
	raw := []byte(strings.Repeat("secret ticket key! ", 5))[:longTicketKey]
	line := base64.StdEncoding.EncodeToString(raw)
	a.write("keys", strings.Repeat(line+"\n", 3))
	a.write("broken", line+"\n"+line[:30]+"\n"+"###"+line+"\n")
	s, _ := a.bound("", "ssl crt DIR/a.pem tls-ticket-keys DIR/keys")
	body := strings.Split(keyPEM(key), "\n")[1]
	_, _, keysErr := Load(a.parse("", "ssl crt DIR/a.pem tls-ticket-keys DIR/broken", ""), time.Now)
	pemText := a.read("a.pem")
	broken := strings.Replace(pemText, body[:8], "AAAAAAAA", 1)
	_, _, setErr := s.Set(a.path("a.pem"), []byte(broken))
	_, _, mismatch := s.Set(a.path("a.pem.key"), []byte(keyPEM(key)[:80]))
	d, _ := s.Details(a.path("a.pem"), false)
	all, _ := s.secrets.current(time.Now())
	text := fmt.Sprintf("%v %v %v %+v %v %+v %#v", keysErr, setErr, mismatch, d, all, all, all)
	if setErr == nil || mismatch == nil || keysErr == nil {
		t.Errorf("what is broken is taken: %v, %v, %v", setErr, mismatch, keysErr)
	}
	for _, part := range []string{body[:20], body[20:40], line[:20], string(raw[:10])} {
		if strings.Contains(text, part) {
			t.Errorf("a secret is printed:\n%s", text)
		}
	}
	for _, one := range all {
		if strings.Contains(text, fmt.Sprint([]byte(one[:4]))[1:10]) {
			t.Errorf("a secret is printed in numbers:\n%s", text)
		}
	}
}
