package engine

import (
	"net"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/stream"
)

// The tests in this file bring the faults about readiness onto real sockets. The same traffic runs through a
// healthy proxy and through a faulty one, so it is the fault that makes the difference.

// withFault switches a fault on for every stream and listener.
func withFault(f fault.Set) func(*config.Config, *config.Proxy) {
	return func(c *config.Config, _ *config.Proxy) {
		if f != 0 {
			c.Global.Whyspin.Faults = []config.Fault{{Fault: f, Probability: 1}}
		}
	}
}

// spoiled is a fault of one descriptor of a stream, and the traffic that brings it about.
type spoiled struct {
	fault fault.Set
	cause string // of the wakeups without progress
	serve func(c *net.TCPConn, over <-chan struct{})
	// traffic is what a client does. It returns when the fault has its effect, if there is one.
	traffic func(*testing.T, *proxy, *net.TCPConn)
	// over is true exactly when the traffic ends a healthy stream.
	over bool
}

var spoiledDescriptors = []spoiled{
	{fault: fault.WriteInterestKept, cause: "server event", serve: echoes, traffic: idle},
	{fault: fault.ReadInterestKept, cause: "client event", serve: deaf, traffic: overfill},
	{fault: fault.EOFForgotten, cause: "client event", serve: deaf, traffic: halfClose},
	{fault: fault.ErrorIgnored, cause: "client event", serve: deaf, traffic: resetAfterEnd, over: true},
	{fault: fault.InterestRewritten, cause: "client event", serve: echoes, traffic: idle},
}

// deaf is a server that reads nothing and says nothing as long as the test lasts.
func deaf(_ *net.TCPConn, over <-chan struct{}) { <-over }

// echoes is a server that sends back what it gets.
func echoes(c *net.TCPConn, _ <-chan struct{}) { echo(c) }

// start runs a proxy with the fault, or without it, in front of the server.
func (s *spoiled) start(t *testing.T, f fault.Set) *proxy {
	t.Helper()
	over := make(chan struct{})
	p := start(t, settings{mayBreak: f != 0, change: withFault(f)},
		serve(t, func(c *net.TCPConn) { s.serve(c, over) }))
	t.Cleanup(func() { close(over) })
	return p
}

// idle is a client that is connected to the server and says nothing.
func idle(t *testing.T, p *proxy, _ *net.TCPConn) {
	t.Helper()
	eventually(t, "the server to be reached", func() bool { return p.inState(stream.Established) == 1 })
}

// overfill is a client that sends more than the server, which reads nothing, and the proxy's buffer hold.
func overfill(t *testing.T, p *proxy, c *net.TCPConn) {
	t.Helper()
	go writeAll(c)
	eventually(t, "more to be there to read while the server takes no more", func() bool {
		v := p.views()
		return len(v) == 1 && v[0].Request.Buffered > 0 && v[0].Ends[stream.Client].Ready[0] == 'R' &&
			v[0].Ends[stream.Server].Ready[1] != 'W'
	})
}

// halfClose is a client that sends its end and waits for the server's.
func halfClose(t *testing.T, p *proxy, c *net.TCPConn) {
	t.Helper()
	idle(t, p, c)
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end to be read", func() bool { return p.views()[0].Ends[stream.Client].Reads > 0 })
}

// resetAfterEnd is a client that sends its end and later a reset.
func resetAfterEnd(t *testing.T, p *proxy, c *net.TCPConn) {
	t.Helper()
	halfClose(t, p, c)
	if err := c.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestAFaultyDescriptorSpinsAndIsKilled(t *testing.T) {
	for _, tt := range spoiledDescriptors {
		t.Run(tt.fault.String(), func(t *testing.T) {
			p := tt.start(t, tt.fault)
			tt.traffic(t, p, p.dial())
			s := p.nextSuspicion()
			v := p.views()
			if len(v) != 1 || s.Stream != v[0].ID || s.Cause != tt.cause {
				t.Errorf("suspicion of %s by %q, should be of the one stream by %q", s.Subject(), s.Cause,
					tt.cause)
			}
			edges := v[0].Ends[stream.Client].EdgeTriggered && v[0].Ends[stream.Server].EdgeTriggered
			if edges != (tt.fault == fault.InterestRewritten) {
				t.Errorf("both sides are said to be edge-triggered: %t", edges)
			}
			if p.engine.Kill(s.Stream, stream.KillSpin) != KillEnded {
				t.Errorf("%s cannot be killed", s.Subject())
			}
			p.ended(1)
			p.sleeps("after the remedy")
		})
	}
}

func TestTheTrafficOfTheFaultsIsHarmlessWithoutThem(t *testing.T) {
	for _, tt := range spoiledDescriptors {
		t.Run(tt.fault.String(), func(t *testing.T) {
			p := tt.start(t, 0)
			tt.traffic(t, p, p.dial())
			if tt.over {
				p.ended(1)
			}
			p.sleeps("without the fault")
			if w := p.engine.Workers()[0]; w.Charged != 0 {
				t.Errorf("%d of %d wakeups were charged", w.Charged, w.Wakeups)
			}
		})
	}
}

// sleeps waits until no worker waits more than ten times in a tenth of a second, nor is charged with
// anything.
func (p *proxy) sleeps(when string) {
	p.t.Helper()
	count := func() (waits, charged uint64) {
		for _, w := range p.engine.Workers() {
			waits, charged = waits+w.Waits.Total(), charged+w.Charged
		}
		return waits, charged
	}
	since := time.Now()
	waits, charged := count()
	eventually(p.t, "the workers to sleep "+when, func() bool {
		if time.Since(since) < 100*time.Millisecond {
			return false
		}
		waitsBefore, chargedBefore := waits, charged
		waits, charged = count()
		since = time.Now()
		return waits-waitsBefore <= uint64(10*len(p.engine.workers)) && charged == chargedBefore
	})
}
