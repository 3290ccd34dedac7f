package correlate

import (
	"fmt"

	"github.com/whyspin/whyspin/internal/evidence"
)

// wrongRecipient is the rule for F7: a shared epoll set or listener wakes threads that may not act. The
// deciding fact is a thread that gets the descriptor again and again and never makes a call on it, while it
// is delivered to others, too.
func wrongRecipient(r *repeat) (Fact, bool) {
	if len(r.Deliverers) < 2 {
		return Fact{}, false
	}
	for _, t := range busiest(r.Descriptor) {
		if t.Calls*deliveriesPerProgress <= t.Count && t.Count >= leastRow {
			return Fact{
				Text: fmt.Sprintf("calls on it by thread %d, to which it was delivered %d times; it goes to"+
					" %d threads", t.TID, t.Count, len(r.Deliverers)),
				Count: evidence.Know(t.Calls), Source: sourceSyscalls, Weight: 0.7,
			}, true
		}
	}
	return Fact{}, false
}
