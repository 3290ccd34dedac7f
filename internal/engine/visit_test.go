package engine

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// endless is a kernel in which, while a test wants it, every read fills the buffer and every write takes
// all: there is always more to do.
type endless struct {
	plumber
	on      atomic.Bool
	inTurn  int64        // bytes read since the last wait
	longest atomic.Int64 // the highest of these
	atRead  atomic.Pointer[func()]
}

func (k *endless) Read(fd int, b []byte) (int, sys.Errno) {
	if !k.on.Load() {
		return k.Linux.Read(fd, b)
	}
	if f := k.atRead.Swap(nil); f != nil {
		(*f)()
	}
	k.inTurn += int64(len(b))
	k.longest.Store(max(k.longest.Load(), k.inTurn))
	return len(b), 0
}

func (k *endless) Write(fd int, b []byte, last bool) (int, sys.Errno) {
	if !k.on.Load() {
		return k.Linux.Write(fd, b, last)
	}
	return len(b), 0
}

func (k *endless) Splice(from, to, n int) (int, sys.Errno) {
	if !k.on.Load() {
		return k.Linux.Splice(from, to, n)
	}
	if !k.outlets[from] {
		k.inTurn += int64(n)
		k.longest.Store(max(k.longest.Load(), k.inTurn))
	}
	return n, 0
}

func (k *endless) EpollWait(set int, events []sys.Event, timeout int, park bool) (int, sys.Errno) {
	k.inTurn = 0
	return k.Linux.EpollWait(set, events, timeout, park)
}

// TestAStreamThatCouldGoOnForEverLeavesTheTurn: the work of one wakeup is bounded by bytes, and whoever of
// the control plane waits gets its turn before the wakeup is over.
func TestAStreamThatCouldGoOnForEverLeavesTheTurn(t *testing.T) {
	k := &endless{}
	p := start(t, settings{kernel: k}, serve(t, echo))
	c := p.dial()
	eventually(t, "the stream to be established", func() bool { return p.inState(stream.Established) == 1 })
	w := p.engine.workers[0]
	visited := make(chan int64, 1)
	visit := func() {
		// In the middle of the first pass: the visit is made at the end of it.
		go w.locked(func() { visited <- k.inTurn })
		eventually(t, "the visitor", func() bool { return w.visit.Load() != nil })
	}
	k.atRead.Store(&visit)
	k.on.Store(true)
	if _, err := io.WriteString(c, "x"); err != nil {
		t.Fatal(err)
	}
	visitedAfter := <-visited
	eventually(t, "many wakeups", func() bool { return p.engine.Workers()[0].Wakeups > 100 })
	k.on.Store(false)
	// The first pass may move the share of one direction and the last buffer, the last pass as much, or a
	// pipe.
	const pass = pumpBytes/2 + max(maxBufferSize, pipeBytes)
	if got := k.longest.Load(); got > bytesPerWakeup+pass {
		t.Errorf("%d bytes were read in one turn, should be %d at most", got, bytesPerWakeup+pass)
	}
	if visitedAfter == 0 || visitedAfter > pass {
		t.Errorf("the visit was made after %d bytes, should be within the first pass of up to %d",
			visitedAfter, pass)
	}
}

// TestDeadlinesCountFromTheWakeupNotFromTheStartOfTheTurn: when one stream of a turn takes long, the timers
// of the next do not pass early by that time.
func TestDeadlinesCountFromTheWakeupNotFromTheStartOfTheTurn(t *testing.T) {
	k := &slowClock{clock: newClock()}
	p := start(t, settings{kernel: k, change: func(_ *config.Config, p *config.Proxy) {
		p.Timeouts.Tunnel = time.Hour
	}}, serve(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }))
	clients := []io.Writer{p.dial(), p.dial()}
	eventually(t, "the streams to be established", func() bool {
		return p.inState(stream.Established) == len(clients)
	})
	k.inOneBatch(t, p.engine, func() {
		for _, c := range clients {
			if _, err := io.WriteString(c, "x"); err != nil {
				t.Fatal(err)
			}
		}
		k.slow.Store(true)
	})
	latest := func() (latest time.Duration) {
		for _, v := range p.views() {
			latest = max(latest, v.Request.InDeadline.Sub(k.Now()))
		}
		return latest
	}
	eventually(t, "both to be forwarded", func() bool {
		n := uint64(0)
		for _, v := range p.views() {
			n += v.Request.Written
		}
		return n == 2
	})
	if got := latest(); got != time.Hour {
		t.Errorf("the deadline of the stream that ran last is %v ahead, should be %v", got, time.Hour)
	}
}

// slowClock is a clock that a read moves on by a minute, once.
type slowClock struct {
	*clock
	slow atomic.Bool
}

func (k *slowClock) Read(fd int, b []byte) (int, sys.Errno) {
	if k.slow.CompareAndSwap(true, false) {
		k.now.Add(int64(time.Minute))
	}
	return k.Linux.Read(fd, b)
}

// TestVisitsWaitForAWorkerThatComesBackAndNotForAnother runs in virtual time.
func TestVisitsWaitForAWorkerThatComesBackAndNotForAnother(t *testing.T) {
	for _, tt := range []struct {
		name string
		turn time.Duration
		want bool
	}{
		{"a turn that ends in time", visitWait*visitWaits - time.Millisecond, true},
		{"a turn that does not", visitWait*visitWaits + time.Millisecond, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &worker{}
				w.mu.Lock()
				var turn sync.WaitGroup
				turn.Go(func() {
					time.Sleep(tt.turn)
					w.endTurn()
				})
				visited := false
				if got := w.locked(func() { visited = true }); got != tt.want || visited != tt.want {
					t.Errorf("the visit was made: %t, reported: %t, should be %t", visited, got, tt.want)
				}
				turn.Wait()
				if w.visit.Load() != nil {
					t.Error("the visit is still waiting")
				}
				if !w.locked(func() { visited = false }) || visited {
					t.Error("the worker cannot be visited after its turn")
				}
			})
		})
	}
}
