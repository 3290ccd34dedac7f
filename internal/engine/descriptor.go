package engine

import (
	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// kind is what a registered descriptor is.
type kind uint8

const (
	kindNone kind = iota // not registered
	kindWaker
	kindListener
	kindClient // the client's connection of a stream
	kindServer // the server's
	kindHanded // a connection that was handed to another worker
)

// descriptor is a worker's entry for a descriptor that is in its epoll set.
type descriptor struct {
	kind kind
	// generation tells an event for this registration from one for a descriptor of the same number that was
	// closed meanwhile: it is in the upper half of the epoll data, the number in the lower.
	generation uint32
	events     uint32 // delivered since the registration
	// row counts those of them since the last call on the descriptor, which was the callsth of its side; mask
	// is the latest.
	row, calls uint32
	mask       uint32
	// rewrites counts how often what it is watched for was written anew.
	rewrites uint32
	conn     *conn
	listener *listener
}

// connectionEvents is how a proxied descriptor is registered: once, edge-triggered, for its whole life.
const connectionEvents = sys.EventIn | sys.EventOut | sys.EventRdHup | sys.EventPri | sys.EventEdge

// listenerEvents is how a listener is registered: level-triggered, because a worker may leave connections in
// the backlog for others, and exclusive, so that one connection wakes one worker.
const listenerEvents = sys.EventIn | sys.EventExclusive

// register puts a descriptor into the worker's epoll set.
func (w *worker) register(fd int, d descriptor, events uint32) sys.Errno {
	for fd >= len(w.descriptors) {
		w.descriptors = append(w.descriptors, descriptor{})
	}
	entry := &w.descriptors[fd]
	d.generation = entry.generation + 1
	if errno := w.kernel.EpollAdd(w.set, fd, events, d.data(fd)); errno != 0 {
		return errno
	}
	*entry = d
	return 0
}

// forget drops the entry of a descriptor that leaves the epoll set, by being closed or removed.
func (w *worker) forget(fd int) {
	entry := &w.descriptors[fd]
	*entry = descriptor{generation: entry.generation}
}

// dispatch takes in a batch of events. It runs no stream: those that have something to do become due, so
// that all that one wait brought is seen together, timers included.
func (w *worker) dispatch(events []sys.Event) {
	for i := range events {
		e := &events[i]
		data := e.Data()
		fd := int(uint32(data))
		if fd >= len(w.descriptors) || w.descriptors[fd].generation != uint32(data>>32) {
			w.stats.stale++
			w.stray(data)
			continue
		}
		d := &w.descriptors[fd]
		d.events++
		d.mask = e.Events
		switch d.kind {
		case kindNone:
			w.stats.stale++
			w.stray(data)
		case kindHanded:
			w.stats.foreign++
			w.stray(data)
		case kindWaker:
			w.kernel.DrainWaker(w.waker)
		case kindListener:
			w.accept(d.listener)
		case kindClient:
			w.connectionEvent(d.conn, stream.Client, e.Events)
		case kindServer:
			w.connectionEvent(d.conn, stream.Server, e.Events)
		}
	}
}

// delivered counts a delivery; calls is how many calls were made so far.
func (d *descriptor) delivered(calls uint32) {
	if calls != d.calls {
		d.row, d.calls = 0, calls
	}
	d.row++
}

// connectionEvent notes what became possible on one end of a stream and makes the stream due if that is of
// use to it. Edge-triggered events come together with everything else that holds at the moment, so most
// bits are not news.
func (w *worker) connectionEvent(c *conn, side stream.Side, events uint32) {
	cause := stream.CauseClientEvent + stream.Cause(side)
	end := &c.ends[side]
	w.descriptors[end.fd].delivered(end.reads + end.writes)
	if end.ready.has(connecting) {
		if events&(sys.EventOut|sys.EventErr|sys.EventHup) != 0 {
			end.ready |= connectResult
			w.enqueue(c, cause)
		}
	}
	before := end.ready
	if end.tls != nil && events&^sys.EventOut != 0 {
		end.tls.arrived = true
	}
	ignored := side == stream.Client && c.faults.Has(fault.ErrorIgnored)
	if events&(sys.EventErr|sys.EventHup) != 0 && !ignored {
		end.ready |= hungUp | readable | drain | writable
	}
	if events&sys.EventRdHup != 0 {
		end.ready |= readable | finished
	}
	if events&sys.EventPri != 0 {
		end.ready |= readable | drain
	}
	if events&sys.EventIn != 0 {
		end.ready |= readable
	}
	if events&sys.EventOut != 0 {
		end.ready |= writable
	}
	news := end.ready &^ before
	if end.tls != nil && end.tls.due(end) || side == stream.Client && c.awaits() {
		w.enqueue(c, cause)
	}
	switch {
	case news.has(hungUp) || news&(readable|drain|finished) != 0 && c.want.Has(readWant[side]):
		w.enqueue(c, cause)
	case news.has(writable) && c.want.Has(writeWant[side]), c.wakes(side):
		w.enqueue(c, cause)
	}
}
