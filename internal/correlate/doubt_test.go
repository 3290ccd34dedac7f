package correlate

import (
	"strings"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// TestAnOlderSummaryConvictsNobody: what a busy worker says last may be older than what it said first.
func TestAnOlderSummaryConvictsNobody(t *testing.T) {
	c := ours()
	unseen(c)
	serverSide(c, func(e *evidence.Side) { e.Reads = 5 + wakeups })
	c.Before.Workers[0].Read, c.After.Workers[0].Read = evidence.IO{Zero: 40}, evidence.IO{Zero: 30}
	if got := classesOf(Correlate(c)); strings.Contains(got, "F3") {
		t.Errorf("with fewer ends of inputs than before: %q", got)
	}
	c = ours()
	again(c, evidence.EventHup)
	c.Before.Workers[0].Waits[evidence.TimeoutPositive][evidence.ResultEvents] = 2 * wakeups
	f := Correlate(c).Findings[0]
	if f.Class != F4 || f.Partial {
		t.Errorf("class %q, partial %v: nothing is known of other work", f.Class, f.Partial)
	}
}

// TestCountersThatGoBackAreNotCounted: a busy worker's stream may be told as it was before the first look.
func TestCountersThatGoBackAreNotCounted(t *testing.T) {
	c := spinning()
	c.After.Streams[0].Calls = c.Before.Streams[0].Calls - 6
	f := Correlate(c).Findings[0]
	for _, fact := range f.Evidence {
		if n := fact.Count.Or(0); n > 1<<32 {
			t.Errorf("%d %s", n, fact.Text)
		}
	}
	if f.Class != T3 || !strings.Contains(strings.Join(f.Unknown, "; "), "how often the stream was woken") {
		t.Errorf("class %q, unknown %q", f.Class, f.Unknown)
	}
}

// TestListenerOfAnyKind: unix sockets have no states, a call of accept tells a listener all the same.
func TestListenerOfAnyKind(t *testing.T) {
	c := foreign()
	d := delivered(c, evidence.EventIn)
	d.AcceptErrors, d.Row = 700_000, 1
	socketOf(c, func(s *evidence.Socket) { *s = evidence.Socket{Kind: "unix"} })
	f := Correlate(c).Findings[0]
	if f.Class != F5 || f.Listener == nil {
		t.Fatalf("class %q, listener %v; should be F5 with its listener", f.Class, f.Listener)
	}
	if n, ok := f.Listener.Waiting.Get(); ok {
		t.Errorf("%d connections wait, where nobody counts them", n)
	}
	if !strings.Contains(strings.Join(f.Unknown, "; "), "how many connections wait") {
		t.Errorf("unknown is %q", f.Unknown)
	}
}

// TestKernelWorkElsewhereIsNoWait: a thread that takes page faults is busy in the kernel, but not in a wait.
func TestKernelWorkElsewhereIsNoWait(t *testing.T) {
	for entry, want := range map[string]string{"do_epoll_wait": "B3", "asm_exc_page_fault": "", "": "B3"} {
		c := foreign()
		thread := &c.Window.Threads[0]
		thread.Sets[0].Waits = evidence.Waits{}
		thread.Sets[0].Waits[evidence.TimeoutPositive][evidence.ResultEvents] = 50
		thread.Calls, thread.Progress = evidence.Know[uint64](20), evidence.Know[uint64](20)
		c.Window.Samples = &evidence.Samples{Stacks: []evidence.Stack{{TID: foreignTID, Count: 90,
			User: []evidence.Frame{{Function: "scan"}}, Kernel: []evidence.Frame{{Function: entry}}}}}
		if got := classesOf(Correlate(c)); got != want {
			t.Errorf("samples in %q: classes %q, want %q", entry, got, want)
		}
	}
}

// TestWhatCannotKeepAThreadAwakeExplainsNothing: a few waits before a deadline are no reason for a million.
func TestWhatCannotKeepAThreadAwakeExplainsNothing(t *testing.T) {
	c := ours()
	nobody(c, evidence.ZeroTimeouts{Ahead: 150})
	set := &c.Window.Threads[0].Sets[0]
	set.Waits = evidence.Waits{}
	set.Waits[evidence.TimeoutPositive][evidence.ResultEvents] = wakeups
	c.After.Workers[0].Waits = set.Waits
	d := &c.Window.Descriptors[0]
	d.Row, d.Deliveries = wakeups, []evidence.Delivery{{Mask: evidence.EventOut, Count: wakeups}}
	got := Correlate(c)
	if got.Verdict != Spin || got.Findings[0].Class != F1 {
		t.Errorf("verdict %q, classes %q; should be a spin of F1", got.Verdict, classesOf(got))
	}
}

// TestRemedyForALimit: who says which limit is reached is not told to look for another one.
func TestRemedyForALimit(t *testing.T) {
	c := foreign()
	d := delivered(c, evidence.EventIn)
	socketOf(c, func(s *evidence.Socket) { s.State, s.Remote = "LISTEN", "0.0.0.0:0" })
	if got := Correlate(c).Findings[0]; !strings.Contains(got.Remedy, "prlimit") || got.FD.Remote != "" {
		t.Errorf("remedy %q, connected to %q", got.Remedy, got.FD.Remote)
	}
	c.After = &evidence.Snapshot{At: ended, Listeners: []evidence.Listener{{FD: d.FD,
		Address: "192.0.2.1:25", Frontend: "smtp", Limit: "maxconn 10 of the frontend"}}}
	got := Correlate(c).Findings[0].Remedy
	if strings.Contains(got, "prlimit") || !strings.Contains(got, "maxconn 10 of the frontend") {
		t.Errorf("remedy: %s", got)
	}
}

// TestRemedyForAHAProxyThatIsStopping: there is nothing left to reload.
func TestRemedyForAHAProxyThatIsStopping(t *testing.T) {
	c := spinning()
	c.Process.Kind, c.After.Stopping = evidence.KindHAProxy, true
	got := Correlate(c).Findings[0].Remedy
	if strings.Contains(got, "reload") || !strings.Contains(got, "kill -TERM 4711") {
		t.Errorf("remedy: %s", got)
	}
}

// TestRemedyForAStopThatSpins: it ends by itself, and there is nothing to restart.
func TestRemedyForAStopThatSpins(t *testing.T) {
	c := ours()
	nobody(c, evidence.ZeroTimeouts{Flag: wakeups})
	c.After.Stopping = true
	f := Correlate(c).Findings[0]
	if f.Class != T7 || strings.Contains(f.Remedy, "restart") ||
		!strings.Contains(f.Remedy, "kill -TERM 4711") {
		t.Errorf("class %q, remedy: %s", f.Class, f.Remedy)
	}
}

// TestWhoWaitsOtherwiseIsNotCalledHealthy: waits by poll or io_uring are not judged, so that one who never
// sleeps and gets nothing done with them is not cleared.
func TestWhoWaitsOtherwiseIsNotCalledHealthy(t *testing.T) {
	polls := evidence.Waits{evidence.TimeoutPositive: {evidence.ResultEvents: 700_000}}
	for _, c := range []struct {
		name   string
		change func(*evidence.Thread)
		want   Verdict
	}{
		{"by poll", func(t *evidence.Thread) { t.Polls = evidence.Know(polls) }, NotObserved},
		{"by io_uring", func(t *evidence.Thread) { t.Rings = evidence.Know[uint64](700_000) }, NotObserved},
		{"by poll, and gets things done", func(t *evidence.Thread) {
			t.Polls, t.Progress = evidence.Know(polls), evidence.Know[uint64](700_000)
		}, Healthy},
		{"by poll, and sleeps", func(t *evidence.Thread) {
			t.Polls, t.Run, t.Runnable = evidence.Know(polls), evidence.Know(time.Second), false
		}, Healthy},
		{"by poll, now and then", func(t *evidence.Thread) {
			t.Polls = evidence.Know(evidence.Waits{evidence.TimeoutZero: {evidence.ResultNone: 50}})
		}, Healthy},
	} {
		e := foreign()
		thread := &e.Window.Threads[0]
		thread.Sets = nil
		c.change(thread)
		d := Correlate(e)
		if d.Verdict != c.want {
			t.Errorf("%s: verdict %q, should be %q", c.name, d.Verdict, c.want)
		}
		said := strings.Contains(strings.Join(d.Unknown, "; "), "which is not judged")
		if said != (c.want == NotObserved) {
			t.Errorf("%s: unknown is %q", c.name, d.Unknown)
		}
	}
}
