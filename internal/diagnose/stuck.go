package diagnose

import (
	"context"
	"time"

	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/sys"
)

// A worker that is in one turn for longer than stuckFor is looked at for stuckLook: a turn takes a
// millisecond. It is suspect when it spends that time on a CPU; one that waits for a CPU, or sleeps, burns
// none. To look ten times a second cost an idle proxy 0.15 % of a CPU.
const (
	stuckEvery = 500 * time.Millisecond
	stuckFor   = 50 * time.Millisecond
	stuckLook  = 20 * time.Millisecond
)

// watchStuck diagnoses the proxy when one of its workers burns a CPU without coming back to its loop (B1,
// B2): the ledger counts the wakeups of streams, and there are none then. A turn is reported once.
func (s *Supervisor) watchStuck(ctx context.Context) {
	for _, first := range s.Engine.StuckWorkers(stuckFor) {
		began := first.Began
		if s.stuck[first.Worker] == began {
			continue
		}
		before, err := sys.ThreadCPU(first.TID)
		if err != nil || pause(ctx, stuckLook) != nil {
			return
		}
		after, err := sys.ThreadCPU(first.TID)
		if err != nil || after-before < stuckLook/2 {
			continue
		}
		for _, now := range s.Engine.StuckWorkers(stuckFor) {
			if now.Worker == first.Worker && now.Began == began {
				s.stuck[now.Worker] = began
				s.suspect(ctx, engine.Suspicion{
					FD: -1, Worker: now.Worker, At: sys.Now(), Wakeups: 1, Since: began,
					Cause: "it does not come back to its loop",
				})
			}
		}
	}
}
