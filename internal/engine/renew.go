package engine

import (
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// RenewSets has every worker make its epoll set anew, with the registrations that it knows: the only way to
// be rid of one whose descriptor is closed while a copy of it lives (class F6), or that is for another worker
// (class F7). It is an order: each worker carries it out in its next turn. Where the kernel has no memory for
// it, all stays as it is.
func (e *Engine) RenewSets() {
	for _, w := range e.workers {
		w.post(message{kind: messageRenew})
	}
}

// renew makes the worker's epoll set anew. What holds of a descriptor is delivered once more, so no edge is
// lost.
func (w *worker) renew() {
	set, err := w.kernel.EpollCreate()
	if err != nil {
		return
	}
	for fd := range w.descriptors {
		d := &w.descriptors[fd]
		if d.kind == kindNone || d.kind == kindHanded {
			continue
		}
		if errno := w.kernel.EpollAdd(set, fd, d.watched(), d.data(fd)); errno != 0 {
			w.kernel.Close(set)
			return
		}
		w.makeVisit()
	}
	if errno := w.kernel.Replace(w.set, set); errno != 0 {
		w.kernel.Close(set)
		return
	}
	for fd := range w.descriptors {
		if w.descriptors[fd].kind == kindHanded {
			w.forget(fd)
		}
	}
	clear(w.strays)
}

// watched returns what a registered descriptor is watched for.
func (d *descriptor) watched() uint32 {
	switch d.kind {
	case kindWaker:
		return sys.EventIn
	case kindListener:
		return listenerEvents
	}
	side := stream.Side(d.kind - kindClient)
	if d.conn.faults&levelFaults[side] != 0 {
		return d.conn.ends[side].interest
	}
	return connectionEvents
}

// data returns the epoll data of a descriptor's registration.
func (d *descriptor) data(fd int) uint64 { return uint64(d.generation)<<32 | uint64(fd) }
