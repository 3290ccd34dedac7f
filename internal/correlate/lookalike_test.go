package correlate

import (
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/ktime"
)

// working is a foreign process that sleeps for half of the window, and works for the other half: it is woken
// 50000 times, and its suspect moves bytes as often.
func working() *evidence.Case {
	c := foreign()
	t := &c.Window.Threads[0]
	sleeps(t)
	t.Run = evidence.Know(time.Second)
	t.Calls, t.Progress = evidence.Know[uint64](200_000), evidence.Know[uint64](100_000)
	t.Sets[0].Waits = evidence.Waits{}
	t.Sets[0].Waits[evidence.TimeoutPositive][evidence.ResultEvents] = 50_000
	t.Sets[0].Events = 50_000
	d := suspect(c)
	d.Row, d.Deliveries = 1, []evidence.Delivery{{Mask: evidence.EventIn, Count: 50_000}}
	d.Read = evidence.IO{Calls: 50_000, Bytes: 50_000_000}
	d.Write = d.Read
	return c
}

// saturated has the thread never sleep, and make progress all the time.
func saturated(c *evidence.Case) {
	t := &c.Window.Threads[0]
	t.Run, t.VoluntarySwitches = evidence.Know(1990*time.Millisecond), evidence.Know[uint64](0)
	t.Sets[0].Slept = evidence.Know[uint64](0)
}

// waits sets what the waits of the thread are.
func waits(c *evidence.Case, timeout evidence.TimeoutClass, result evidence.ResultClass, n uint64) {
	c.Window.Threads[0].Sets[0].Waits[timeout][result] = n
}

// polite is our own proxy with streams that look suspect and are in order: it sleeps, and the stream's
// wakeups bring progress.
func polite() *evidence.Case {
	c := ours()
	quiet(c)
	c.Window.Threads[0].Sets[0].Slept = evidence.Know[uint64](400)
	after(c).NoProgress, after(c).Fruitless = evidence.Know[uint64](0), evidence.Know[uint64](5)
	after(c).Request.Total = 1 << 20
	return c
}

// TestNoLookAlikeIsAccused: a case of each look-alike of the catalogue, by its number; of a foreign process
// as the kernel sees it, or of our own with its state.
func TestNoLookAlikeIsAccused(t *testing.T) {
	const in, out, rdhup = evidence.EventIn, evidence.EventOut, evidence.EventRdHup
	const hup, err = evidence.EventHup, evidence.EventErr
	const zero, some, none = evidence.TimeoutZero, evidence.TimeoutPositive, evidence.ResultNone
	tests := []struct {
		name    string
		from    func() *evidence.Case
		change  func(*evidence.Case)
		verdict Verdict
	}{
		{"L1 saturated and progressing", working, saturated, Healthy},
		{"L1 saturated, with a stream that is always due", polite, func(c *evidence.Case) {
			requeued(c)
			saturated(c)
			c.Window.Threads[0].Progress = evidence.Know[uint64](wakeups)
		}, Healthy},
		{"L2 busy polling by configuration", foreign, func(c *evidence.Case) {
			asksNotToSleep(c)
			c.BusyPolling = true
		}, Configured},
		{"L3 the Go runtime's own set, never asked to sleep", working, func(c *evidence.Case) {
			saturated(c)
			c.Window.Threads[0].Sets[0].Owner = evidence.OwnerRuntime
			waits(c, zero, none, 900_000)
			delivered(c, in)
			socketOf(c, func(s *evidence.Socket) { *s = evidence.Socket{Kind: "eventfd"} })
			suspect(c).Read, suspect(c).Write, suspect(c).Row = evidence.IO{}, evidence.IO{}, 700_000
		}, Healthy},
		{"L4 next-iteration callbacks: polls between slices of computing", working, func(c *evidence.Case) {
			saturated(c)
			waits(c, zero, none, 1000)
			waits(c, some, evidence.ResultEvents, 0)
			c.Window.Threads[0].User = evidence.Know(1900 * time.Millisecond)
			suspect(c).Deliveries, suspect(c).Read, suspect(c).Write = nil, evidence.IO{}, evidence.IO{}
			c.Window.Threads[0].Progress = evidence.Know[uint64](0)
		}, Healthy},
		{"L5 short timers: bursts of polls before each", working, func(c *evidence.Case) {
			waits(c, zero, none, 40_000)
			waits(c, some, none, 2000)
		}, Healthy},
		{"L5 short timers, each moved on when it passes", polite, func(c *evidence.Case) {
			after(c).Cause = "timer client"
			after(c).Calls = 2000
		}, Healthy},
		{"L6 four-byte messages", working, func(c *evidence.Case) {
			d := suspect(c)
			d.Read = evidence.IO{Calls: 50_000, Bytes: 200_000, Tiny: 50_000}
			d.Write = d.Read
		}, Healthy},
		{"L7 headers of five bytes before records", working, func(c *evidence.Case) {
			suspect(c).Read = evidence.IO{Calls: 100_000, Bytes: 50_250_000, Tiny: 50_000}
			suspect(c).Deliveries[0].Count = 1000
		}, Healthy},
		{"L8 EAGAIN that ends each burst", working, func(c *evidence.Case) {
			suspect(c).Read = evidence.IO{Calls: 100_000, Bytes: 50_000_000, Again: 50_000}
		}, Healthy},
		{"L8 EAGAIN that ends each burst of a stream", polite, func(c *evidence.Case) {
			clientSide(c, func(e *evidence.Side) { e.Reads, e.ReadsAgain = e.Reads+40_000, 20_000 })
			after(c).Calls = 20_010
		}, Healthy},
		{"L9 a herd at a listener", working, func(c *evidence.Case) {
			d := suspect(c)
			d.Read, d.Write, d.Accepts, d.AcceptErrors = evidence.IO{}, evidence.IO{}, 10_000, 40_000
			socketOf(c, func(s *evidence.Socket) { s.State, s.Remote = listening, "" })
		}, Healthy},
		{"L10 health checks: connections that come about and are closed", working, func(c *evidence.Case) {
			c.Window.Destinations = []evidence.Destination{{Address: "192.0.2.9:25", Connects: 40,
				Established: evidence.Know[uint64](40)}}
		}, Healthy},
		{"L11 resets, each followed by a close", working, func(c *evidence.Case) {
			saturated(c)
			d := delivered(c, in|err|hup)
			d.Read, d.Closes, d.Row = evidence.IO{Calls: 700_000, Reset: 700_000}, 700_000, 1
			c.Window.Threads[0].Progress = evidence.Know[uint64](700_000)
		}, Healthy},
		{"L12 ERR, HUP and RDHUP delivered twice", working, func(c *evidence.Case) {
			d := suspect(c)
			d.Deliveries, d.Row = []evidence.Delivery{{Mask: rdhup | in, Count: 1},
				{Mask: err | hup, Count: 2}}, 2
			d.Read, d.Write = evidence.IO{}, evidence.IO{}
		}, Healthy},
		{"L13 one-byte wakeups on an eventfd", working, func(c *evidence.Case) {
			socketOf(c, func(s *evidence.Socket) { *s = evidence.Socket{Kind: "eventfd"} })
			suspect(c).Read = evidence.IO{Calls: 50_000, Bytes: 400_000, Tiny: 50_000}
			suspect(c).Write = suspect(c).Read
		}, Healthy},
		{"L14 handlers that compute", working, func(c *evidence.Case) {
			saturated(c)
			waits(c, some, evidence.ResultEvents, 300)
			c.Window.Threads[0].User = evidence.Know(1980 * time.Millisecond)
			c.Window.Threads[0].Progress = evidence.Know[uint64](20)
			suspect(c).Deliveries[0].Count = 20
			suspect(c).Read = evidence.IO{Calls: 20, Bytes: 20_000}
		}, Healthy},
		{"L16 housekeeping: a few wakeups without anything to do", polite, func(c *evidence.Case) {
			after(c).Calls, after(c).Cause = 30, "timer client"
		}, Healthy},
		{"L17 a soft stop that waits for its last streams", polite, func(c *evidence.Case) {
			c.After.Stopping = true
			c.After.Workers[0].ZeroTimeouts = evidence.Know(evidence.ZeroTimeouts{RunQueue: 300, Flag: 1})
		}, Healthy},
		{"L18 retries with a delay, on a thread with other work", polite, func(c *evidence.Case) {
			saturated(c)
			c.Window.Threads[0].Progress = evidence.Know[uint64](wakeups)
			after(c).Attempts, after(c).ServerState, after(c).Calls = evidence.Know[uint64](4), "TAR", 20
			c.Window.Destinations = []evidence.Destination{{Address: "192.0.2.9:25", Connects: 3, Refused: 3,
				Established: evidence.Know[uint64](0)}}
		}, Healthy},
		{"L19 wakeups of a datagram socket whose peer was read", working, func(c *evidence.Case) {
			delivered(c, out).Row = 60
			socketOf(c, func(s *evidence.Socket) { *s = evidence.Socket{Kind: "unix"} })
		}, Healthy},
		{"L20 waits that end with EINTR", working, func(c *evidence.Case) {
			waits(c, some, evidence.ResultError, 4000)
		}, Healthy},
		{"L21 slow motion under a tracer", working, func(c *evidence.Case) {
			saturated(c)
			waits(c, some, evidence.ResultEvents, 300)
			c.Window.Threads[0].Progress = evidence.Know[uint64](250)
			suspect(c).Deliveries[0].Count = 300
			suspect(c).Read, suspect(c).Write = evidence.IO{Calls: 300, Bytes: 300_000}, evidence.IO{}
		}, Healthy},
		{"L22 deferred handlers: the same event a few times", working, func(c *evidence.Case) {
			suspect(c).Row = 40
		}, Healthy},
		{"L22 deferred handlers, on a thread that never sleeps", working, func(c *evidence.Case) {
			saturated(c)
			suspect(c).Row, suspect(c).Deliveries[0].Count = 60, 300_000
		}, Healthy},

		{"a slow reader: bytes wait, and the peer takes none", polite, func(c *evidence.Case) {
			asleep(c)
			both(c, func(s *evidence.Stream) {
				s.Response.Buffered, s.Response.Full = 16384, evidence.Know(true)
				changeSide(&s.ClientSide, func(e *evidence.Side) { e.Writable, e.WantsWrite = false, true })
				changeSide(&s.ServerSide, func(e *evidence.Side) { e.Readable, e.WantsRead = true, false })
			})
			inKernel(c, 0, func(s *evidence.Socket) { s.SendQueue = 87_000 })
			inKernel(c, 1, func(s *evidence.Socket) { s.ReceiveQueue = 300_000 })
		}, Healthy},
		{"a stream that waits for its timer", polite, func(c *evidence.Case) {
			asleep(c)
			both(c, func(s *evidence.Stream) {
				s.Timers = []evidence.Timer{{Name: "client", Deadline: ktime.Never.Add(0)}}
			})
		}, Healthy},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.from()
			tt.change(c)
			d := Correlate(c)
			if d.Verdict != tt.verdict || len(d.Findings)+len(d.Inefficiencies) > 0 {
				t.Errorf("verdict %q with classes %q and %d inefficiencies, should be %q", d.Verdict,
					classesOf(d), len(d.Inefficiencies), tt.verdict)
			}
		})
	}
}
