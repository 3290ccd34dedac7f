package correlate

import (
	"fmt"

	"github.com/whyspin/whyspin/internal/evidence"
)

// orphanedRegistration is the rule for F6: a descriptor was closed without leaving the epoll set while a copy
// of it lives, so its events go on and name a number that is closed or has become another. The deciding fact
// is the descriptor table.
func orphanedRegistration(r *repeat) (Fact, bool) {
	switch {
	case !r.known:
		return Fact{}, false
	case r.socket.Kind == evidence.SocketClosed:
		return Fact{
			Text: fmt.Sprintf("descriptor %d is closed, and its events still come: a copy of it lives",
				r.FD),
			Source: sourceFiles, Weight: 0.8,
		}, true
	case r.socket.Orphaned:
		return Fact{
			Text: fmt.Sprintf("descriptor %d has become another file; the events are those of the file"+
				" before, of which a copy lives", r.FD),
			Source: sourceFiles, Weight: 0.8,
		}, true
	}
	return Fact{}, false
}
