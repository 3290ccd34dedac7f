package lab

import (
	"context"
	"fmt"
	"time"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/diagnose"
	"github.com/whyspin/whyspin/internal/evidence"
)

// looks bounds how often a case is looked at until it shows what it has to.
const looks = 20

// Evidence runs a case once and returns what a diagnosis went by that named the class and the culprit, or
// accused nobody.
func Evidence(ctx context.Context, program string, c *Case, window time.Duration) (*evidence.Case, error) {
	s, err := open(ctx, c, program, "")
	defer s.close()
	if err == nil {
		err = s.bring(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", c.Class, c.Name, err)
	}
	o := diagnose.Options{PID: s.proxy.pid(), Socket: s.socket, For: window}
	if s.proxy.foreign {
		o.Socket = s.proxy.api.Address
	}
	var j Judgement
	for range looks {
		seen, err := diagnose.Collect(ctx, o)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", c.Class, c.Name, err)
		}
		if j = s.judge(Both, correlate.Correlate(seen)); j.Wrong == nil && !j.Short {
			return seen, nil
		}
	}
	return nil, fmt.Errorf("%s %s: it was said to be %s: %w", c.Class, c.Name, j.Column, j.Wrong)
}
