package engine

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// faulty runs an engine with a fault, or without for the zero Set.
func faulty(t *testing.T, f fault.Set, s settings, servers ...string) *proxy {
	t.Helper()
	change := s.change
	s.mayBreak = f != 0
	s.change = func(c *config.Config, p *config.Proxy) {
		if change != nil {
			change(c, p)
		}
		withFault(f)(c, p)
	}
	return start(t, s, servers...)
}

// spins requires that the one stream spins: the engine suspects it, woken by the cause, and waits with a
// timeout of zero over and over. It returns the stream.
func (p *proxy) spins(cause string) StreamView {
	p.t.Helper()
	v := p.suspected(cause)
	before := p.zeroWaits()
	eventually(p.t, "a thousand more waits with timeout zero",
		func() bool { return p.zeroWaits() > before+1000 })
	return v
}

// suspected requires that the engine suspects the one stream, woken by the cause, and returns it.
func (p *proxy) suspected(cause string) StreamView {
	p.t.Helper()
	var s Suspicion
	select {
	case s = <-p.engine.Suspicions():
	case <-time.After(patience):
		p.t.Fatalf("nothing is suspected; the streams: %+v", p.views())
	}
	if s.Cause != cause || s.Wakeups < 20 {
		p.t.Errorf("suspected after %d wakeups by %q, should be %q", s.Wakeups, s.Cause, cause)
	}
	p.t.Logf("suspected %v after the first of %d wakeups without progress", s.At.Sub(s.Since), s.Wakeups)
	eventually(p.t, "the state to list the suspect stream and no other", func() bool {
		listed := p.engine.State().Streams
		return len(listed) == 1 && listed[0].ID == s.Stream && listed[0].NoProgress.Or(0) > 0
	})
	views := p.views()
	if len(views) != 1 || views[0].ID != s.Stream {
		p.t.Fatalf("the suspect stream %s is not there", s.Stream)
	}
	return views[0]
}

// heals requires that the spin ends with its stream.
func (p *proxy) heals(v *StreamView) {
	p.t.Helper()
	if p.engine.Kill(v.ID, stream.KillSpin) != KillEnded {
		p.t.Fatalf("stream %s cannot be killed", v.ID)
	}
	if got := p.ended(1)[0].Ending.By; got != 'I' {
		p.t.Errorf("the stream that was killed ended with %c", got)
	}
	p.sleeps("after the kill")
}

// unblamed requires that nothing was charged to any stream, that the worker sleeps, and that it is not for
// want of time: the one stream is older than that.
func (p *proxy) unblamed(age time.Duration) {
	p.t.Helper()
	eventually(p.t, "the stream to grow old", func() bool {
		views := p.views()
		return len(views) == 1 && views[0].Age() > age
	})
	p.sleeps("in spite of the stream")
	w := p.engine.Workers()[0]
	if w.Charged != 0 || w.Late != 0 || len(p.engine.Suspicions()) != 0 {
		p.t.Errorf("%d wakeups without progress, %d late, %d suspicions, should be none", w.Charged,
			w.Late, len(p.engine.Suspicions()))
	}
}

func (p *proxy) zeroWaits() uint64 {
	n := uint64(0)
	for _, count := range p.engine.Workers()[0].Waits[0] {
		n += count
	}
	return n
}

// roundTrip sends bytes through an echoing server.
func roundTrip(t *testing.T, c net.Conn, n int) {
	t.Helper()
	sent := bytes.Repeat([]byte("x"), n)
	go func() { _, _ = c.Write(sent) }()
	got := make([]byte, n)
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes did not come back: %v", n, err)
	}
}

// withAndWithout runs a test with a fault and without.
func withAndWithout(t *testing.T, f fault.Set, test func(t *testing.T, f fault.Set)) {
	t.Run("healthy", func(t *testing.T) { test(t, 0) })
	t.Run(f.String(), func(t *testing.T) { test(t, f) })
}

func TestTimerNotDisarmed(t *testing.T) {
	const connect = 50 * time.Millisecond
	withAndWithout(t, fault.TimerNotDisarmed, func(t *testing.T, f fault.Set) {
		p := faulty(t, f, settings{change: func(_ *config.Config, p *config.Proxy) {
			p.Timeouts.Connect = connect
		}}, serve(t, echo))
		c := p.dial()
		roundTrip(t, c, 1)
		if f == 0 {
			p.unblamed(2 * connect)
			return
		}
		v := p.spins("timer connect")
		if v.Timer != stream.TimerConnect || !v.Deadline.Passed(v.At) || v.Orphaned {
			t.Errorf("the nearest timer is %v at %v, %v is now; orphaned is %t", v.Timer, v.Deadline, v.At,
				v.Orphaned)
		}
		roundTrip(t, c, 1) // the stream itself still works
		p.heals(&v)
	})
}

func TestDeadlineTruncated(t *testing.T) {
	withAndWithout(t, fault.DeadlineTruncated, func(t *testing.T, f fault.Set) {
		p := faulty(t, f, settings{}, serve(t, echo)) // with "timeout tunnel 1h"
		c := p.dial()
		roundTrip(t, c, 1)
		if f == 0 {
			p.unblamed(10 * time.Millisecond)
			return
		}
		v := p.spins("timer tunnel")
		if v.Timer != stream.TimerTunnel || v.Deadline.Sub(v.At) < 30*time.Minute {
			t.Errorf("the nearest timer is %v at %v, %v is now", v.Timer, v.Deadline, v.At)
		}
		if late := p.engine.Workers()[0].Late; late != 0 {
			t.Errorf("%d wakeups left a deadline in the past, should be none", late)
		}
		roundTrip(t, c, 1)
		p.heals(&v)
	})
}

func TestWakesItself(t *testing.T) {
	withAndWithout(t, fault.WakesItself, func(t *testing.T, f fault.Set) {
		p := faulty(t, f, settings{change: func(_ *config.Config, p *config.Proxy) {
			p.Timeouts.Connect = time.Hour
		}}, silent(t))
		c := p.dial()
		if _, err := io.WriteString(c, "QUIT\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if f == 0 {
			eventually(t, "the end to be seen", func() bool {
				views := p.views()
				return len(views) == 1 && views[0].Request.Out == stream.Pending
			})
			p.unblamed(0)
			return
		}
		v := p.spins("more work")
		if v.Request.Out != stream.Pending || v.Request.Buffered != len("QUIT\r\n") {
			t.Errorf("the request is %+v, its end should be pending behind 6 bytes", v.Request)
		}
		if v.Deadline.Passed(v.At) {
			t.Errorf("the %v timer has passed", v.Timer)
		}
		for _, m := range v.History {
			if !m.NoProgress && m.Cause == "more work" {
				t.Errorf("what led to the spin is told as woken by itself: %+v", m)
			}
		}
		reads := p.engine.Workers()[0].Read.Calls + p.engine.Workers()[0].Write.Calls
		before := p.zeroWaits()
		eventually(t, "a hundred more turns", func() bool { return p.zeroWaits() > before+100 })
		if now := p.engine.Workers()[0].Read.Calls + p.engine.Workers()[0].Write.Calls; now != reads {
			t.Errorf("%d calls on descriptors in the spin, should be none", now-reads)
		}
		p.heals(&v)
	})
}

func TestWritesToFull(t *testing.T) {
	withAndWithout(t, fault.WritesToFull, func(t *testing.T, f fault.Set) {
		read := make(chan struct{})
		p := faulty(t, f, settings{}, serve(t, func(c *net.TCPConn) {
			<-read
			_, _ = io.Copy(io.Discard, c)
		}))
		reads := sync.OnceFunc(func() { close(read) })
		t.Cleanup(reads)
		c := p.dial()
		const size = 64 << 20
		sent := make(chan error, 1)
		go func() {
			_, err := io.CopyN(c, zeros{}, size)
			c.Close()
			sent <- err
		}()
		var v StreamView
		if f == 0 {
			eventually(t, "the buffer to be full", func() bool {
				views := p.views()
				return len(views) == 1 && views[0].Request.Full &&
					views[0].Ends[stream.Client].Ready[0] == 'R'
			})
			p.unblamed(0)
		} else {
			v = p.spins("more work")
			if !v.Request.Full || v.Request.Out != stream.Open || v.Deadline.Passed(v.At) {
				t.Errorf("the request is %+v, should be full; the %v timer is at %v", v.Request, v.Timer,
					v.Deadline)
			}
		}
		reads()
		if err := <-sent; err != nil {
			t.Error(err)
		}
		if got := p.ended(1)[0].FromClient; got != size {
			t.Errorf("%d bytes came through, should be %d", got, size)
		}
		p.sleeps("when the server reads")
	})
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestReadyAfterEAGAIN(t *testing.T) {
	withAndWithout(t, fault.ReadyAfterEAGAIN, func(t *testing.T, f fault.Set) {
		p := faulty(t, f, settings{}, serve(t, echo))
		c := p.dial()
		roundTrip(t, c, 1)
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) {
			err = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil)
		}); err != nil {
			t.Fatal(err)
		}
		roundTrip(t, c, 1)
		if f == 0 {
			p.unblamed(0)
			return
		}
		v := p.spins("more work")
		before, turns := p.engine.Workers()[0].Read, p.zeroWaits()
		eventually(t, "a hundred more turns", func() bool { return p.zeroWaits() > turns+100 })
		after := p.engine.Workers()[0].Read
		if again := after.Again - before.Again; again < 100 || after.Calls-before.Calls != again {
			t.Errorf("%d of %d reads failed with EAGAIN, should be all of many", again,
				after.Calls-before.Calls)
		}
		p.heals(&v)
	})
}

// TestEdgeForgotten has more arrive at once than one read takes.
func TestEdgeForgotten(t *testing.T) {
	const size = 60_000
	withAndWithout(t, fault.EdgeForgotten, func(t *testing.T, f fault.Set) {
		k := newClock()
		p := faulty(t, f, settings{kernel: k}, serve(t, echo))
		c := p.dial()
		roundTrip(t, c, 1)
		end := p.views()[0].Ends[stream.Client].FD
		k.inOneBatch(t, p.engine, func() {
			if _, err := c.Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the bytes to arrive", func() bool { return (sys.Linux{}).Unread(end) == size })
		})
		if f == 0 {
			if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			p.unblamed(-1)
			k.now.Add(int64(restsFor))
			if listed := p.engine.State().Streams; len(listed) != 0 {
				t.Errorf("%+v is listed, should be nothing", listed)
			}
			return
		}
		part := p.config.Global.BufferSize
		if _, err := io.ReadFull(c, make([]byte, part)); err != nil {
			t.Fatal(err)
		}
		p.sleeps("though bytes are left")
		if n := (sys.Linux{}).Unread(end); n != size-part {
			t.Errorf("%d bytes are left unread, should be %d", n, size-part)
		}
		k.now.Add(int64(restsFor))
		listed := p.engine.State().Streams
		if len(listed) != 1 {
			t.Fatalf("%d streams are listed, should be the one that bytes wait for", len(listed))
		}
		if side, _ := listed[0].ClientSide.Get(); int(side.Unread) != size-part {
			t.Errorf("%d bytes are said to be left unread, should be %d", side.Unread, size-part)
		}
		v := p.views()[0]
		if v.Due || v.Account.Charged != 0 {
			t.Errorf("a stall costs nothing: due is %t, %d wakeups are charged", v.Due, v.Account.Charged)
		}
		p.heals(&v)
	})
}

// connects counts connection attempts.
type connects struct {
	*clock
	n atomic.Int64
}

func (k *connects) Connect(to sys.Address, keepAlive bool) (int, sys.Errno) {
	k.n.Add(1)
	return k.clock.Connect(to, keepAlive)
}

// TestRetriesAtOnce has a clock that stands still, so the pause before the first retry does not end.
func TestRetriesAtOnce(t *testing.T) {
	withAndWithout(t, fault.RetriesAtOnce, func(t *testing.T, f fault.Set) {
		k := &connects{clock: newClock()}
		p := faulty(t, f, settings{kernel: k}, refusing(t))
		p.dial()
		if f == 0 {
			eventually(t, "the pause before a retry",
				func() bool { return p.inState(stream.TurnAround) == 1 })
			p.unblamed(-1)
			if n := k.n.Load(); n != 1 {
				t.Errorf("%d attempts, should be one", n)
			}
			return
		}
		v := p.suspected("server event")
		if n := k.n.Load(); n < 1000 || v.Retries != 0 {
			t.Errorf("%d attempts, of which %d are counted as retries", n, v.Retries)
		}
		p.heals(&v)
	})
}

// readsPerTurn keeps the most reads that were made between two waits.
type readsPerTurn struct {
	*clock
	n    int64
	most atomic.Int64
}

func (k *readsPerTurn) EpollWait(set int, events []sys.Event, timeout int, park bool) (int, sys.Errno) {
	k.n = 0
	return k.clock.EpollWait(set, events, timeout, park)
}

func (k *readsPerTurn) Read(fd int, p []byte) (int, sys.Errno) {
	k.n++
	k.most.Store(max(k.most.Load(), k.n))
	return k.clock.Read(fd, p)
}

// TestReadsByteByByte: bytes come and go, each with a call of its own, and nobody else has to wait for them.
func TestReadsByteByByte(t *testing.T) {
	const size = 100_000
	withAndWithout(t, fault.ReadsByteByByte, func(t *testing.T, f fault.Set) {
		k := &readsPerTurn{clock: newClock()}
		p := faulty(t, f, settings{kernel: k}, serve(t, echo))
		roundTrip(t, p.dial(), size)
		p.unblamed(-1)
		if read := p.engine.Workers()[0].Read; f != 0 && read.Tiny != 2*size || f == 0 && read.Tiny > 2 {
			t.Errorf("%d of %d reads brought next to nothing", read.Tiny, read.Calls)
		}
		if n := k.most.Load(); n > 2*passesPerWakeup*pumpRounds {
			t.Errorf("%d reads in one turn, for one stream", n)
		}
	})
}
