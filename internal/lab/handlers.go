package lab

import (
	"context"
	"fmt"
	"strings"

	"github.com/whyspin/whyspin/internal/correlate"
)

// loopForever is a client that sends more than its server takes, and the loop in which it is sent.
func loopForever(ctx context.Context, s *stage) error {
	s.culprit.functions = []string{"engine.(*worker).pump"}
	return fill(ctx, s)
}

// fullServer takes one connection at a time.
func fullServer(s *stage) ([]string, error) {
	return []string{"timeout queue 10m", "server full " + s.echo.address() + " maxconn 1"}, nil
}

// queueUp has one client take the server, one wait for it, and one more come.
func queueUp(ctx context.Context, s *stage) error {
	// A thread that gives its CPU away is on the way to that call, most of the time or, where others want
	// the CPU, rarely.
	s.culprit.functions = []string{"sys.(*Linux).Yield", "engine.(*worker).takeTurn"}
	if err := sayOne(ctx, s); err != nil {
		return err
	}
	if err := insist(ctx, s); err != nil {
		return err
	}
	waits := s.culprit.connections[1]
	err := until(ctx, patience, "the second client to wait for the server", func() (bool, error) {
		sessions, err := s.proxy.order(ctx, "show sess all")
		_, after, found := strings.Cut(sessions, " source="+waits)
		mine, _, _ := strings.Cut(after, " source=")
		return found && strings.Contains(mine, "QUE"), err
	})
	if err != nil {
		return err
	}
	return insist(ctx, s)
}

// letGo ends the streams at which workers are held up.
func (s *stage) letGo(ctx context.Context) error {
	return until(ctx, patience, "the workers to come back", func() (bool, error) {
		state, err := s.proxy.state(ctx)
		if err != nil {
			return false, err
		}
		stuck := false
		for i := range state.Workers {
			w := &state.Workers[i]
			stuck = stuck || w.Stuck > 0
			if w.Running == "" || w.Stuck == 0 {
				continue
			}
			if answer, err := s.proxy.order(ctx, "shutdown session "+w.Running); err != nil {
				return false, fmt.Errorf("ending the stream that holds a worker up: %w: %s", err, answer)
			}
		}
		return !stuck, nil
	})
}

// endHeld is the remedy for handlers that look at the inbox of their worker, as those of the lab do. One that
// does not is ended with its process only, which is what the verdict says.
func endHeld(ctx context.Context, s *stage, _ *correlate.Diagnosis) error {
	s.remedied = append(s.remedied, "shutdown session, for the stream at which the worker is held up")
	return s.letGo(ctx)
}
