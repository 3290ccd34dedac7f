package engine

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/stream"
)

// pausedAt is how many workers have paused a listener.
func pausedAt(p *proxy, fd int) (n int) {
	p.engine.Descriptors(fd, fd, func(v *DescriptorView) bool {
		if v.Paused {
			n++
		}
		return true
	})
	return n
}

func greeted(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if _, err := io.ReadFull(c, make([]byte, len(banner))); err != nil {
		t.Fatal(err)
	}
}

func TestPausedListenerComesBackWhenItsRestIsOver(t *testing.T) {
	const workers = 2
	k := newClock()
	p := start(t, settings{kernel: k, workers: workers}, serve(t, greet))
	f := &founding{p, k}
	if p.engine.PauseListener(1<<20, time.Second) {
		t.Error("there is a listener that there is not")
	}
	fd := p.engine.listeners[0].fd
	for range 2 { // what is paused already stays so
		if !p.engine.PauseListener(fd, 10*time.Second) {
			t.Fatal("the listener is not known")
		}
		eventually(t, "every worker to pause it", func() bool { return pausedAt(p, fd) == workers })
	}
	c := p.dial()
	f.move(9 * time.Second)
	for _, w := range p.engine.Workers() {
		if w.Accepted > 0 {
			t.Error("a paused listener accepts")
		}
	}
	f.move(2 * time.Second)
	greeted(t, c)
	eventually(t, "every worker to listen again", func() bool { return pausedAt(p, fd) == 0 })
}

// TestPausedListenerComesBackWhenTheLimitIsLeft, however long that takes.
func TestPausedListenerComesBackWhenTheLimitIsLeft(t *testing.T) {
	k := newClock()
	p := start(t, settings{kernel: k, maxConn: 1}, serve(t, greet))
	f := &founding{p, k}
	first := p.dial()
	greeted(t, first)
	fd := p.engine.listeners[0].fd
	second := p.dial()
	eventually(t, "the worker to pause it", func() bool { return pausedAt(p, fd) == 1 })
	if !p.engine.PauseListener(fd, time.Second) {
		t.Fatal("the listener is not known")
	}
	before := p.engine.Workers()[0].Waits
	f.move(30 * time.Second) // no timeout passes
	eventually(t, "the worker to look at it again", func() bool {
		now := p.engine.Workers()[0].Waits
		return now.Total() > before.Total()
	})
	if n := pausedAt(p, fd); n != 1 {
		t.Error("it is back though the limit is still reached")
	}
	first.Close()
	greeted(t, second)
}

// TestSlowedRetriesPause ends a retry storm without ending its stream.
func TestSlowedRetriesPause(t *testing.T) {
	p := start(t, settings{mayBreak: true, change: func(c *config.Config, p *config.Proxy) {
		p.Timeouts.Connect = time.Minute
		c.Global.Whyspin.Faults = []config.Fault{{Fault: fault.RetriesAtOnce, Probability: 1}}
	}}, refusing(t))
	p.dial()
	suspicion := <-p.engine.Suspicions()
	p.engine.SlowRetries("0x123") // there is none
	p.engine.SlowRetries(suspicion.Stream)
	eventually(t, "the stream to pause", func() bool { return p.inState(stream.TurnAround) == 1 })
}
