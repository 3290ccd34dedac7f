package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/report"
)

// story is a case that is explained while it goes on.
type story struct {
	*stage
	out io.Writer
	// window is how long the verdict's diagnosis watches, figures how long one that counts does.
	window, figures time.Duration
	// calm is what the proxy used before the case, awake while it had its symptom.
	calm, awake usage
}

// Run runs a case and explains it on out: symptom, verdict, remedy and recovery. It returns an error unless
// everything was as it has to be. The program is the whyspin to run as the proxy.
func Run(ctx context.Context, out io.Writer, program string, c *Case) error {
	return run(ctx, program, c, &story{out: out, window: time.Second, figures: 500 * time.Millisecond})
}

func run(ctx context.Context, program string, c *Case, r *story) error {
	s, err := open(ctx, c, program, "")
	defer s.close()
	if err != nil {
		return err
	}
	r.stage = s
	err = r.tell(ctx)
	if ended := s.proxy.alive(); err != nil && ended != nil {
		return ended
	}
	return err
}

func (r *story) say(format string, args ...any) { fmt.Fprintf(r.out, format+"\n", args...) }

func (r *story) title(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.say("\n%s\n%s", text, strings.Repeat("-", len(text)))
}

func (r *story) tell(ctx context.Context) error {
	r.say("%s %s: %s", r.c.Class, r.c.Name, r.c.Shows)
	if r.c.fault != 0 {
		r.say("The proxy carries the bug on purpose: %s.", r.c.faultLine())
	}
	r.say("  process %d, %d healthy conversations in the background", r.proxy.pid(), talkers)
	var err error
	if r.calm, err = r.proxy.measure(ctx, r.figures); err != nil {
		return err
	}
	if err := r.bring(ctx); err != nil {
		return err
	}
	if r.awake, err = r.proxy.measure(ctx, r.figures); err != nil {
		return err
	}
	r.title("What there is to see")
	r.say("  before: %s", r.calm)
	r.say("  now:    %s", r.awake)
	if err := r.unharmed(ctx); err != nil {
		return err
	}
	r.title("What whyspin says: whyspin diagnose --pid %d", r.proxy.pid())
	d, err := r.diagnose(ctx, Both, r.window)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := report.Text(&text, d); err != nil {
		return err
	}
	r.say("%s", indent(text.String()))
	if j := r.judge(Both, d); j.Wrong != nil {
		return j.Wrong
	}
	if r.c.LookAlike() {
		r.say("\nThat is as it has to be: nobody is accused of spinning.")
		return r.endTraffic()
	}
	r.say("\nThat is as it has to be: the culprit is %s.", &r.culprit)
	return r.recover(ctx, d)
}

// bring starts the traffic of the case and waits for the symptom.
func (s *stage) bring(ctx context.Context) error {
	if err := s.c.start(ctx, s); err != nil {
		return fmt.Errorf("starting the traffic: %w", err)
	}
	switch {
	case s.c.symptom != nil:
		return s.c.symptom(ctx, s)
	case s.c.LookAlike():
		return nil
	}
	return awaitAwake(ctx, s)
}

// unharmed proves that the healthy traffic flows and that the runtime API answers.
func (r *story) unharmed(ctx context.Context) error {
	if err := r.awaitHealthy(ctx); err != nil {
		return err
	}
	r.say("  the healthy traffic flows: %d messages so far", r.healthy.served.Load())
	if r.proxy.foreign || r.stopping {
		return nil
	}
	longest, err := r.answers(ctx)
	if err != nil {
		return err
	}
	r.say("  the runtime API answers, the slowest of %d commands in %v", len(orders), longest)
	return nil
}

// recover applies the remedy and waits until the proxy is as calm as before.
func (r *story) recover(ctx context.Context, d *correlate.Diagnosis) error {
	r.title("The remedy")
	remedy := r.c.remedy
	if remedy == nil {
		remedy = shutDown
	}
	if err := remedy(ctx, r.stage, d); err != nil {
		return err
	}
	for _, done := range r.remedied {
		r.say("  %s", done)
	}
	if r.proxy.alive() != nil {
		r.say("  the process has ended, and with it the case")
		return nil
	}
	most := r.calm.cpu + max(leastHealed, healed*(r.awake.cpu-r.calm.cpu))
	after, err := r.proxy.awaitCalm(ctx, most, r.figures)
	r.say("  after:  %s", after)
	if err != nil {
		return err
	}
	if err := r.awaitHealthy(ctx); err != nil {
		return err
	}
	served := r.healthy.served.Load()
	if err := r.endTraffic(); err != nil {
		return err
	}
	r.say("  the %d healthy conversations have ended in order, after %d messages", talkers, served)
	return nil
}

// String says in one line what the proxy did.
func (u usage) String() string {
	seconds := u.over.Seconds()
	if u.waits.Total() == 0 {
		return fmt.Sprintf("CPU %5.1f %%", 100*u.cpu)
	}
	return fmt.Sprintf("CPU %5.1f %%; a second: %.0f waits, %.0f with timeout 0, %.0f reads and writes",
		100*u.cpu, float64(u.waits.Total())/seconds, float64(u.waits.Timeout(0))/seconds,
		float64(u.calls)/seconds)
}

// shutDown ends every stream that a verdict names.
func shutDown(ctx context.Context, s *stage, d *correlate.Diagnosis) error {
	named := 0
	for i := range d.Findings {
		f := &d.Findings[i]
		if f.Stream == nil {
			continue
		}
		named++
		order := "shutdown session " + f.Stream.ID
		if !strings.Contains(f.Remedy, order) {
			return fmt.Errorf("the remedy of %s is said to be %q, should be %q", f.Class, f.Remedy, order)
		}
		answer, err := s.proxy.order(ctx, order)
		if err != nil {
			return err
		}
		if !taken(answer) {
			return fmt.Errorf("the order %q was answered with %q", order, answer)
		}
		s.remedied = append(s.remedied, order)
	}
	if named == 0 {
		return errors.New("the verdict names no stream that could be shut down")
	}
	return nil
}

// leave ends the traffic of the case: what keeps the proxy awake goes with it.
func leave(_ context.Context, s *stage, _ *correlate.Diagnosis) error {
	s.endCase()
	s.remedied = append(s.remedied, "the peers of the case have left")
	return nil
}

// bringUp starts a server where the verdict says that one should listen.
func bringUp(_ context.Context, s *stage, _ *correlate.Diagnosis) error {
	s.release()
	v, err := startServerAt(s.culprit.destination, echo)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, v.close)
	s.remedied = append(s.remedied, "something listens on "+s.culprit.destination)
	return nil
}

// restart is the only remedy for a worker that does not come back to its loop.
func restart(_ context.Context, s *stage, _ *correlate.Diagnosis) error {
	s.proxy.stop()
	s.remedied = append(s.remedied, "a restart: SIGTERM")
	return nil
}
