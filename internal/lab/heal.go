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

// heal applies the remedy to every orphan that the waves have made, and shows the CPU before and after.
func (d *demo) heal(ctx context.Context, first string, before usage) error {
	d.title("The remedy, through the runtime API")
	guilty, err := orphans(ctx, d.proxy.api)
	if err != nil {
		return err
	}
	if !slices.Contains(guilty, first) {
		return fmt.Errorf("the verdict names stream %s, which is none of the orphans %q", first, guilty)
	}
	for _, id := range guilty {
		order := "shutdown session " + id
		d.say("  > %s", order)
		answer, err := d.proxy.api.Order(ctx, order)
		if err != nil {
			return err
		}
		if answer = strings.TrimSpace(answer); answer != "" {
			return fmt.Errorf("the order %q was answered with %q", order, answer)
		}
	}
	err = until(ctx, 10*time.Second, "the orphans to be gone", func() (bool, error) {
		left, err := orphans(ctx, d.proxy.api)
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
	if after.cpu > healed*before.cpu {
		return fmt.Errorf("the remedy left the CPU at %.0f %%", 100*after.cpu)
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
