package correlate

import "github.com/whyspin/whyspin/internal/evidence"

// idleWriteInterest is the rule for F1: EPOLLOUT is armed and there is nothing to send. The deciding fact is
// that nobody writes though the descriptor is reported as writable all the time.
func idleWriteInterest(r *repeat) (Fact, bool) {
	writes := r.Write.Calls
	if r.mask&evidence.EventOut == 0 || writes*deliveriesPerProgress > r.delivered {
		return Fact{}, false
	}
	return Fact{
		Text:  "writes on it, though it is reported as writable all the time",
		Count: evidence.Know(writes), Source: sourceSyscalls, Weight: 0.7,
	}, true
}
