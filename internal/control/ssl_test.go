package control

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/certificate"
	"github.com/whyspin/whyspin/internal/config"
)

// certificateFiles writes a.pem (RSA), b.pem and new.pem (ECDSA), the last without its key into bare.pem and
// its key into new.key, and a list.
func certificateFiles(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ssl") // t.TempDir may be too long for a socket's name
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	write := func(name, text string) {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	root, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	block := func(kind string, raw []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}))
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "Root", Organization: []string{"O, Inc."}},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caRaw, err := x509.CreateCertificate(rand.Reader, ca, ca, root.Public(), root)
	must(t, err)
	issue := func(name string, serial *big.Int, key any, public any, names ...string) {
		leaf := &x509.Certificate{
			SerialNumber: serial, Subject: pkix.Name{CommonName: names[0], Country: []string{"CH"}},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: names,
		}
		raw, err := x509.CreateCertificate(rand.Reader, leaf, ca, public, root)
		must(t, err)
		keyRaw, err := x509.MarshalPKCS8PrivateKey(key)
		must(t, err)
		cert, keyText := block("CERTIFICATE", raw)+block("CERTIFICATE", caRaw), block("PRIVATE KEY", keyRaw)
		write(name+".pem", cert+keyText)
		if name == "new" {
			write("bare.pem", cert)
			write("new.key", keyText)
		}
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	issue("a", big.NewInt(0x0102), rsaKey, rsaKey.Public(), "a.example", "*.a.example")
	for _, name := range []string{"b", "new"} {
		key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		must(t, err)
		issue(name, new(big.Int).Lsh(big.NewInt(0xab), 100), key, key.Public(), name+".example")
	}
	write("keys", strings.Repeat(base64.StdEncoding.EncodeToString(make([]byte, 48))+"\n", 3))
	write("list", "# comment\n"+dir+"/a.pem [alpn h2,http/1.1] x.example !y.example\n\n"+dir+"/b.pem\n")
	return dir
}

// tlsConfig is a configuration for both proxies.
func tlsConfig(dir, socket string) string {
	return fmt.Sprintf(`global
 stats socket %s level admin
defaults
 timeout connect 1s
 timeout client 1s
 timeout server 1s
listen l
 bind %s/1 ssl crt %s/a.pem crt %s/b.pem tls-ticket-keys %s/keys
 bind %s/2 ssl crt-list %s/list
 server s 127.0.0.1:1 ssl verify none crt %s/b.pem
`, socket, dir, dir, dir, dir, dir, dir, dir)
}

// haproxyWithCertificates runs HAProxy and returns its stats socket.
func haproxyWithCertificates(t *testing.T, dir string) (socket string) {
	t.Helper()
	socket = filepath.Join(dir, "haproxy.sock")
	must(t, os.WriteFile(filepath.Join(dir, "cfg"), []byte(tlsConfig(dir, socket)), 0o600))
	path, err := exec.LookPath("haproxy")
	if err != nil {
		path = "/usr/sbin/haproxy" // not in the PATH of ordinary users
	}
	haproxy := exec.Command(path, "-db", "-f", filepath.Join(dir, "cfg"))
	must(t, haproxy.Start())
	t.Cleanup(func() {
		haproxy.Process.Kill()
		haproxy.Wait()
	})
	eventually(t, "HAProxy to listen", func() bool {
		_, err := os.Stat(socket)
		if errors.Is(err, fs.ErrNotExist) {
			return false
		}
		probe, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		must(t, err)
		defer syscall.Close(probe)
		return syscall.Connect(probe, &syscall.SockaddrUnix{Name: socket}) == nil
	})
	return socket
}

// payloads returns what makes a payload of a file.
func payloads(t *testing.T, dir string) func(file string) string {
	return func(file string) string {
		text, err := os.ReadFile(filepath.Join(dir, file))
		must(t, err)
		return " <<\n" + string(text)
	}
}

// TestCommandsAboutCertificatesAnswerAsHAProxy: to the letter, but for what is listed.
func TestCommandsAboutCertificatesAnswerAsHAProxy(t *testing.T) {
	dir := certificateFiles(t)
	socket := haproxyWithCertificates(t, dir)
	p := withCertificates(t, dir)
	payload := payloads(t, dir)
	for _, command := range []string{
		"show ssl cert", "show ssl cert DIR/a.pem", "show ssl cert DIR/b.pem", "show ssl cert nosuch",
		"show ssl crt-list", "show ssl crt-list DIR/list", "show ssl crt-list -n DIR/list",
		"show ssl crt-list nosuch", "show ssl cert *DIR/a.pem",
		"set ssl cert", "set ssl cert DIR/a.pem", "commit ssl cert", "abort ssl cert",
		"commit ssl cert DIR/a.pem", "abort ssl cert DIR/a.pem", "set ssl cert nosuch" + payload("new.pem"),
		"set ssl cert DIR/a.pem <<\ngarbage\n", "show ssl cert",
		"set ssl cert DIR/b.pem" + payload("bare.pem"), "show ssl cert", "commit ssl cert DIR/b.pem",
		"commit ssl cert DIR/a.pem", "abort ssl cert DIR/a.pem",
		"set ssl cert DIR/b.pem.key" + payload("new.key"),
		"show ssl cert *DIR/b.pem", "show ssl cert DIR/b.pem", "commit ssl cert DIR/b.pem",
		"show ssl cert DIR/b.pem", "show ssl cert", "set ssl cert DIR/a.pem" + payload("new.pem"),
		"abort ssl cert DIR/a.pem", "commit ssl cert DIR/a.pem",
	} {
		command = strings.ReplaceAll(command, "DIR", dir)
		theirs := exchange(t, dial(t, "unix", socket), command+"\n")
		ours := p.ask(command)
		// HAProxy writes a zero byte after the protocols of ALPN.
		theirs = strings.ReplaceAll(theirs, "\x00", "")
		// What is wrong with a payload is said here.
		ours = regexp.MustCompile(`(unable to load certificate from file '[^']*'): [^\n]*\n`).
			ReplaceAllString(ours, "$1.\n")
		if ours != theirs {
			t.Errorf("%.80q is answered\n%s\nby HAProxy\n%s", command, ours, theirs)
		}
	}
}

// withCertificates runs a proxy that has the certificates of the files. Its listeners are not those of the
// configuration: only the commands matter.
func withCertificates(t *testing.T, dir string) *proxy {
	t.Helper()
	file := config.File{Name: "cfg", Text: []byte(tlsConfig(dir, dir+"/s"))}
	c, err := config.Parse([]config.File{file}, config.Options{})
	must(t, err)
	store, _, err := certificate.Load(c, time.Now)
	must(t, err)
	return start(t, setup{certificates: store})
}

// TestNoAnswerHasASecret: no command shows anything of a key, whatever became of it.
func TestNoAnswerHasASecret(t *testing.T) {
	dir := certificateFiles(t)
	p := withCertificates(t, dir)
	var secrets []string
	for _, name := range []string{"a.pem", "b.pem", "new.pem"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		_, key, _ := strings.Cut(string(text), "-----BEGIN PRIVATE KEY-----\n")
		secrets = append(secrets, key[:20], key[40:60])
	}
	text, err := os.ReadFile(filepath.Join(dir, "new.pem"))
	must(t, err)
	lines := []string{
		"set ssl cert " + dir + "/a.pem <<\n" + string(text),
		"show ssl cert *" + dir + "/a.pem",
		"set ssl cert " + dir + "/b.pem <<\n" + string(text),
		"commit ssl cert " + dir + "/a.pem",
		"set ssl cert " + dir + "/b.pem <<\n" + string(text[len(text)/2:]),
		"set ssl cert nosuch <<\n" + string(text),
		"shov ssl cert <<\n" + string(text),
		"show ssl cert", "show ssl cert " + dir + "/a.pem", "show ssl crt-list",
		"show ssl crt-list " + dir + "/list",
		"show info", "show sess all", "show fd", "show activity", "show spin", "help",
	}
	answers := ""
	for _, line := range lines {
		answers += p.ask(line)
	}
	for _, secret := range secrets {
		if strings.Contains(answers, secret) {
			t.Errorf("an answer has %q of a key:\n%s", secret, answers)
		}
	}
	if !strings.Contains(answers, "Success!") {
		t.Errorf("the certificate was not replaced:\n%s", answers)
	}
	select {
	case message := <-p.alerts:
		t.Errorf("the operator is told %q", message)
	default:
	}
}

func TestWithoutCertificates(t *testing.T) {
	p := start(t, setup{})
	const want = "There are no certificates: no line asks for \"ssl\".\n\n"
	for _, command := range []string{"show ssl cert", "show ssl crt-list", "set ssl cert a <<\nb\n",
		"commit ssl cert a", "abort ssl cert a"} {
		if got := p.ask(command); got != want {
			t.Errorf("%q is answered %q", command, got)
		}
	}
}
