package engine

import (
	"crypto/tls"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/stream"
)

// The bytes that a peer sends to the proxy are cut, from the first of its handshake to the last of two
// records and the word that nothing more comes. What package tlsconn makes of each position its own tests
// say; here they say how the stream ends, and that it does.

// cutWay is how a connection is cut.
type cutWay int

const (
	cutFIN cutWay = iota
	cutReset
	cutSilence // nothing more comes until the proxy gives up
	cutWays
)

// relay passes bytes between a and the proxy's connection b, of those from a the first n, and then cuts b. It
// returns how many it passed.
func relay(a, b net.Conn, n int64, how cutWay) int64 {
	back := make(chan struct{})
	go func() {
		defer close(back)
		_, _ = io.Copy(a, b)
		a.Close()
	}()
	passed, _ := io.CopyN(b, a, n)
	go func() { _, _ = io.Copy(io.Discard, a) }() // the peer sends on, and does not know
	if passed == n {
		switch how {
		case cutFIN:
			b.Close()
		case cutReset:
			_ = b.(*net.TCPConn).SetLinger(0)
			b.Close()
		case cutSilence:
		}
	}
	<-back
	b.Close()
	return passed
}

// whole stands for a connection that is not cut.
const whole = 1 << 30

// cutClient talks to the proxy as a client whose bytes are cut, and returns how many there were.
func cutClient(p *proxy, config *tls.Config, n int64, how cutWay) int64 {
	here, there := net.Pipe()
	defer here.Close()
	go func() {
		c := tls.Client(here, config)
		for _, record := range []string{"the first", "and the second"} {
			if _, err := io.WriteString(c, record); err != nil {
				return
			}
			// It comes back when the server is reached.
			if _, err := io.ReadFull(c, make([]byte, len(record))); err != nil {
				return
			}
		}
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		here.Close()
	}()
	b, err := net.Dial("tcp", p.address)
	if err != nil {
		p.t.Error(err)
		return 0
	}
	return relay(there, b, n, how)
}

func TestTLSClientIsCutAnywhere(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			server, client := testTLS(version)
			client.CurvePreferences = []tls.CurveID{tls.X25519}
			p := start(t, settings{tls: server, change: impatient}, serve(t, echo))
			all := cutClient(p, client, whole, cutFIN)
			if ends := p.ended(1); ends[0].Ending.String() != "--" || all < 300 {
				t.Fatalf("%d bytes uncut: it ended with %s", all, ends[0].Ending)
			}
			n := cutEach(all, func(n int64, how cutWay) { cutClient(p, client, n, how) })
			p.ended(1 + n)
			allowed := []string{
				"--",       // the end, which may come between two records
				"CR", "cR", // during the handshake
				"CC",             // before the server was reached
				"CD", "cD", "CL", // later
			}
			p.endedOnlyWith(allowed, "--", "CR", "cR", "CD")
		})
	}
}

func TestTLSServerIsCutAnywhere(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			server, client := testTLS(version)
			client.CurvePreferences = []tls.CurveID{tls.X25519}
			var mu sync.Mutex
			type cut struct {
				n   int64
				how cutWay
			}
			todo := []cut{{whole, cutFIN}}
			passed := make(chan int64, 1)
			address := serve(t, func(b *net.TCPConn) {
				mu.Lock()
				next := todo[0]
				todo = todo[1:]
				mu.Unlock()
				here, there := net.Pipe()
				go func() {
					s := tls.Server(here, server)
					_, _ = io.WriteString(s, "the first")
					_, _ = io.WriteString(s, "and the second")
					_ = s.CloseWrite()
					_, _ = io.Copy(io.Discard, s)
					here.Close()
				}()
				n := relay(there, b, next.n, next.how)
				if next.n == whole {
					passed <- n
				}
			})
			p := start(t, settings{serverTLS: client, change: func(c *config.Config, front *config.Proxy) {
				impatient(c, front)
				front.Timeouts.Client, front.Timeouts.Tunnel, front.Retries = patience, 0, 0
			}}, address)
			visit := func() {
				c, err := net.Dial("tcp", p.address)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				_, _ = io.Copy(io.Discard, c)
			}
			visit()
			all := <-passed
			if ends := p.ended(1); ends[0].Ending.String() != "--" || all < 500 {
				t.Fatalf("%d bytes uncut: it ended with %s", all, ends[0].Ending)
			}
			n := cutEach(all, func(n int64, how cutWay) {
				mu.Lock()
				todo = append(todo, cut{n, how})
				mu.Unlock()
				visit()
			})
			p.ended(1 + n)
			p.endedOnlyWith([]string{"--", "SC", "sC", "SD", "sD", "SL", "sL"}, "--", "SC", "sC", "SD")
		})
	}
}

// impatient makes silence end soon.
func impatient(_ *config.Config, front *config.Proxy) {
	const soon = 300 * time.Millisecond
	t := &front.Timeouts
	t.ClientHS, t.Connect, t.Client, t.Server, t.Tunnel = soon, soon, soon, soon, soon
}

// cutEach calls f for positions among all bytes, and returns how many calls that were: every one of the last,
// where the records are, and every few of the handshake.
func cutEach(all int64, f func(n int64, how cutWay)) int {
	const atOnce, stride, records = 32, 5, 130
	var running sync.WaitGroup
	places := make(chan struct{}, atOnce)
	calls := 0
	for n := int64(0); n < all; n++ {
		if n < all-records && n%stride != 0 {
			continue
		}
		how := cutWay(calls % int(cutWays))
		calls++
		places <- struct{}{}
		running.Go(func() {
			f(n, how)
			<-places
		})
	}
	running.Wait()
	return calls
}

// endedOnlyWith checks the endings in the log: only those allowed, and each of those that must be there. No
// stream was woken in vain, and no TLS connection is left.
func (p *proxy) endedOnlyWith(allowed []string, must ...string) {
	p.t.Helper()
	counts := p.endings()
	for ending, n := range counts {
		if !slices.Contains(allowed, ending) {
			p.t.Errorf("%d ended with %s", n, ending)
		}
	}
	for _, ending := range must {
		if counts[ending] == 0 {
			p.t.Errorf("none ended with %s: %v", ending, counts)
		}
	}
	for _, v := range p.engine.Workers() {
		if v.Charged > 0 || v.Late > 0 || v.Unnamed > 0 {
			p.t.Errorf("of %d wakeups %d were in vain, %d late, %d unnamed", v.Wakeups, v.Charged, v.Late,
				v.Unnamed)
		}
	}
	counted := p.engine.TLS()
	if counted.Current != [2]int{} || counted.Lent != 0 {
		p.t.Errorf("no stream is left, but TLS connections are: %+v", counted)
	}
	if counted.Cumulated[stream.Client]+counted.Cumulated[stream.Server] == 0 {
		p.t.Error("there was no TLS")
	}
}
