// Package diagnose makes one diagnosis: it plans what can be seen of a process, watches it for a window of
// time, asks it for its state, and lets package correlate decide. Supervisor does the same inside the
// proxy, for its own streams.
package diagnose

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/probe"
	"github.com/whyspin/whyspin/internal/target"
)

// Options say whom to diagnose and for how long.
type Options struct {
	// PID is the process; 0 means: the one that answers on Socket.
	PID int
	// Socket is the address of its runtime API; empty means: find it.
	Socket string
	// For is how long to watch.
	For time.Duration
	// Without is the witness that is not heard, empty for hearing both.
	Without Witness
}

// Witness is one of the two that a diagnosis hears.
type Witness string

// The witnesses.
const (
	// Probes are those in the kernel. Without them nothing is loaded there.
	Probes Witness = "probes"
	// State is what the process says of itself. Without it the process is not asked: it is looked at as any
	// program is that knows nothing of us.
	State Witness = "state"
)

// The shortest and the longest window. Below the one there is too little to count; above the other a
// verdict that takes so long helps nobody.
const (
	MinWindow = 10 * time.Millisecond
	MaxWindow = time.Hour
)

// ErrStopped is the error for a process that cannot run, so that nothing can be seen of it.
var ErrStopped = errors.New("it is stopped and makes no calls, so nothing can be said of it")

// Run makes one diagnosis of another process.
func Run(ctx context.Context, o Options) (*correlate.Diagnosis, error) {
	c, err := Collect(ctx, o)
	if err != nil {
		return nil, err
	}
	return correlate.Correlate(c), nil
}

// Collect gathers what a diagnosis of another process goes by: its state before and after a window, and what
// the kernel saw of it in the window, with samples.
func Collect(ctx context.Context, o Options) (*evidence.Case, error) {
	c := &evidence.Case{}
	w, err := identify(ctx, &o, c)
	if err != nil {
		return nil, err
	}
	if o.Without == Probes {
		return c, hear(ctx, o, c, w)
	}
	c.Unknown = append(c.Unknown, lacking(o.PID)...)
	return c, collect(ctx, o, c, w)
}

// hear gathers what the process alone says.
func hear(ctx context.Context, o Options, c *evidence.Case, state witness) error {
	if state == nil {
		return fmt.Errorf("process %d: nothing is left to go by without the probes: %s", o.PID,
			strings.Join(c.Unknown, "; "))
	}
	c.Unknown = append(c.Unknown, "the kernel's view: "+errLeftOut.Error())
	if c.Before = ask(ctx, c, state, "before the window"); c.Before == nil {
		return running(o.PID)
	}
	if err := pause(ctx, o.For); err != nil {
		return err
	}
	c.After = ask(ctx, c, state, "after the window")
	return running(o.PID)
}

// witness is a process that says of itself in which state it is.
type witness interface {
	// State is asked for at the begin and at the end of the window.
	State(ctx context.Context) (*evidence.Snapshot, error)
}

// confirmer is a witness some of whose words have to be checked against the kernel's view.
type confirmer interface {
	Confirm(ctx context.Context, w *evidence.Window)
}

// owner is a witness that can be asked whose descriptors are.
type owner interface {
	Owners(ctx context.Context, fds []int) (*evidence.Snapshot, error)
}

// complete adds the streams that have the descriptors about which a rule wants to know whose they are.
func complete(c *evidence.Case, ask func(fds []int) (*evidence.Snapshot, error)) {
	fds := correlate.Owners(c)
	if len(fds) == 0 {
		return
	}
	s, err := ask(fds)
	if err != nil {
		c.Unknown = append(c.Unknown, fmt.Sprintf("whose the descriptors are in which bytes wait: %v", err))
		return
	}
	for i := range s.Streams {
		t := &s.Streams[i]
		if slices.Contains(fds, t.ClientFD) || slices.Contains(fds, t.ServerFD) {
			c.After.Streams = append(c.After.Streams, *t)
		}
	}
}

// collect watches the process. A part of the evidence that cannot be had is missing from the case, which says
// so.
func collect(ctx context.Context, o Options, c *evidence.Case, state witness) error {
	if state != nil {
		c.Before = ask(ctx, c, state, "before the window")
	}
	p, err := probe.Load(probe.Options{PID: o.PID, DirectSets: workerSets(c.Before), Samples: true,
		Traffic: true, Sparing: true})
	if err != nil {
		return err
	}
	defer p.Close()
	// Resets are wanted but not needed: why they are missing is in the window.
	_ = p.WatchResets()
	if err := watch(p.BeginSampling, c, func() error { return pause(ctx, o.For) }); err != nil {
		return err
	}
	if state != nil && c.Before != nil {
		c.After = ask(ctx, c, state, "after the window")
	}
	if w, ok := state.(confirmer); ok {
		w.Confirm(ctx, c.Window)
	}
	if w, ok := state.(owner); ok {
		complete(c, func(fds []int) (*evidence.Snapshot, error) { return w.Owners(ctx, fds) })
	}
	return running(o.PID)
}

// beginFunc begins a window.
type beginFunc func() (*probe.Recording, error)

// watch records the kernel's view while something lasts.
func watch(begin beginFunc, c *evidence.Case, lasts func() error) error {
	r, err := begin()
	if err != nil {
		return err
	}
	if err := lasts(); err != nil {
		// The window is given up, and has to be closed all the same: a probe records one at a time.
		_, closing := r.EndCounts()
		return errors.Join(err, closing)
	}
	c.Window, err = r.End()
	return err
}

// pause waits for the length of a window.
func pause(ctx context.Context, length time.Duration) error {
	select {
	case <-time.After(length):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ask asks for the state and notes when there is no answer.
func ask(ctx context.Context, c *evidence.Case, state witness, when string) *evidence.Snapshot {
	s, err := state.State(ctx)
	if err != nil {
		c.Unknown = append(c.Unknown, fmt.Sprintf("the state of its streams %s: %v", when, err))
		return nil
	}
	return s
}

// workerSets are the epoll sets that the process says are its workers'.
func workerSets(s *evidence.Snapshot) []int {
	if s == nil {
		return nil
	}
	var sets []int
	for _, w := range s.Workers {
		sets = append(sets, w.EpollFD)
	}
	return sets
}

// errLeftOut is why a process is not asked that nobody wants to hear.
var errLeftOut = errors.New("it is left out on demand")

// identify finds out who is to be diagnosed and how to ask it; the witness is nil when nobody answers.
func identify(ctx context.Context, o *Options, c *evidence.Case) (witness, error) {
	var a target.API
	var info target.Info
	var unanswered error
	if o.Socket != "" {
		var err error
		if a, info, unanswered, err = askSocket(ctx, o); err != nil {
			return nil, err
		}
	}
	if err := running(o.PID); err != nil {
		return nil, err
	}
	var err error
	if c.Process, err = target.Identify(o.PID); err != nil {
		return nil, err
	}
	if c.Process.Kind == evidence.KindGeneric {
		c.Process.Program = target.Recognise(o.PID)
	}
	if facts, err := target.ReadFacts(o.PID); err == nil {
		c.Process.Surroundings = facts.Sentences()
	}
	switch {
	case o.Without == State:
		unanswered = errLeftOut
	case o.Socket == "":
		a, info, unanswered = target.FindAPI(ctx, o.PID)
	}
	if unanswered != nil {
		c.BusyPolling = c.Process.Kind == evidence.KindHAProxy && target.BusyPolling(o.PID)
		c.Unknown = append(c.Unknown, "the state of its streams: "+whyNoState(o, &c.Process, unanswered))
		return nil, nil
	}
	c.Process.Kind, c.Process.Version, c.Socket = info.Kind, info.Version, a.Address
	// Whoever says this may refuse to tell the sessions, or answer no more when asked for them.
	c.BusyPolling = info.Kind == evidence.KindHAProxy && info.BusyPolling
	if info.Kind != evidence.KindGeneric {
		c.Process.Program = nil // it has a kind of its own
	}
	switch info.Kind {
	case evidence.KindWhyspin:
		return a, nil
	case evidence.KindHAProxy:
		return target.NewHAProxy(a, target.OwnID(o.PID)), nil
	}
	c.Unknown = append(c.Unknown, fmt.Sprintf("the state of its streams: it is none that can be read: %s",
		info.Version))
	return nil, nil
}

// whyNoState says why the state of a process is not known. A program that is known to be no proxy has none to
// ask for.
func whyNoState(o *Options, p *evidence.Process, unanswered error) string {
	switch {
	case o.Socket != "" || o.Without == State:
		return unanswered.Error()
	case p.Program != nil && p.Program.Name != "":
		return fmt.Sprintf("%s does not say it; a HAProxy and a whyspin do", p.Program)
	}
	return unanswered.Error() + "; name the socket with --socket"
}

// askSocket asks the socket that was named who is there, and finds its process when none was named. What is
// only unanswered leaves the kernel's view of the process.
func askSocket(ctx context.Context, o *Options) (a target.API, info target.Info, unanswered, err error) {
	a = target.API{Address: o.Socket}
	if o.PID != 0 {
		if err := running(o.PID); err != nil {
			return a, info, nil, err // it would not answer, and that is why
		}
	}
	info, unanswered = a.Info(ctx)
	if errors.Is(unanswered, target.ErrNoProxy) && o.PID != 0 {
		// It may be that of a master, which passes questions on to its workers.
		a.Worker = target.OwnID(o.PID)
		info, unanswered = a.Info(ctx)
	}
	switch {
	case o.PID != 0 && unanswered == nil && info.PID != 0 && info.PID != target.OwnID(o.PID):
		unanswered = fmt.Errorf("asking %s: %w: process %d", o.Socket, target.ErrOtherProcess, info.PID)
	case o.PID == 0 && unanswered != nil:
		if pid, unseen := target.ListenerOf(o.Socket, 0); unseen == nil {
			if err := running(pid); err != nil {
				return a, info, nil, err
			}
		}
		return a, info, nil, unanswered
	case o.PID == 0:
		o.PID, err = target.ListenerOf(o.Socket, info.PID)
	}
	return a, info, unanswered, err
}

// running returns ErrStopped, in words that tell what to do, for a process that cannot run.
func running(pid int) error {
	s, err := target.OpenScheduler(pid)
	if err != nil {
		return err
	}
	defer s.Close()
	r, err := s.Read()
	if err != nil {
		return err
	}
	switch {
	case r.State == target.StateStopped:
		return fmt.Errorf("process %d: %w; let it go on with: kill -CONT %d", pid, ErrStopped, pid)
	case r.State == target.StateTraced:
		return fmt.Errorf("process %d: %w: a debugger or tracer holds it", pid, ErrStopped)
	case !r.State.Runs():
		return fmt.Errorf("process %d: %w", pid, target.ErrGone)
	}
	return nil
}
