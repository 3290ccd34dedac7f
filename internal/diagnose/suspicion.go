package diagnose

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/report"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// suspicionFor are the windows on a suspicion. A spin makes tens of thousands of waits in the first; a
// stream that is woken slowly, or that began to be in the middle of the first, is seen in the second.
var suspicionFor = [...]time.Duration{100 * time.Millisecond, time.Second}

// Up to loggedAtOnce findings are written to the log in a row, the surest first, and then loggedPerSecond:
// what comes and goes must not fill it.
const (
	loggedAtOnce    = 16
	loggedPerSecond = 2
)

// logBudget is a bucket of lines for the log that fills with time. Only Run uses it.
type logBudget struct {
	spent float64    // lines, of loggedAtOnce
	as    ktime.Time // of that moment
	dry   bool       // a line was refused since the last one that was not
}

// take reports whether one more may be written, and whether it is the first that may not.
func (b *logBudget) take(now ktime.Time) (may, over bool) {
	if now > b.as {
		b.spent = max(0, b.spent-loggedPerSecond*now.Sub(b.as).Seconds())
		b.as = now
	}
	if b.spent+1 <= loggedAtOnce {
		b.spent++
		b.dry = false
		return true, false
	}
	over = !b.dry
	b.dry = true
	return false, over
}

// findingKey tells one finding from another: by its class and who is to blame.
type findingKey struct {
	class        correlate.Class
	stream       string
	fd, listener int
	destination  string
}

func keyOf(f *correlate.Finding) findingKey {
	k := findingKey{class: f.Class, fd: -1, listener: -1, destination: f.Destination}
	switch {
	case f.Stream != nil:
		k.stream = f.Stream.ID
	case f.Listener != nil:
		k.listener = f.Listener.Number
	case f.FD != nil:
		k.fd = f.FD.Number
	}
	return k
}

// explains reports whether a finding says why there was a suspicion.
func explains(f *correlate.Finding, v *engine.Suspicion) bool {
	switch {
	case v.Stream != "":
		return f.Stream != nil && f.Stream.ID == v.Stream
	case v.FD >= 0:
		return f.Listener != nil && f.Listener.Number == v.FD || f.FD != nil && f.FD.Number == v.FD
	}
	return f.Spins() || f.Verdict() == correlate.Boundary
}

// suspect diagnoses the proxy because of a suspicion, and those that came with it.
func (s *Supervisor) suspect(ctx context.Context, first engine.Suspicion) {
	pending := []engine.Suspicion{first}
	for len(s.Engine.Suspicions()) > 0 {
		pending = append(pending, <-s.Engine.Suspicions())
	}
	// Of a stream that was reported there is nothing more to say.
	pending = slices.DeleteFunc(pending, func(v engine.Suspicion) bool { return s.reported(v.Stream) })
	if len(pending) == 0 {
		return
	}
	for _, window := range suspicionFor {
		c, err := s.suspicionWindow(ctx, window)
		if err != nil {
			return // the proxy is being stopped
		}
		d := correlate.Correlate(c)
		s.report(d.Findings)
		pending = slices.DeleteFunc(pending, func(v engine.Suspicion) bool {
			explained := slices.ContainsFunc(d.Findings, func(f correlate.Finding) bool {
				return explains(&f, &v)
			})
			return explained || s.recovered(c.After, &v)
		})
		if len(pending) == 0 {
			return
		}
	}
	for i := range pending {
		v := &pending[i]
		now := "; no finding explains it"
		if v.Stream != "" {
			now = " and still makes some, too few to call it a spin"
		}
		s.Log(fmt.Sprintf("%s made %d wakeups without progress (%s)%s: see \"show spin\"", v.Subject(),
			v.Wakeups, v.Cause, now))
	}
}

// recovered reports whether a suspect stream has ended or makes progress again, and says so in the log. Of
// other suspects that is not known.
func (s *Supervisor) recovered(now *evidence.Snapshot, v *engine.Suspicion) bool {
	if v.Stream == "" {
		return false
	}
	at := slices.IndexFunc(now.Streams, func(t evidence.Stream) bool { return t.ID == v.Stream })
	if at >= 0 && now.Streams[at].NoProgress.Or(1) > 0 {
		return false
	}
	became := "makes progress again"
	if _, there := s.Engine.Find(v.Stream); !there {
		became = "has ended"
	}
	s.Log(fmt.Sprintf("%s made %d wakeups without progress (%s) and %s", v.Subject(), v.Wakeups, v.Cause,
		became))
	return true
}

// suspicionWindow gathers evidence at once: without the kernel's view when somebody else records, and without
// samples, for the engine knows which stream it is and they would only make the verdict late.
func (s *Supervisor) suspicionWindow(ctx context.Context, window time.Duration) (*evidence.Case, error) {
	if !s.traces() {
		return s.collectBlind(ctx, window, errors.New(s.blindness()))
	}
	select {
	case s.recording() <- struct{}{}:
		defer func() { <-s.recording() }()
		return s.collect(ctx, window, s.Probe.Begin)
	default:
		return s.collectBlind(ctx, window, errors.New("a diagnosis that somebody asked for has the probes"))
	}
}

// reported reports whether a finding that the stream keeps its worker awake holds since the last diagnosis.
func (s *Supervisor) reported(stream string) bool {
	for k, awake := range s.known {
		if awake && stream != "" && k.stream == stream {
			return true
		}
	}
	return false
}

// report acts on the findings that were not there the last time.
func (s *Supervisor) report(findings []correlate.Finding) {
	holds := map[findingKey]bool{}
	for i := range findings {
		f := &findings[i]
		holds[keyOf(f)] = !f.Idle
		if _, known := s.known[keyOf(f)]; known {
			continue
		}
		may, over := s.budget.take(sys.Now())
		s.act(f, may)
		if over {
			s.Log(fmt.Sprintf("there are more findings than the %d at once and %d a second that are logged:"+
				" see \"show spin\"", loggedAtOnce, loggedPerSecond))
		}
	}
	s.known = holds
}

// killed says what came of an order to end a stream.
func killed(r engine.KillResult) string {
	switch r {
	case engine.KillUnknown:
		return "the stream had ended by itself"
	case engine.KillEnded:
		return "the stream was shut down"
	case engine.KillOrdered:
		return "the stream is shut down when its worker comes back to its loop"
	}
	panic("BUG: result of a kill order out of range")
}

// restFor is how long a listener rests that cannot accept though no limit forbids it: long enough that the
// next tenth of a second for which it spins costs no more than a hundredth of a CPU.
const restFor = 10 * time.Second

// heal ends a spin and says how: the guilty listener rests, the guilty registration is dropped, the guilty
// retry loop is slowed, the guilty stream is shut down. Whatever else there is goes on.
func (s *Supervisor) heal(f *correlate.Finding) string {
	switch {
	case f.Listener != nil && s.Engine.PauseListener(f.Listener.Number, restFor):
		return fmt.Sprintf("the listener rests until it may accept again, or for %v", restFor)
	case f.Class == correlate.F6 || f.Class == correlate.F7:
		s.Engine.RenewSets()
		return "every worker makes its epoll set anew, without that registration"
	case f.Stream == nil:
		return "none: there is no stream to shut down and no listener to rest"
	case f.Class == correlate.C1:
		s.Engine.SlowRetries(f.Stream.ID)
		return "the stream pauses before every further attempt"
	}
	return killed(s.Engine.Kill(f.Stream.ID, stream.KillSpin))
}

// act remembers a finding, does what whyspin.spin-action says, and writes it to the log. It is remembered
// first: whoever sees that a stream was shut down can ask why.
func (s *Supervisor) act(f *correlate.Finding, logged bool) {
	number := s.remember(f)
	action, abort := "", false
	if f.Spins() || f.Verdict() == correlate.Boundary && f.Stream != nil {
		switch s.Action {
		case config.SpinShutdown:
			action = s.heal(f)
		case config.SpinAbort:
			action = "the process is aborted"
			abort = true
		case config.SpinReport:
		}
	}
	line := fmt.Sprintf("finding %d: %s", number, report.LogLine(f))
	if action != "" {
		s.acted(number, action)
		line += "; action: " + action
	}
	if logged {
		s.Log(line)
	}
	if abort && s.Abort != nil {
		s.Abort()
	}
}

// remember keeps a finding, with a number that it returns.
func (s *Supervisor) remember(f *correlate.Finding) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count++
	if s.classes == nil {
		s.classes = map[string]uint64{}
	}
	class := string(f.Class)
	if f.Class == correlate.Unknown {
		class = "unknown"
	}
	s.classes[class]++
	s.findings = append(s.findings, Found{Number: s.count, At: sys.Now(), Wall: time.Now(), Finding: *f})
	if len(s.findings) > keptFindings {
		s.findings = s.findings[1:]
	}
	return s.count
}

// acted keeps what was done about a finding.
func (s *Supervisor) acted(number uint64, action string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.findings {
		if s.findings[i].Number == number {
			s.findings[i].Action = action
		}
	}
}
