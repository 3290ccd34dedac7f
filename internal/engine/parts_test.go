package engine

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
)

// TestTimersComeOutInOrder moves deadlines about at random and compares with a plain list.
func TestTimersComeOutInOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h timerHeap
	conns := make([]*conn, 200)
	for i := range conns {
		conns[i] = &conn{heapIndex: -1, deadline: ktime.Never}
	}
	now := ktime.Time(0)
	for range 20_000 {
		c := conns[random.IntN(len(conns))]
		switch random.IntN(4) {
		case 0:
			c.deadline = ktime.Never
		case 1:
			h.remove(c)
			c.deadline = ktime.Never
		default:
			c.deadline = now.Add(time.Duration(random.IntN(1000)))
		}
		h.update(c)
		if want := nearest(conns); h.next() != want {
			t.Fatalf("the next deadline is %v, should be %v", h.next(), want)
		}
		if random.IntN(10) > 0 {
			continue
		}
		now += ktime.Time(random.IntN(200))
		for {
			c := h.expired(now)
			if c == nil {
				break
			}
			if !c.deadline.Passed(now) {
				t.Fatalf("a timer at %v came out at %v", c.deadline, now)
			}
			c.deadline = ktime.Never
		}
		if want := nearest(conns); want.Passed(now) {
			t.Fatalf("a timer at %v did not come out at %v", want, now)
		}
	}
}

func nearest(conns []*conn) ktime.Time {
	n := ktime.Never
	for _, c := range conns {
		n = ktime.Min(n, c.deadline)
	}
	return n
}

// TestATimerThatMovesAwayCostsNothing: a deadline that every byte moves leaves the heap alone.
func TestATimerThatMovesAwayCostsNothing(t *testing.T) {
	var h timerHeap
	c := &conn{heapIndex: -1, deadline: 100}
	h.update(c)
	for range 10 {
		c.deadline += 100
		h.update(c)
	}
	if len(h.entries) != 1 || h.entries[0].at != 100 {
		t.Errorf("the heap was touched: %v", h.entries)
	}
	if next := h.next(); next != 1100 {
		t.Errorf("the next deadline is %v, should be 1100", next)
	}
}

// TestBufferKeepsBytesInOrder fills and drains a buffer at random and compares with a plain slice.
func TestBufferKeepsBytesInOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	b := &buffer{data: make([]byte, 64)}
	var want []byte
	next := byte(0)
	for range 10_000 {
		if space := b.space(); len(space) > 0 {
			n := random.IntN(len(space) + 1)
			for i := range n {
				space[i] = next
				want = append(want, next)
				next++
			}
			b.w += n
		} else if !b.full() {
			t.Fatal("no space, and not full")
		}
		if n := b.buffered(); n > 0 {
			n = random.IntN(n + 1)
			if !bytes.Equal(b.data[b.r:b.r+n], want[:n]) {
				t.Fatal("other bytes came out than went in")
			}
			b.consume(n)
			want = want[n:]
		}
	}
}

func TestBuffersGrowAndStayWithinTheLimit(t *testing.T) {
	p := newBufferPool(16<<10, 600<<10)
	if sizes := p.sizes[:4]; !slices.Equal(sizes, []int{16 << 10, 64 << 10, 256 << 10, 256 << 10}) {
		t.Errorf("sizes %v", sizes)
	}
	class := 0
	if class = p.grow(class); p.sizes[class] != 64<<10 {
		t.Errorf("grown to %d bytes, should be the second size", p.sizes[class])
	}
	if class = p.grow(class); class != pipeClass || p.grow(class) != pipeClass {
		t.Errorf("grown to class %d, should be the pipes'", class)
	}
	if class = p.largest; p.sizes[class] != maxBufferSize || p.sizes[class-1] == maxBufferSize {
		t.Errorf("class %d is taken for the first of the largest", class)
	}
	var taken []*buffer
	for range 4 {
		taken = append(taken, p.take(class))
	}
	if p.refused != 2 || len(taken[2].data) != 16<<10 {
		t.Errorf("%d large buffers were refused, the third has %d bytes", p.refused, len(taken[2].data))
	}
	for _, b := range taken {
		p.give(b)
	}
	if p.used != 0 || p.count != 0 || p.peak != 2*maxBufferSize+2*16<<10 {
		t.Errorf("%d bytes in %d buffers in use at the end, %d at the peak", p.used, p.count, p.peak)
	}
}

func TestRateIsThatOfTheLastSecond(t *testing.T) {
	var r Rate
	now := ktime.Time(1000 * time.Second)
	r.Add(now, 20)
	r.Add(now, 30)
	for _, tt := range []struct {
		after time.Duration
		want  uint64
	}{{0, 50}, {500 * time.Millisecond, 50}, {1500 * time.Millisecond, 25}, {1999 * time.Millisecond, 0}} {
		if got := uint64(r.PerSecond(now.Add(tt.after))); got != tt.want {
			t.Errorf("%v later: %d a second, should be %d", tt.after, got, tt.want)
		}
	}
	if r.Highest() != 50 {
		t.Errorf("the highest rate is %d, should be 50", r.Highest())
	}
}

// TestWaitsRoundUp: a wait never ends before the timer it is for.
func TestWaitsRoundUp(t *testing.T) {
	k := newClock()
	for _, tt := range []struct {
		left time.Duration
		want int
	}{
		{1, 1}, {time.Millisecond, 1}, {time.Millisecond + 1, 2}, {0, 0}, {-time.Second, 0},
		{5 * time.Hour, int(time.Hour / time.Millisecond)},
	} {
		w := &worker{kernel: k, engine: &Engine{}, now: k.Now()}
		c := &conn{heapIndex: -1, deadline: w.now.Add(tt.left)}
		w.timers.update(c)
		if got := w.nextTimeout(); got != tt.want {
			t.Errorf("%v left: waits %d ms, should wait %d", tt.left, got, tt.want)
		}
		w.busy = true
		if got := w.nextTimeout(); got != min(tt.want, busyWait) {
			t.Errorf("%v left: waits %d ms when busy, should wait %d", tt.left, got, min(tt.want, busyWait))
		}
	}
	if got := (&worker{kernel: k, engine: &Engine{}}).nextTimeout(); got != -1 {
		t.Errorf("without a timer waits %d ms, should wait without limit", got)
	}
}

// BenchmarkAdvance is the stream's part of proxying one request and its answer.
func BenchmarkAdvance(b *testing.B) {
	policy := &stream.Policy{Connect: time.Second, Tunnel: time.Hour}
	now := ktime.Time(time.Hour)
	s := stream.New(policy, fault.Set(0), now)
	s.Begin(stream.CauseAccepted, now)
	s.Advance(now)
	s.Assigned(false, false)
	s.Advance(now)
	s.Connected()
	s.Advance(now)
	b.ReportAllocs()
	for b.Loop() {
		for from := range 2 {
			s.Begin(stream.CauseClientEvent, now)
			s.Read(stream.Side(from), 100)
			s.Wrote(1-stream.Side(from), 100)
			s.Advance(now)
			s.Settle(now, false, false)
		}
		now += ktime.Time(time.Microsecond)
	}
}

// BenchmarkTimers is moving a deadline of one of 10000 streams, as every byte does, and asking for the
// nearest.
func BenchmarkTimers(b *testing.B) {
	var h timerHeap
	conns := make([]*conn, 10_000)
	for i := range conns {
		conns[i] = &conn{heapIndex: -1, deadline: ktime.Time(i) * 1e6}
		h.update(conns[i])
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c := conns[i%len(conns)]
		c.deadline += ktime.Time(time.Minute)
		h.update(c)
		h.next()
	}
}
