package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// deaf is the first line of a client that wants no answer.
const deaf = "deaf\n"

// startEchoTLS runs a server that sends back what it gets from clients with a certificate, or reads no more
// after the first line if that says so.
func (v *vault) startEchoTLS() (address string) {
	v.t.Helper()
	pair := v.pair("server.pem", "server.example", false)
	cert, err := tls.LoadX509KeyPair(pair, pair)
	if err != nil {
		v.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(v.cert)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
		KeyLogWriter: &v.session,
	})
	if err != nil {
		v.t.Fatal(err)
	}
	over := make(chan struct{})
	v.t.Cleanup(func() { l.Close(); close(over) })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				line, err := r.ReadString('\n')
				if line == deaf {
					<-over
				}
				if err == nil {
					_, _ = io.WriteString(c, line)
					_, _ = io.Copy(c, r)
				}
			}()
		}
	}()
	return l.Addr().String()
}

// guarded is a proxy that knows secrets.
type guarded struct {
	*proxy
	vault    *vault
	planted  string // the name of the frontend that spins while TLS waits for a client
	ports    []string
	admin    string // the address of the HTTP endpoints
	password string // of the HTTP endpoints
}

const guardedConfig = `
global
 whyspin.admin 127.0.0.1:%[1]s
 whyspin.admin-auth DIR/users
 whyspin.fault tls-want-read-armed-write in %[2]s
defaults
 log global
 option tcplog
 timeout connect 10s
 timeout client 10m
 timeout client-hs 10m
 timeout server 10m
listen %[2]s
 bind PORT1 ssl crt DIR/rsa.pem crt DIR/ecdsa.pem tls-ticket-keys DIR/tickets
 server s %[3]s ssl crt DIR/client.pem verify none
listen calm
 bind PORT2 ssl crt-list DIR/list no-tls-tickets
 server s %[3]s ssl crt DIR/client.pem ca-file DIR/ca.pem verifyhost server.example
listen mutual
 bind PORT3 ssl crt DIR/ecdsa.pem ca-file DIR/ca.pem verify required
 server s BACKEND
listen untrusted
 bind PORT4
 server s %[3]s ssl ca-file DIR/ca.pem verifyhost other.example
`

func startGuarded(t *testing.T) *guarded {
	t.Helper()
	v := newVault(t)
	g := &guarded{vault: v, planted: "planted" + rand.Text(), admin: freePort(t)}
	for _, name := range []string{"rsa", "ecdsa", "client", "new"} {
		v.pair(name+".pem", name+".example", name == "rsa")
	}
	var keys strings.Builder
	for range 3 {
		fmt.Fprintln(&keys, base64.StdEncoding.EncodeToString(v.random("a key of tickets", 80)))
	}
	v.write("tickets", keys.String())
	v.write("list", v.path("rsa.pem")+"\n"+v.path("ecdsa.pem")+" *.example\n")
	g.password = v.password("the password of the HTTP endpoints")
	v.write("users", "alice:"+g.password+"\n")
	lines := fmt.Sprintf(guardedConfig, g.admin, g.planted, v.startEchoTLS())
	g.proxy, g.ports = v.startTLS(lines)
	t.Cleanup(func() {
		if t.Failed() {
			g.stop(t)
			t.Logf("the proxy says:\n%s", g.said())
		}
	})
	return g
}

// dial connects a client to the nth port. It stays until the test ends.
func (g *guarded) dial(n int, version uint16, change func(*tls.Config)) (*tls.Conn, error) {
	config := &tls.Config{ServerName: "ecdsa.example", InsecureSkipVerify: true, MaxVersion: version,
		KeyLogWriter: &g.vault.session}
	if change != nil {
		change(config)
	}
	c, err := tls.Dial("tcp", "127.0.0.1:"+g.ports[n], config)
	if err == nil {
		_ = c.SetDeadline(time.Now().Add(patience)) // a socket takes any
		g.t.Cleanup(func() { c.Close() })
	}
	return c, err
}

// traffic has clients of all kinds come, and some of them stay.
func (g *guarded) traffic() {
	t := g.t
	t.Helper()
	secret := g.vault.password("what a client sends")
	sessions := tls.NewLRUClientSessionCache(1)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13, tls.VersionTLS13} {
		for n := range 2 {
			c, err := g.dial(n, version, func(c *tls.Config) { c.ClientSessionCache = sessions })
			if err != nil {
				t.Fatal(err)
			}
			line := "AUTH PLAIN " + secret + "\n"
			if _, err := io.WriteString(c, line); err != nil {
				t.Fatal(err)
			}
			answer, err := bufio.NewReader(c).ReadString('\n')
			if err != nil || answer != line {
				t.Fatalf("%q comes back as %q: %v", line, answer, err)
			}
			if version == tls.VersionTLS12 {
				c.Close()
			}
		}
	}
	g.stuck(secret)
	g.mistaken(secret)
}

// stuck leaves a client whose server does not read, so that everything between them is full.
func (g *guarded) stuck(secret string) {
	g.t.Helper()
	c, err := g.dial(1, tls.VersionTLS13, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	_, err = io.WriteString(c, deaf)
	for text := bytes.Repeat([]byte(secret+"\n"), 1000); err == nil; {
		_ = c.SetWriteDeadline(time.Now().Add(time.Second)) // a socket takes any
		_, err = c.Write(text)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		g.t.Fatal(err)
	}
}

// mistaken has clients come who do something wrong: with TLS, or with what they should keep to themselves.
func (g *guarded) mistaken(secret string) {
	t := g.t
	t.Helper()
	key := g.vault.text(g.vault.path("client.pem"))
	for _, text := range []string{
		key, "AUTH PLAIN " + secret + "\n", string(g.vault.random("garbage that a client sends", 1000)),
		"\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03" + key,
		"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03" + key, // there is more to come
	} {
		c, err := net.Dial("tcp", "127.0.0.1:"+g.ports[0])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := g.dial(2, tls.VersionTLS13, nil); err == nil {
		if _, err := io.ReadAll(c); err == nil {
			t.Error("a client without a certificate is welcome")
		}
	}
	_, err := g.dial(1, tls.VersionTLS12, func(c *tls.Config) { c.InsecureSkipVerify = false })
	if err == nil {
		t.Error("the certificates are of an authority that everybody knows")
	}
	plain, err := net.Dial("tcp", "127.0.0.1:"+g.ports[3])
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := io.WriteString(plain, secret); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(plain) // it ends when the server has been refused
}

// plantedIn reports whether the name that was planted can be found in a text, as a secret would be.
func (g *guarded) plantedIn(text string) bool {
	planted := traces{}
	planted.secret("planted", []byte(g.planted))
	return len(planted.find([]byte(text))) > 0
}

// document is something that a proxy, or who looks at it, has written.
type document struct{ where, text string }

// documents collects everything that can be had while the proxy runs.
func (g *guarded) documents() (all []document) {
	g.t.Helper()
	keep := func(where, text string) { all = append(all, document{where, text}) }
	g.orders(keep)
	for _, page := range []string{
		"metrics", "diagnose?seconds=0.3", "debug/pprof/whyspin?seconds=0.5", "debug/pprof/profile?seconds=1",
		"debug/pprof/trace?seconds=0.3", "debug/pprof/heap", "debug/pprof/heap?debug=1", "debug/pprof/allocs",
		"debug/pprof/goroutine?debug=1", "debug/pprof/goroutine?debug=2", "debug/pprof/block",
		"debug/pprof/mutex", "debug/pprof/threadcreate", "debug/pprof/cmdline", "debug/pprof/",
	} {
		status, text := get(g.t, "http://127.0.0.1:"+g.admin+"/"+page, "alice", g.password)
		if status != http.StatusOK {
			g.t.Errorf("/%s: status %d: %s", page, status, text)
		}
		keep("/"+page, text)
	}
	directory := openDirectory(g.t)
	file := func(name string) string { return filepath.Join(directory, name) }
	pid := strconv.Itoa(g.Process.Pid)
	run := func(c ...string) {
		o := execute(g.t, program, c...)
		if o.code == exitFailed || o.code == exitUsage {
			g.t.Errorf("%s exits with %d and says:\n%s%s", c, o.code, o.out, o.errors)
		}
		keep("whyspin "+strings.Join(c, " "), o.out+o.errors)
	}
	for _, c := range [][]string{
		{"diagnose", "--pid", pid, "--for", "500ms", "--record", file("recording")},
		{"diagnose", "--replay", file("recording"), "--json"},
		{"diagnose", "--pid", pid, "--for", "300ms", "--anonymize", "--record", file("anonymous")},
	} {
		run(c...)
	}
	for _, name := range []string{"recording", "anonymous"} {
		keep(name, g.vault.text(file(name)))
	}
	// Whom the samples are of depends on who is on a processor.
	eventually(g.t, "a profile of the stream that spins", func() bool {
		run("profile", "--pid", pid, "--for", "500ms", "-o", file("profile"))
		keep("profile", g.vault.text(file("profile")))
		return g.plantedIn(all[len(all)-1].text)
	})
	return all
}

// orders gives every order that only shows something, and those about certificates, also wrong ones.
func (g *guarded) orders(keep func(where, text string)) {
	g.t.Helper()
	pem := func(name string) string { return g.vault.text(g.vault.path(name)) }
	_, newKey, _ := strings.Cut(pem("new.pem"), "-----END CERTIFICATE-----\n")
	oldCert, _, _ := strings.Cut(pem("rsa.pem"), "-----BEGIN PRIVATE KEY-----\n")
	rsaFile := g.vault.path("rsa.pem")
	for _, payload := range []string{
		newKey, oldCert, oldCert + newKey, pem("new.pem")[:len(pem("new.pem"))-100], "garbage",
		pem("tickets"), pem("new.pem"), // and this one is not committed
	} {
		keep("set ssl cert", g.order("set ssl cert "+rsaFile+" <<\n"+strings.TrimSpace(payload)+"\n"))
	}
	orders := []string{
		"show info typed", "show info json", "show info desc", "show sess all", "show spin json",
		"show ssl cert " + rsaFile, "show ssl cert *" + rsaFile,
		"show ssl crt-list -n " + g.vault.path("list"),
		"set ssl cert /nowhere <<\n" + newKey + "\n", "commit ssl cert /nowhere", "abort ssl cert /nowhere",
	}
	for line := range strings.SplitSeq(g.order("help"), "\n") {
		usage, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		if words, _, _ := strings.Cut(usage+" [", " ["); strings.HasPrefix(words, "show ") {
			orders = append(orders, strings.TrimSpace(words))
		}
	}
	for line := range strings.SplitSeq(g.order("show sess"), "\n") {
		if id, _, ok := strings.Cut(line, ":"); ok {
			orders = append(orders, "show sess "+id)
		}
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.Process.Pid))
	if err != nil {
		g.t.Fatal(err)
	}
	for _, e := range entries {
		orders = append(orders, "show fd "+e.Name())
	}
	for _, o := range orders {
		keep(strings.SplitN(o, "\n", 2)[0], g.order(o))
	}
}

// TestSecretsStayInTheProxy: keys, certificates, the secrets of sessions and what clients and servers say to
// each other are in nothing that the proxy or who looks at it writes. That there is nothing to be found is
// proved by a name that is looked for in the same way and has to be there.
func TestSecretsStayInTheProxy(t *testing.T) {
	g := startGuarded(t)
	g.traffic()
	eventually(t, "a spin to be found", func() bool {
		return !strings.Contains(g.order("show spin")+"\n", "findings: 0\n")
	})
	all := g.documents()
	for _, signal := range []os.Signal{syscall.SIGHUP, syscall.SIGABRT} {
		if err := g.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}
	// The runtime says on which stacks it was.
	all = append(all, document{"log", g.said()})
	if !strings.Contains(g.said(), "\ngoroutine 1 ") {
		t.Errorf("the log does not end with stacks:\n%s", g.said())
	}
	if n := g.vault.close(); n < 20 {
		t.Errorf("%d secrets of sessions are known", n)
	}
	shows := map[string]bool{}
	for _, d := range all {
		for _, found := range g.vault.traces.find([]byte(d.text)) {
			t.Errorf("%s has %s", d.where, found)
		}
		shows[d.where] = g.plantedIn(d.text)
	}
	for _, where := range []string{
		"show sess all", "show spin", "show spin json", "recording", "profile", "log",
	} {
		if !shows[where] {
			t.Errorf("not even the name that was planted is found in %q", where)
		}
	}
	if shows["anonymous"] {
		t.Error("the name that was planted is in what was made anonymous")
	}
}

// TestMistakesWithKeysDoNotShowThem: what is said of files that are wrong, or in the wrong place, is no part
// of them.
func TestMistakesWithKeysDoNotShowThem(t *testing.T) {
	v := newVault(t)
	v.pair("rsa.pem", "rsa.example", true)
	v.pair("ecdsa.pem", "ecdsa.example", false)
	rsaCert, rsaKey, _ := strings.Cut(v.text(v.path("rsa.pem")), "-----BEGIN PRIVATE KEY-----\n")
	ecdsaCert, ecdsaKey, _ := strings.Cut(v.text(v.path("ecdsa.pem")), "-----BEGIN PRIVATE KEY-----\n")
	begin := func(kind, body string) string { return "-----BEGIN " + kind + "-----\n" + body }
	tickets := base64.StdEncoding.EncodeToString(v.random("a key of tickets", 80)) + "\n"
	password := v.password("a password")
	line := func(options string) string {
		return "global\n stats socket DIR/api\nlisten a\n bind 127.0.0.1:" + freePort(t) + " ssl " + options +
			"\n server s 127.0.0.1:1\n"
	}
	protected := "global\n whyspin.admin 127.0.0.1:" + freePort(t) + "\n whyspin.admin-auth FILE\n" +
		line("crt DIR/rsa.pem")
	for _, tt := range []struct{ what, file, config string }{
		{"no certificate", begin("PRIVATE KEY", rsaKey), line("crt FILE")},
		{"no key", rsaCert, line("crt FILE")},
		{"a key of another certificate", rsaCert + begin("PRIVATE KEY", ecdsaKey), line("crt FILE")},
		{"a key that is cut off", rsaCert + begin("PRIVATE KEY", rsaKey[:600]), line("crt FILE")},
		{"a key of another kind", ecdsaCert + begin("RSA PRIVATE KEY",
			strings.ReplaceAll(ecdsaKey, "END PRIVATE", "END RSA PRIVATE")), line("crt FILE")},
		{"a key with a byte that is wrong", rsaCert + begin("PRIVATE KEY",
			strings.Replace(rsaKey, rsaKey[200:204], "AAAA", 1)), line("crt FILE")},
		{"a certificate cut off", rsaCert[:300] + "\n-----END CERTIFICATE-----\n" +
			begin("PRIVATE KEY", rsaKey), line("crt FILE")},
		{"no list", v.text(v.path("rsa.pem")), line("crt-list FILE")},
		{"a list with a key in it", "FILE\n" + begin("PRIVATE KEY", ecdsaKey), line("crt-list FILE")},
		{"no authority", begin("PRIVATE KEY", rsaKey), line("crt DIR/rsa.pem verify required ca-file FILE")},
		{"no list of revocations", begin("PRIVATE KEY", rsaKey),
			line("crt DIR/rsa.pem verify required ca-file DIR/ca.pem crl-file FILE")},
		{"no keys of tickets", begin("PRIVATE KEY", rsaKey), line("crt DIR/rsa.pem tls-ticket-keys FILE")},
		{"too few keys of tickets", tickets, line("crt DIR/rsa.pem tls-ticket-keys FILE")},
		{"a key of tickets that is cut off", tickets + tickets + tickets[:50] + "\n",
			line("crt DIR/rsa.pem tls-ticket-keys FILE")},
		{"a key of tickets with a letter too much", tickets + tickets + "!" + tickets,
			line("crt DIR/rsa.pem tls-ticket-keys FILE")},
		{"a key as the configuration", "", v.text(v.path("rsa.pem"))},
		{"a key in the configuration", "", line("crt DIR/rsa.pem") + begin("PRIVATE KEY", ecdsaKey)},
		{"no file of passwords", begin("PRIVATE KEY", ecdsaKey), protected},
		{"passwords without names", password + "\n", protected},
	} {
		t.Run(tt.what, func(t *testing.T) {
			file := v.path("file")
			replace := strings.NewReplacer("DIR", v.directory, "FILE", file)
			v.write("file", replace.Replace(tt.file))
			config := v.write("config", replace.Replace(tt.config))
			if tt.file == "" {
				file = config
			}
			refused := false
			for _, command := range []string{"check", "run"} {
				o := execute(t, program, command, "-f", config)
				for _, found := range v.traces.find([]byte(o.out + o.errors)) {
					t.Errorf("whyspin %s shows %s:\n%s%s", command, found, o.out, o.errors)
				}
				refused = o.code == exitFailed && strings.Contains(o.errors, file)
			}
			if !refused {
				t.Error("it is not refused")
			}
		})
	}
}
