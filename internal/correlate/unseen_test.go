package correlate

import (
	"strings"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// TestWhatIsNotKnownNamesNoClass: mutants of recordings had each of these named wrong.
func TestWhatIsNotKnownNamesNoClass(t *testing.T) {
	unseen := func(c *evidence.Case) { suspect(c).Socket = evidence.Observed[evidence.Socket]{} }
	tests := []struct {
		name   string
		change func(*evidence.Case)
		want   Class
	}{
		{"what may be a listener, or closed, is not called readable", func(c *evidence.Case) {
			delivered(c, evidence.EventIn)
			unseen(c)
		}, Unknown},
		{"what may be closed is not called writable", func(c *evidence.Case) {
			delivered(c, evidence.EventOut)
			unseen(c)
		}, Unknown},
		{"what may be closed has no error that somebody ought to read", func(c *evidence.Case) {
			delivered(c, evidence.EventErr)
			unseen(c)
		}, Unknown},
		{"what may be closed has no peer that has shut down", func(c *evidence.Case) {
			delivered(c, evidence.EventIn|evidence.EventRdHup)
			unseen(c)
		}, Unknown},
		{"calls of accept tell a listener", func(c *evidence.Case) {
			delivered(c, evidence.EventIn).AcceptErrors = 700_000
			unseen(c)
		}, F5},
		{"reads of 0 tell an end of input", func(c *evidence.Case) {
			delivered(c, evidence.EventIn).Read = evidence.IO{Calls: 700_000, Zero: 700_000}
			unseen(c)
		}, F3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := foreign()
			tt.change(c)
			d := Correlate(c)
			if d.Verdict != Spin || len(d.Findings) != 1 || d.Findings[0].Class != tt.want ||
				d.Findings[0].FD.Number != suspectFD {
				t.Errorf("verdict %q, findings %+v, should be class %q", d.Verdict, d.Findings, tt.want)
			}
		})
	}
}

// TestAShortWindowMakesNoStorm: what seldom happens may happen to lie in it.
func TestAShortWindowMakesNoStorm(t *testing.T) {
	for name, change := range map[string]func(*evidence.Case){
		"retries with a delay": func(c *evidence.Case) { storm(c, 2, 0) },
		"ends of bursts": func(c *evidence.Case) {
			runtimeHides(c)
			suspect(c).Read = evidence.IO{Calls: 12, Again: 12}
		},
	} {
		c := foreign()
		change(c)
		c.Window.End = c.Window.Start.Add(10 * time.Millisecond)
		if d := Correlate(c); len(d.Findings) > 0 {
			t.Errorf("%s: findings %+v, should be none", name, d.Findings)
		}
	}
}

// TestAStackThatWasNeverFoundIsNoFunction: a recording may say anything.
func TestAStackThatWasNeverFoundIsNoFunction(t *testing.T) {
	s := &evidence.Samples{Stacks: []evidence.Stack{{User: []evidence.Frame{{Function: "main"}}}}}
	if f := functionsOf(s, nil, false); len(f) > 0 {
		t.Errorf("functions %+v, should be none", f)
	}
}

// TestAThreadIsExplainedOnce: what keeps it awake is a descriptor, whatever else is tried meanwhile.
func TestAThreadIsExplainedOnce(t *testing.T) {
	c := foreign()
	delivered(c, evidence.EventOut)
	c.Window.Destinations = []evidence.Destination{{
		Address: "192.0.2.9:25", Connects: 300, Refused: 300, Established: evidence.Know[uint64](0),
	}}
	if classes := classesOf(Correlate(c)); classes != "F1" {
		t.Errorf("classes %q, should be F1 alone", classes)
	}
}

// TestTheKernelsFunctionIsNamed: of a wait that burns the CPU in the kernel that of the program says nothing.
func TestTheKernelsFunctionIsNamed(t *testing.T) {
	c := foreign()
	set := &c.Window.Threads[0].Sets[0]
	set.Waits = evidence.Waits{}
	set.Waits[evidence.TimeoutPositive][evidence.ResultEvents] = 20
	c.Window.Threads[0].Calls = evidence.Know[uint64](5)
	c.Window.Samples = &evidence.Samples{Stacks: []evidence.Stack{{
		TID: foreignTID, Count: 90, User: []evidence.Frame{{Function: "epoll_wait"}, {Function: "main"}},
		Kernel: []evidence.Frame{{Function: "veth_poll"}, {Function: "napi_busy_loop"}},
	}}}
	f := Correlate(c).Findings[0]
	if f.Class != B3 || f.Functions[0].Name != "veth_poll" || !strings.Contains(f.Remedy, "busy_poll") {
		t.Errorf("the finding is %+v", f)
	}
	c.Window.Samples.Stacks[0].Kernel = []evidence.Frame{{Function: "ep_send_events"}}
	f = Correlate(c).Findings[0]
	if f.Functions[0].Name != "ep_send_events" || strings.Contains(f.Remedy, "busy_poll") {
		t.Errorf("the finding is %+v", f)
	}
}

// TestFewSamplesAreSaid: a single odd moment is all that one sample shows.
func TestFewSamplesAreSaid(t *testing.T) {
	for _, samples := range []uint64{enoughSamples - 1, enoughSamples} {
		c := foreign()
		delivered(c, evidence.EventOut)
		c.Window.Samples = &evidence.Samples{Stacks: []evidence.Stack{{
			TID: foreignTID, Count: samples, User: []evidence.Frame{{Function: "futex"}},
		}}}
		unknown := strings.Join(Correlate(c).Findings[0].Unknown, "; ")
		said := strings.Contains(unknown, "samples taken of it: 4")
		if said != (samples < enoughSamples) {
			t.Errorf("%d samples: that they are few is said: %v", samples, said)
		}
	}
}
