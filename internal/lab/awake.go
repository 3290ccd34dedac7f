package lab

import (
	"context"
	"fmt"
	"os"
	"time"
)

// awakeFor is how long a worker must not have slept to count as one that is kept awake, and awakeShare the
// share of that time that it must have run or waited for a CPU: the rest is the lag of the scheduler's sums.
const (
	awakeFor   = 100 * time.Millisecond
	awakeShare = 0.9
)

// awaitAwake waits until a worker does not sleep: what a spin looks like from outside.
func awaitAwake(ctx context.Context, s *stage) error {
	state, err := s.proxy.state(ctx)
	if err != nil {
		return err
	}
	return until(ctx, patience, "a worker that does not sleep", func() (bool, error) {
		began := time.Now()
		before := make([]time.Duration, len(state.Workers))
		for i := range state.Workers {
			if before[i], err = s.proxy.busy(state.Workers[i].TID); err != nil {
				return false, err
			}
		}
		select {
		case <-time.After(awakeFor):
		case <-ctx.Done():
			return false, ctx.Err()
		}
		for i := range state.Workers {
			now, err := s.proxy.busy(state.Workers[i].TID)
			if err != nil {
				return false, err
			}
			if float64(now-before[i]) >= awakeShare*float64(time.Since(began)) {
				return true, nil
			}
		}
		return false, s.proxy.alive()
	})
}

// busy is the time that a thread of the proxy has run or waited for a CPU.
func (p *proxy) busy(tid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/schedstat", p.pid(), tid))
	if err != nil {
		return 0, fmt.Errorf("reading how a thread of the proxy is scheduled: %w", err)
	}
	var run, queued time.Duration
	if _, err := fmt.Sscan(string(text), &run, &queued); err != nil {
		return 0, fmt.Errorf("reading how a thread of the proxy is scheduled: %w", err)
	}
	return run + queued, nil
}
