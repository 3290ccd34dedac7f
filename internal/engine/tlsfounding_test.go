package engine

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/stream"
)

// TestTLSFoundingCase: the client leaves, with an empty buffer, in the very wakeup in which the handshake
// with the first server ends badly, in every way. No second server is tried for it, and nothing is left.
func TestTLSFoundingCase(t *testing.T) {
	const connect = 2 * time.Second
	leave := map[string]func(c halfConn, raw *net.TCPConn){
		"ends its data": func(c halfConn, _ *net.TCPConn) { _ = c.CloseWrite() },
		"closes":        func(_ halfConn, raw *net.TCPConn) { raw.Close() },
		"resets":        func(_ halfConn, raw *net.TCPConn) { _ = raw.SetLinger(0); raw.Close() },
	}
	fail := map[string]func(c *net.TCPConn, k *clock){
		"is silent for too long": func(_ *net.TCPConn, k *clock) { k.now.Add(int64(connect)) },
		"speaks SMTP":            func(c *net.TCPConn, _ *clock) { _, _ = c.Write([]byte(banner)) },
		"closes":                 func(c *net.TCPConn, _ *clock) { _ = c.CloseWrite() },
		"resets":                 func(c *net.TCPConn, _ *clock) { _ = c.SetLinger(0); c.Close() },
	}
	server, client := testTLS(tls.VersionTLS13)
	for how, fails := range fail {
		for gone, leaves := range leave {
			for _, front := range []*tls.Config{nil, server} {
				name := "the server " + how + ", the client " + gone
				kernel := newClock()
				accepted := make(chan *net.TCPConn)
				var others atomic.Int64
				first := serve(t, func(c *net.TCPConn) {
					accepted <- c
					<-t.Context().Done()
				})
				second := serve(t, func(*net.TCPConn) { others.Add(1) })
				p := start(t, settings{kernel: kernel, tls: front, serverTLS: client,
					change: func(_ *config.Config, p *config.Proxy) {
						p.Redispatch = -1
						p.Timeouts = config.Timeouts{Connect: connect, Tunnel: time.Minute}
					}}, first, second)
				raw := p.dial()
				c := halfConn(raw)
				if front != nil {
					s := tls.Client(raw, client)
					if err := s.Handshake(); err != nil {
						t.Fatal(err)
					}
					c = s
				}
				v := <-accepted
				eventually(t, "the handshake with the server", func() bool {
					return p.inState(stream.Connecting) == 1 && p.views()[0].Ends[stream.Server].TLS != nil
				})
				kernel.inOneBatch(t, p.engine, func() {
					fails(v, kernel)
					leaves(c, raw)
				})
				r := p.ended(1)[0]
				if end := r.Ending.String(); end != "CC" {
					t.Errorf("%s: it ended with %s after %d retries", name, end, r.Retries)
				}
				for _, w := range p.engine.Workers() {
					if w.Late != 0 || w.Charged != 0 {
						t.Errorf("%s: %d late wakeups, %d without progress", name, w.Late, w.Charged)
					}
				}
				if counts := p.engine.TLS(); counts.Current != [2]int{} || p.engine.secured.Load() != 0 {
					t.Errorf("%s: connections with TLS are left: %+v", name, counts)
				}
				if n := others.Load(); n > 0 {
					t.Errorf("%s: a second server was tried", name)
				}
			}
		}
	}
}

// TestTLSHandshakeIsGivenUp: the record says whether for the time that it took or because the stream ended.
func TestTLSHandshakeIsGivenUp(t *testing.T) {
	server, client := testTLS(tls.VersionTLS13)
	const limit = time.Second
	for name, test := range map[string]struct {
		front, back *tls.Config
		end         func(p *proxy, k *clock, c *net.TCPConn)
		want        error
	}{
		"a client's, killed": {server, nil, func(p *proxy, _ *clock, _ *net.TCPConn) {
			p.engine.Kill(p.views()[0].ID, stream.KillAdmin)
		}, errHandshakeEnded},
		"a client's, for the time": {server, nil, func(p *proxy, k *clock, _ *net.TCPConn) {
			k.now.Add(int64(limit))
			k.Wake(p.engine.workers[0].waker)
		}, errHandshakeTime},
		"a server's, the client gone": {nil, client, func(_ *proxy, _ *clock, c *net.TCPConn) {
			c.Close()
		}, errHandshakeEnded},
		"a server's, for the time": {nil, client, func(p *proxy, k *clock, _ *net.TCPConn) {
			k.now.Add(int64(limit))
			k.Wake(p.engine.workers[0].waker)
		}, errHandshakeTime},
	} {
		kernel := newClock()
		p := start(t, settings{kernel: kernel, tls: test.front, serverTLS: test.back,
			change: func(_ *config.Config, p *config.Proxy) {
				p.Retries = 0
				p.Timeouts = config.Timeouts{Connect: limit, ClientHS: limit}
			}}, serve(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }))
		c := p.dial()
		eventually(t, "a handshake", func() bool {
			v := p.views()
			return len(v) == 1 && (v[0].Ends[stream.Client].TLS != nil || v[0].Ends[stream.Server].TLS != nil)
		})
		test.end(p, kernel, c)
		if r := p.ended(1)[0]; !errors.Is(r.Handshake, test.want) {
			t.Errorf("%s: it ended with %s, and the record says %v", name, r.Ending, r.Handshake)
		}
	}
}
