package correlate

import "github.com/whyspin/whyspin/internal/evidence"

// interestChurn is the rule for F8: each turn changes the registration, which generates the event again. The
// deciding fact is epoll_ctl about as often as a delivery.
func interestChurn(r *repeat) (Fact, bool) {
	if r.Controls*2 < r.delivered {
		return Fact{}, false
	}
	return Fact{
		Text:  "calls of epoll_ctl on it, each of which reports it again",
		Count: evidence.Know(r.Controls), Source: sourceSyscalls, Weight: 0.8,
	}, true
}
