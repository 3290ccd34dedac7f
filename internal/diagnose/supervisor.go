package diagnose

import (
	"context"
	"fmt"
	"maps"

	"sync"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/probe"
	"github.com/whyspin/whyspin/internal/report"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// The duty cycle of the level 2 probes in the proxy itself: often enough that rates are always there,
// seldom enough to cost less than 0.2 % on average.
const (
	dutyEvery = 10 * time.Second
	dutyFor   = 200 * time.Millisecond
)

// alwaysFor is the length of the windows with "whyspin.tracing always": one follows the other.
const alwaysFor = time.Second

// suspicionFor is the window on a suspicion: a spin makes tens of thousands of waits in it.
const suspicionFor = 100 * time.Millisecond

// keptFindings is how many findings are remembered.
const keptFindings = 32

// Supervisor diagnoses the proxy it runs in: all the time by the duty cycle, and at once when the engine
// suspects a stream.
type Supervisor struct {
	Engine *engine.Engine
	// Probe is loaded before privileges are dropped; nil when nothing could be loaded.
	Probe *probe.Probe
	// Blind says why Probe is nil.
	Blind   error
	Tracing config.Tracing
	Action  config.SpinAction
	// Log takes a line for the operator.
	Log func(line string)
	// Abort ends the process with a core dump; it does not return.
	Abort func()

	// recording is held during a window: the probe records one at a time.
	recording sync.Mutex

	mu       sync.Mutex
	window   *evidence.Window // the last duty window
	compared comparison
	findings []Found
	count    uint64
	classes  map[string]uint64
}

// Found is a finding with its moment and a number.
type Found struct {
	Number  uint64
	At      ktime.Time
	Wall    time.Time
	Finding correlate.Finding
	// Action is what was done about it, empty for nothing.
	Action string
}

// comparison is what the two witnesses, kernel and ledger, counted in the same window.
type comparison struct {
	kernel, ledger evidence.Waits
}

// Run supervises until the context is done.
func (s *Supervisor) Run(ctx context.Context) {
	duty := time.NewTimer(dutyFor)
	defer duty.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-s.Engine.Suspicions():
			s.suspect(ctx, first)
		case <-duty.C:
			pause := dutyEvery - dutyFor
			switch s.Tracing {
			case config.TracingAuto:
				s.dutyWindow(ctx, dutyFor)
			case config.TracingAlways:
				s.dutyWindow(ctx, alwaysFor)
				pause = time.Microsecond
			case config.TracingOff:
			}
			duty.Reset(pause)
		}
	}
}

// dutyWindow records a window of counts and keeps it.
func (s *Supervisor) dutyWindow(ctx context.Context, length time.Duration) {
	if s.Probe == nil {
		return
	}
	s.recording.Lock()
	defer s.recording.Unlock()
	before := s.ledger()
	r, err := s.Probe.Begin()
	if err != nil {
		return
	}
	select {
	case <-time.After(length):
	case <-ctx.Done():
	}
	w, err := r.EndCounts()
	if err != nil {
		return
	}
	after := s.ledger()
	c := comparison{ledger: after}
	for t := range before {
		for r := range before[t] {
			c.ledger[t][r] -= before[t][r]
		}
	}
	for _, worker := range s.Engine.Workers() {
		c.kernel.Add(waitsOf(w, worker.TID, worker.EpollFD))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.window, s.compared = w, c
}

// ledger adds up the waits of all workers by their own count.
func (s *Supervisor) ledger() evidence.Waits {
	var sum evidence.Waits
	for _, w := range s.Engine.Workers() {
		sum.Add(&w.Waits)
	}
	return sum
}

func waitsOf(w *evidence.Window, tid, fd int) *evidence.Waits {
	for i := range w.Threads {
		for j := range w.Threads[i].Sets {
			if set := &w.Threads[i].Sets[j]; w.Threads[i].TID == tid && set.FD == fd {
				return &set.Waits
			}
		}
	}
	return &evidence.Waits{}
}

// suspect diagnoses the proxy because of a suspicion. Further suspicions that came meanwhile are about the
// same state.
func (s *Supervisor) suspect(ctx context.Context, first engine.Suspicion) {
	d, err := s.Diagnose(ctx, suspicionFor)
	if err != nil {
		return // the proxy is being stopped
	}
	for len(s.Engine.Suspicions()) > 0 {
		<-s.Engine.Suspicions()
	}
	if len(d.Findings) == 0 {
		s.Log(fmt.Sprintf("stream %s made %d wakeups without progress (%s) and recovered by itself",
			first.Stream, first.Wakeups, first.Cause))
		return
	}
	for i := range d.Findings {
		s.act(&d.Findings[i], i < loggedAtOnce)
	}
	if more := len(d.Findings) - loggedAtOnce; more > 0 {
		s.Log(fmt.Sprintf("and %d more findings of the same moment, see \"show spin\"", more))
	}
}

// loggedAtOnce is how many findings of one diagnosis are written to the log, the surest first.
const loggedAtOnce = 8

// Diagnose makes one diagnosis of the proxy it runs in.
func (s *Supervisor) Diagnose(ctx context.Context, window time.Duration) (*correlate.Diagnosis, error) {
	c := &evidence.Case{Before: s.Engine.State()}
	c.Process = c.Before.Process
	if s.Probe != nil && s.Tracing != config.TracingOff {
		s.recording.Lock()
		err := watch(ctx, s.Probe, window, c)
		s.recording.Unlock()
		if err != nil {
			c.Unknown = append(c.Unknown, fmt.Sprintf("the kernel's view: %v", err))
		}
	} else {
		c.Unknown = append(c.Unknown, "the kernel's view: "+s.blindness())
		select {
		case <-time.After(window):
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.After = s.Engine.State()
	return correlate.Correlate(c), nil
}

// Counts returns the number of findings so far by class; spins without a class are counted as "unknown".
func (s *Supervisor) Counts() map[string]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.classes)
}

func (s *Supervisor) blindness() string {
	switch {
	case s.Tracing == config.TracingOff:
		return "whyspin.tracing is off"
	case s.Blind != nil:
		return s.Blind.Error()
	}
	return "no probe is loaded"
}

// act remembers a finding, writes it to the log, and does what whyspin.spin-action says.
func (s *Supervisor) act(f *correlate.Finding, logged bool) {
	found := Found{At: sys.Now(), Wall: time.Now(), Finding: *f}
	abort := false
	if f.Verdict() == correlate.Spin && f.Stream != nil {
		switch s.Action {
		case config.SpinShutdown:
			found.Action = "the stream had ended by itself"
			if s.Engine.Kill(f.Stream.ID, stream.KillSpin) {
				found.Action = "the stream was shut down"
			}
		case config.SpinAbort:
			found.Action = "the process is aborted"
			abort = true
		case config.SpinReport:
		}
	}
	s.mu.Lock()
	s.count++
	found.Number = s.count
	if s.classes == nil {
		s.classes = map[string]uint64{}
	}
	class := string(f.Class)
	if f.Class == correlate.Unknown {
		class = "unknown"
	}
	s.classes[class]++
	s.findings = append(s.findings, found)
	if len(s.findings) > keptFindings {
		s.findings = s.findings[1:]
	}
	s.mu.Unlock()
	line := fmt.Sprintf("finding %d: %s", found.Number, report.Line(f))
	if found.Action != "" {
		line += "; action: " + found.Action
	}
	if logged {
		s.Log(line)
	}
	if abort && s.Abort != nil {
		s.Abort()
	}
}

// Probes says in one line what watches the proxy, for "show info".
func (s *Supervisor) Probes() string {
	if s.Probe == nil {
		return "none: " + s.blindness()
	}
	text := ""
	for _, signal := range s.Probe.Plan() {
		hook := "-"
		if try, ok := signal.Taken(); ok {
			hook = try.Hook
		}
		text += fmt.Sprintf(" %s=%s", signal.Name, hook)
	}
	return text[1:]
}
