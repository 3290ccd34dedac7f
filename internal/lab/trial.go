package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/whyspin/whyspin/internal/correlate"
)

// Trial is one run of a case with the verdicts that came of it.
type Trial struct {
	Case *Case
	// Judgements are in the order of the ways asked for.
	Judgements []Judgement
	// Diagnoses are what was judged.
	Diagnoses []*correlate.Diagnosis
	// Slowest is how long the runtime API took at most for an answer while the case had its symptom.
	Slowest time.Duration
}

// Wrong returns what is wrong with the verdicts, nil for nothing.
func (t *Trial) Wrong() error {
	var all []error
	for i := range t.Judgements {
		all = append(all, t.Judgements[i].Wrong)
	}
	return errors.Join(all...)
}

// Try runs a case once and judges the verdicts that come about in each of the ways while it has its symptom.
// It fails when the case could not be brought about, when healthy traffic came to harm, or the runtime API
// did not answer; wrong verdicts are in the trial.
func Try(ctx context.Context, program string, c *Case, ways []Way, window time.Duration) (*Trial, error) {
	s, err := open(ctx, c, program, "")
	defer s.close()
	if err == nil {
		var t *Trial
		if t, err = s.try(ctx, ways, window); err == nil {
			return t, nil
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if s.proxy != nil {
		if ended := s.proxy.alive(); ended != nil {
			err = ended
		}
	}
	return nil, fmt.Errorf("%s %s: %w", c.Class, c.Name, err)
}

func (s *stage) try(ctx context.Context, ways []Way, window time.Duration) (*Trial, error) {
	t := &Trial{Case: s.c}
	if err := s.bring(ctx); err != nil {
		return nil, err
	}
	for _, way := range ways {
		d, err := s.diagnose(ctx, way, window)
		if err != nil {
			return nil, err
		}
		t.Diagnoses = append(t.Diagnoses, d)
		t.Judgements = append(t.Judgements, s.judge(way, d))
	}
	if err := s.awaitHealthy(ctx); err != nil {
		return nil, err
	}
	if !s.proxy.foreign && !s.stopping {
		var err error
		if t.Slowest, err = s.answers(ctx); err != nil {
			return nil, err
		}
	}
	if s.c.holds {
		if err := s.letGo(ctx); err != nil {
			return nil, err
		}
	}
	return t, s.endTraffic()
}
