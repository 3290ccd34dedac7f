package engine

import (
	"net"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// stuckFor is from when on a worker counts as stuck in these tests: longer than a loaded machine makes a
// healthy turn last most of the time, and no more, because a healthy worker may come back late.
const stuckFor = 200 * time.Millisecond

// stuckAt waits until a worker is stuck and returns where.
func (p *proxy) stuckAt() Stuck {
	p.t.Helper()
	var s []Stuck
	eventually(p.t, "a worker to be stuck", func() bool {
		s = p.engine.StuckWorkers(stuckFor)
		return len(s) > 0
	})
	return s[0]
}

// endsStuck ends the stream that a worker is stuck at and requires that the worker comes back.
func (p *proxy) endsStuck(s Stuck) {
	p.t.Helper()
	if s.Running == "" || p.engine.Kill(s.Running, stream.KillSpin) != KillEnded {
		p.t.Errorf("stream %q, at which worker %d is stuck, cannot be ended", s.Running, s.Worker)
	}
	p.sleeps("after the remedy")
	if left := p.engine.StuckWorkers(stuckFor); len(left) > 0 {
		p.t.Errorf("worker %d is still stuck", left[0].Worker)
	}
}

func TestAHandlerThatLoopsIsStuck(t *testing.T) {
	healthyAndFaulty(t, fault.HandlerLoops, func(t *testing.T, f fault.Set) {
		s := spoiled{serve: deaf}
		p := s.start(t, f)
		c := p.dial()
		if f == 0 {
			overfill(t, p, c)
			p.sleeps("without a fault")
			return
		}
		go writeAll(c)
		stuck := p.stuckAt()
		p.endsStuck(stuck)
		p.ended(1)
	})
}

// noRoom is a kernel whose sockets take no bytes.
type noRoom struct{ *clock }

func (noRoom) Write(int, []byte, bool) (int, sys.Errno) { return -1, sys.EAGAIN }

// TestEveryOrderIsSeenByAHandlerThatLoops: two orders come in one turn, in which the handler of the first
// stream begins to loop.
func TestEveryOrderIsSeenByAHandlerThatLoops(t *testing.T) {
	k := noRoom{newClock()}
	p := faulty(t, fault.HandlerLoops, settings{kernel: k}, serve(t, echo))
	c := p.dial()
	idle(t, p, c)
	v := p.views()[0]
	_, id := p.engine.locate(v.ID)
	other := idString(id ^ 1<<32) // at the same worker, and not there
	k.inOneBatch(t, p.engine, func() {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the byte to come", func() bool { return k.Unread(v.Ends[stream.Client].FD) == 1 })
		p.engine.OrderKill(v.ID, stream.KillAdmin)
		p.engine.OrderKill(other, stream.KillAdmin)
	})
	p.ended(1)
}

// TestAHandlerThatLoopsDoesNotOutliveTheEngine: when the engine is told to stop, its worker returns.
func TestAHandlerThatLoopsDoesNotOutliveTheEngine(t *testing.T) {
	s := spoiled{serve: deaf}
	p := s.start(t, fault.HandlerLoops)
	go writeAll(p.dial())
	p.stuckAt()
	p.engine.stopped.Store(true)
	eventually(t, "the worker to return", func() bool { return len(p.engine.StuckWorkers(1)) == 0 })
}

// writeAll writes until the connection is closed.
func writeAll(c *net.TCPConn) {
	piece := make([]byte, 1<<20)
	for err := error(nil); err == nil; {
		_, err = c.Write(piece)
	}
}

// TestAWorkerThatYieldsIsStuck: the first stream has the server's one slot, the second waits for it with the
// lock, and the third cannot have the lock.
func TestAWorkerThatYieldsIsStuck(t *testing.T) {
	healthyAndFaulty(t, fault.LockYields, func(t *testing.T, f fault.Set) {
		p := start(t, settings{workers: 2, mayBreak: f != 0, change: func(c *config.Config, p *config.Proxy) {
			withFault(f)(c, p)
			p.Timeouts.Queue = time.Hour
			p.Servers[0].MaxConn = 1
		}}, serve(t, echo))
		first := p.dial()
		idle(t, p, first)
		p.dial()
		eventually(t, "the second stream to wait", func() bool { return p.inState(stream.Queued) == 1 })
		p.dial()
		if f == 0 {
			eventually(t, "the third stream to wait", func() bool { return p.inState(stream.Queued) == 2 })
			p.sleeps("without a fault")
			return
		}
		p.endsStuck(p.stuckAt())
		first.Close()
		eventually(t, "the second stream to have the slot",
			func() bool { return p.inState(stream.Established) == 1 && p.engine.Streams() == 1 })
	})
}
