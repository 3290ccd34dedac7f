package engine

import (
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/stream"
)

// The tests in this file are the founding case on real sockets: a server whose accept queue is full, a
// second one that speaks first, and clients that leave at four different moments around the connect
// timeout. The clock is moved by the test, so each moment is hit by construction.

// sessions is how many sessions of each kind run, together at a time.
const (
	sessions = 1000
	together = 100
)

// founding is a proxy with the founding configuration.
type founding struct {
	*proxy
	clock *clock
}

func startFounding(t *testing.T, faults fault.Set) *founding {
	t.Helper()
	k := newClock()
	p := start(t, settings{kernel: k, maxConn: 2 * together, mayBreak: faults != 0,
		change: func(c *config.Config, p *config.Proxy) {
			p.Redispatch = -1
			p.Timeouts = config.Timeouts{Connect: time.Second, Tunnel: time.Minute}
			if faults != 0 {
				c.Global.Whyspin.Faults = []config.Fault{{Fault: faults, Probability: 1}}
			}
		}}, silent(t), serve(t, greet))
	return &founding{p, k}
}

// move lets time pass and wakes the worker, so that it sees what has expired.
func (f *founding) move(d time.Duration) {
	f.clock.now.Add(int64(d))
	for _, w := range f.engine.workers {
		f.clock.Wake(w.waker)
	}
}

// connecting opens clients whose streams then wait for the server that does not answer. The other half of
// what is opened is assigned to the server that answers; these are given an end at once.
func (f *founding) connecting() []*net.TCPConn {
	f.t.Helper()
	var clients []*net.TCPConn
	for range 2 * together {
		clients = append(clients, f.dial())
	}
	eventually(f.t, "half the streams to be connecting", func() bool {
		return f.inState(stream.Connecting) == together && f.inState(stream.Established) == together
	})
	waiting := map[string]bool{}
	for _, v := range f.views() {
		if v.ServerState == stream.Connecting {
			waiting[v.Client.String()] = true
		}
	}
	var stay []*net.TCPConn
	for _, c := range clients {
		if waiting[c.LocalAddr().String()] {
			stay = append(stay, c)
			continue
		}
		if _, err := io.ReadFull(c, make([]byte, len(banner))); err != nil {
			f.t.Fatal(err)
		}
		c.Close()
	}
	eventually(f.t, "the connected streams to end", func() bool { return f.engine.Streams() == together })
	return stay
}

// healthy requires that no stream is left, orphaned or spinning.
func (f *founding) healthy(rounds int) {
	f.t.Helper()
	f.ended(rounds * 2 * together)
	for _, w := range f.engine.Workers() {
		if w.Late != 0 || w.Charged != 0 {
			f.t.Errorf("%d late wakeups, %d without progress", w.Late, w.Charged)
		}
	}
}

func closeAll(clients []*net.TCPConn) {
	for _, c := range clients {
		c.Close()
	}
}

func TestFoundingFaultIsHarmlessWithoutAFIN(t *testing.T) {
	f := startFounding(t, fault.RedispatchAfterAbort)
	for range sessions / together {
		clients := f.connecting()
		f.move(time.Second)
		got := make([]byte, len(banner))
		for _, c := range clients {
			if _, err := io.ReadFull(c, got); err != nil || string(got) != banner {
				t.Fatalf("got %q after the redispatch: %v", got, err)
			}
		}
		closeAll(clients)
		eventually(t, "the streams to end", func() bool { return f.engine.Streams() == 0 })
	}
	f.healthy(sessions / together)
}

func TestFoundingFaultIsHarmlessWhenTheFINComesBeforeTheTimeout(t *testing.T) {
	f := startFounding(t, fault.RedispatchAfterAbort)
	for range sessions / together {
		closeAll(f.connecting())
		eventually(t, "the streams to end", func() bool { return f.engine.Streams() == 0 })
		f.move(time.Second)
	}
	f.healthy(sessions / together)
	if got := f.endings(); got["CC"] != sessions || got["--"] != sessions {
		t.Errorf("ended with %v, should be %d times CC and -- for the other half", got, sessions)
	}
}

func TestFoundingFaultIsHarmlessWhenTheFINComesAfterTheServerAccepted(t *testing.T) {
	f := startFounding(t, fault.RedispatchAfterAbort)
	for range sessions / together {
		clients := f.connecting()
		f.move(time.Second)
		eventually(t, "the second server to accept",
			func() bool { return f.inState(stream.Established) == together })
		for _, c := range clients {
			if _, err := io.ReadFull(c, make([]byte, len(banner))); err != nil {
				t.Fatal(err)
			}
		}
		closeAll(clients)
		eventually(t, "the streams to end", func() bool { return f.engine.Streams() == 0 })
	}
	f.healthy(sessions / together)
}

func TestWithoutTheFaultAFINInTheBatchOfTheTimeoutIsHarmless(t *testing.T) {
	f := startFounding(t, 0)
	for range sessions / together {
		clients := f.connecting()
		f.leaveAtTimeout(clients)
		eventually(t, "the streams to end", func() bool { return f.engine.Streams() == 0 })
	}
	f.healthy(sessions / together)
	if got := f.endings(); got["CC"] != sessions || got["--"] != sessions {
		t.Errorf("ended with %v, should be %d times CC and -- for the other half", got, sessions)
	}
}

// leaveAtTimeout holds the workers before their next batch, and lets the clients leave and the connect
// timeout pass in the same batch.
func (f *founding) leaveAtTimeout(clients []*net.TCPConn) {
	f.t.Helper()
	fds := f.clientEnds()
	f.clock.inOneBatch(f.t, f.engine, func() {
		closeAll(clients)
		awaitEnds(f.t, fds)
		f.clock.now.Add(int64(time.Second))
	})
}

// clientEnds returns the descriptors of the clients' connections, in the proxy.
func (f *founding) clientEnds() []unix.PollFd {
	var fds []unix.PollFd
	for _, v := range f.views() {
		fds = append(fds, unix.PollFd{Fd: int32(v.Ends[stream.Client].FD), Events: unix.POLLRDHUP})
	}
	return fds
}

// awaitEnds waits until the kernel has the end of every client.
func awaitEnds(t *testing.T, fds []unix.PollFd) {
	t.Helper()
	for i := range fds {
		if n, err := unix.Poll(fds[i:i+1], int(patience/time.Millisecond)); n != 1 || err != nil {
			t.Fatalf("the end of a client did not arrive: %v", err)
		}
	}
}

// requireHistory requires that the flight recorder tells the founding story of a suspect: the client's end
// while the server was being reached, then the second server's answer, then nothing but the timer.
func (f *founding) requireHistory(id string) {
	f.t.Helper()
	v, ok := f.engine.Find(id)
	if !ok {
		f.t.Fatalf("stream %s is gone", id)
	}
	h := v.History
	if len(h) < 3 {
		f.t.Fatalf("the history is %+v", h)
	}
	left, accepted, last := h[len(h)-3], h[len(h)-2], h[len(h)-1]
	if left.RequestIn != "shut" || left.ServerState != "CON" || left.Retries != 1 || !left.Redispatched {
		f.t.Errorf("the client leaves in %+v", left)
	}
	if accepted.ServerState != "EST" || accepted.ClientState != "CLO" || accepted.NoProgress {
		f.t.Errorf("the second server accepts in %+v", accepted)
	}
	if !last.NoProgress || last.Cause != "timer tunnel" || last.Count < 20 {
		f.t.Errorf("it spins in %+v", last)
	}
}

// TestTheFoundingFaultSpinsAndIsKilled shows the bug itself: orphans, a spin when the tunnel timeout
// passes, the engine's own suspicion, and the kill that works.
func TestTheFoundingFaultSpinsAndIsKilled(t *testing.T) {
	f := startFounding(t, fault.RedispatchAfterAbort)
	f.leaveAtTimeout(f.connecting())
	eventually(t, "the second server to accept",
		func() bool { return f.inState(stream.Established) == together })
	orphans := f.views()
	for _, v := range orphans {
		if !v.Orphaned || v.ClientState != stream.Closed || !v.Suspicious() {
			t.Fatalf("stream %s: client %s, server %s, orphaned %t", v.ID, v.ClientState, v.ServerState,
				v.Orphaned)
		}
	}
	before := f.engine.Workers()[0]
	f.move(time.Minute)
	suspicion := <-f.engine.Suspicions()
	f.requireHistory(suspicion.Stream)
	if suspicion.Wakeups < 20 || suspicion.Cause != "timer tunnel" {
		t.Errorf("suspicion after %d wakeups by %q", suspicion.Wakeups, suspicion.Cause)
	}
	after := f.engine.Workers()[0]
	if after.Waits[0][0]-before.Waits[0][0] < 5 || after.Late == before.Late {
		t.Errorf("the worker does not spin: %d waits with timeout 0, %d late wakeups", after.Waits[0][0],
			after.Late)
	}
	state := f.engine.State()
	if len(state.Streams) != together {
		t.Errorf("%d streams are listed as suspect, should be %d", len(state.Streams), together)
	}
	timer, overdue := state.Streams[0].Overdue(state.At)
	if !overdue || timer.Name != "tunnel" {
		t.Errorf("the overdue timer is %q (%t), should be tunnel", timer.Name, overdue)
	}
	for _, v := range orphans {
		if f.engine.Kill(v.ID, stream.KillAdmin) != KillEnded {
			t.Errorf("stream %s is not there to be killed", v.ID)
		}
	}
	eventually(t, "the orphans to be gone", func() bool { return f.engine.Streams() == 0 })
	quiet := f.engine.Workers()[0].Waits.Total()
	f.dial().Close()
	f.ended(2*together + 1)
	if waits := f.engine.Workers()[0].Waits.Total() - quiet; waits > 100 {
		t.Errorf("%d waits for one stream after the kill: the worker still spins", waits)
	}
}

// TestTheControlPlaneAnswersWhileEveryWorkerSpins has as many spinning workers as processors and the
// garbage collector at work all the time.
func TestTheControlPlaneAnswersWhileEveryWorkerSpins(t *testing.T) {
	k := newClock()
	p := start(t, settings{kernel: k, workers: runtime.NumCPU(), mayBreak: true,
		change: func(c *config.Config, p *config.Proxy) {
			p.Redispatch = -1
			p.Timeouts = config.Timeouts{Connect: time.Second, Tunnel: time.Minute}
			c.Global.Whyspin.Faults = []config.Fault{{Fault: fault.RedispatchAfterAbort, Probability: 1}}
		}}, silent(t), serve(t, greet))
	f := &founding{p, k}
	var stop atomic.Bool
	var background sync.WaitGroup
	background.Go(func() {
		for !stop.Load() {
			runtime.GC()
		}
	})
	defer background.Wait()
	defer stop.Store(true)

	// Servers are assigned in turn and workers by load, so a few streams make one on each worker wait for
	// the silent server.
	var clients []*net.TCPConn
	eventually(t, "a stream of every worker to be connecting", func() bool {
		clients = append(clients, f.dial())
		return len(f.workersWith(func(v *StreamView) bool {
			return v.ServerState == stream.Connecting && v.Server.Name == "s1"
		})) == len(f.engine.workers)
	})
	eventually(t, "the other streams to be established", func() bool {
		return f.inState(stream.Connecting)+f.inState(stream.Established) == len(clients)
	})
	f.leaveAtTimeout(clients)
	eventually(t, "orphans on every worker", func() bool {
		return len(f.workersWith(func(v *StreamView) bool {
			return v.Orphaned && v.ServerState == stream.Established
		})) == len(f.engine.workers)
	})
	f.move(time.Minute)
	eventually(t, "every worker to spin", func() bool {
		for _, w := range f.engine.Workers() {
			if w.Late < 1000 {
				return false
			}
		}
		return true
	})
	for range 100 {
		if n := len(f.views()); n != f.engine.Streams() {
			t.Fatalf("%d of %d streams are shown", n, f.engine.Streams())
		}
	}
	for _, v := range f.views() {
		if f.engine.Kill(v.ID, stream.KillAdmin) != KillEnded {
			t.Errorf("stream %s cannot be killed", v.ID)
		}
	}
	eventually(t, "the orphans to be gone", func() bool { return f.engine.Streams() == 0 })
}

// workersWith returns the workers that have a stream of a kind.
func (f *founding) workersWith(kind func(*StreamView) bool) map[int]bool {
	workers := map[int]bool{}
	for _, v := range f.views() {
		if kind(&v) {
			workers[v.Worker] = true
		}
	}
	return workers
}
