package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// healed is the share of the CPU that the spin cost, of which at most so much may be left after the remedy.
const healed = 0.25

// leastHealed is the share of a CPU by which two measurements of one and the same traffic may differ on a
// busy machine.
const leastHealed = 0.1

// awaitCalm waits until the proxy uses no more than so much of a CPU.
func (p *proxy) awaitCalm(ctx context.Context, most float64, over time.Duration) (after usage, err error) {
	err = until(ctx, patience, "the CPU of the proxy to be what it was", func() (bool, error) {
		var err error
		after, err = p.measure(ctx, over)
		return after.cpu <= most, err
	})
	return after, err
}

// Heal runs a case in a proxy with "whyspin.spin-action shutdown" and waits until that has ended the spin. It
// returns how long that took, from the start of the case's traffic on.
func Heal(ctx context.Context, program string, c *Case) (time.Duration, error) {
	s, err := open(ctx, c, program, "shutdown")
	defer s.close()
	var took time.Duration
	if err == nil {
		took, err = s.heal(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", c.Class, c.Name, err)
	}
	return took, nil
}

// heal waits for the finding on which the proxy has acted, and for the calm after it.
func (s *stage) heal(ctx context.Context) (time.Duration, error) {
	const figures = 300 * time.Millisecond
	calm, err := s.proxy.measure(ctx, figures)
	if err != nil {
		return 0, err
	}
	if err := s.c.start(ctx, s); err != nil {
		return 0, fmt.Errorf("starting the traffic: %w", err)
	}
	began := time.Now()
	spin := ""
	err = until(ctx, patience, "the proxy to act on a finding", func() (bool, error) {
		var err error
		spin, err = s.proxy.order(ctx, "show spin")
		return strings.Contains(spin, "action: "), err
	})
	if err != nil {
		return 0, fmt.Errorf("%w: show spin says:\n%s", err, spin)
	}
	took := time.Since(began)
	if _, err := s.proxy.awaitCalm(ctx, calm.cpu+leastHealed, figures); err != nil {
		return 0, err
	}
	if err := s.awaitHealthy(ctx); err != nil {
		return 0, err
	}
	return took, s.endTraffic()
}

// heal applies the remedy to every orphan that the waves have made, and shows the CPU before and after.
func (d *demo) heal(ctx context.Context, first string, before usage) error {
	d.title("The remedy, through the runtime API")
	guilty, err := orphans(ctx, d.proxy)
	if err != nil {
		return err
	}
	if !slices.Contains(guilty, first) {
		return fmt.Errorf("the verdict names stream %s, which is none of the orphans %q", first, guilty)
	}
	for _, id := range guilty {
		order := "shutdown session " + id
		d.say("  > %s", order)
		answer, err := d.proxy.order(ctx, order)
		if err != nil {
			return err
		}
		if !taken(answer) {
			return fmt.Errorf("the order %q was answered with %q", order, answer)
		}
	}
	err = until(ctx, 10*time.Second, "the orphans to be gone", func() (bool, error) {
		left, err := orphans(ctx, d.proxy)
		return len(left) == 0, err
	})
	if err != nil {
		return err
	}
	after, err := d.proxy.measure(ctx, time.Second)
	if err != nil {
		return err
	}
	d.say("  CPU of the proxy before: %5.1f %%", 100*before.cpu)
	d.say("  CPU of the proxy after:  %5.1f %%", 100*after.cpu)
	// How much of a CPU the spin had, and the healthy sessions have now, is up to what else the machine does;
	// that nobody asks not to sleep any more is not.
	const rest = 0.01
	if after.cpu >= before.cpu || after.spins() > rest*before.spins() {
		return fmt.Errorf("the remedy left the CPU at %.0f %%, with %.0f empty waits a second of timeout 0",
			100*after.cpu, after.spins())
	}
	return nil
}

// epilogue reports on the healthy sessions.
func (d *demo) epilogue(failed []error) error {
	d.title("The healthy sessions")
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d healthy sessions failed: %w", len(failed), healthy,
			errors.Join(failed[:min(len(failed), 5)]...))
	}
	d.say("  all %d sessions ended in order; %d mails arrived once each, byte for byte", healthy,
		d.server.Mails())
	return nil
}

func indent(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i := range lines {
		if lines[i] != "" {
			lines[i] = "  " + lines[i]
		}
	}
	return strings.Join(lines, "\n")
}
