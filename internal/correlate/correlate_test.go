package correlate

import (
	"strings"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/ktime"
)

// The tests begin with a case in which everything fits and change one fact at a time: each deciding fact
// must change the verdict, and facts that decide nothing must not.

const (
	began = ktime.Time(1_000_000 * time.Second)
	ended = began + ktime.Time(2*time.Second)
)

// spinning is the founding case in our own proxy, seen by everything there is.
func spinning() *evidence.Case {
	c := &evidence.Case{
		Process: evidence.Process{PID: 4711, Command: "whyspin", Kind: evidence.KindWhyspin},
		Socket:  "/run/whyspin.sock",
		Before:  &evidence.Snapshot{At: began, StreamCount: 3400},
		After:   &evidence.Snapshot{At: ended, StreamCount: 3400},
	}
	stream := evidence.Stream{
		ID: "0x2a00000003", Worker: 1, Frontend: "smtp", Backend: "smtp", Server: "mx2",
		Client:   "192.0.2.7:20639",
		Upstream: "192.0.2.9:25", Age: time.Hour, ClientState: "CLO", ServerState: "EST",
		Request:  evidence.Channel{InShut: true, OutShut: true},
		Response: evidence.Channel{InShut: true, OutShut: true},
		ClientFD: -1, ServerFD: 1086, Cause: "timer tunnel", Redispatched: true, Retries: 1,
		Timers: []evidence.Timer{{Name: "tunnel", Deadline: began - ktime.Time(time.Minute)}},
	}
	for i, s := range []*evidence.Snapshot{c.Before, c.After} {
		stream.Calls = 1_000_000 + uint64(i)*700_000
		stream.NoProgress = evidence.Know(stream.Calls - 10)
		s.Streams = []evidence.Stream{stream}
		w := evidence.Worker{Index: 1, TID: 4712, EpollFD: 5, Streams: 3400}
		w.Waits[evidence.TimeoutZero][evidence.ResultNone] = uint64(i) * 700_000
		s.Workers = []evidence.Worker{w}
	}
	worker := evidence.Thread{
		TID: 4712, Name: "worker/1", Run: evidence.Know(1990 * time.Millisecond),
		Queued: evidence.Know(8 * time.Millisecond), Runnable: true,
		VoluntarySwitches: evidence.Know[uint64](0),
		Calls:             evidence.Know[uint64](90),
		Sets: []evidence.EpollSet{
			{FD: 5, Owner: evidence.OwnerWorker, Slept: evidence.Know[uint64](0)},
		},
	}
	worker.Sets[0].Waits[evidence.TimeoutZero][evidence.ResultNone] = 700_000
	worker.Sets[0].Waits[evidence.TimeoutZero][evidence.ResultEvents] = 40
	runtime := evidence.Thread{
		TID: 4713, Name: "whyspin", Run: evidence.Know(3 * time.Millisecond),
		Queued: evidence.Know(time.Duration(0)),
		Sets:   []evidence.EpollSet{{FD: 3, Owner: evidence.OwnerRuntime}},
	}
	runtime.Sets[0].Waits[evidence.TimeoutZero][evidence.ResultNone] = 5000
	c.Window = &evidence.Window{
		PID: 4711, Start: began, End: ended, Threads: []evidence.Thread{worker, runtime},
		Hooks: evidence.Hooks{Syscall: evidence.Know("tp_btf"), Socket: evidence.Know("tp_btf")},
		Descriptors: []evidence.Descriptor{
			{FD: 1086, EpollFD: 5, Socket: evidence.Know(evidence.Socket{Kind: "tcp", State: "ESTABLISHED"})},
			{FD: 12, EpollFD: 5, Read: evidence.IO{Calls: 40, Bytes: 1000},
				Write:      evidence.IO{Calls: 40, Bytes: 1000},
				Deliveries: []evidence.Delivery{{Mask: evidence.EventIn, Count: 40}}},
		},
	}
	return c
}

// both changes the stream in both snapshots.
func both(c *evidence.Case, change func(*evidence.Stream)) {
	change(&c.Before.Streams[0])
	change(&c.After.Streams[0])
}

func quiet(c *evidence.Case) {
	w := &c.Window.Threads[0]
	w.Run, w.VoluntarySwitches = evidence.Know(20*time.Millisecond), evidence.Know[uint64](400)
	w.Sets[0].Waits = evidence.Waits{}
	w.Sets[0].Waits[evidence.TimeoutPositive][evidence.ResultEvents] = 400
}

// sleeps has a thread sleep for half of the window.
func sleeps(t *evidence.Thread) {
	t.Run, t.VoluntarySwitches = evidence.Know(900*time.Millisecond), evidence.Know[uint64](5000)
	t.Sets[0].Slept = evidence.Know[uint64](5000)
}

func still(c *evidence.Case) { c.After.Streams[0].Calls = c.Before.Streams[0].Calls }

func unarmed(c *evidence.Case) {
	both(c, func(s *evidence.Stream) { s.Timers = nil })
}

func passed(c *evidence.Case) {
	both(c, func(s *evidence.Stream) {
		s.Timers = []evidence.Timer{{Name: "server read", Deadline: ktime.Never, Passed: true}}
	})
}
func healthyStream(c *evidence.Case) { c.Before.Streams, c.After.Streams = nil, nil }

func TestRules(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*evidence.Case)
		verdict Verdict
		classes string
	}{
		{"the founding case", func(*evidence.Case) {}, Spin, "T3"},
		{"it is named without probes", func(c *evidence.Case) { c.Window = nil }, Spin, "T3"},
		{"it is named on a worker that is saturated by others", func(c *evidence.Case) {
			c.Window.Descriptors[1].Read.Calls = 500_000
		}, Spin, "T3"},
		{"an open channel is no orphan: past-due timer", func(c *evidence.Case) {
			both(c, func(s *evidence.Stream) { s.Response.OutShut = false })
		}, Spin, "T1"},
		{"both sides established: past-due timer", func(c *evidence.Case) {
			both(c, func(s *evidence.Stream) { s.ClientState = "EST" })
		}, Spin, "T1"},
		{"an orphan without a timer and without wakeups is an idle leak", func(c *evidence.Case) {
			quiet(c)
			still(c)
			unarmed(c)
		}, Leak, "T3i"},
		{"an orphan whose timer has not passed yet is idle still", func(c *evidence.Case) {
			quiet(c)
			still(c)
			both(c, func(s *evidence.Stream) { s.Timers[0].Deadline = ended.Add(time.Minute) })
		}, Leak, "T3"},
		{"a timer that has passed nobody knows when is overdue all the same", passed, Spin, "T3"},
		{"whether a timer is armed is not known, and the wakeups climb", func(c *evidence.Case) {
			both(c, func(s *evidence.Stream) { s.Timers, s.TimersUnknown = nil, true })
		}, Spin, "T3"},
		{"whether a timer is armed is not known, and nothing wakes it", func(c *evidence.Case) {
			quiet(c)
			still(c)
			both(c, func(s *evidence.Stream) { s.Timers, s.TimersUnknown = nil, true })
		}, Leak, "T3i"},
		{"whether a timer is armed is not known, nor whether it is woken", func(c *evidence.Case) {
			quiet(c)
			c.Before.Streams = nil
			c.After.Streams[0].Timers, c.After.Streams[0].TimersUnknown = nil, true
		}, Healthy, ""},
		{"a spin beside an idle leak: the leak is not to blame", func(c *evidence.Case) {
			still(c)
			unarmed(c)
		}, Spin, "? T3i"},
		{"a stream that runs for ever without a past-due timer has no class", func(c *evidence.Case) {
			both(c, func(s *evidence.Stream) {
				s.ClientState, s.Cause, s.Timers = "EST", "more work", nil
			})
		}, Spin, "?"},
		{"a stream that runs for ever with progress is no suspect", func(c *evidence.Case) {
			quiet(c)
			both(c, func(s *evidence.Stream) {
				s.ClientState, s.Timers, s.NoProgress = "EST", nil, evidence.Know[uint64](2)
			})
		}, Healthy, ""},
		{"a stream that is merely late is no suspect", func(c *evidence.Case) {
			quiet(c)
			both(c, func(s *evidence.Stream) { s.ClientState = "EST" })
			c.After.Streams[0].Calls = c.Before.Streams[0].Calls + 1
		}, Healthy, ""},
		{"a spin without a suspect stream has no class", healthyStream, Spin, "?"},
		{"a spin without any state has no class", func(c *evidence.Case) { c.Before, c.After = nil, nil },
			Spin, "?"},
		{"the same under a quota: little CPU, but never asleep", func(c *evidence.Case) {
			healthyStream(c)
			c.Window.Threads[0].Run = evidence.Know(600 * time.Millisecond)
			c.Window.Threads[0].Queued = evidence.Know(1395 * time.Millisecond)
		}, Spin, "?"},
		{"saturated and progressing", func(c *evidence.Case) {
			healthyStream(c)
			c.Window.Threads[0].Sets[0].Waits = evidence.Waits{}
			c.Window.Threads[0].Sets[0].Waits[evidence.TimeoutZero][evidence.ResultEvents] = 2000
			c.Window.Descriptors[1].Read.Calls = 400_000
		}, Healthy, ""},
		{"zero timeouts of a thread that also sleeps", func(c *evidence.Case) {
			healthyStream(c)
			sleeps(&c.Window.Threads[0])
		}, Healthy, ""},
		{"a thread that was seen on a CPU for a moment, and asleep since", func(c *evidence.Case) {
			quiet(c)
			healthyStream(c)
			t := &c.Window.Threads[0]
			t.Runnable, t.Sets, t.WaitsOn = false, nil, evidence.Know(-1)
			t.VoluntarySwitches = evidence.Know[uint64](0)
			t.Calls = evidence.Know[uint64](0)
			c.Window.Threads[1].WaitsOn = evidence.Know(-1)
			c.Window.Descriptors = append(c.Window.Descriptors, evidence.Descriptor{FD: 5, EpollFD: -1,
				Socket: evidence.Know(evidence.Socket{Kind: "epoll"})})
		}, Healthy, ""},
		{"five hundredths of the time stolen by the host", func(c *evidence.Case) {
			healthyStream(c)
			c.Window.Threads[0].Run = evidence.Know(1890 * time.Millisecond)
		}, Spin, "?"},
		{"asleep by the lag of the scheduler's sums, and in no wait", func(c *evidence.Case) {
			healthyStream(c)
			c.Window.Threads[0].Run = evidence.Know(1890 * time.Millisecond)
			c.Window.Threads[0].VoluntarySwitches = evidence.Know[uint64](29)
		}, Spin, "?"},
		{"handlers that compute for milliseconds", func(c *evidence.Case) {
			healthyStream(c)
			c.Window.Threads[0].Sets[0].Waits[evidence.TimeoutZero][evidence.ResultNone] = 400
			c.Window.Threads[0].User = evidence.Know(1980 * time.Millisecond)
			c.Window.Descriptors = nil
		}, Healthy, ""},
		{"no progress seen, but calls were lost", func(c *evidence.Case) {
			healthyStream(c)
			c.Window.Losses.BeyondTable = 900_000
		}, NotObserved, ""},
		{"an end of input again and again is no progress", func(c *evidence.Case) {
			healthyStream(c)
			c.Window.Descriptors[1].Read = evidence.IO{Calls: 700_000, Zero: 700_000}
		}, Spin, "F3"},
		{"a write to a closed pipe again and again is no progress", func(c *evidence.Case) {
			healthyStream(c)
			c.Window.Descriptors[1].Write = evidence.IO{Calls: 700_000, Pipe: 700_000}
		}, Spin, "?"},
		{"a connect that fails again and again is no progress", func(c *evidence.Case) {
			healthyStream(c)
			c.Window.Descriptors[1].Connects = 700_000
		}, Spin, "?"},
		{"a second epoll set that spins", func(c *evidence.Case) {
			c.Before, c.After = nil, nil
			t := &c.Window.Threads[0]
			spinner := t.Sets[0]
			spinner.FD = 7
			t.Sets[0].Waits = evidence.Waits{}
			t.Sets[0].Waits[evidence.TimeoutPositive][evidence.ResultEvents] = 5
			t.Sets = append(t.Sets, spinner)
		}, Spin, "?"},
		{"an idle orphan that is woken now and then is a leak still", func(c *evidence.Case) {
			quiet(c)
			unarmed(c)
			c.After.Streams[0].Calls = c.Before.Streams[0].Calls + 5
		}, Leak, "T3i"},
		{"a stream that is woken a few times a second is slow, not restless", func(c *evidence.Case) {
			quiet(c)
			both(c, func(s *evidence.Stream) { s.ClientState, s.Timers = "EST", nil })
			c.After.Streams[0].Calls = c.Before.Streams[0].Calls + 40
		}, Healthy, ""},
		{"a summary that is older than the one before says nothing", func(c *evidence.Case) {
			healthyStream(c)
			c.Window = nil
			c.Before.Workers[0].Waits[evidence.TimeoutZero][evidence.ResultNone] = 800_000
		}, NotObserved, ""},
		{"busy polling by configuration", func(c *evidence.Case) {
			healthyStream(c)
			c.After.BusyPolling = true
		}, Configured, ""},
		{"busy polling by configuration of a process that does not answer", func(c *evidence.Case) {
			c.Before, c.After, c.BusyPolling = nil, nil, true
		}, Configured, ""},
		{"idle", func(c *evidence.Case) {
			healthyStream(c)
			quiet(c)
			c.Window.Threads[0].Sets[0].Waits = evidence.Waits{}
		}, Healthy, ""},
		{"asleep, and nothing else is known", func(c *evidence.Case) {
			quiet(c)
			c.Before, c.After = nil, nil
			c.Window.Hooks, c.Window.Descriptors = evidence.Hooks{}, nil
			c.Window.Threads[0].Sets, c.Window.Threads[1].Sets = nil, nil
		}, Healthy, ""},
		{"awake, and nothing else is known", func(c *evidence.Case) {
			c.Before, c.After = nil, nil
			c.Window.Hooks, c.Window.Descriptors = evidence.Hooks{}, nil
			c.Window.Threads[0].Sets, c.Window.Threads[1].Sets = nil, nil
		}, NotObserved, ""},
		{"nothing is known", func(c *evidence.Case) { c.Before, c.After, c.Window = nil, nil, nil },
			NotObserved, ""},
		{"only the state at one moment, and it is in order", func(c *evidence.Case) {
			healthyStream(c)
			c.Before, c.Window = nil, nil
		}, NotObserved, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := spinning()
			tt.change(c)
			d := Correlate(c)
			if classes := classesOf(d); d.Verdict != tt.verdict || classes != tt.classes {
				t.Fatalf("verdict %q with classes %q, should be %q with %q", d.Verdict, classes, tt.verdict,
					tt.classes)
			}
		})
	}
}

func classesOf(d *Diagnosis) string {
	var classes []string
	for _, f := range d.Findings {
		c := string(f.Class)
		if f.Class == Unknown {
			c = "?"
		}
		classes = append(classes, c)
	}
	return strings.Join(classes, " ")
}

func TestFindingNamesTheCulprit(t *testing.T) {
	f := Correlate(spinning()).Findings[0]
	if f.Stream == nil || f.Stream.ID != "0x2a00000003" {
		t.Errorf("stream %v", f.Stream)
	}
	if f.FD == nil || *f.FD != (Descriptor{Number: 1086, Side: "server", Kind: "tcp", State: "ESTABLISHED",
		Mask: evidence.Know("")}) {
		t.Errorf("descriptor %+v", f.FD)
	}
	if f.Timer == nil || f.Timer.Name != "tunnel" || f.Timer.Overdue != evidence.Know(62*time.Second) {
		t.Errorf("timer %+v", f.Timer)
	}
	want := `echo "shutdown session 0x2a00000003" | socat - /run/whyspin.sock`
	if !strings.HasPrefix(f.Remedy, want) {
		t.Errorf("remedy %q", f.Remedy)
	}
	counts := map[string]uint64{}
	for _, fact := range f.Evidence {
		if n, ok := fact.Count.Get(); ok {
			counts[fact.Text] = n
		}
	}
	for text, want := range map[string]uint64{
		"epoll_wait(timeout=0)=0 by thread 4712":                                                 700_000,
		"all other waits by thread 4712":                                                         40,
		"voluntary context switches of thread 4712":                                              0,
		"system calls on descriptor 1086 (server side) in the window":                            0,
		"wakeups of the stream between two looks at it, none with progress, cause: timer tunnel": 700_000,
	} {
		if got, ok := counts[text]; !ok || got != want {
			t.Errorf("fact %q counts %d (%t), should count %d", text, got, ok, want)
		}
	}
}

func TestConfidenceFollowsFromTheEvidence(t *testing.T) {
	full := Correlate(spinning()).Findings[0]
	c := spinning()
	c.Window = nil
	blind := Correlate(c).Findings[0]
	c.Before = nil
	once := Correlate(c).Findings[0]
	if !(full.Confidence > blind.Confidence && blind.Confidence > once.Confidence) {
		t.Errorf("confidence %.3f with probes, %.3f without, %.3f from one dump: should decrease",
			full.Confidence,
			blind.Confidence, once.Confidence)
	}
	if len(full.Unknown) != 0 {
		t.Errorf("with everything seen, unknown is %q", full.Unknown)
	}
	if len(blind.Unknown) == 0 || len(once.Unknown) < 2 {
		t.Errorf("what was not seen is not said: %q, %q", blind.Unknown, once.Unknown)
	}
	if full.Confidence >= 1 {
		t.Error("certainty")
	}
}

// TestRemedyForARealHAProxy: it ignores its own kill order for the founding bug.
func TestRemedyForARealHAProxy(t *testing.T) {
	c := spinning()
	c.Process.Kind = evidence.KindHAProxy
	f := Correlate(c).Findings[0]
	if !strings.Contains(f.Remedy, "reload") || !strings.Contains(f.Remedy, "kill -TERM 4711") {
		t.Errorf("remedy %q", f.Remedy)
	}
}

func TestTheGoRuntimesOwnPollingIsNoLoop(t *testing.T) {
	for _, th := range Correlate(spinning()).Threads {
		if th.TID == 4713 {
			t.Errorf("the runtime's thread is listed: %+v", th)
		}
	}
}

// TestUnlistedStreamIsNotInvented: streams that are not suspect are not listed by the process, and nothing
// is made of their absence.
func TestUnlistedStreamIsNotInvented(t *testing.T) {
	c := spinning()
	healthyStream(c)
	d := Correlate(c)
	if f := d.Findings[0]; f.Stream != nil || f.FD != nil || len(f.Unknown) == 0 {
		t.Errorf("finding %+v", f)
	}
}

// TestRemedyTakesTheSocketAsItIs: what is printed is pasted into a shell at three in the morning.
func TestRemedyTakesTheSocketAsItIs(t *testing.T) {
	for socket, want := range map[string]string{
		"/run/whyspin.sock": "/run/whyspin.sock",
		"127.0.0.1:9999":    "TCP:127.0.0.1:9999",
		"[::1]:9999":        "TCP6:[::1]:9999",
		"@whyspin":          "ABSTRACT-CONNECT:whyspin",
		"/run/my proxy":     "'/run/my proxy'",
		"/run/it's":         `'/run/it'\''s'`,
		"/run/a:b":          `'UNIX-CONNECT:/run/a\:b'`,
	} {
		if got := socatAddress(socket); got != want {
			t.Errorf("%s becomes %s, should be %s", socket, got, want)
		}
	}
}

// TestProcessInAnotherPidNamespace numbers its threads otherwise: the epoll set tells which is which.
func TestProcessInAnotherPidNamespace(t *testing.T) {
	c := spinning()
	c.Before.Workers[0].TID, c.After.Workers[0].TID = 7, 7
	f := Correlate(c).Findings[0]
	if f.Class != T3 || len(f.threads) != 1 || f.threads[0] != 4712 {
		t.Errorf("class %q, threads %v", f.Class, f.threads)
	}
	healthyStream(c)
	if d := Correlate(c); d.Verdict != Spin {
		t.Errorf("verdict %q, should be spin", d.Verdict)
	}
}

// TestSleepingWorkersAreListed: an empty list of threads would read as if there were none.
func TestSleepingWorkersAreListed(t *testing.T) {
	c := spinning()
	quiet(c)
	healthyStream(c)
	c.Window.Threads[0].Sets, c.Window.Threads[0].WaitsOn = nil, evidence.Know(5)
	c.Window.Threads[1].WaitsOn = evidence.Know(3)
	d := Correlate(c)
	if d.Verdict != Healthy || len(d.Threads) != 1 || d.Threads[0].TID != 4712 ||
		d.Threads[0].Waits != evidence.Know(0.0) {
		t.Errorf("verdict %q, threads %+v", d.Verdict, d.Threads)
	}
}

// TestAmountThatIsNotKnownIsNotInvented: a timer that has passed, nobody knows when.
func TestAmountThatIsNotKnownIsNotInvented(t *testing.T) {
	c := spinning()
	passed(c)
	f := Correlate(c).Findings[0]
	if f.Timer == nil || f.Timer.Name != "server read" || f.Timer.Overdue.IsKnown() {
		t.Errorf("timer %+v", f.Timer)
	}
	if len(f.Unknown) != 1 || f.Unknown[0] != "by how much the server read timer is overdue" {
		t.Errorf("unknown is %q", f.Unknown)
	}
	// A deadline that is known says more, whichever is listed first.
	known := evidence.Timer{Name: "tunnel", Deadline: ended - ktime.Time(time.Second)}
	both(c, func(s *evidence.Stream) { s.Timers = append(s.Timers, known) })
	f = Correlate(c).Findings[0]
	if f.Timer == nil || f.Timer.Name != "tunnel" || f.Timer.Overdue != evidence.Know(time.Second) {
		t.Errorf("timer %+v", f.Timer)
	}
}
