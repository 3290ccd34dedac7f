package engine

import (
	"container/list"
	"fmt"
	"time"

	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/rules"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// conn is the engine's part of a stream: the descriptors, the buffers and the places in the worker's
// structures.
type conn struct {
	stream stream.Stream
	want   stream.Want // of the last Advance
	faults fault.Set   // those of the engine that this stream shall have
	id     uint64
	serial uint64
	worker *worker

	frontend *frontend
	backend  *backend // nil when the frontend has none
	server   *server  // the one last assigned
	listener *listener
	client   sys.Address
	session  *rules.Session // nil for a frontend that asks for nothing
	// awaiting is true exactly when a PROXY protocol header is awaited; header is what was read of it, nil
	// for nothing.
	awaiting bool
	header   *buffer

	ends    [2]endpoint // by stream.Side
	buffers [2]*buffer  // by the side that is read from; nil when empty
	classes [2]int      // the size of the next buffer

	deadline  ktime.Time // the nearest of the stream's, as of its last wakeup
	heapIndex int        // in the worker's timers, -1 when it is not there
	due       bool       // in the worker's run queue
	cause     stream.Cause
	woken     ktime.Time // its last wakeup
	requeued  uint64     // wakeups that it asked for itself
	attempts  uint64     // connections to servers that were tried
	killed    bool
	killer    stream.Killer
	// killAnswers are where to report that a killed stream has ended, each with room for the answer.
	killAnswers []chan<- bool
	logged      bool
	grant       *server // a slot granted and not yet taken
	failure     error   // of the latest TLS handshake that failed
	shaken      bool    // the client's TLS handshake is complete

	moment uint64   // the number of its latest in the worker's flight recorder
	pinned []moment // its history as of when it became suspect

	turn          bool          // has the backend's turn; guarded by the backend's lock
	queued        *list.Element // in the backend's queue; guarded by the backend's lock
	grantsBefore  uint64        // the backend's grants when it was queued
	queuePosition int           // as in Record.BackendQueue
}

// endpoint is one side's connection: what is known of its descriptor.
type endpoint struct {
	fd    int32 // -1 when there is none
	ready readiness
	// unix is true exactly when it is a unix socket. There a read stops behind a message that carries
	// descriptors, so that a short read never means that the socket is empty.
	unix  bool
	nagle nagle
	// held is true exactly when the last bytes were written and the end that they wait for was not yet.
	held bool
	// interest is what a level-triggered descriptor is watched for.
	interest uint32
	tls      *secured // nil without TLS
	tally
}

// nagle is how far a connection to a server is with Nagle's algorithm, which delays a small write while
// another is on its way. It cannot delay the first write, so that TCP_NODELAY is set only before the second,
// and never for a request without a successor.
type nagle uint8

const (
	nagleOff       nagle = iota // or inherited from the listener as off, or no TCP
	nagleUntouched              // nothing was written yet
	nagleWritten                // the first write was made
)

// tally counts the calls on the descriptors of one side.
type tally struct {
	reads, writes           uint32
	readsAgain, writesAgain uint32 // those that returned EAGAIN
}

// readiness is what the kernel has said about a descriptor and what has not been used up since.
type readiness uint8

const (
	readable readiness = 1 << iota
	writable
	// drain: a short read does not mean that the socket is empty, so it must be read until it says so. Set
	// by events of errors, hang-ups and urgent data, which all make reads stop short.
	drain
	// hungUp: the connection is broken (ERR) or shut both ways (HUP).
	hungUp
	connecting
	connectResult // the result of the connect can be asked for
	ended         // the end of file was read, or is known to come next
	// finished: the peer has shut its direction (RDHUP), so all that it sent has arrived, and what is left
	// after a short read is the end of file. It stays true.
	finished
)

func (r readiness) has(v readiness) bool { return r&v == v }

// readWant and writeWant are the wants about a side.
var (
	readWant  = [2]stream.Want{stream.ReadClient, stream.ReadServer}
	writeWant = [2]stream.Want{stream.WriteClient, stream.WriteServer}
)

// slotBits is the part of an id that holds the stream's slot at its worker.
const slotBits = 24

// idString returns the id as dumps print it and orders take it. It looks like HAProxy's, which are
// addresses, but is never used twice: the slot's generation is in it.
func idString(id uint64) string { return fmt.Sprintf("0x%x", id) }

// find returns the stream of that id, nil when it has ended.
func (w *worker) find(id uint64) *conn {
	slot := int(id & (1<<slotBits - 1))
	if slot >= len(w.slots) || w.slots[slot] == nil || w.slots[slot].id != id {
		return nil
	}
	return w.slots[slot]
}

// allocate returns a conn with a slot and a new id.
func (w *worker) allocate() *conn {
	var slot int
	if n := len(w.freeSlots); n > 0 {
		slot = w.freeSlots[n-1]
		w.freeSlots = w.freeSlots[:n-1]
	} else {
		slot = len(w.slots)
		w.slots = append(w.slots, nil)
	}
	var c *conn
	if n := len(w.spare); n > 0 {
		c = w.spare[n-1]
		w.spare = w.spare[:n-1]
	} else {
		c = &conn{}
	}
	serial := w.engine.serial.Add(1)
	*c = conn{
		id: serial<<32 | uint64(w.index)<<slotBits | uint64(slot), serial: serial - 1,
		worker: w, heapIndex: -1, deadline: ktime.Never,
		ends: [2]endpoint{{fd: -1}, {fd: -1}},
	}
	w.slots[slot] = c
	return c
}

// keptConns is how many ended streams a worker keeps for the next ones.
const keptConns = 1024

// free gives everything back that an ended stream still holds.
func (w *worker) free(c *conn) {
	for from := range c.buffers {
		w.dropBuffer(c, stream.Side(from))
	}
	w.timers.remove(c)
	if c.due {
		panic("BUG: an ended stream is due to run")
	}
	slot := int(c.id & (1<<slotBits - 1))
	w.slots[slot] = nil
	w.freeSlots = append(w.freeSlots, slot)
	if len(w.freeSlots) == len(w.slots) {
		w.pipes.close()
	}
	w.stats.ended++
	if c.backend != nil {
		c.backend.leave()
	}
	w.engine.dismiss(c.listener)
	w.load.Add(-1)
	c.stream = stream.Stream{}
	if len(w.spare) < keptConns {
		w.spare = append(w.spare, c)
	}
	w.engine.resume()
}

// wakeAt is when the worker is to wake the stream for its deadline: then.
func (c *conn) wakeAt(deadline, now ktime.Time) ktime.Time {
	if c.faults.Has(fault.DeadlineTruncated) && deadline.IsSet() {
		left := deadline.Sub(now) / time.Microsecond
		return deadline.Add((time.Duration(int32(left)) - left) * time.Microsecond)
	}
	return deadline
}

// keepCopy makes a copy of a descriptor that is about to be closed, as for a log that asks for the addresses
// of the connection later; and nobody closes it. So what close(2) closes is not the last descriptor, and it
// does not remove the registration.
func (w *worker) keepCopy(fd int) {
	if again, errno := w.kernel.Duplicate(fd); errno == 0 {
		w.copies = append(w.copies, again)
	}
}

// closeEnd closes one side's descriptor, if there is one.
func (w *worker) closeEnd(c *conn, side stream.Side, reset bool) {
	end := &c.ends[side]
	if end.fd < 0 {
		return
	}
	w.closeSecured(c, side, reset)
	if side == stream.Client && c.awaiting {
		c.failure = c.expired()
		w.dropHeader(c)
	}
	fd := int(end.fd)
	if side == stream.Client && c.faults.Has(fault.ClosedWithoutRemoval) {
		w.keepCopy(fd)
	}
	w.forget(fd)
	if end.held && (reset || !end.ready.has(ended)) {
		// Bytes that nobody has read would make the close a reset, which drops what was not sent.
		w.kernel.NoDelay(fd)
	}
	*end = endpoint{fd: -1, tally: end.tally}
	if reset {
		w.kernel.CloseReset(fd)
		return
	}
	w.kernel.Close(fd)
}
