package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/diagnose"
)

// Way is by which witnesses a verdict comes about.
type Way string

// The ways.
const (
	// Ledger: what the proxy says of itself, without probes.
	Ledger Way = "ledger only"
	// Probes: what the kernel sees, as of a program that knows nothing of us.
	Probes Way = "probes only"
	// Both is what a user gets.
	Both Way = "both"
)

// Ways returns all ways.
func Ways() []Way { return []Way{Ledger, Probes, Both} }

// without is the witness that is left out.
func (w Way) without() diagnose.Witness {
	switch w {
	case Ledger:
		return diagnose.Probes
	case Probes:
		return diagnose.State
	}
	return ""
}

// Judgement is what is to be said of a verdict.
type Judgement struct {
	// Column is where the verdict belongs in a confusion matrix: a class, the verdict when there is no
	// finding, Awake or Spinning.
	Column string
	// Wrong says what is wrong with it, nil for nothing. Short is true exactly when it is right as far as it
	// goes, and does not name the class that was caused, or the culprit.
	Wrong error
	Short bool
}

// The columns for a spin without a class: Awake is one by which the process asks not to sleep, as in all
// classes of the T family.
const (
	Awake    = "T?"
	Spinning = "?"
	silence  = "not observed"
)

// diagnose asks for a verdict, once more and for longer when too little could be seen: on a machine that is
// busy with others, a window may hold next to nothing of the process, or its answer come too late.
func (s *stage) diagnose(ctx context.Context, way Way, window time.Duration) (*correlate.Diagnosis, error) {
	const longest = 10 * time.Second
	for {
		d, err := s.diagnoseOnce(ctx, way, window)
		if err != nil || window*3 > longest || !s.sawTooLittle(way, d) {
			return d, err
		}
		window *= 3
	}
}

// sawTooLittle reports whether the state is missing that was asked for, or every thread got so little of a
// CPU that it could not show what keeps it awake.
func (s *stage) sawTooLittle(way Way, d *correlate.Diagnosis) bool {
	if way != Probes && !s.proxy.foreign && !d.Streams.IsKnown() {
		return true
	}
	if way != Probes && d.Verdict == correlate.Inefficient && len(d.Inefficiencies[0].Streams) == 0 {
		return true // the worker did not give its lock in time to list them
	}
	const least = 100 * time.Millisecond
	return s.c.symptom == nil && !s.c.LookAlike() && way != Ledger &&
		!slices.ContainsFunc(d.Threads, func(t correlate.Thread) bool {
			return time.Duration(t.CPU.Or(0)*float64(d.Window)) >= least
		})
}

// diagnoseOnce asks for a verdict.
func (s *stage) diagnoseOnce(ctx context.Context, way Way, window time.Duration) (*correlate.Diagnosis,
	error) {
	o := diagnose.Options{PID: s.proxy.pid(), Socket: s.socket, For: window, Without: way.without()}
	if s.proxy.foreign {
		o.Socket = s.proxy.api.Address
		if way == Ledger && o.Socket == "" {
			return &correlate.Diagnosis{}, nil // it says nothing of itself
		}
	}
	d, err := diagnose.Run(ctx, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("diagnosing by %s: %w", way, err), s.proxy.alive())
	}
	return d, nil
}

// column is where a verdict belongs.
func column(d *correlate.Diagnosis) string {
	switch {
	case d.Verdict == correlate.Inefficient:
		return string(d.Inefficiencies[0].Class)
	case len(d.Findings) == 0:
		return cmp.Or(string(d.Verdict), silence)
	}
	if class := d.Findings[0].Class; class != correlate.Unknown {
		return string(class)
	}
	for i := range d.Threads {
		if t := &d.Threads[i]; t.Gated && t.Zero.Or(0) > 0.9 {
			return Awake
		}
	}
	return Spinning
}

// judge compares a verdict with what was caused.
func (s *stage) judge(way Way, d *correlate.Diagnosis) Judgement {
	j := Judgement{Column: column(d)}
	if s.c.LookAlike() {
		j.Wrong = s.c.judgeLookAlike(way, d)
		return j
	}
	for i := range d.Findings {
		if class := string(d.Findings[i].Class); class != s.c.Class && class != "" {
			j.Wrong = fmt.Errorf("finding %d is of class %s, should be %s", i+1, class, s.c.Class)
			return j
		}
	}
	if j.Column == s.c.Class {
		names, err := s.blames(d)
		switch {
		case err == nil:
			return j
		case way == Both || names:
			j.Wrong = err
		default:
			j.Short = true // it does not say whom
		}
		return j
	}
	j.Short = true
	switch {
	case way == Both:
		j.Wrong = fmt.Errorf("the verdict is %s, should be %s", j.Column, s.c.Class)
	case way == Probes && !slices.Contains(s.c.blind, j.Column):
		j.Wrong = fmt.Errorf("the verdict without the state is %s, should be %s or of its family", j.Column,
			s.c.Class)
	}
	return j
}

// blames returns an error unless the first finding, or the first inefficiency, names the culprit; names is
// true exactly when it names a connection at all.
func (s *stage) blames(d *correlate.Diagnosis) (names bool, err error) {
	if len(d.Findings) > 0 {
		f := &d.Findings[0]
		return len(accusedAddresses(f)) > 0, s.culprit.blames(f)
	}
	e := &d.Inefficiencies[0]
	for _, v := range e.Streams {
		if err = s.culprit.blames(&correlate.Finding{Stream: v}); err == nil {
			return true, nil
		}
	}
	return len(e.Streams) > 0, cmp.Or(err, errors.New("it names no stream"))
}

// judgeLookAlike requires that nobody is accused and that nothing else is said than what is the case. With
// one witness less it may be that too little is seen.
func (c *Case) judgeLookAlike(way Way, d *correlate.Diagnosis) error {
	want := cmp.Or(c.verdict, correlate.Healthy)
	switch {
	case d.Verdict == want:
		return nil
	case len(d.Findings) == 0 && way != Both && (d.Verdict == correlate.NotObserved ||
		d.Verdict == correlate.Healthy):
		return nil
	case len(d.Findings) > 0:
		return fmt.Errorf("the verdict is %s, should be %s: it blames %s", d.Verdict, want,
			accused(&d.Findings[0]))
	}
	return fmt.Errorf("the verdict is %q, should be %s", d.Verdict, want)
}
