package correlate

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// The tests of the rules that need the state of the process begin with our own proxy, whose one worker is
// awake all the time while one of its streams, on descriptors 20 and 21, is woken for ever and gets nothing
// done.

const wakeups = 700_000

// ours is such a proxy without anything that would tell the class.
func ours() *evidence.Case {
	c := spinning()
	stream := evidence.Stream{
		ID: "0x2a00000003", Worker: 1, Frontend: "smtp", Backend: "smtp", Server: "mx2",
		Client: "192.0.2.7:20639", Upstream: "192.0.2.9:25", Age: time.Hour,
		ClientState: "EST", ServerState: "EST", ClientFD: 20, ServerFD: 21, Cause: "client event",
		Timers:    []evidence.Timer{{Name: "tunnel", Deadline: ended.Add(time.Minute)}},
		Fruitless: evidence.Know[uint64](0), Requeued: evidence.Know[uint64](0),
		Attempts: evidence.Know[uint64](1), Woken: evidence.Know(ended),
	}
	for i, s := range []*evidence.Snapshot{c.Before, c.After} {
		n := uint64(i) * wakeups
		stream.Calls, stream.NoProgress, stream.Fruitless = 10+n, evidence.Know(n), evidence.Know(n)
		stream.ClientSide = evidence.Know(evidence.Side{Writable: true, WantsRead: true, Reads: 5, Writes: 5})
		stream.ServerSide = stream.ClientSide
		s.Streams = []evidence.Stream{stream}
		s.Workers[0].ZeroTimeouts = evidence.Know(evidence.ZeroTimeouts{})
		s.Workers[0].Events, s.Workers[0].Stale = evidence.Know[uint64](40), evidence.Know[uint64](0)
		s.Listeners = []evidence.Listener{{FD: 6, Address: "192.0.2.1:25", Frontend: "smtp", Armed: 1}}
	}
	c.Window.Hooks.Files = evidence.Know("iter")
	c.Window.Descriptors = []evidence.Descriptor{
		{FD: 20, EpollFD: 5, Socket: connection("192.0.2.1:25", "192.0.2.7:20639")},
		{FD: 21, EpollFD: 5, Socket: connection("192.0.2.1:40000", "192.0.2.9:25")},
	}
	return c
}

func connection(local, remote string) evidence.Observed[evidence.Socket] {
	return evidence.Know(evidence.Socket{Kind: "tcp", State: "ESTABLISHED", Local: local, Remote: remote,
		Registered: true, Interest: evidence.EventIn | evidence.EventOut | edgeTriggered})
}

// after changes the stream at the second look only.
func after(c *evidence.Case) *evidence.Stream { return &c.After.Streams[0] }

func changeSide(side *evidence.Observed[evidence.Side], change func(*evidence.Side)) {
	s, _ := side.Get()
	change(&s)
	*side = evidence.Know(s)
}

func clientSide(c *evidence.Case, change func(*evidence.Side)) {
	changeSide(&after(c).ClientSide, change)
}
func serverSide(c *evidence.Case, change func(*evidence.Side)) {
	changeSide(&after(c).ServerSide, change)
}

// requeued has the stream ask for its wakeups itself.
func requeued(c *evidence.Case) {
	after(c).Requeued, after(c).Cause = evidence.Know[uint64](wakeups), "more work"
}

// full has the response wait for the client, who takes nothing, while the server goes on.
func full(c *evidence.Case) {
	requeued(c)
	both(c, func(s *evidence.Stream) {
		s.Response.Buffered, s.Response.Full = 16384, evidence.Know(true)
		changeSide(&s.ClientSide, func(e *evidence.Side) { e.Writable, e.WantsWrite = false, true })
		changeSide(&s.ServerSide, func(e *evidence.Side) { e.Readable, e.WantsRead = true, false })
	})
}

// asleep has the thread sleep and nothing wake the stream.
func asleep(c *evidence.Case) {
	quiet(c)
	both(c, func(s *evidence.Stream) {
		s.Calls, s.NoProgress, s.Fruitless = 10, evidence.Know[uint64](0), evidence.Know[uint64](0)
		s.Woken = evidence.Know(began - 1)
	})
}

// waiting has bytes wait in the client's socket.
func waiting(c *evidence.Case) {
	asleep(c)
	inKernel(c, 0, func(s *evidence.Socket) { s.ReceiveQueue = 500 })
}

// unread has the process itself find bytes that wait for the client's side, at both looks.
func unread(c *evidence.Case) {
	both(c, func(s *evidence.Stream) {
		changeSide(&s.ClientSide, func(e *evidence.Side) {
			e.Unread, e.WantsRead, e.Readable = 500, true, false
		})
	})
}

func inKernel(c *evidence.Case, i int, change func(*evidence.Socket)) {
	s, _ := c.Window.Descriptors[i].Socket.Get()
	change(&s)
	c.Window.Descriptors[i].Socket = evidence.Know(s)
}

// ready has the stream noted as ready for what it wants, at both looks.
func ready(c *evidence.Case) {
	asleep(c)
	both(c, func(s *evidence.Stream) {
		changeSide(&s.ServerSide, func(e *evidence.Side) { e.Readable = true })
	})
}

// nobody has no stream be suspect, and waits have a timeout of zero for the reasons given.
func nobody(c *evidence.Case, why evidence.ZeroTimeouts) {
	healthyStream(c)
	c.After.Workers[0].ZeroTimeouts = evidence.Know(why)
}

// retries has the stream try one server at the speed of system calls.
func retries(c *evidence.Case) {
	after(c).Attempts, after(c).ServerState = evidence.Know[uint64](1+wakeups/4), "CON"
	after(c).ServerSide, after(c).ServerFD = evidence.Observed[evidence.Side]{}, -1
}

// unseen takes the kernel's view away.
func unseen(c *evidence.Case) {
	c.Window = nil
	set := &c.After.Workers[0].Waits
	*set = evidence.Waits{}
	set[evidence.TimeoutPositive][evidence.ResultEvents] = wakeups
}

// again has the client's descriptor delivered again and again by the ledger's count.
func again(c *evidence.Case, mask evidence.EventMask) {
	unseen(c)
	clientSide(c, func(e *evidence.Side) { e.Events, e.Row, e.Mask = wakeups, wakeups, mask })
}

// stuck has the worker in one turn all through the window.
func stuck(c *evidence.Case, stack string) {
	both(c, func(s *evidence.Stream) { s.Calls, s.Fruitless = 10, evidence.Know[uint64](0) })
	for i, s := range []*evidence.Snapshot{c.Before, c.After} {
		w := &s.Workers[0]
		w.Stuck, w.Stack, w.Running = time.Duration(1+2*i)*time.Second, stack, "0x2a00000003"
		w.Waits = evidence.Waits{}
	}
}

// inHandler is how the kernel sees it.
func inHandler(c *evidence.Case) {
	stuck(c, loopStack)
	t := &c.Window.Threads[0]
	t.Sets, t.Calls, t.WaitsOn = nil, evidence.Know[uint64](3), evidence.Know(-1)
	c.Window.Threads[1].WaitsOn = evidence.Know(3)
	t.User, t.System = evidence.Know(1980*time.Millisecond), evidence.Know(10*time.Millisecond)
	c.Window.Descriptors = append(c.Window.Descriptors, evidence.Descriptor{FD: 5, EpollFD: -1,
		Socket: evidence.Know(evidence.Socket{Kind: "epoll"})})
}

const (
	loopStack = "goroutine 20 [running]:\nproxy/internal/engine.(*worker).parse(0xc000102000)\n" +
		"\t/src/engine/parse.go:41 +0x25\nproxy/internal/engine.(*worker).run(0xc000102000, 0x1)\n" +
		"\t/src/engine/run.go:61 +0x1c0\ncreated by proxy/internal/engine.(*Engine).Start in goroutine 1\n" +
		"\t/src/engine/engine.go:170 +0x8f"
	yieldStack = "goroutine 20 [running]:\nproxy/internal/sys.Yield(...)\n\t/src/sys/sys.go:9\n" +
		"proxy/internal/engine.(*worker).run(0xc000102000, 0x1)\n\t/src/engine/run.go:61 +0x1c0"
)

// TestRulesWithState: a case for each class, and beside it the same case with its deciding fact changed.
func TestRulesWithState(t *testing.T) {
	const in, out, rdhup = evidence.EventIn, evidence.EventOut, evidence.EventRdHup
	type change = func(*evidence.Case)
	tests := []struct {
		name    string
		change  []change
		verdict Verdict
		classes string
		culprit string
	}{
		{"nothing that would tell the class", nil, Spin, "?", "0x2a00000003"},

		{"T1: a timer that has passed", []change{func(c *evidence.Case) {
			both(c, func(s *evidence.Stream) { s.Timers[0].Deadline = began })
		}}, Spin, "T1", "0x2a00000003 timer tunnel"},
		{"T2: woken by a timer that lies ahead", []change{func(c *evidence.Case) {
			after(c).Cause = "timer tunnel"
		}}, Spin, "T2", "0x2a00000003 timer tunnel"},
		{"T2, but the timer has passed", []change{func(c *evidence.Case) {
			after(c).Cause, after(c).Timers[0].Deadline = "timer tunnel", began
		}}, Spin, "T1", "0x2a00000003 timer tunnel"},
		{"T2, but it brings progress", []change{quiet, func(c *evidence.Case) {
			after(c).Cause, after(c).Fruitless = "timer tunnel", evidence.Know[uint64](2)
			after(c).NoProgress = evidence.Know[uint64](2)
		}}, Healthy, "", ""},

		{"T4: due again the moment it has run", []change{requeued}, Spin, "T4", "0x2a00000003"},
		{"T4, a shutdown waits for the buffer", []change{requeued, func(c *evidence.Case) {
			both(c, func(s *evidence.Stream) { s.Response.Buffered, s.Response.OutPending = 5, true })
		}}, Spin, "T4", "0x2a00000003 client 20"},
		{"T4, but it is woken by events", []change{requeued, func(c *evidence.Case) {
			after(c).Requeued = evidence.Know[uint64](10)
		}}, Spin, "?", "0x2a00000003"},
		{"T4, but calls are made", []change{requeued, func(c *evidence.Case) {
			clientSide(c, func(e *evidence.Side) { e.Writes += wakeups })
		}}, Spin, "?", "0x2a00000003"},
		{"T4, but bytes are moved", []change{requeued, func(c *evidence.Case) {
			after(c).Request.Total += 1000
		}}, Spin, "?", "0x2a00000003"},

		{"T5: a full buffer and a producer that is woken", []change{full}, Spin, "T5",
			"0x2a00000003 client 20"},
		{"T5 while the peer reads slowly", []change{full, func(c *evidence.Case) {
			after(c).Response.Total += 16384
			after(c).Fruitless = evidence.Know[uint64](wakeups - 20)
			after(c).NoProgress = evidence.Know[uint64](3000)
			sleeps(&c.Window.Threads[0])
		}}, Partial, "T5", "0x2a00000003 client 20"},
		{"T5, but there is room", []change{full, func(c *evidence.Case) {
			after(c).Response.Full = evidence.Know(false)
		}}, Spin, "?", "0x2a00000003"},
		{"T5, but nothing more will come", []change{full, func(c *evidence.Case) {
			both(c, func(s *evidence.Stream) { s.Response.InShut, s.Response.OutPending = true, true })
		}}, Spin, "T4", "0x2a00000003 client 20"},
		{"T5, but the peer takes it", []change{full, quiet, func(c *evidence.Case) {
			clientSide(c, func(e *evidence.Side) { e.Writes += wakeups })
			after(c).Response.Total += 1 << 30
			after(c).Fruitless, after(c).NoProgress = evidence.Know[uint64](0), evidence.Know[uint64](0)
		}}, Healthy, "", ""},

		{"T6: noted as readable, and EAGAIN", []change{requeued, func(c *evidence.Case) {
			clientSide(c, func(e *evidence.Side) {
				e.Readable = true
				e.Reads, e.ReadsAgain = e.Reads+wakeups, wakeups
			})
		}}, Spin, "T6", "0x2a00000003 client 20"},
		{"T6 of a server that is written to", []change{requeued, func(c *evidence.Case) {
			serverSide(c, func(e *evidence.Side) { e.Writes, e.WritesAgain = e.Writes+wakeups, wakeups })
		}}, Spin, "T6", "0x2a00000003 server 21"},
		{"T6, but it is not noted as ready", []change{requeued, func(c *evidence.Case) {
			clientSide(c, func(e *evidence.Side) { e.Reads, e.ReadsAgain = e.Reads+wakeups, wakeups })
		}}, Spin, "?", "0x2a00000003"},

		{"T7: no sleep in a soft stop", []change{func(c *evidence.Case) {
			nobody(c, evidence.ZeroTimeouts{Flag: wakeups})
			c.After.Stopping = true
		}}, Spin, "T7", ""},
		{"T7, but streams are due", []change{func(c *evidence.Case) {
			nobody(c, evidence.ZeroTimeouts{RunQueue: wakeups})
			c.After.Stopping = true
		}}, Spin, "?", ""},
		{"T7, but a deadline lies ahead", []change{func(c *evidence.Case) {
			nobody(c, evidence.ZeroTimeouts{Ahead: wakeups})
		}}, Spin, "T2", ""},
		{"T7 beside traffic", []change{func(c *evidence.Case) {
			nobody(c, evidence.ZeroTimeouts{Flag: wakeups, RunQueue: wakeups / 3})
			c.Window.Threads[0].Progress = evidence.Know[uint64](wakeups)
		}}, Partial, "T7", ""},
		{"T2 in bursts before each firing", []change{func(c *evidence.Case) {
			nobody(c, evidence.ZeroTimeouts{Ahead: 5000})
			quiet(c)
		}}, Partial, "T2", ""},
		{"the last moments before a soft stop is over", []change{func(c *evidence.Case) {
			nobody(c, evidence.ZeroTimeouts{Flag: 20, Ahead: 20})
			quiet(c)
		}}, Healthy, "", ""},

		{"S1: noted as ready and not due", []change{ready}, Stall, "S1", "0x2a00000003 server 21"},
		{"S1, but it is due", []change{ready, func(c *evidence.Case) { after(c).Runnable = true }}, Healthy,
			"",
			""},
		{"S1, but it does not want to read", []change{ready, func(c *evidence.Case) {
			serverSide(c, func(e *evidence.Side) { e.WantsRead = false })
		}}, Healthy, "", ""},
		{"S1, but it was woken", []change{ready, func(c *evidence.Case) { after(c).Calls++ }}, Healthy, "",
			""},
		{"S1: bytes wait, and no event will come", []change{waiting}, Stall, "S1", "0x2a00000003 client 20"},
		{"S1, but nobody looked at the ready lists", []change{waiting, func(c *evidence.Case) {
			c.Window.Hooks.Files = evidence.Know("proc")
		}}, Healthy, "", ""},
		{"S1, but no bytes wait", []change{asleep}, Healthy, "", ""},
		{"S1, but the event comes now", []change{waiting, func(c *evidence.Case) {
			inKernel(c, 0, func(s *evidence.Socket) { s.Ready = true })
		}}, Healthy, "", ""},
		{"S1, but it is level-triggered", []change{waiting, func(c *evidence.Case) {
			inKernel(c, 0, func(s *evidence.Socket) { s.Interest = evidence.EventIn })
		}}, Healthy, "", ""},
		{"S1, but the reader waits for room (back-pressure)", []change{waiting, func(c *evidence.Case) {
			clientSide(c, func(e *evidence.Side) { e.WantsRead = false })
		}}, Healthy, "", ""},
		{"S1, but it has run in the window", []change{waiting, func(c *evidence.Case) {
			after(c).Woken = evidence.Know(began + 1)
		}}, Healthy, "", ""},
		{"S1: bytes wait by the process's own account", []change{asleep, unread}, Stall, "S1",
			"0x2a00000003 client 20"},
		{"S1, but the bytes had not come before", []change{asleep, unread, func(c *evidence.Case) {
			changeSide(&c.Before.Streams[0].ClientSide, func(e *evidence.Side) { e.Unread = 0 })
		}}, Healthy, "", ""},
		{"S1, but the bytes were read", []change{asleep, unread, func(c *evidence.Case) {
			clientSide(c, func(e *evidence.Side) { e.Unread = 0 })
		}}, Healthy, "", ""},
		{"S1, but the stream has run meanwhile", []change{asleep, unread, func(c *evidence.Case) {
			after(c).Calls++
		}}, Healthy, "", ""},
		{"S1: output waits, and the peer takes it", []change{asleep, func(c *evidence.Case) {
			both(c, func(s *evidence.Stream) { s.Request.Buffered = 100 })
			serverSide(c, func(e *evidence.Side) { e.Writable, e.WantsWrite = false, true })
		}}, Stall, "S1", "0x2a00000003 server 21"},
		{"S1, but the peer takes nothing (a slow reader)", []change{asleep, func(c *evidence.Case) {
			both(c, func(s *evidence.Stream) { s.Request.Buffered = 100 })
			serverSide(c, func(e *evidence.Side) { e.Writable, e.WantsWrite = false, true })
			inKernel(c, 1, func(s *evidence.Socket) { s.SendQueue = 87_000 })
		}}, Healthy, "", ""},

		{"C1: one server is tried at once again", []change{retries}, Spin, "C1",
			"0x2a00000003 to 192.0.2.9:25"},
		{"C1 without the kernel's view", []change{retries, func(c *evidence.Case) { c.Window = nil }}, Spin,
			"C1", "0x2a00000003 to 192.0.2.9:25"},
		{"C1, but with a delay (L18)", []change{retries, quiet, func(c *evidence.Case) {
			after(c).Attempts, after(c).Calls = evidence.Know[uint64](6), 20
		}}, Healthy, "", ""},

		{"F1 by the ledger alone", []change{func(c *evidence.Case) { again(c, out) }}, Spin, "F1",
			"0x2a00000003 client 20"},
		{"F2 by the ledger alone", []change{func(c *evidence.Case) { again(c, in) }}, Spin, "F2",
			"0x2a00000003 client 20"},
		{"F2, but its peer sends to a stream without room, byte by byte", []change{func(c *evidence.Case) {
			again(c, in)
			both(c, func(s *evidence.Stream) {
				s.Calls, s.NoProgress, s.Fruitless = 10, evidence.Know[uint64](0), evidence.Know[uint64](0)
			})
			c.After.Workers[0].Waits = c.Before.Workers[0].Waits
			c.After.Workers[0].Waits[evidence.TimeoutPositive][evidence.ResultEvents] += 400
			clientSide(c, func(e *evidence.Side) { e.Events, e.Row, e.EdgeTriggered = 400, 400, true })
		}}, Healthy, "", ""},
		{"F3 by the ledger alone", []change{func(c *evidence.Case) { again(c, in|rdhup) }}, Spin, "F3",
			"0x2a00000003 client 20"},
		{"F4 by the ledger alone", []change{func(c *evidence.Case) { again(c, in|rdhup|evidence.EventHup) }},
			Spin, "F4", "0x2a00000003 client 20"},
		{"F1, but calls are made between", []change{func(c *evidence.Case) {
			again(c, out)
			clientSide(c, func(e *evidence.Side) { e.Row = 3 })
		}}, Spin, "?", "0x2a00000003"},
		{"F3 by reads of 0, by the ledger alone", []change{unseen, func(c *evidence.Case) {
			clientSide(c, func(e *evidence.Side) { e.Reads += wakeups })
			c.After.Workers[0].Read.Zero = wakeups
		}}, Spin, "F3", "0x2a00000003 client 20"},
		{"F6 by the ledger alone", []change{unseen, func(c *evidence.Case) {
			healthyStream(c)
			c.After.Workers[0].Events = evidence.Know[uint64](wakeups)
			c.After.Workers[0].Stale = evidence.Know[uint64](wakeups)
		}}, Spin, "F6", ""},
		{"F7 by the ledger alone", []change{unseen, func(c *evidence.Case) {
			healthyStream(c)
			c.Before.Workers[0].Elsewhere = evidence.Know[uint64](0)
			c.After.Workers[0].Events = evidence.Know[uint64](wakeups)
			c.After.Workers[0].Elsewhere = evidence.Know[uint64](wakeups)
		}}, Spin, "F7", ""},
		{"F8 by the ledger alone", []change{func(c *evidence.Case) {
			again(c, out)
			clientSide(c, func(e *evidence.Side) { e.Rewrites, e.EdgeTriggered = wakeups, true })
		}}, Spin, "F8", "0x2a00000003 client 20"},
		{"F5 by the ledger alone", []change{unseen, func(c *evidence.Case) {
			healthyStream(c)
			c.After.Listeners[0].Fruitless = wakeups
		}}, Spin, "F5", "listener smtp"},
		{"F5, but somebody takes the connections", []change{unseen, func(c *evidence.Case) {
			healthyStream(c)
			c.After.Listeners[0].Refused, c.After.Listeners[0].Fruitless = wakeups, 20
		}}, Healthy, "", ""},
		{"F5, but a worker did not give its lock at the first look", []change{unseen, func(c *evidence.Case) {
			healthyStream(c)
			c.Before.Listeners[0].Armed, c.After.Listeners[0].Fruitless = 0, wakeups
		}}, Healthy, "", ""},

		{"B1 and the stream that the worker is at", []change{inHandler}, Boundary, "B1", "0x2a00000003"},
		{"B1 by the state alone", []change{func(c *evidence.Case) { stuck(c, loopStack) },
			func(c *evidence.Case) {
				c.Window = nil
			}}, Boundary, "B1", "0x2a00000003"},
		{"B2 by the state alone", []change{func(c *evidence.Case) { stuck(c, yieldStack) },
			func(c *evidence.Case) {
				c.Window = nil
			}}, Boundary, "B2", "0x2a00000003"},
		{"B2 by the worker's own count", []change{func(c *evidence.Case) { stuck(c, loopStack) },
			func(c *evidence.Case) {
				c.Window = nil
				c.Before.Workers[0].Yields = evidence.Know[uint64](1)
				c.After.Workers[0].Yields = evidence.Know[uint64](1 + leastGiven)
			}}, Boundary, "B2", "0x2a00000003"},
		{"B2 by the first of the two looks", []change{func(c *evidence.Case) { stuck(c, yieldStack) },
			func(c *evidence.Case) {
				c.Window = nil
				c.After.Workers[0].Stack = loopStack
			}}, Boundary, "B2", "0x2a00000003"},
		{"B1, but it came back in between", []change{func(c *evidence.Case) { stuck(c, loopStack) },
			func(c *evidence.Case) {
				c.Window = nil
				c.After.Workers[0].Stuck = time.Second
			}}, NotObserved, "", ""},
		{"B1, but it was at a turn only before", []change{func(c *evidence.Case) { stuck(c, loopStack) },
			func(c *evidence.Case) {
				c.Window = nil
				c.After.Workers[0].Stuck = 0
			}}, Healthy, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := ours()
			for _, change := range tt.change {
				change(c)
			}
			d := Correlate(c)
			if classes := classesOf(d); d.Verdict != tt.verdict || classes != tt.classes {
				t.Fatalf("verdict %q with classes %q, should be %q with %q", d.Verdict, classes, tt.verdict,
					tt.classes)
			}
			if len(d.Findings) > 0 && culpritOf(&d.Findings[0]) != tt.culprit {
				t.Errorf("culprit %q, should be %q", culpritOf(&d.Findings[0]), tt.culprit)
			}
		})
	}
}

// culpritOf names whom a finding blames: the stream, and what of it.
func culpritOf(f *Finding) string {
	var words []string
	if f.Stream != nil {
		words = append(words, f.Stream.ID)
	}
	switch {
	case f.Listener != nil:
		words = append(words, "listener "+f.Listener.Frontend)
	case f.Destination != "":
		words = append(words, "to "+f.Destination)
	case f.Timer != nil:
		words = append(words, "timer "+f.Timer.Name)
	case f.FD != nil && f.Class != Unknown && (f.Class != T4 || hasBytes(f.Stream)):
		words = append(words, f.FD.Side, strconv.Itoa(f.FD.Number))
	}
	return strings.Join(words, " ")
}

func hasBytes(s *evidence.Stream) bool { return s != nil && s.Request.Buffered+s.Response.Buffered > 0 }
