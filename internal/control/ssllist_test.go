package control

import (
	"encoding/base64"
	"strings"
	"testing"
)

// TestListsOfCertificatesChangeAsWithHAProxy: the answers are HAProxy's to the letter, but for what is said
// of a line that cannot be read.
func TestListsOfCertificatesChangeAsWithHAProxy(t *testing.T) {
	dir := certificateFiles(t)
	socket := haproxyWithCertificates(t, dir)
	p := withCertificates(t, dir)
	payload := payloads(t, dir)
	key := base64.StdEncoding.EncodeToString(make([]byte, 48))
	for _, command := range []string{
		"new ssl cert", "new ssl cert DIR/a.pem", "new ssl cert n.pem", "new ssl cert n.pem", "show ssl cert",
		"show ssl cert n.pem", "add ssl crt-list", "add ssl crt-list nosuch n.pem",
		"add ssl crt-list DIR/list",
		"add ssl crt-list DIR/list n.pem", "add ssl crt-list DIR/list nosuch.pem",
		"set ssl cert n.pem" + payload("new.pem"), "del ssl cert n.pem", "commit ssl cert n.pem",
		"show ssl cert n.pem", "add ssl crt-list DIR/list n.pem", "show ssl cert n.pem",
		"add ssl crt-list DIR/list/// <<\nn.pem [alpn h2] y.example\n",
		"show ssl crt-list -n DIR/list",
		"del ssl cert n.pem", "del ssl cert nosuch", "del ssl cert", "del ssl crt-list",
		"del ssl crt-list nosuch n.pem", "del ssl crt-list DIR/list", "del ssl crt-list DIR/list nosuch",
		"del ssl crt-list DIR/list n.pem", "del ssl crt-list DIR/list n.pem:9",
		"del ssl crt-list DIR/list DIR/a.pem", "del ssl crt-list DIR/list n.pem:5",
		"show ssl crt-list -n DIR/list", "del ssl crt-list DIR/list n.pem", "del ssl cert n.pem",
		"show ssl cert", "show ssl crt-list DIR/list", "del ssl crt-list DIR/list DIR/b.pem",
		"show ssl crt-list DIR/list", "add ssl crt-list DIR/list DIR/b.pem", "show ssl crt-list -n DIR/list",
		"add ssl crt-list DIR/list <<\nDIR/b.pem a\nDIR/b.pem b\n",
		"show tls-keys", "show tls-keys nosuch", "set ssl tls-key", "set ssl tls-key #0",
		"set ssl tls-key #7 " + key, "set ssl tls-key #0 xxx", "set ssl tls-key #0 " + key,
		"set ssl tls-key DIR/keys " + key, "set ssl ocsp-response", "set ssl ocsp-response a!",
		"show ssl ocsp-response", "show ssl ocsp-response abcd",
	} {
		command = strings.ReplaceAll(command, "DIR", dir)
		theirs := strings.ReplaceAll(exchange(t, dial(t, "unix", socket), command+"\n"), "\x00", "")
		// HAProxy names the line of the configuration by a file of its own.
		theirs = strings.ReplaceAll(theirs, dir+"/cfg:", "cfg:")
		if ours := p.ask(command); ours != theirs {
			t.Errorf("%.80q is answered\n%q\nby HAProxy\n%q", command, ours, theirs)
		}
	}
	for _, command := range []string{"show tls-keys *", "show tls-keys #0",
		"show tls-keys " + dir + "/keys"} {
		if ours := p.ask(command); strings.Contains(ours, key) || !strings.Contains(ours, "secret") {
			t.Errorf("%s is answered %q", command, ours)
		}
	}
}
