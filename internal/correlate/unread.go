package correlate

import (
	"fmt"

	"github.com/whyspin/whyspin/internal/evidence"
)

// unreadInterest is the rule for F2: EPOLLIN is armed and nobody reads. The deciding fact is that there are
// next to no reads though the descriptor is reported as readable all the time.
func unreadInterest(r *repeat) (Fact, bool) {
	if r.mask&(evidence.EventIn|evidence.EventPri) == 0 || r.Read.Calls*deliveriesPerProgress > r.delivered {
		return Fact{}, false
	}
	text := "reads of it, though it is reported as readable all the time"
	if r.known && r.socket.ReceiveQueue > 0 {
		text += fmt.Sprintf("; %d bytes wait in it", r.socket.ReceiveQueue)
	}
	return Fact{
		Text: text, Count: evidence.Know(r.Read.Calls), Source: sourceSyscalls, Weight: 0.7,
	}, true
}
