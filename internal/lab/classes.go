package lab

import (
	"context"

	"github.com/whyspin/whyspin/internal/fault"
)

// classes are the cases of the classes of the catalogue, in its order.
var classes = []Case{
	{
		Name: "redispatch-after-abort", Class: "T3", fault: fault.RedispatchAfterAbort,
		Shows: "a client leaves in the wakeup of a connect timeout, and a timer is armed on what is shut",
		lines: foundingLines("timeout tunnel 1500ms"), start: hitFounding, blind: []string{Awake},
		symptom: awaitOrphanOverdue,
	},
	{
		Name: "redispatch-after-abort-idle", Class: "T3i", fault: fault.RedispatchAfterAbort,
		Shows: "the same without a timer: nothing will ever move the stream, and it costs no CPU",
		lines: foundingLines(), start: hitFounding, blind: []string{"healthy"}, symptom: already,
	},
}

// already is the symptom of what is there when the traffic has started.
func already(context.Context, *stage) error { return nil }

// foundingLines are those of the mail proxy of the founding case, with further ones.
func foundingLines(more ...string) func(s *stage) ([]string, error) {
	return func(s *stage) ([]string, error) {
		silent, err := startSilentServer()
		if err != nil {
			return nil, err
		}
		s.closers = append(s.closers, silent.close)
		return append(more, "option redispatch", "retries 3", "timeout connect 300ms",
			"server mx1 "+silent.address, "server mx2 "+s.echo.address()), nil
	}
}

// hitFounding brings the founding bug about.
func hitFounding(ctx context.Context, s *stage) error {
	l := leavers{address: s.address, api: s.proxy.api}
	_, err := l.hit(ctx)
	s.culprit.connections = l.clients
	return err
}

// awaitOrphanOverdue waits until the timer of an orphan has passed.
func awaitOrphanOverdue(ctx context.Context, s *stage) error {
	ids, err := orphans(ctx, s.proxy.api)
	if err != nil {
		return err
	}
	return awaitOverdue(ctx, s.proxy.api, ids[0])
}
