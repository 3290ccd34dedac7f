package diagnose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/probe"
	"github.com/whyspin/whyspin/internal/sys"
)

// supervised is an engine with one idle listener, its supervisor with the real probes, and its log.
type supervised struct {
	*Supervisor
	lines chan string
}

func supervise(t *testing.T) *supervised {
	t.Helper()
	at := sys.Address{IP: netip.MustParseAddrPort("127.0.0.1:0")}
	fd, err := sys.Listen(at, sys.ListenOptions{Backlog: 16, UID: -1, GID: -1})
	if err != nil {
		t.Fatal(err)
	}
	front := &config.Proxy{Name: "mail", ID: 2, IsFrontend: true, Binds: []*config.Bind{{ID: 1}}}
	c := &config.Config{Proxies: []*config.Proxy{front}}
	c.Global.BufferSize, c.Global.MaxAccept = 16384, 4
	e, err := engine.New(engine.Options{
		Config: c, Kernel: sys.Linux{}, Workers: 1, MaxConn: 10,
		Listeners: []engine.Listener{{FD: fd, Proxy: front, Bind: front.Binds[0]}},
	})
	if err != nil {
		t.Fatal(err)
	}
	e.Start()
	t.Cleanup(e.Stop)
	p, err := probe.Load(probe.Options{PID: os.Getpid(), DirectSets: []int{e.Workers()[0].EpollFD}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &supervised{lines: make(chan string, 100)}
	s.Supervisor = &Supervisor{Engine: e, Probe: p, Log: func(line string) { s.lines <- line }}
	return s
}

// logged returns the lines of the log so far.
func (s *supervised) logged() []string {
	var lines []string
	for len(s.lines) > 0 {
		lines = append(lines, <-s.lines)
	}
	return lines
}

// asking has somebody else make a diagnosis that lasts until the returned function is called.
func (s *supervised) asking(t *testing.T) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := s.Diagnose(ctx, time.Hour)
		ended <- err
	}()
	for deadline := time.Now().Add(time.Minute); len(s.recording()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain for the diagnosis to begin")
		}
	}
	return func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("a diagnosis that is given up ends with %v", err)
		}
	}
}

// TestSuspicionDoesNotWaitForSomebodysDiagnosis: self-healing must not depend on who asks what over HTTP.
func TestSuspicionDoesNotWaitForSomebodysDiagnosis(t *testing.T) {
	s := supervise(t)
	end := s.asking(t)
	defer end()
	c, err := s.suspicionWindow(t.Context(), 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if c.Before == nil || c.After == nil || c.Window != nil {
		t.Fatalf("before %v, after %v, window %v: should be the state alone", c.Before, c.After, c.Window)
	}
	if text := strings.Join(c.Unknown, "; "); !strings.Contains(text, "somebody asked for") {
		t.Errorf("that there is no kernel's view is not said: %q", text)
	}
}

func TestSecondDiagnosisAtATimeIsRefused(t *testing.T) {
	s := supervise(t)
	end := s.asking(t)
	if _, err := s.Diagnose(t.Context(), time.Millisecond); !errors.Is(err, ErrBusy) {
		t.Errorf("the error is %v, should be ErrBusy", err)
	}
	end()
	d, err := s.Diagnose(t.Context(), 20*time.Millisecond)
	if err != nil || d.Verdict != correlate.Healthy {
		t.Errorf("afterwards: %+v, %v: should be healthy", d, err)
	}
}

// TestDutyWindowGivesWay: the duty cycle does not wait for a diagnosis that somebody asked for.
func TestDutyWindowGivesWay(t *testing.T) {
	s := supervise(t)
	end := s.asking(t)
	s.dutyWindow(t.Context(), time.Hour)
	end()
	if s.last != nil {
		t.Error("a window was recorded while somebody else recorded")
	}
	s.dutyWindow(t.Context(), 20*time.Millisecond)
	if s.last == nil {
		t.Fatal("no window was recorded")
	}
	var out strings.Builder
	s.ShowSpin(&out)
	if !strings.Contains(out.String(), "kernel: window of") {
		t.Errorf("the window is not shown:\n%s", &out)
	}
}

// TestWhatWasNotObservedIsNotShownAsZero: a window without the hook on system calls has no counts.
func TestWhatWasNotObservedIsNotShownAsZero(t *testing.T) {
	s := supervise(t)
	s.last = &evidence.Window{Start: 1, End: 2, Unknown: []string{"system calls: no permission"}}
	var out strings.Builder
	s.ShowSpin(&out)
	if text := out.String(); strings.Contains(text, "0/s") || !strings.Contains(text, "not observed") {
		t.Errorf("it says:\n%s", text)
	}
}

func orphan(id int) correlate.Finding {
	return correlate.Finding{Class: correlate.T3, Stream: &evidence.Stream{ID: fmt.Sprintf("0x%x", id)}}
}

// TestFindingIsReportedOnce as long as it holds, and again when it comes back.
func TestFindingIsReportedOnce(t *testing.T) {
	s := supervise(t)
	s.budget.as = sys.Now().Add(time.Hour) // it does not come back meanwhile
	var many []correlate.Finding
	for i := range loggedAtOnce + 2 {
		many = append(many, orphan(i))
	}
	for _, tt := range []struct {
		findings []correlate.Finding
		lines    int
		count    uint64
	}{
		{many[:2], 2, 2}, {many[:2], 0, 2}, {many[1:3], 1, 3}, {nil, 0, 3}, {many[:1], 1, 4},
		{many, loggedAtOnce - 4 + 1, 4 + loggedAtOnce + 1}, // the last line says that there are more
		{nil, 0, 4 + loggedAtOnce + 1},
		{many[:1], 0, 4 + loggedAtOnce + 2}, // and is not repeated
	} {
		s.report(tt.findings)
		if lines := s.logged(); len(lines) != tt.lines {
			t.Errorf("%d findings gave %d lines, should give %d: %q", len(tt.findings), len(lines), tt.lines,
				lines)
		}
		if n := s.Counts()["T3"]; n != tt.count {
			t.Errorf("%d findings are counted, should be %d", n, tt.count)
		}
	}
}

// TestLogBudgetComesBack with time.
func TestLogBudgetComesBack(t *testing.T) {
	var b logBudget
	now := ktime.Time(time.Hour)
	for i := range 3 * loggedAtOnce {
		may, over := b.take(now)
		if may != (i < loggedAtOnce) || over != (i == loggedAtOnce) {
			t.Errorf("line %d: may be written %t, is the first over the limit %t", i+1, may, over)
		}
	}
	now = now.Add(time.Second)
	for i := range 2 * loggedPerSecond {
		may, over := b.take(now)
		if may != (i < loggedPerSecond) || over != (i == loggedPerSecond) {
			t.Errorf("line %d of a second: may be written %t, is the first over the limit %t", i+1, may, over)
		}
	}
}

// TestHealTakesTheMildestMeans that ends the spin.
func TestHealTakesTheMildestMeans(t *testing.T) {
	s := supervise(t)
	s.Action = config.SpinShutdown
	stream, own := &evidence.Stream{ID: "0x1"}, -1
	s.Engine.Descriptors(0, 1<<20, func(v *engine.DescriptorView) bool {
		if v.Kind == "listener" {
			own = v.FD
		}
		return own < 0
	})
	for i, tt := range []struct {
		finding correlate.Finding
		action  string
	}{
		{correlate.Finding{Class: correlate.F5, Listener: &correlate.Listener{Number: own}},
			"the listener rests"},
		{correlate.Finding{Class: correlate.F5, Listener: &correlate.Listener{Number: 1 << 20}}, "none: "},
		{correlate.Finding{Class: correlate.Unknown}, "none: "},
		{correlate.Finding{Class: correlate.C1, Stream: stream}, "the stream pauses"},
		{correlate.Finding{Class: correlate.T3, Stream: stream}, "the stream had ended by itself"},
		{correlate.Finding{Class: correlate.F4, Stream: stream, Partial: true}, "the stream had ended"},
		{correlate.Finding{Class: correlate.T3i, Stream: stream, Idle: true}, ""},
		{correlate.Finding{Class: correlate.B1, Stream: stream}, "the stream had ended"},
		{correlate.Finding{Class: correlate.B1}, ""},
	} {
		s.act(&tt.finding, false)
		got := s.findings[i].Action
		if !strings.HasPrefix(got, tt.action) || (tt.action == "") != (got == "") {
			t.Errorf("%s: the action is %q, should begin with %q", tt.finding.Class, got, tt.action)
		}
	}
}

// TestShowFinding finds by number and by stream, the latest first, and only what is remembered.
func TestShowFinding(t *testing.T) {
	s := supervise(t)
	first := orphan(1)
	first.Evidence = []correlate.Fact{{Text: "the first time"}}
	s.act(&first, true)
	again := orphan(1)
	again.Evidence = []correlate.Fact{{Text: "the second time"}}
	s.act(&again, true)
	for id, want := range map[string]string{
		"1": "the first time", "2": "the second time", "0x1": "the second time",
	} {
		var out strings.Builder
		if !s.ShowFinding(&out, id) || !strings.Contains(out.String(), want) {
			t.Errorf("finding %s reads, and should say %q:\n%s", id, want, &out)
		}
	}
	for i := range keptFindings {
		f := orphan(2 + i)
		s.act(&f, false)
	}
	for _, id := range []string{"1", "0x1", "3000", "foo"} {
		if s.ShowFinding(io.Discard, id) {
			t.Errorf("there is still a finding %s", id)
		}
	}
}

// TestFindingsExplainSuspicions: only one about the same stream, listener or descriptor does.
func TestFindingsExplainSuspicions(t *testing.T) {
	stream := correlate.Finding{Class: correlate.T3, Stream: &evidence.Stream{ID: "0x1"}}
	listener := correlate.Finding{Class: correlate.F5, Listener: &correlate.Listener{Number: 7}}
	descriptor := correlate.Finding{Class: correlate.F6, FD: &correlate.Descriptor{Number: 8}}
	leak := correlate.Finding{Class: correlate.T3i, Idle: true}
	for _, tt := range []struct {
		suspicion engine.Suspicion
		by        []correlate.Finding
		not       []correlate.Finding
	}{
		{engine.Suspicion{Stream: "0x1", FD: -1}, []correlate.Finding{stream},
			[]correlate.Finding{orphan(2), listener, descriptor, leak}},
		{engine.Suspicion{FD: 7, Listener: "smtp"}, []correlate.Finding{listener},
			[]correlate.Finding{stream, descriptor, leak}},
		{engine.Suspicion{FD: 8}, []correlate.Finding{descriptor},
			[]correlate.Finding{stream, listener, leak}},
		{engine.Suspicion{FD: -1}, []correlate.Finding{stream, listener, descriptor},
			[]correlate.Finding{leak}},
	} {
		for _, f := range tt.by {
			if !explains(&f, &tt.suspicion) {
				t.Errorf("%s is not explained by %s", tt.suspicion.Subject(), f.Class)
			}
		}
		for _, f := range tt.not {
			if explains(&f, &tt.suspicion) {
				t.Errorf("%s is explained by %s", tt.suspicion.Subject(), f.Class)
			}
		}
	}
	other := correlate.Finding{Class: correlate.F5, Listener: &correlate.Listener{Number: 9}}
	if keyOf(&stream) == keyOf(&leak) || keyOf(&listener) == keyOf(&other) {
		t.Error("two findings are taken for one")
	}
}

// TestReportedStreamsAreNotSuspectedAgain, but a leak that begins to spin is.
func TestReportedStreamsAreNotSuspectedAgain(t *testing.T) {
	s := supervise(t)
	idle := orphan(2)
	idle.Class, idle.Idle = correlate.T3i, true
	s.report([]correlate.Finding{orphan(1), idle})
	for stream, want := range map[string]bool{"0x1": true, "0x2": false, "0x3": false, "": false} {
		if got := s.reported(stream); got != want {
			t.Errorf("stream %q: reported is %t", stream, got)
		}
	}
	s.report(nil)
	if s.reported("0x1") {
		t.Error("what holds no longer is still reported")
	}
}

// TestSuspicionIsNotDropped: a stream that still makes wakeups without progress has not recovered.
func TestSuspicionIsNotDropped(t *testing.T) {
	s := supervise(t)
	v := &engine.Suspicion{Stream: "0x1", FD: -1, Wakeups: 1000}
	now := &evidence.Snapshot{
		Streams: []evidence.Stream{{ID: "0x1", NoProgress: evidence.Know[uint64](1200)}},
	}
	if s.recovered(now, v) || len(s.logged()) != 0 {
		t.Error("it is said to have recovered")
	}
	now.Streams[0].NoProgress = evidence.Know[uint64](0)
	if !s.recovered(now, v) || len(s.logged()) != 1 {
		t.Error("that it recovered is not said")
	}
	if !s.recovered(&evidence.Snapshot{}, v) {
		t.Error("a stream that has ended is not left to be diagnosed")
	}
}
