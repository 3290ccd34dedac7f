package correlate

import "github.com/whyspin/whyspin/internal/evidence"

// acceptStall is the rule for F5: connections wait on a listener that stays armed, and none is accepted. The
// deciding fact is accept failing, or not being called at all.
func acceptStall(r *repeat) (Fact, bool) {
	// A call of accept tells a listener, too, when nothing is known of the descriptor.
	if r.socket.State != listening && (r.known || r.AcceptErrors == 0) {
		return Fact{}, false
	}
	fact := Fact{
		Text:  "calls of accept on the listener that failed",
		Count: evidence.Know(r.AcceptErrors), Source: sourceSyscalls, weight: 0.8,
	}
	if r.AcceptErrors == 0 {
		fact.Text = "calls of accept on the listener, though connections wait"
	}
	return fact, true
}
