package engine

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
)

// TestZeroTimeoutsHaveAReason: which one follows from what is due, and not from how the timeout came about.
func TestZeroTimeoutsHaveAReason(t *testing.T) {
	k := newClock()
	timer := func(left time.Duration) func(*worker) {
		return func(w *worker) { w.timers.update(&conn{heapIndex: -1, deadline: k.Now().Add(left)}) }
	}
	stopping := func(more func(*worker)) func(*worker) {
		return func(w *worker) {
			w.engine.stopping.Store(true)
			more(w)
		}
	}
	nothing := func(*worker) {}
	due := func(w *worker) { w.queue = append(w.queue, &conn{}) }
	for _, tt := range []struct {
		name  string
		state func(*worker)
		want  evidence.ZeroTimeouts
	}{
		{"a stream is due", due, evidence.ZeroTimeouts{RunQueue: 1}},
		{"a stream is due during a soft stop", stopping(due), evidence.ZeroTimeouts{RunQueue: 1}},
		{"a timer has passed", timer(-1), evidence.ZeroTimeouts{Deadline: 1}},
		{"a rest of a listener is over", func(w *worker) {
			w.pausedAt = []pausedListener{{until: k.Now()}}
		}, evidence.ZeroTimeouts{Deadline: 1}},
		{"a timer lies ahead", timer(time.Minute), evidence.ZeroTimeouts{Ahead: 1}},
		{"a timer lies ahead by less than waits are measured in", stopping(timer(time.Microsecond)),
			evidence.ZeroTimeouts{Ahead: 1}},
		{"a soft stop, and a timer lies ahead", stopping(timer(time.Minute)),
			evidence.ZeroTimeouts{Flag: 1}},
		{"a soft stop", stopping(nothing), evidence.ZeroTimeouts{Flag: 1}},
		{"nothing", nothing, evidence.ZeroTimeouts{None: 1}},
	} {
		w := &worker{kernel: k, engine: &Engine{}}
		tt.state(w)
		w.explainZero()
		if w.stats.zero != tt.want {
			t.Errorf("%s: %+v, should be %+v", tt.name, w.stats.zero, tt.want)
		}
	}
}

// TestStateDescribesTheSides: the calls on each side, what is known of its descriptor, and that every wait
// with a timeout of zero has a reason.
func TestStateDescribesTheSides(t *testing.T) {
	p := start(t, settings{}, serve(t, echo))
	c := p.dial()
	const text = "EHLO client.example\r\n"
	for range 5 {
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, len(text))); err != nil {
			t.Fatal(err)
		}
	}
	var s evidence.Stream
	eventually(t, "the last wakeup to end", func() bool {
		s = p.views()[0].State()
		return s.Response.Written == evidence.Know(uint64(5*len(text)))
	})
	client, ok1 := s.ClientSide.Get()
	server, ok2 := s.ServerSide.Get()
	if !ok1 || !ok2 {
		t.Fatalf("the sides are not described: %+v", s)
	}
	if client.Reads < 5 || client.Writes != 5 || server.Writes < 1 || server.Writes > 5 || server.Reads < 1 {
		t.Errorf("the client made %d reads and %d writes, the server %d and %d", client.Reads, client.Writes,
			server.Reads, server.Writes)
	}
	if client.Readable || !client.Writable || !client.WantsRead || client.WantsWrite {
		t.Errorf("the client, which has sent all and read all, is described as %+v", client)
	}
	if server.Events == 0 || server.Mask&evidence.EventOut == 0 {
		t.Errorf("the server was delivered %d times, last with %v", server.Events, server.Mask)
	}
	if s.Attempts != evidence.Know[uint64](1) {
		t.Errorf("%v attempts, should be 1", s.Attempts)
	}
	w := p.engine.State().Workers[0]
	zero, _ := w.ZeroTimeouts.Get()
	waits := w.Waits.Timeout(evidence.TimeoutZero)
	// The reason is entered before the wait.
	if zero.Total() != waits && zero.Total() != waits+1 {
		t.Errorf("%d reasons for %d waits with a timeout of zero", zero.Total(), waits)
	}
	if next, ok := w.NearestDeadline.Get(); !ok || next == ktime.Never {
		t.Errorf("the nearest deadline is %v though a stream has timers", next)
	}
}

// TestDeliveriesInARowAreCounted: those since the last call on the descriptor.
func TestDeliveriesInARowAreCounted(t *testing.T) {
	var d descriptor
	for _, step := range []struct{ calls, row uint32 }{{3, 1}, {3, 2}, {3, 3}, {4, 1}, {4, 2}} {
		if d.delivered(step.calls); d.row != step.row {
			t.Errorf("after %d calls the row is %d, should be %d", step.calls, d.row, step.row)
		}
	}
	v := EndView{FD: 9}
	if v.registered(&d, 5); v.Row != 0 {
		t.Errorf("a call ended the row of %d, and it is still shown", v.Row)
	}
}

// TestStateDescribesTheListeners: who has it armed, and which limit is reached.
func TestStateDescribesTheListeners(t *testing.T) {
	p := start(t, settings{workers: 2, maxConn: 1}, serve(t, greet))
	l := p.engine.State().Listeners[0]
	if l.Armed != 2 || l.Paused != 0 || l.Limit != "" || l.Address != p.address || l.Frontend != "mail" {
		t.Errorf("at rest: %+v", l)
	}
	var clients []*net.TCPConn
	for range 2 {
		clients = append(clients, p.dial())
	}
	eventually(t, "the listener to rest at the limit", func() bool {
		l = p.engine.State().Listeners[0]
		return l.Paused > 0
	})
	if l.Limit != "maxconn 1 of the frontend" || l.Armed+l.Paused != 2 {
		t.Errorf("at the limit: %+v", l)
	}
	for _, c := range clients {
		c.Close()
	}
	eventually(t, "the listener to be armed again", func() bool {
		l = p.engine.State().Listeners[0]
		return l.Armed == 2 && l.Limit == ""
	})
}

// TestWhatIsOnItsWayIsNotLeftUnread: a worker that has events and no processor to take them has lost none.
func TestWhatIsOnItsWayIsNotLeftUnread(t *testing.T) {
	k := newClock()
	p := start(t, settings{kernel: k}, serve(t, echo))
	c := p.dial()
	roundTrip(t, c, 1)
	p.sleeps("before the byte comes")
	k.now.Add(int64(2 * restsFor))
	k.inOneBatch(t, p.engine, func() {
		fd := p.views()[0].Ends[stream.Client].FD
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the byte to come", func() bool { return k.Unread(fd) == 1 })
		if listed := p.engine.State().Streams; len(listed) > 0 {
			t.Errorf("a stream is listed whose worker is about to be told: %+v", listed[0])
		}
	})
}

// TestAStreamThatCouldGoOnIsListed: one that is ready for what it wants, and that nobody runs.
func TestAStreamThatCouldGoOnIsListed(t *testing.T) {
	ready := EndView{FD: 7, WantsRead: true, ready: readable}
	for _, tt := range []struct {
		name   string
		change func(*StreamView)
		want   bool
	}{
		{"ready and wanted", func(*StreamView) {}, true},
		{"due", func(v *StreamView) { v.Due = true }, false},
		{"running", func(v *StreamView) { v.Running = true }, false},
		{"not wanted", func(v *StreamView) { v.Ends[stream.Server].WantsRead = false }, false},
		{"not ready", func(v *StreamView) { v.Ends[stream.Server].ready = writable }, false},
		{"connecting", func(v *StreamView) { v.Ends[stream.Server].ready |= connecting }, false},
		{"closed", func(v *StreamView) { v.Ends[stream.Server].FD = -1 }, false},
		{"closed, and the other side delivered in a row", func(v *StreamView) {
			v.Ends[stream.Server].FD, v.Ends[stream.Client].Row = -1, listedRow
		}, true},
	} {
		v := &StreamView{Deadline: ktime.Never, Ends: [2]EndView{{FD: -1}, ready}}
		tt.change(v)
		if v.Suspicious() != tt.want {
			t.Errorf("%s: listed %t, should be %t", tt.name, v.Suspicious(), tt.want)
		}
	}
}
