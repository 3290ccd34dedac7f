// Package correlate turns evidence into findings: it joins what the kernel saw of a process with what the
// process says of itself, decides whether it spins, and names the class of the catalogue and the culprit.
//
// The package is pure, and it never knows where its evidence comes from: a live process, our own or
// another, or a recording. Each rule has a file of its own and stands on one deciding fact.
package correlate

import (
	"cmp"
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
	// Partial: something keeps a thread awake that has other work as well.
	Partial Verdict = "partial"
	// Boundary: a thread burns its CPU, but not in its event loop.
	Boundary Verdict = "boundary"
	// TrafficLoop: the process is its own client.
	TrafficLoop Verdict = "traffic-loop"
	// Stall: work is left and nobody will be told of it again; it costs no CPU.
	Stall Verdict = "stall"
	// Leak: something is kept for ever that nobody will use, at no cost of CPU.
	Leak Verdict = "leak"
	// Inefficient: the process gets on with its work, and a good part of its CPU goes into how it does that.
	Inefficient Verdict = "inefficient"
	// Configured: the process does not sleep because its configuration says so.
	Configured Verdict = "configured"
	// Healthy: nothing of the catalogue was found, and enough was seen to say so.
	Healthy Verdict = "healthy"
	// NotObserved: too little was seen to say anything.
	NotObserved Verdict = ""
)

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
	// Inefficiencies are what costs CPU without being a spin.
	Inefficiencies []Inefficiency
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
	Source string                     // who counted the waits: "syscall probe", "ledger", "show activity"
}

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
	d.Unknown = append(d.Unknown, disagreements(c)...)
	in := &input{Case: c, loops: loopsOf(c)}
	in.threads = summarize(c, in.loops)
	d.Threads = in.threads
	for _, rule := range rules {
		in.found = append(in.found, rule(in)...)
	}
	d.Findings = in.found
	for i := range d.Findings {
		d.Findings[i].Confidence = confidence(d.Findings[i].Evidence)
	}
	slices.SortStableFunc(d.Findings, worse)
	d.Inefficiencies = tinyIO(in)
	d.Verdict = in.verdict(d.Findings, d.Inefficiencies)
	if d.Verdict == NotObserved {
		d.Unknown = append(d.Unknown, in.waitOtherwise()...)
	}
	return d
}

// rules are the rules in the order in which they are asked: first those that know a stream, which is more
// than a descriptor, and last the one for what the others leave.
var rules = []func(*input) []Finding{
	orphaned, pastDue, aheadOfTime, retriers, readyFlag, backPressure, selfWake, repeated, bursts,
	redelivered,
	speculative, futile, retryStorm, lockSpin, insideHandler, insideKernel, lostWakeup, noSleep, unexplained,
	trafficLoop,
}

// input is the evidence with what the gate made of it.
type input struct {
	*evidence.Case
	loops   []loop
	threads []Thread
	// found is what the rules asked so far have found.
	found []Finding
}

// explained reports whether a rule has found what keeps the thread awake. What has a part in that only does
// not explain why a thread is awake all the time.
func (in *input) explained(tid int) bool {
	return slices.ContainsFunc(in.found, func(f Finding) bool {
		return !f.Idle && !(f.Partial && in.gated(tid)) &&
			(len(f.threads) == 0 || slices.Contains(f.threads, tid))
	})
}

// busyPolling reports whether the configuration asks not to sleep.
func (in *input) busyPolling() bool { return busyPolling(in.Case) }

func busyPolling(c *evidence.Case) bool {
	return c.BusyPolling || c.After != nil && c.After.BusyPolling
}

// severity is the order of the verdicts, the worst first.
var severity = []Verdict{Spin, Partial, Boundary, TrafficLoop, Stall, Leak}

// worse orders findings: by their verdict, the surer ones first.
func worse(a, b Finding) int {
	return cmp.Or(
		cmp.Compare(slices.Index(severity, a.Verdict()), slices.Index(severity, b.Verdict())),
		cmp.Compare(b.Confidence, a.Confidence))
}

func (in *input) verdict(findings []Finding, inefficiencies []Inefficiency) Verdict {
	if len(findings) > 0 {
		return findings[0].Verdict()
	}
	if slices.ContainsFunc(inefficiencies, func(e Inefficiency) bool { return e.material(in.seconds()) }) {
		return Inefficient
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
	if slices.ContainsFunc(in.loops, func(l loop) bool { return l.blurred }) || len(in.waitOtherwise()) > 0 {
		return false
	}
	if in.Window != nil && len(in.Window.Threads) > 0 &&
		(in.Window.Hooks.Syscall.IsKnown() || allSlept(in.Window)) {
		return true
	}
	if in.Window == nil && (in.Before == nil || in.After == nil) {
		return false
	}
	if in.Window == nil && slices.ContainsFunc(in.After.Workers,
		func(w evidence.Worker) bool { return w.Stuck > 0 }) {
		return false // it may have been kept from its CPU, or may burn it
	}
	for _, t := range in.threads {
		if !t.Waits.IsKnown() || t.Source == sourceActivity {
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
		doubt *= 1 - f.Weight
	}
	const most = 0.99
	return min(most, 1-doubt)
}
