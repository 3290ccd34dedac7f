package correlate

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// The tests of the rules for what only the kernel sees begin with a process that knows nothing of us, whose
// one thread is awake all the time. Descriptor 9 is its suspect, 12 its healthy traffic.

const (
	foreignTID = 4712
	suspectFD  = 9
	healthyFD  = 12
)

// foreign is a process whose waits return events all the time.
func foreign() *evidence.Case {
	t := evidence.Thread{
		TID: foreignTID, Name: "server", Run: evidence.Know(1990 * time.Millisecond),
		Queued: evidence.Know(5 * time.Millisecond), User: evidence.Know(500 * time.Millisecond),
		System:            evidence.Know(1490 * time.Millisecond),
		Runnable:          true,
		VoluntarySwitches: evidence.Know[uint64](0), InvoluntarySwitches: evidence.Know[uint64](30),
		Calls: evidence.Know[uint64](100), Progress: evidence.Know[uint64](80),
		WaitsOn: evidence.Know(-1), Yields: evidence.Know[uint64](0), Futexes: evidence.Know[uint64](0),
		Sets: []evidence.EpollSet{{FD: 5, Slept: evidence.Know[uint64](0), Events: 700_000}},
	}
	t.Sets[0].Waits[evidence.TimeoutPositive][evidence.ResultEvents] = 700_000
	return &evidence.Case{
		Process: evidence.Process{PID: 4711, Command: "server", Kind: evidence.KindGeneric},
		Window: &evidence.Window{
			PID: 4711, Start: began, End: ended, Threads: []evidence.Thread{t},
			Hooks: evidence.Hooks{Syscall: evidence.Know("tp_btf"), Files: evidence.Know("iter")},
			Descriptors: []evidence.Descriptor{
				{FD: 5, EpollFD: -1, Socket: evidence.Know(evidence.Socket{Kind: "epoll"})},
				{FD: 6, EpollFD: -1, Socket: evidence.Know(evidence.Socket{
					Kind: "tcp", State: "LISTEN", Local: "192.0.2.1:25"})},
				{FD: suspectFD, EpollFD: 5, Row: 700_000, Socket: evidence.Know(evidence.Socket{
					Kind: "tcp", State: "ESTABLISHED", Local: "192.0.2.1:25", Remote: "192.0.2.7:20639",
					Registered: true, Ready: true})},
				{FD: healthyFD, EpollFD: 5, Row: 2, Read: evidence.IO{Calls: 40, Bytes: 1000},
					Write:      evidence.IO{Calls: 40, Bytes: 1000},
					Deliveries: []evidence.Delivery{{Mask: evidence.EventIn, Count: 40}}},
			},
		},
	}
}

func suspect(c *evidence.Case) *evidence.Descriptor { return &c.Window.Descriptors[2] }

func socketOf(c *evidence.Case, change func(*evidence.Socket)) {
	s, _ := suspect(c).Socket.Get()
	change(&s)
	suspect(c).Socket = evidence.Know(s)
}

// delivered has the suspect delivered in every wait.
func delivered(c *evidence.Case, mask evidence.EventMask) *evidence.Descriptor {
	d := suspect(c)
	d.Deliveries = []evidence.Delivery{{Mask: mask, Count: 700_000}}
	return d
}

// asksNotToSleep turns the waits into ones with a timeout of zero that return nothing.
func asksNotToSleep(c *evidence.Case) {
	set := &c.Window.Threads[0].Sets[0]
	set.Waits, set.Events = evidence.Waits{}, 40
	set.Waits[evidence.TimeoutZero][evidence.ResultNone] = 700_000
}

func TestRulesForTheKernelsView(t *testing.T) {
	const in, out, rdhup = evidence.EventIn, evidence.EventOut, evidence.EventRdHup
	tests := []struct {
		name    string
		change  func(*evidence.Case)
		verdict Verdict
		classes string
	}{
		{"writable all the time and nobody writes", func(c *evidence.Case) { delivered(c, out) }, Spin, "F1"},
		{"readable all the time and nobody reads", func(c *evidence.Case) { delivered(c, in) }, Spin, "F2"},
		{"an eventfd that is never drained", func(c *evidence.Case) {
			delivered(c, in)
			socketOf(c, func(s *evidence.Socket) { *s = evidence.Socket{Kind: "eventfd"} })
		}, Spin, "F2"},
		{"reads that return 0 again and again", func(c *evidence.Case) {
			d := delivered(c, in|rdhup)
			d.Read, d.Row = evidence.IO{Calls: 700_000, Zero: 700_000}, 1
		}, Spin, "F3"},
		{"a peer that has shut down while nobody reads", func(c *evidence.Case) { delivered(c, in|rdhup) },
			Spin, "F3"},
		{"an error that nobody reads", func(c *evidence.Case) { delivered(c, evidence.EventErr) },
			Spin, "F4"},
		{"a hang-up, and reads that return EAGAIN", func(c *evidence.Case) {
			d := delivered(c, in|evidence.EventErr|evidence.EventHup)
			d.Read, d.Row = evidence.IO{Calls: 700_000, Again: 700_000}, 1
		}, Spin, "F4"},
		{"accept fails again and again", func(c *evidence.Case) {
			d := delivered(c, in)
			d.AcceptErrors, d.Row = 700_000, 1
			socketOf(c, func(s *evidence.Socket) { s.State, s.Remote, s.ReceiveQueue = "LISTEN", "", 3 })
		}, Spin, "F5"},
		{"connections wait and nobody accepts", func(c *evidence.Case) {
			delivered(c, in)
			socketOf(c, func(s *evidence.Socket) { s.State, s.Remote, s.ReceiveQueue = "LISTEN", "", 3 })
		}, Spin, "F5"},
		{"a number that is closed is still delivered", func(c *evidence.Case) {
			delivered(c, in|rdhup)
			socketOf(c, func(s *evidence.Socket) { *s = evidence.Socket{Kind: evidence.SocketClosed} })
		}, Spin, "F6"},
		{"a number that has become another file is still delivered", func(c *evidence.Case) {
			delivered(c, in)
			socketOf(c, func(s *evidence.Socket) { s.Orphaned = true })
		}, Spin, "F6"},
		{"a thread that may not act is woken for another's descriptor", func(c *evidence.Case) {
			d := delivered(c, in)
			d.Deliverers = []evidence.Deliverer{
				{TID: foreignTID, Count: 650_000}, {TID: 4713, Count: 50_000, Calls: 49_000},
			}
		}, Spin, "F7"},
		{"epoll_ctl in each turn", func(c *evidence.Case) {
			d := delivered(c, out)
			d.Controls, d.Row = 700_000, 1
		}, Spin, "F8"},
		{"two culprits", func(c *evidence.Case) {
			delivered(c, out)
			other := *suspect(c)
			other.FD = 10
			other.Deliveries = []evidence.Delivery{{Mask: in, Count: 700_000}}
			c.Window.Descriptors = append(c.Window.Descriptors, other)
		}, Spin, "F1 F2"},
		{"a culprit beside traffic that keeps the thread busy", func(c *evidence.Case) {
			delivered(c, out)
			c.Window.Threads[0].Progress = evidence.Know[uint64](900_000)
		}, Partial, "F1"},
		{"an error that nobody reads, in bursts of a thread that sleeps", func(c *evidence.Case) {
			delivered(c, evidence.EventErr|evidence.EventHup).Row = 5000
			sleeps(&c.Window.Threads[0])
		}, Partial, "F4"},
		{"an error that nobody reads, beside sleep and ten times as much work", func(c *evidence.Case) {
			d := delivered(c, evidence.EventErr|evidence.EventHup)
			d.Row, d.Deliveries[0].Count = 5000, 70_000
			sleeps(&c.Window.Threads[0])
		}, Partial, "F4"},
		{"the same, and other events between", func(c *evidence.Case) {
			d := delivered(c, evidence.EventErr|evidence.EventHup)
			d.Row, d.Deliveries = 5000, append(d.Deliveries, evidence.Delivery{Mask: in, Count: 50})
			sleeps(&c.Window.Threads[0])
		}, Healthy, ""},
		{"a hang-up that comes twice, again and again, on a thread that sleeps (L12)",
			func(c *evidence.Case) {
				delivered(c, in|rdhup|evidence.EventHup).Row = 2
				sleeps(&c.Window.Threads[0])
			}, Healthy, ""},
		{"a hang-up of a number that is closed each time (L11)", func(c *evidence.Case) {
			d := delivered(c, in|rdhup|evidence.EventHup)
			d.Row, d.Closes = 200, 300
			sleeps(&c.Window.Threads[0])
		}, Healthy, ""},
		{"an event that no rule knows", func(c *evidence.Case) {
			d := delivered(c, in)
			d.Read, d.Row = evidence.IO{Calls: 700_000, Again: 700_000}, 1
		}, Spin, "?"},

		{"EAGAIN in each turn on a descriptor that is not reported", func(c *evidence.Case) {
			asksNotToSleep(c)
			suspect(c).Read, suspect(c).Row = evidence.IO{Calls: 700_000, Again: 700_000}, 0
		}, Spin, "T6"},
		{"the process asks not to sleep, and nothing else is seen", asksNotToSleep, Spin, "?"},

		{"attempts to connect at the speed of system calls", func(c *evidence.Case) {
			storm(c, 90_000, 0)
		}, Spin, "C1"},
		{"attempts that come about", func(c *evidence.Case) { storm(c, 90_000, 90_000) }, Healthy, ""},
		{"attempts that are as many as the clients", func(c *evidence.Case) {
			storm(c, 90_000, 0)
			c.Window.Descriptors[1].Accepts = 45_000
		}, Healthy, ""},
		{"attempts with a delay, beside other work", func(c *evidence.Case) { storm(c, 20, 0) }, Healthy, ""},

		{"accept fails again and again, and nobody asks the kernel between", func(c *evidence.Case) {
			runtimeHides(c)
			suspect(c).AcceptErrors = 90_000
		}, Spin, "F5"},
		{"an end of input again and again, and nobody asks the kernel between", func(c *evidence.Case) {
			runtimeHides(c)
			suspect(c).Read = evidence.IO{Calls: 90_000, Zero: 90_000}
		}, Spin, "F3"},
		{"a herd of threads at a listener (L9)", func(c *evidence.Case) {
			runtimeHides(c)
			suspect(c).AcceptErrors, suspect(c).Accepts = 90_000, 6000
			suspect(c).Deliveries = []evidence.Delivery{{Mask: in, Count: 96_000}}
		}, Healthy, ""},
		{"EAGAIN that ends each burst (L8)", func(c *evidence.Case) {
			runtimeHides(c)
			suspect(c).Read = evidence.IO{Calls: 180_000, Bytes: 90_000_000, Again: 90_000}
		}, Healthy, ""},

		{"no wait, no call, and a set that nobody waits on", handler, Boundary, "B1"},
		{"the same in a thread that is none of the event loops", func(c *evidence.Case) {
			handler(c)
			c.Window.Threads = append(c.Window.Threads, evidence.Thread{
				TID: 4713, Run: evidence.Know(time.Duration(0)), Queued: evidence.Know(time.Duration(0)),
				WaitsOn: evidence.Know(5),
			})
		}, Healthy, ""},
		{"a thread that computes and writes", func(c *evidence.Case) {
			handler(c)
			c.Window.Threads[0].Calls = evidence.Know[uint64](50_000)
		}, Healthy, ""},
		{"sched_yield and nothing else", func(c *evidence.Case) {
			handler(c)
			c.Window.Threads[0].Calls = evidence.Know[uint64](900_000)
			c.Window.Threads[0].Yields = evidence.Know[uint64](899_990)
		}, Boundary, "B2"},
		{"few waits, and each burns the CPU in the kernel", func(c *evidence.Case) {
			set := &c.Window.Threads[0].Sets[0]
			set.Waits = evidence.Waits{}
			set.Waits[evidence.TimeoutPositive][evidence.ResultEvents] = 20
			c.Window.Threads[0].Calls = evidence.Know[uint64](5)
		}, Boundary, "B3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := foreign()
			tt.change(c)
			d := Correlate(c)
			if classes := classesOf(d); d.Verdict != tt.verdict || classes != tt.classes {
				t.Fatalf("verdict %q with classes %q, should be %q with %q", d.Verdict, classes, tt.verdict,
					tt.classes)
			}
		})
	}
}

// storm has the process connect to one destination.
func storm(c *evidence.Case, connects, established uint64) {
	set := &c.Window.Threads[0].Sets[0]
	set.Waits = evidence.Waits{}
	set.Waits[evidence.TimeoutPositive][evidence.ResultEvents] = connects
	c.Window.Threads[0].Progress = evidence.Know(connects) // it closes as often
	c.Window.Destinations = []evidence.Destination{{
		Address: "192.0.2.9:25", Connects: connects, Established: evidence.Know(established),
	}}
}

// runtimeHides has two threads take turns, as those of a runtime do, neither of which waits.
func runtimeHides(c *evidence.Case) {
	t := &c.Window.Threads[0]
	t.Sets, t.Run, t.VoluntarySwitches = nil, evidence.Know(time.Second), evidence.Know[uint64](300)
	other := *t
	other.TID = 4713
	idle := evidence.Thread{TID: 4714, Run: evidence.Know(time.Duration(0)),
		Queued: evidence.Know(time.Duration(0)), WaitsOn: evidence.Know(5)}
	c.Window.Threads = append(c.Window.Threads, other, idle)
	suspect(c).Row, suspect(c).EpollFD = 0, -1
}

// handler has the thread compute and never come back to a wait.
func handler(c *evidence.Case) {
	c.Window.Threads[0].Sets = nil
	c.Window.Threads[0].Calls = evidence.Know[uint64](3)
	c.Window.Threads[0].User = evidence.Know(1980 * time.Millisecond)
	c.Window.Threads[0].System = evidence.Know(10 * time.Millisecond)
}

// TestLookAlikesAreHealthy: what only looks like spinning, one fact away from it.
func TestLookAlikesAreHealthy(t *testing.T) {
	const in, out = evidence.EventIn, evidence.EventOut
	tests := []struct {
		name   string
		change func(*evidence.Case)
	}{
		{"a descriptor that is delivered often and handled (L1)", func(c *evidence.Case) {
			d := delivered(c, in)
			d.Read, d.Row = evidence.IO{Calls: 700_000, Bytes: 7_000_000_000}, 1
			c.Window.Threads[0].Progress = evidence.Know[uint64](700_000)
		}},
		{"four-byte messages (L6)", func(c *evidence.Case) {
			d := delivered(c, in)
			d.Read = evidence.IO{Calls: 350_000, Bytes: 1_400_000, Tiny: 350_000}
			d.Write, d.Row = d.Read, 1
			c.Window.Threads[0].Progress = evidence.Know[uint64](700_000)
		}},
		{"deferred handlers: a few deliveries in a row (L22)", func(c *evidence.Case) {
			d := delivered(c, in)
			d.Row, d.Read = 40, evidence.IO{Calls: 60_000, Bytes: 60_000_000}
			c.Window.Threads[0].Progress = evidence.Know[uint64](600_000)
		}},
		{"a stuck descriptor of a thread that sleeps: a cost, not a spin", func(c *evidence.Case) {
			delivered(c, out)
			sleeps(&c.Window.Threads[0])
		}},
		{"an error storm where each error is followed by a close (L11)", func(c *evidence.Case) {
			d := delivered(c, in|evidence.EventErr|evidence.EventHup)
			d.Read, d.Closes, d.Row = evidence.IO{Calls: 700_000, Reset: 700_000}, 700_000, 1
			d.Accepts = 0
			c.Window.Threads[0].Progress = evidence.Know[uint64](1_400_000)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := foreign()
			tt.change(c)
			if d := Correlate(c); d.Verdict != Healthy {
				t.Errorf("verdict %q with classes %q, should be healthy", d.Verdict, classesOf(d))
			}
		})
	}
}

func TestForeignFindingNamesTheCulprit(t *testing.T) {
	c := foreign()
	delivered(c, evidence.EventOut)
	c.Window.Samples = &evidence.Samples{Stacks: []evidence.Stack{
		{TID: foreignTID, Count: 60, User: []evidence.Frame{{Function: "flush"}, {Function: "run"}}},
		{TID: foreignTID, Count: 40, User: []evidence.Frame{{Object: "/usr/bin/server", Address: 0x1234}}},
		{TID: 4713, Count: 900, User: []evidence.Frame{{Function: "elsewhere"}}},
	}}
	f := Correlate(c).Findings[0]
	want := Descriptor{Number: suspectFD, Side: "client", Kind: "tcp", State: "ESTABLISHED",
		Mask: evidence.Know("OUT x700000"), Local: "192.0.2.1:25", Remote: "192.0.2.7:20639"}
	if f.FD == nil || *f.FD != want {
		t.Errorf("descriptor %+v, should be %+v", f.FD, want)
	}
	if len(f.Functions) != 2 || f.Functions[0].Name != "flush" || f.Functions[0].Share != 0.6 ||
		f.Functions[0].Callers[0] != "run" || f.Functions[1].Name != "/usr/bin/server+0x1234" {
		t.Errorf("functions %+v", f.Functions)
	}
	if len(f.Unknown) != 0 {
		t.Errorf("with everything seen, unknown is %q", f.Unknown)
	}
	c.Window.Samples = nil
	if f := Correlate(c).Findings[0]; !strings.Contains(strings.Join(f.Unknown, "; "), "functions") {
		t.Errorf("that no functions were seen is not said: %q", f.Unknown)
	}
}

// TestOneCauseExplainsItsThreadOnly: a second thread that spins for another reason is found as well.
func TestOneCauseExplainsItsThreadOnly(t *testing.T) {
	c := foreign()
	delivered(c, evidence.EventOut)
	other := c.Window.Threads[0]
	other.TID = 4713
	other.Sets = []evidence.EpollSet{{FD: 7, Slept: evidence.Know[uint64](0)}}
	other.Sets[0].Waits[evidence.TimeoutZero][evidence.ResultNone] = 700_000
	c.Window.Threads = append(c.Window.Threads, other)
	if classes := classesOf(Correlate(c)); classes != "F1 ?" && classes != "? F1" {
		t.Errorf("classes %q, should be F1 and a spin without a class", classes)
	}
}

// TestAskingNotToSleepIsSaid: without its state that is all that can be said of the T family.
func TestAskingNotToSleepIsSaid(t *testing.T) {
	const text = "asks not to sleep"
	said := func(f Finding) bool {
		return slices.ContainsFunc(f.Evidence, func(v Fact) bool { return strings.Contains(v.Text, text) })
	}
	c := foreign()
	asksNotToSleep(c)
	if f := Correlate(c).Findings[0]; !said(f) {
		t.Errorf("that it %s is not said: %+v", text, f.Evidence)
	}
	c = foreign()
	d := delivered(c, evidence.EventIn)
	d.Read, d.Row = evidence.IO{Calls: 700_000, Again: 700_000}, 1
	if f := Correlate(c).Findings[0]; said(f) {
		t.Errorf("it does sleep if it can, and is said to ask not to: %+v", f.Evidence)
	}
}
