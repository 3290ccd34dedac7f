package correlate

import (
	"fmt"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// waitOtherwise says which threads never sleep and get next to nothing done with waits that are not judged:
// by poll, select and io_uring. For these the gate would hold, were they waits on an epoll set.
func (in *input) waitOtherwise() []string {
	if in.Window == nil {
		return nil
	}
	var said []string
	for i := range in.Window.Threads {
		t := &in.Window.Threads[i]
		polls := t.Polls.Or(evidence.Waits{})
		by, n := "poll or select", polls.Total()
		if rings := t.Rings.Or(0); rings > n {
			by, n = "io_uring", rings
		}
		slept, ok := t.Blocked(in.Window.Length()).Get()
		progress, counted := t.Progress.Get()
		if !ok || slept >= awake || n < leastWaits || !counted || n < waitsPerProgress*progress ||
			t.User.Or(0) >= time.Duration(n)*longestTurn {
			continue
		}
		said = append(said, fmt.Sprintf("whether thread %d spins, which never sleeps and gets next to"+
			" nothing done: it waits by %s (%d times), which is not judged", t.TID, by, n))
	}
	return said
}
