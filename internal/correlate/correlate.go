// Package correlate turns evidence into findings: it joins what the kernel saw of a process with what the
// process says of itself, decides whether it spins, and names the class of the catalogue and the culprit.
//
// The package is pure, and it never knows where its evidence comes from: a live process, our own or
// another, or a recording. Each rule has a file of its own and stands on one deciding fact.
package correlate

import (
	"slices"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// Verdict is the one word for a process.
type Verdict string

// The verdicts.
const (
	// Spin: at least one thread is kept awake without progress.
	Spin Verdict = "spin"
	// Leak: something is kept for ever that nobody will use, at no cost of CPU.
	Leak Verdict = "leak"
	// Configured: the process does not sleep because its configuration says so.
	Configured Verdict = "configured"
	// Healthy: nothing of the catalogue was found, and enough was seen to say so.
	Healthy Verdict = "healthy"
	// NotObserved: too little was seen to say anything.
	NotObserved Verdict = ""
)

// Class is a class of the spin catalogue.
type Class string

// The classes that the rules of this package know.
const (
	T1  Class = "T1"  // past-due timer requeued
	T3  Class = "T3"  // orphaned half-state
	T3i Class = "T3i" // orphaned half-state, idle
	// Unknown is a spin that no rule recognises.
	Unknown Class = ""
)

var classNames = map[Class]string{
	T1: "past-due timer requeued", T3: "orphaned half-state", T3i: "orphaned half-state, idle",
	Unknown: "spinning, class unknown",
}

// Name is the name of the class in the catalogue.
func (c Class) Name() string { return classNames[c] }

// Diagnosis is the outcome: what is the matter, with whom, and how we know.
type Diagnosis struct {
	Process evidence.Process
	Verdict Verdict
	// Window is how long the process was watched.
	Window time.Duration
	// Hooks are those by which the kernel's view came about.
	Hooks   evidence.Hooks
	Threads []Thread
	// Findings are sorted, the surest and worst first.
	Findings []Finding
	// Socket is the runtime API that answered, empty when none did. Streams is how many streams it has.
	Socket  string
	Streams evidence.Observed[int]
	// Unknown are sentences about what was not seen and why.
	Unknown []string
}

// Thread is the summary of a thread that runs an event loop, or that might.
type Thread struct {
	TID    int
	Name   string
	CPU    evidence.Observed[float64] // share of the window on a CPU
	Slept  evidence.Observed[float64] // share of the window asleep: neither running nor waiting for a CPU
	Waits  evidence.Observed[float64] // waits per second
	Zero   evidence.Observed[float64] // share of the waits with a timeout of zero
	Empty  evidence.Observed[float64] // share of the waits that returned no event
	Gated  bool                       // awake all the time without progress
	Source string                     // who counted the waits: "syscall probe" or "ledger"
}

// Finding is one thing that is wrong.
type Finding struct {
	Class Class
	// Confidence is from 0 to 1; it follows from the weights of the facts in Evidence.
	Confidence float64
	// Stream is the culprit, nil when none is to blame or none is known.
	Stream *evidence.Stream
	// FD is the descriptor concerned, nil for none.
	FD *Descriptor
	// Timer is the timer that is overdue, nil for none.
	Timer *Timer
	// Idle is true exactly when the finding costs no CPU, at present or ever.
	Idle     bool
	Evidence []Fact
	// Unknown are sentences about what would have made it surer.
	Unknown []string
	// Remedy is what the operator can do now.
	Remedy string
}

// Spins reports whether the finding costs CPU.
func (f *Finding) Spins() bool { return !f.Idle }

// Descriptor is a descriptor in a finding.
type Descriptor struct {
	Number int
	Side   string // "client" or "server"
	Kind   string // "tcp", "unix"
	State  string // TCP state, empty when not observed
	Mask   string // events delivered in the window, empty for none
}

// Timer is an overdue timer.
type Timer struct {
	Name    string
	Overdue time.Duration
}

// Fact is one piece of evidence. Count is not observed for facts that are not counts.
type Fact struct {
	Text   string
	Count  evidence.Observed[uint64]
	Source string
	// weight is how likely the fact alone makes the finding, from 0 to 1.
	weight float64
}

// Sources of facts, as reports name them.
const (
	sourceSyscalls  = "syscall probe"
	sourceSockets   = "socket probe"
	sourceScheduler = "scheduler"
	sourceLedger    = "ledger"
	sourceState     = "runtime API"
	sourceFiles     = "descriptor iterator"
)

// Correlate decides.
func Correlate(c *evidence.Case) *Diagnosis {
	d := &Diagnosis{Process: c.Process, Socket: c.Socket, Unknown: slices.Clone(c.Unknown)}
	if c.Window != nil {
		d.Window, d.Hooks = c.Window.Length(), c.Window.Hooks
		d.Unknown = append(d.Unknown, c.Window.Unknown...)
	} else if c.Before != nil && c.After != nil {
		d.Window = c.After.At.Sub(c.Before.At)
	}
	if c.After != nil {
		d.Streams = evidence.Know(c.After.StreamCount)
		d.Unknown = append(d.Unknown, c.After.Unknown...)
	}
	in := &input{Case: c, threads: summarize(c)}
	d.Threads = in.threads
	for _, rule := range []func(*input) []Finding{orphaned, pastDue} {
		for _, f := range rule(in) {
			in.explained = in.explained || f.Spins()
			d.Findings = append(d.Findings, f)
		}
	}
	d.Findings = append(d.Findings, unexplained(in)...)
	for i := range d.Findings {
		d.Findings[i].Confidence = confidence(d.Findings[i].Evidence)
	}
	slices.SortStableFunc(d.Findings, worse)
	d.Verdict = in.verdict(d.Findings)
	return d
}

// input is the evidence with what the gate made of it.
type input struct {
	*evidence.Case
	threads []Thread
	// explained is true exactly when a rule has found a culprit that keeps a thread awake.
	explained bool
}

// gated reports whether any thread is awake all the time without progress.
func (in *input) gated() bool {
	return slices.ContainsFunc(in.threads, func(t Thread) bool { return t.Gated })
}

// busyPolling reports whether the configuration asks not to sleep.
func (in *input) busyPolling() bool { return in.After != nil && in.After.BusyPolling }

// worse orders findings: those that cost CPU first, the surer ones first.
func worse(a, b Finding) int {
	if a.Spins() != b.Spins() {
		if a.Spins() {
			return -1
		}
		return 1
	}
	switch {
	case a.Confidence > b.Confidence:
		return -1
	case a.Confidence < b.Confidence:
		return 1
	}
	return 0
}

func (in *input) verdict(findings []Finding) Verdict {
	if len(findings) > 0 {
		if findings[0].Spins() {
			return Spin
		}
		return Leak
	}
	if in.busyPolling() {
		return Configured
	}
	if in.enough() {
		return Healthy
	}
	return NotObserved
}

// enough reports whether the absence of findings means health: every event loop's waits were counted, by
// the kernel or by the process itself, or the scheduler says that every thread slept.
func (in *input) enough() bool {
	if in.Window != nil && len(in.Window.Threads) > 0 && allSlept(in.Window) {
		return true
	}
	if in.Window == nil && (in.Before == nil || in.After == nil) {
		return false
	}
	for _, t := range in.threads {
		if !t.Waits.IsKnown() {
			return false
		}
	}
	return len(in.threads) > 0
}

// allSlept reports whether no thread can have been kept awake.
func allSlept(w *evidence.Window) bool {
	for i := range w.Threads {
		if slept, ok := w.Threads[i].Blocked(w.Length()).Get(); !ok || slept < awake {
			return false
		}
	}
	return true
}

// confidence joins the weights of facts as independent witnesses. It never reaches certainty.
func confidence(facts []Fact) float64 {
	doubt := 1.0
	for _, f := range facts {
		doubt *= 1 - f.weight
	}
	const most = 0.99
	return min(most, 1-doubt)
}
