package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The test in this file gives HAProxy and whyspin the same rules and log formats, lets the same clients talk
// to both, and compares what the clients get and what is logged.

// ruledProxy is a proxy under comparison: HAProxy or whyspin.
type ruledProxy struct {
	ports map[string]string // of each frontend
	log   net.PacketConn
}

// startNamed runs a server that says its name and reads to the end.
func startNamed(t *testing.T, name string) (address string) {
	t.Helper()
	return serve(t, func(c net.Conn) {
		fmt.Fprintln(c, name)
		io.Copy(io.Discard, c)
	})
}

// ruledFormat asks for all that is known of the client's TLS.
const ruledFormat = `%ft %b/%s %ts %sslv %sslc sni=%[ssl_fc_sni] alpn=%[ssl_fc_alpn] ` +
	`%[ssl_fc_protocol],%[ssl_fc_cipher] has=%[ssl_fc_has_sni] used=%[ssl_c_used] ` +
	`crt=%[ssl_fc_has_crt] verify=%[ssl_c_verify] dn=%[ssl_c_s_dn] cn=%{+Q}[ssl_c_s_dn(CN)] ` +
	`ca=%[ssl_c_i_dn(CN)] bits=%[ssl_fc_use_keysize] %[ssl_fc_is_resumed] %[ssl_c_serial,hex] ` +
	`%[ssl_c_sha1,hex,lower] %[ssl_c_notafter] %[ssl_c_version] %[ssl_c_key_alg] ` +
	`%[ssl_c_sig_alg] %[ssl_bc] %[be_name] %[so_id] %[str(a\ b),upper] %{+E}[str('a\"b')] ` +
	`%{+Q}[str()]`

// ruledFrontends are the frontends, and what their bind lines have beside the address.
var ruledFrontends = []struct{ name, bind, lines string }{
	{"plain", "", `
	log-format "%ci %ft %b/%s %B %ts %tsc  %rc %{+Q}b %{+Q}s %sslv/%sslc %{+Q}sslv %[src] %[ssl_fc] 100%%"
	acl local src 127.0.0.0/8
	use_backend one if !local
	use_backend two if local { dst 127.0.0.1 } { src_port gt 1 }
	default_backend one`},
	{"tls", "ssl crt DIR/server.pem alpn h2,http/1.1 ca-file DIR/ca.pem verify optional", `
	log-format "FORMAT"
	tcp-request session reject if { ssl_fc_sni refused.example }
	tcp-request content reject if { ssl_fc_sni -m end .rejected.example }
	use_backend two if { ssl_fc_sni -i TWO.example } or { ssl_fc_alpn h2 }
	use_backend two if { ssl_c_s_dn(CN) client } !{ ssl_fc_sni -m found }
	use_backend refusing if { ssl_fc_sni -m reg ^r.*g$ }
	default_backend one`},
	{"rejects", "", `
	option tcplog
	tcp-request content accept if { src 10.0.0.0/8 }
	tcp-request content reject
	default_backend one`},
	{"drops", "", `
	option tcplog
	tcp-request connection reject if LOCALHOST
	default_backend one`},
	{"reaches", "", `
	log-format "%ts %b/%s %si %bi"
	default_backend secured`},
	{"passes", "ssl crt DIR/server.pem", `
	log-format "%ts %b/%s %[ssl_fc_sni]"
	default_backend asked`},
	{"asked", "ssl crt DIR/server.pem", `
	log-format "asked for %[ssl_fc_sni] %ts"
	default_backend one`},
}

// configureRules returns the sections of the proxies, with ports of their own.
func configureRules(t *testing.T, p *ruledProxy, servers map[string]string) string {
	t.Helper()
	var b strings.Builder
	for _, f := range ruledFrontends {
		p.ports[f.name] = freePort(t)
		fmt.Fprintf(&b, "frontend %s\n bind 127.0.0.1:%s %s%s\n", f.name, p.ports[f.name], f.bind, f.lines)
	}
	for _, name := range []string{"one", "two", "refusing"} {
		fmt.Fprintf(&b, "backend %s\n server s-%s %s\n", name, name, servers[name])
	}
	fmt.Fprintf(&b, "backend secured\n server s 127.0.0.1:%s ssl verify none sni str(one.example)\n",
		p.ports["tls"])
	fmt.Fprintf(&b, "backend asked\n server s 127.0.0.1:%s ssl verify none sni ssl_fc_sni\n",
		p.ports["asked"])
	return strings.ReplaceAll(b.String(), "FORMAT", ruledFormat)
}

// ruledVisits are the clients.
var ruledVisits = []struct {
	name, to string
	config   *tls.Config // nil for a client without TLS
	client   bool        // shows its certificate
	lines    int         // that are logged
}{
	{"plain", "plain", nil, false, 1},
	{"TLS 1.3", "tls", &tls.Config{ServerName: "one.example"}, false, 1},
	{"TLS 1.2", "tls", &tls.Config{ServerName: "one.example", MaxVersion: tls.VersionTLS12}, false, 1},
	{"by name", "tls", &tls.Config{ServerName: "Two.Example"}, false, 1},
	{"by protocol", "tls", &tls.Config{NextProtos: []string{"h2"}}, false, 1},
	{"by certificate", "tls", &tls.Config{}, true, 1},
	{"with a certificate", "tls", &tls.Config{ServerName: "one.example"}, true, 1},
	{"to a server that refuses", "tls", &tls.Config{ServerName: "refusing"}, false, 1},
	{"rejected by content", "tls", &tls.Config{ServerName: "a.rejected.example"}, false, 1},
	{"rejected session", "tls", &tls.Config{ServerName: "refused.example"}, false, 1},
	{"rejected", "rejects", nil, false, 1},
	{"dropped", "drops", nil, false, 0},
	{"TLS to the server", "reaches", nil, false, 2},
	{"a name handed on", "passes", &tls.Config{ServerName: "handed.example"}, false, 2},
	{"no name to hand on", "passes", &tls.Config{}, false, 2},
}

// visit connects, reads one line if there is any, and leaves.
func (p *ruledProxy) visit(t *testing.T, to string, config *tls.Config) string {
	t.Helper()
	c, err := net.Dial("tcp", "127.0.0.1:"+p.ports[to])
	if err != nil {
		return "closed" // before it came to anything
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if config != nil {
		c = tls.Client(c, config)
	}
	said := make([]byte, 100)
	n, err := c.Read(said)
	if err != nil {
		return "closed"
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Error(err)
	}
	_, _ = io.Copy(io.Discard, c)
	return string(said[:n])
}

// ruledMasks are what differs between two runs, or by the cipher that each prefers.
var ruledMasks = regexp.MustCompile(`127\.0\.0\.1:\d+|\[\d\d/.*\]|(-1|\d+)/(-1|\d+)/\d+|` +
	`AES_?(128|256)[_-]GCM[_-]SHA(256|384)|bits=\d+`)

// lines waits for lines in the log and returns them in order, without what differs between two runs.
func (p *ruledProxy) lines(t *testing.T, n int) string {
	t.Helper()
	var all []string
	for len(all) < n {
		if err := p.log.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		text := make([]byte, 8192)
		n, _, err := p.log.ReadFrom(text)
		if err != nil {
			t.Fatalf("waiting for a line: %v", err)
		}
		if strings.Contains(string(text[:n]), " started with ") {
			continue // whyspin's word of itself
		}
		all = append(all, ruledMasks.ReplaceAllString(strings.TrimSpace(string(text[:n])), "MASKED"))
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// watch lets every client visit and returns what it got and what was logged.
func (p *ruledProxy) watch(t *testing.T, pair tls.Certificate) map[string]string {
	t.Helper()
	seen := map[string]string{}
	for _, v := range ruledVisits {
		config := v.config
		if config != nil {
			config = config.Clone()
			config.InsecureSkipVerify = true
			if v.client {
				config.Certificates = []tls.Certificate{pair}
			}
		}
		said := p.visit(t, v.to, config)
		seen[v.name] = said + "; " + p.lines(t, v.lines)
	}
	return seen
}

// runRuled runs HAProxy, or else whyspin, with the configuration that configure makes, in which a frontend
// "drops" rejects all connections.
func runRuled(t *testing.T, a *authority, haproxy bool, configure func(*ruledProxy) string) *ruledProxy {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &ruledProxy{map[string]string{}, l}
	socket := a.path("api-" + freePort(t))
	text := fmt.Sprintf("global\n stats socket %s level admin\n log %s len 4096 format raw local0\n"+
		"defaults\n mode tcp\n log global\n timeout connect 5s\n timeout client 20s\n"+
		" timeout server 20s\n retries 0\n%s", socket, l.LocalAddr(), configure(p))
	text = strings.ReplaceAll(text, "DIR", a.directory)
	if !haproxy {
		w := startProxy(t, socket, a.write("whyspin.cfg", text), nil, nil)
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("whyspin has said:\n%s", w.output)
			}
		})
		return p
	}
	h := start(t, exec.Command(need(t, "haproxy"), "-db", "-f", a.write("haproxy.cfg", text)))
	eventually(t, "HAProxy to listen", func() bool {
		select {
		case <-h.ended:
			t.Fatalf("HAProxy has ended and said:\n%s", h.output)
		default:
		}
		c, err := net.Dial("tcp", "127.0.0.1:"+p.ports["drops"])
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return p
}

func TestRulesAndLogFormatsAreThoseOfHAProxy(t *testing.T) {
	a := newAuthority(t)
	a.issue("server.pem", "server.example", newECDSA(t))
	pair := a.pair("client.pem", "client")
	servers := map[string]string{"one": startNamed(t, "one"), "two": startNamed(t, "two"),
		"refusing": "127.0.0.1:" + freePort(t)}
	configure := func(p *ruledProxy) string { return configureRules(t, p, servers) }
	want := runRuled(t, a, true, configure).watch(t, pair)
	got := runRuled(t, a, false, configure).watch(t, pair)
	for _, v := range ruledVisits {
		if got[v.name] != want[v.name] {
			t.Errorf("%s:\nwhyspin %q\nhaproxy %q", v.name, got[v.name], want[v.name])
		}
		t.Logf("%s: %q", v.name, want[v.name])
	}
}

// pair issues a certificate for a client.
func (a *authority) pair(file, name string) tls.Certificate {
	a.t.Helper()
	path := a.issue(file, name, newRSA(a.t))
	pair, err := tls.LoadX509KeyPair(path, path)
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}
