package engine

import (
	"fmt"

	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// The faults about readiness need an engine of the other kind, whose descriptors are level-triggered: what a
// descriptor is watched for follows what its stream wants, and every event wakes the stream. So of a stream
// with such a fault the one descriptor that it spoils is treated like that; all others stay edge-triggered.
// This file is that other engine; without the conditions that the faults weaken it is a healthy one.

// levelFaults are the faults that need a side's descriptor to be level-triggered.
var levelFaults = [2]fault.Set{
	stream.Client: fault.ReadInterestKept | fault.EOFForgotten | fault.ErrorIgnored |
		fault.ClosedWithoutRemoval | fault.TLSWantReadArmedWrite | fault.TLSErrorSwallowed,
	stream.Server: fault.WriteInterestKept,
}

// wakingFaults are the faults that make a stream change what its descriptors are watched for.
const wakingFaults = fault.ReadInterestKept | fault.EOFForgotten | fault.ErrorIgnored |
	fault.WriteInterestKept | fault.InterestRewritten | fault.ClosedWithoutRemoval |
	fault.TLSWantReadArmedWrite | fault.TLSErrorSwallowed

// watch returns the events to register a new descriptor for; first is what a level-triggered one needs until
// the stream has run.
func (c *conn) watch(side stream.Side, first uint32) uint32 {
	if c.faults&levelFaults[side] == 0 {
		return connectionEvents
	}
	c.ends[side].interest = first
	return first
}

// wakes reports whether every event of a side's descriptor wakes the stream.
func (c *conn) wakes(side stream.Side) bool {
	return c.faults&wakingFaults != 0 && (c.faults&levelFaults[side] != 0 || c.rewrites(side))
}

// rewrites reports whether the interest in a side's descriptor is written though it has not changed.
func (c *conn) rewrites(side stream.Side) bool {
	return side == stream.Client && c.faults.Has(fault.InterestRewritten)
}

// interest returns what a side's level-triggered descriptor is to be watched for: no more than what the
// stream, or what comes before its bytes, would act upon. A hang-up cannot be masked, so once it is known and
// nobody will read, the descriptor becomes edge-triggered for good.
func (c *conn) interest(side stream.Side) uint32 {
	end := &c.ends[side]
	if end.ready.has(connecting) {
		return sys.EventOut
	}
	tlsReads, tlsWrites := c.tlsInterest(side)
	reads := c.want.Has(readWant[side]) || tlsReads || side == stream.Client && c.awaiting
	if end.ready.has(hungUp) && !reads || end.interest&sys.EventEdge != 0 {
		return connectionEvents
	}
	var events uint32
	if reads {
		events |= sys.EventIn | sys.EventRdHup
	}
	if c.want.Has(writeWant[side]) || tlsWrites {
		events |= sys.EventOut
	}
	if c.faults.Has(fault.WriteInterestKept) {
		events |= end.interest & sys.EventOut
	}
	if c.faults.Has(fault.ReadInterestKept) {
		events |= end.interest & sys.EventIn
	}
	return events
}

// tlsInterest returns what the TLS of a side waits for, beside what the stream wants.
func (c *conn) tlsInterest(side stream.Side) (reads, writes bool) {
	s := c.ends[side].tls
	if s == nil {
		return false, false
	}
	reads, writes = s.shaking, s.sealed != nil
	if c.faults.Has(fault.TLSWantReadArmedWrite) {
		writes = writes || s.wantsRead()
	}
	return reads, writes
}

// updateInterest makes the kernel know what the stream wants of its level-triggered descriptors.
func (w *worker) updateInterest(c *conn) {
	for side := range c.ends {
		end, side := &c.ends[side], stream.Side(side)
		if end.fd < 0 || !c.wakes(side) {
			continue
		}
		events := connectionEvents
		if c.faults&levelFaults[side] != 0 {
			events = c.interest(side)
		}
		if events == end.interest && !c.rewrites(side) {
			continue
		}
		end.interest = events
		fd := int(end.fd)
		if errno := w.kernel.EpollModify(w.set, fd, events, w.descriptors[fd].data(fd)); errno != 0 {
			panic(fmt.Sprintf("BUG: changing the interest in a registered descriptor: %v", errno))
		}
		w.descriptors[end.fd].rewrites++
	}
}
