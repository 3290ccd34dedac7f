package engine

import (
	"fmt"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/sys"
)

// listenerStates describes the listeners; none once a soft stop has begun, for they are being closed. What a
// worker that does not give its lock has done with them is left out.
func (e *Engine) listenerStates() []evidence.Listener {
	if e.stopping.Load() {
		return nil
	}
	states := make([]evidence.Listener, len(e.listeners))
	for i, l := range e.listeners {
		states[i] = e.listenerState(l)
	}
	for _, w := range e.workers {
		w.locked(func() {
			for i, l := range e.listeners {
				if l.fd < len(w.descriptors) && w.descriptors[l.fd].listener == l {
					states[i].Armed++
				}
				states[i].Fruitless += w.listeners[l.index].charged
				for _, p := range w.pausedAt {
					if p.listener == l {
						states[i].Paused++
					}
				}
			}
		})
	}
	return states
}

func (e *Engine) listenerState(l *listener) evidence.Listener {
	s := evidence.Listener{
		FD: l.fd, Address: e.kernel.LocalAddress(l.fd).String(), Frontend: l.frontend.config.Name,
		Refused: l.refused.Load(), Limit: e.limitOf(l),
	}
	if s.Refused > 0 {
		s.Error = sys.Errno(l.failure.Load()).Error()
	}
	return s
}

// limitOf names the limit that keeps a listener from accepting, "" for none.
func (e *Engine) limitOf(l *listener) string {
	switch {
	case l.maxConn > 0 && l.conns.Load() >= l.maxConn:
		return fmt.Sprintf("maxconn %d of the listener", l.maxConn)
	case l.frontend.conns.Load() >= l.frontend.maxConn:
		return fmt.Sprintf("maxconn %d of the frontend", l.frontend.maxConn)
	case e.conns.Load() >= e.maxConn:
		return fmt.Sprintf("maxconn %d of the process", e.maxConn)
	}
	return ""
}

// Listeners returns the descriptors of the listeners.
func (e *Engine) Listeners() []int {
	fds := make([]int, len(e.listeners))
	for i, l := range e.listeners {
		fds[i] = l.fd
	}
	return fds
}
