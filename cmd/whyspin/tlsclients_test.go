package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// The tests of this file run TLS clients that others use every day through the proxy, as clients_test.go
// does those without TLS.

// secured is the name in the certificates that startSecureCrossing shows.
const secured = "a.example"

// startSecureCrossing runs a proxy whose binds show certificates of both kinds.
func startSecureCrossing(t *testing.T, options string, servers ...string) (*crossing, *authority) {
	t.Helper()
	a := newAuthority(t)
	rsa, ecdsa := a.issue("rsa.pem", secured, newRSA(t)), a.issue("ecdsa.pem", secured, newECDSA(t))
	return startCrossingWith(t, fmt.Sprintf("ssl crt %s crt %s %s", rsa, ecdsa, options), servers...), a
}

func TestWrkRunsOverTLSWithoutAnError(t *testing.T) {
	x, _ := startSecureCrossing(t, "")
	x.servesWeb()
	x.each(func(t *testing.T, r *route) { r.wrk(t, "https") })
}

func TestH2loadRunsWithoutAnError(t *testing.T) {
	h2load := need(t, "h2load")
	x, _ := startSecureCrossing(t, "alpn http/1.1")
	x.servesWeb()
	const requests = 2000
	x.each(func(t *testing.T, r *route) {
		o := execute(t, h2load, "--npn-list=http/1.1", "-n", fmt.Sprint(requests), "-c", "20",
			"--connect-to="+net.JoinHostPort(r.host, r.port), "https://"+secured+"/")
		for _, want := range []string{
			"Application protocol: http/1.1\n",
			fmt.Sprintf("%d succeeded, 0 failed, 0 errored, 0 timeout\n", requests),
			fmt.Sprintf("status codes: %d 2xx,", requests),
		} {
			if o.code != 0 || !strings.Contains(o.out, want) {
				t.Errorf("h2load exits with %d and does not say %q:\n%s%s", o.code, want, o.out, o.errors)
			}
		}
		if strings.Contains(o.out, "No protocol negotiated") {
			t.Errorf("h2load speaks HTTP/1.1 only because the proxy told it nothing:\n%s", o.out)
		}
	})
}

// pythonClient makes requests over connections of its own and over a kept one, and prints the sum of the
// sizes of the answers.
const pythonClient = `
import http.client, socket, ssl, sys
host, port, ca, name, version = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
context.set_alpn_protocols(["h2", "http/1.1"])
total = 0
for path in ["/", "/large"]:
    for times in [1, 5]:
        c = http.client.HTTPConnection(name)
        c.sock = context.wrap_socket(socket.create_connection((host, int(port))), server_hostname=name)
        for _ in range(times):
            c.request("GET", path)
            answer = c.getresponse()
            total += len(answer.read()) if answer.status == 200 else 0
        said = c.sock.version(), c.sock.selected_alpn_protocol()
        c.close()
print(*said, total)
`

// nodeClient does the same, several at a time.
const nodeClient = `
const https = require('https'), [host, port, ca, name, version] = process.argv.slice(1)
const options = {host, port, servername: name, ca: require('fs').readFileSync(ca),
	minVersion: version, maxVersion: version, ALPNProtocols: ['h2', 'http/1.1']}
const get = (path, agent) => new Promise((resolve, reject) => {
	https.get({...options, path, agent}, answer => {
		const said = answer.socket.getProtocol() + ' ' + answer.socket.alpnProtocol
		let size = 0
		answer.on('data', piece => { size += piece.length })
		answer.on('end', () => resolve([said, answer.statusCode === 200 ? size : 0]))
	}).on('error', reject)
})
const agent = new https.Agent({keepAlive: true, maxSockets: 2})
const all = ['/', '/large'].flatMap(path =>
	[false, agent, agent, agent, agent, agent].map(agent => get(path, agent)))
Promise.all(all).then(answers => {
	agent.destroy()
	console.log(answers[0][0], answers.reduce((sum, [, size]) => sum + size, 0))
})
`

// TestScriptsSpeakTLS runs the clients that come with Python and Node, which check the certificate.
func TestScriptsSpeakTLS(t *testing.T) {
	x, a := startSecureCrossing(t, "alpn http/1.1")
	x.servesWeb()
	total := 6*len("It works\n") + 6<<20
	x.each(func(t *testing.T, r *route) {
		for _, client := range []struct{ name, option, text, dash string }{
			{"python3", "-c", pythonClient, "_"}, {"node", "-e", nodeClient, "."},
		} {
			for _, version := range []string{"TLSv1.2", "TLSv1.3"} {
				flag := strings.ReplaceAll(version, ".", client.dash)
				o := execute(t, need(t, client.name), client.option, client.text, r.host, r.port,
					a.path("ca.pem"), secured, flag)
				if want := fmt.Sprintf("%s http/1.1 %d\n", version, total); o.code != 0 || o.out != want {
					t.Errorf("%s over %s exits with %d and says %q, should say %q:\n%s", client.name, version,
						o.code, o.out, want, o.errors)
				}
			}
		}
	})
}

// swaksCodes are the ends of its sessions with TLS: it closes without waiting for the close_notify that
// answers its own, and the reset that its kernel sends for that may come before the server's end, or after
// it while the last bytes are on their way.
var swaksCodes = []string{"--", "CD", "CL"}

// swaks sends mails, several at a time, over TLS and to somebody who has a certificate for the name.
func (r *route) swaks(t *testing.T, a *authority, mails int, options ...string) {
	t.Helper()
	const senders = 4
	var running sync.WaitGroup
	next := make(chan int, mails)
	for i := range mails {
		next <- i
	}
	close(next)
	arguments := append([]string{"--server", r.host, "--port", r.port, "--tls-verify", "--tls-ca-path",
		a.path("ca.pem"), "--tls-sni", secured, "--from", "a@client.example", "--to", "b@mx.example",
		"--timeout", "30"}, options...)
	swaks, started := need(t, "swaks"), regexp.MustCompile(`=== TLS started with cipher TLSv1\.[23]:`)
	peer := fmt.Sprintf("=== TLS peer DN=\"/CN=%s\"\n", secured)
	for range senders {
		running.Go(func() {
			for i := range next {
				subject := fmt.Sprintf("mail %d over %s", i, r.family)
				c := exec.Command(swaks, slices.Concat(arguments, []string{"--h-Subject", subject})...)
				said, err := c.CombinedOutput()
				// swaks marks what it did not expect with stars.
				if o := string(said); err != nil || strings.Contains(o, "*** ") || !started.MatchString(o) ||
					!strings.Contains(o, peer) {
					t.Errorf("swaks: %v:\n%s", err, o)
				}
			}
		})
	}
	running.Wait()
}

func TestSwaksDeliversEveryMailOverTLS(t *testing.T) {
	const each = 20
	servers, addresses := startMail(t)
	x, a := startSecureCrossing(t, "", addresses...)
	x.each(func(t *testing.T, r *route) { r.swaks(t, a, each, "--tls-on-connect") })
	for i, s := range servers {
		if n := s.Mails(); n != each {
			t.Errorf("%d mails arrived over %s, should be %d", n, x.routes[i].family, each)
		}
	}
	if n := x.info("CumSslConns"); n != 2*each {
		t.Errorf("%d connections with TLS were counted, should be %d", n, 2*each)
	}
	if n := x.ended(t, swaksCodes...); n != 2*each {
		t.Errorf("%d sessions were logged as ended by the client, should be %d:\n%s", n, 2*each, x.said())
	}
}

// TestSTARTTLSPassesThrough: client and server agree on TLS in the middle of a session, and that is none of
// the proxy's business. This server takes no mail without.
func TestSTARTTLSPassesThrough(t *testing.T) {
	const each = 10
	server, directory, x := need(t, "aiosmtpd"), openDirectory(t), startCrossing(t)
	a := newAuthority(t)
	pair := a.issue("mx.pem", secured, newECDSA(t))
	mails := func(r *route) string { return filepath.Join(directory, r.family) }
	for i := range x.routes {
		r := &x.routes[i]
		start(t, exec.Command(server, "--nosetuid", "--listen", r.host+":"+r.server, "--tlscert", pair,
			"--tlskey", pair, "--class", "aiosmtpd.handlers.Mailbox", mails(r)))
	}
	x.listens()
	x.each(func(t *testing.T, r *route) {
		r.swaks(t, a, each, "--tls")
		arrived, err := os.ReadDir(filepath.Join(mails(r), "new"))
		if err != nil || len(arrived) != each {
			t.Errorf("%d mails arrived, should be %d: %v", len(arrived), each, err)
		}
		// Without TLS it is the server that refuses.
		said, err := exec.Command(need(t, "swaks"), "--server", r.host, "--port", r.port, "--from",
			"a@client.example", "--to", "b@mx.example", "--timeout", "30").CombinedOutput()
		if err == nil || !strings.Contains(string(said), "<** 530 Must issue a STARTTLS command first") {
			t.Errorf("without TLS: %v:\n%s", err, said)
		}
	})
	if n := x.info("CumSslConns"); n != 0 {
		t.Errorf("the proxy has counted %d connections with TLS", n)
	}
	if n := x.ended(t, swaksCodes...); n != 2*(each+1) {
		t.Errorf("%d sessions were logged as ended by the client, should be %d:\n%s", n, 2*(each+1), x.said())
	}
}
