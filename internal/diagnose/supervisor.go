package diagnose

import (
	"context"
	"errors"
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
)

// The duty cycle of the level 2 probes in the proxy itself: often enough that rates are always there,
// seldom enough to cost less than 0.2 % on average.
const (
	dutyEvery = 10 * time.Second
	dutyFor   = 200 * time.Millisecond
)

// alwaysFor is the length of the windows with "whyspin.tracing always": one follows the other.
const alwaysFor = time.Second

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

	// asked is held during a diagnosis that somebody asked for: one at a time.
	asked sync.Mutex
	// window is the right to record, for the probe records one window at a time. It is made by recording.
	window     chan struct{}
	windowOnce sync.Once
	// known are the findings that hold at present, so that each is reported once, and whether they keep a
	// worker awake. Only Run uses it.
	known  map[findingKey]bool
	budget logBudget
	// stuck is, by worker, the beginning of the turn that was reported last. Only Run uses it.
	stuck map[int]ktime.Time

	mu       sync.Mutex
	last     *evidence.Window      // the last duty window
	compared []correlate.Witnessed // of the last duty window
	findings []Found
	count    uint64
	classes  map[string]uint64
}

// ErrBusy is the error for a diagnosis that is asked for while another one is being made.
var ErrBusy = errors.New("another diagnosis is being made, try again when it has ended")

// recording returns the right to record: whoever can send into it has it, until he takes back what he sent.
func (s *Supervisor) recording() chan struct{} {
	s.windowOnce.Do(func() { s.window = make(chan struct{}, 1) })
	return s.window
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

// Run supervises until the context is done.
func (s *Supervisor) Run(ctx context.Context) {
	duty := time.NewTimer(dutyFor)
	defer duty.Stop()
	look := time.NewTicker(stuckEvery)
	defer look.Stop()
	s.stuck = map[int]ktime.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-s.Engine.Suspicions():
			s.suspect(ctx, first)
		case <-look.C:
			s.watchStuck(ctx)
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

// dutyWindow records a window of counts and keeps it. A suspicion ends it early, a diagnosis that has the
// probe replaces it.
func (s *Supervisor) dutyWindow(ctx context.Context, length time.Duration) {
	if s.Probe == nil {
		return
	}
	select {
	case s.recording() <- struct{}{}:
	default:
		return
	}
	suspicion, c, w := s.recordDuty(ctx, length)
	<-s.recording()
	if w != nil {
		s.mu.Lock()
		s.last, s.compared = w, c
		s.mu.Unlock()
	}
	if suspicion != nil {
		s.suspect(ctx, *suspicion)
	}
}

// recordDuty records a duty window. It returns the suspicion that ended it, nil when there was none, and no
// window when none could be recorded.
func (s *Supervisor) recordDuty(ctx context.Context, length time.Duration) (*engine.Suspicion,
	[]correlate.Witnessed, *evidence.Window) {
	around := s.ledger()
	r, err := s.Probe.Begin()
	if err != nil {
		return nil, nil, nil
	}
	within := s.ledger()
	var suspicion *engine.Suspicion
	select {
	case <-time.After(length):
	case <-ctx.Done():
	case first := <-s.Engine.Suspicions():
		suspicion = &first
	}
	withinEnd := s.ledger()
	w, err := r.EndCounts()
	if err != nil {
		return suspicion, nil, nil
	}
	return suspicion, s.witnesses(w, &reading{within, withinEnd}, &reading{around, s.ledger()}), w
}

// reading is the ledger at two moments, nil when a worker did not give its lock.
type reading [2]*correlate.Ledger

// counted is what the ledger counted between them, nil when that is not known.
func (r *reading) counted() *correlate.Ledger {
	if r[0] == nil || r[1] == nil {
		return nil
	}
	n, ok := r[1].Since(r[0])
	if !ok {
		return nil
	}
	return &n
}

// witnesses compares what the kernel saw in a window with the ledger, of which there is a reading within the
// window and one around it.
func (s *Supervisor) witnesses(w *evidence.Window, within, around *reading) []correlate.Witnessed {
	own := correlate.Owned{Listeners: s.Engine.Listeners()}
	for _, worker := range s.Engine.Workers() {
		own.Sets, own.Wakers = append(own.Sets, worker.EpollFD), append(own.Wakers, worker.WakerFD)
	}
	return correlate.Witnesses(w, &own, within.counted(), around.counted())
}

// ledger adds up what all workers counted; nil when one does not come back to its loop to say so.
func (s *Supervisor) ledger() *correlate.Ledger {
	var sum correlate.Ledger
	for _, w := range s.Engine.Workers() {
		if w.Stuck > 0 {
			return nil
		}
		sum.Add(&correlate.Ledger{Waits: w.Waits, Read: w.Read, Write: w.Write, Accepted: w.Accepted})
	}
	return &sum
}

// Diagnose makes one diagnosis of the proxy it runs in, because somebody asks. It fails with ErrBusy while
// another one is being made.
func (s *Supervisor) Diagnose(ctx context.Context, window time.Duration) (*correlate.Diagnosis, error) {
	c, err := s.Collect(ctx, window)
	if err != nil {
		return nil, err
	}
	return correlate.Correlate(c), nil
}

// Collect gathers what a diagnosis goes by, with samples. It fails with ErrBusy like Diagnose.
func (s *Supervisor) Collect(ctx context.Context, window time.Duration) (*evidence.Case, error) {
	if !s.asked.TryLock() {
		return nil, ErrBusy
	}
	defer s.asked.Unlock()
	if !s.traces() {
		return s.collectBlind(ctx, window, errors.New(s.blindness()))
	}
	select {
	case s.recording() <- struct{}{}:
		defer func() { <-s.recording() }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.collect(ctx, window, s.Probe.BeginSampling)
}

// traces reports whether the probes may be used.
func (s *Supervisor) traces() bool { return s.Probe != nil && s.Tracing != config.TracingOff }

// collect gathers the evidence of one window. The caller has the right to record.
func (s *Supervisor) collect(ctx context.Context, window time.Duration, begin beginFunc) (*evidence.Case,
	error) {
	c := &evidence.Case{}
	err := watch(begin, c, func() error {
		c.Before = s.Engine.State()
		err := pause(ctx, window)
		c.After = s.Engine.State()
		return err
	})
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return s.collectBlind(ctx, window, err)
	}
	c.Process = c.After.Process
	complete(c, func(fds []int) (*evidence.Snapshot, error) { return s.Engine.State(fds...), nil })
	return c, nil
}

// collectBlind gathers the evidence of one window without the kernel's view.
func (s *Supervisor) collectBlind(ctx context.Context, window time.Duration, why error) (*evidence.Case,
	error) {
	c := &evidence.Case{Before: s.Engine.State()}
	c.Unknown = append(c.Unknown, fmt.Sprintf("the kernel's view: %v", why))
	if err := pause(ctx, window); err != nil {
		return nil, err
	}
	c.After = s.Engine.State()
	c.Process = c.After.Process
	return c, nil
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
