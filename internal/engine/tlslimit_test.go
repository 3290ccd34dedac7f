package engine

import (
	"crypto/tls"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/sys"
)

// TestMaxSSLRate: of many clients at once so many are accepted in a second; the others wait in the backlog.
func TestMaxSSLRate(t *testing.T) {
	server, client := testTLS(tls.VersionTLS13)
	kernel := newClock()
	const rate, clients = 5, 12
	// The first second begins when the clock's does.
	kernel.now.Store((kernel.now.Load()/int64(time.Second) + 1) * int64(time.Second))
	p := start(t, settings{kernel: kernel, tls: server, change: func(c *config.Config, _ *config.Proxy) {
		c.Global.TLS.MaxRate = rate
	}}, serve(t, greet))
	greeted := make(chan error, clients)
	for range clients {
		c := p.dialTLS(client)
		go func() {
			_, err := io.ReadFull(c, make([]byte, len(banner)))
			greeted <- err
		}()
	}
	for n := 0; n < clients; n += rate {
		for range min(rate, clients-n) {
			if err := <-greeted; err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the listener to rest", func() bool {
			return p.engine.Streams() == min(n+rate, clients)
		})
		// Two seconds later nothing is left of the rate.
		kernel.now.Add(int64(2 * time.Second))
		p.engine.kernel.Wake(p.engine.workers[0].waker)
	}
	if counts := p.engine.TLS(); counts.Cumulated[0] != clients {
		t.Errorf("%d clients were accepted, should be %d", counts.Cumulated[0], clients)
	}
}

// TestMaxSSLConn: connections with TLS of both sides count, and one that ends lets the next in.
func TestMaxSSLConn(t *testing.T) {
	server, client := testTLS(tls.VersionTLS13)
	address := serveTLS(t, server, func(c halfConn) {
		_, _ = io.WriteString(c, banner)
		_, _ = io.Copy(io.Discard, c)
	})
	const limit = 4 // two streams with TLS on both sides
	p := start(t, settings{tls: server, serverTLS: client, change: func(c *config.Config, p *config.Proxy) {
		c.Global.TLS.MaxConn = limit
	}}, address)
	for round := range 3 {
		var open []halfConn
		for range limit / 2 {
			c := p.dialTLS(client)
			if _, err := io.ReadFull(c, make([]byte, len(banner))); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			open = append(open, c)
		}
		if n := p.engine.secured.Load(); n != limit {
			t.Errorf("round %d: %d connections with TLS are counted, should be %d", round, n, limit)
		}
		late := p.dialTLS(client)
		greeted := make(chan error, 1)
		go func() {
			_, err := io.ReadFull(late, make([]byte, len(banner)))
			greeted <- err
		}()
		eventually(t, "the listener to rest", func() bool { return p.engine.paused.Load() == 1 })
		for _, c := range open {
			c.Close()
		}
		if err := <-greeted; err != nil {
			t.Errorf("round %d: the one that waited: %v", round, err)
		}
		late.Close()
		eventually(t, "all to end", func() bool { return p.engine.Streams() == 0 })
	}
	if n := p.engine.secured.Load(); n != 0 {
		t.Errorf("%d connections with TLS are counted, and none is there", n)
	}
}

// TestMaxSSLConnIsNeverExceeded: connections to servers that are refused leave no trace, so no listener rests
// for them.
func TestMaxSSLConnIsNeverExceeded(t *testing.T) {
	const limit, attempts = 2, 1 << 20
	e := &Engine{}
	e.maxSecured = limit
	for range limit {
		if !e.enterServerTLS() {
			t.Fatal("one within the limit is refused")
		}
	}
	var trying sync.WaitGroup
	var tried atomic.Int64
	trying.Go(func() {
		for range attempts {
			if e.enterServerTLS() {
				t.Error("one beyond the limit is admitted")
				break
			}
			tried.Add(1)
		}
		tried.Store(attempts)
	})
	for tried.Load() < attempts {
		if n := e.secured.Load(); n != limit {
			t.Errorf("%d connections are counted, and there are %d", n, limit)
			break
		}
	}
	trying.Wait()
}

// acknowledging counts the acknowledgements that were asked for.
type acknowledging struct {
	sys.Linux
	asked atomic.Int64
}

func (k *acknowledging) Acknowledge(fd int) {
	k.asked.Add(1)
	k.Linux.Acknowledge(fd)
}

// TestTheClientsLastMessageIsAcknowledged: a client with Nagle's algorithm keeps its first bytes back until
// then, 40 ms without it.
func TestTheClientsLastMessageIsAcknowledged(t *testing.T) {
	server, client := testTLS(tls.VersionTLS13)
	kernel := &acknowledging{}
	p := start(t, settings{kernel: kernel, tls: server}, serve(t, greet))
	c := p.dialTLS(client)
	if _, err := io.ReadFull(c, make([]byte, len(banner))); err != nil {
		t.Fatal(err)
	}
	if n := kernel.asked.Load(); n != 1 {
		t.Errorf("%d acknowledgements were asked for, should be 1", n)
	}
	c.Close()
	p.ended(1)
}
