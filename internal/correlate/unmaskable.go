package correlate

import (
	"fmt"

	"github.com/whyspin/whyspin/internal/evidence"
)

// unmaskable is the rule for F4: an error or a hang-up, which is reported whatever was asked for, and nobody
// reads the error or closes. The deciding fact is the event itself, on a descriptor that stays open.
func unmaskable(r *repeat) (Fact, bool) {
	bad := r.mask & (evidence.EventErr | evidence.EventHup)
	if bad == 0 || r.Closes > 0 {
		return Fact{}, false
	}
	return Fact{
		Text:  fmt.Sprintf("closes of it, though it is reported with %v, which cannot be masked", bad),
		Count: evidence.Know(r.Closes), Source: sourceSyscalls, Weight: 0.7,
	}, true
}
