package engine

import (
	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// pumpBytes is how much one direction of a stream may move in one pass, bytes read and bytes written
// together, before the other direction and other streams have their turn: one of the largest buffers in and
// out.
const pumpBytes = 2 * maxBufferSize

// pumpRounds is how often one direction may read and write in one pass, for what comes in small pieces.
const pumpRounds = 64

// tinyIO is the size in bytes up to which a call counts as tiny (B4 in the spin catalogue).
const tinyIO = 16

// pump moves bytes in one direction until a socket has no more, takes no more, or the share is used up. It
// reports whether any call was made.
func (w *worker) pump(c *conn, from stream.Side) (called bool) {
	to := 1 - from
	source, sink := &c.ends[from], &c.ends[to]
	if source.tls != nil || sink.tls != nil {
		return w.pumpSecured(c, from)
	}
	reading := c.want.Has(readWant[from])
	writing := c.stream.MayWrite(to)
	moved, round := 0, 0
	for ; moved < pumpBytes && round < pumpRounds || writing && w.handlerLoops(c, from); round++ {
		n := 0
		if reading && source.ready.has(readable) && source.fd >= 0 {
			done, made := w.read(c, from)
			called = called || made && !done.vain
			n += done.n
			reading = !done.over
		}
		if b := c.buffers[from]; writing && b != nil && sink.ready.has(writable) && sink.fd >= 0 {
			done := w.write(c, to, b)
			called = true
			n += done.n
			writing = !done.over
		}
		if n == 0 && !(writing && w.handlerLoops(c, from)) {
			break
		}
		moved += n
	}
	return called
}

// transfer is what came of one call.
type transfer struct {
	n int
	// over is true exactly when the direction has ended: end of file, or an error. vain is true exactly when
	// the end of file had been read before.
	over, vain bool
}

// read reads once from a side and tells the stream. It reports false when there was no room.
func (w *worker) read(c *conn, from stream.Side) (transfer, bool) {
	end := &c.ends[from]
	b := c.buffers[from]
	if b == nil {
		b = w.takeBuffer(c, from)
		c.buffers[from] = b
	}
	vain := end.ready.has(ended)
	n, room, errno := w.fill(c, end, b)
	if room == 0 {
		return transfer{}, false
	}
	end.reads++
	countIO(&w.stats.read, n, errno)
	switch {
	case errno == sys.EAGAIN:
		end.readsAgain++
		if !c.faults.Has(fault.ReadyAfterEAGAIN) {
			end.ready &^= readable | drain
		}
	case errno != 0:
		end.ready &^= readable
		c.stream.Broken(from)
	case n == 0 && b.pipe != nil:
		// The end of what splice(2) passes may be urgent data: reading tells.
		end.ready |= drain
		w.dropBuffer(c, from)
		return transfer{}, true
	case n == 0:
		w.endOfFile(c, from)
	default:
		filled := n == room
		if filled && b.buffered() == 0 && b.pipe == nil {
			c.classes[from] = w.buffers.grow(b.class)
		}
		empty := !filled && !end.unix && !end.ready.has(drain) && b.pipe == nil
		if empty || c.faults.Has(fault.EdgeForgotten) {
			end.ready &^= readable
		}
		if n < w.buffers.sizes[0] {
			c.classes[from] = 0
		}
		b.w += n
		c.stream.Read(from, n)
		if over := empty && end.ready.has(finished); over {
			w.endOfFile(c, from)
			return transfer{n: n, over: true}, true
		}
		return transfer{n: n}, true
	}
	if b.buffered() == 0 {
		w.dropBuffer(c, from)
	}
	return transfer{over: errno != sys.EAGAIN, vain: vain && n == 0 && errno == 0}, true
}

// fill moves bytes from a descriptor to where the buffer has room, as many as there is room for or fewer.
// Where there is none it does nothing.
func (w *worker) fill(c *conn, end *endpoint, b *buffer) (n, room int, errno sys.Errno) {
	if b.pipe != nil {
		if b.full() {
			return 0, 0, 0
		}
		room = b.pipe.size
		n, errno = w.kernel.Splice(int(end.fd), b.pipe.to, room)
		return n, room, errno
	}
	space := b.space()
	if len(space) == 0 {
		return 0, 0, 0
	}
	if c.faults.Has(fault.ReadsByteByByte) {
		space = space[:1]
	}
	n, errno = w.kernel.Read(int(end.fd), space)
	return n, len(space), errno
}

// send moves what the buffer holds to a descriptor, as far as that takes it. last is as in Sockets.Write.
func (w *worker) send(end *endpoint, b *buffer, last bool) (int, sys.Errno) {
	if b.pipe == nil {
		return w.kernel.Write(int(end.fd), b.data[b.r:b.w], last)
	}
	n, errno := w.kernel.Splice(b.pipe.from, int(end.fd), b.buffered())
	w.stats.spliced += uint64(n)
	return n, errno
}

// endOfFile takes note of a side's end of file.
func (w *worker) endOfFile(c *conn, from stream.Side) {
	end := &c.ends[from]
	end.ready &^= readable
	end.ready |= ended
	if !forgets(c, from) {
		c.stream.EOF(from)
	}
}

// forgets reports whether the end of file of a side is not told to the stream.
func forgets(c *conn, from stream.Side) bool {
	return from == stream.Client && c.faults.Has(fault.EOFForgotten)
}

// write writes once to a side and tells the stream. What comes before the end of file is sent together with
// the end, which the stream orders in this wakeup.
func (w *worker) write(c *conn, to stream.Side, b *buffer) transfer {
	end := &c.ends[to]
	w.undelay(end)
	last := c.ends[1-to].ready.has(ended) && !forgets(c, 1-to)
	n, errno := w.send(end, b, last)
	end.held = last && b.pipe == nil && !end.unix && errno == 0
	end.writes++
	countIO(&w.stats.write, n, errno)
	if errno == 0 {
		w.stats.sent.Add(w.now, uint64(n))
	}
	switch {
	case errno == sys.EAGAIN:
		end.writesAgain++
		end.ready &^= writable
	case errno != 0:
		end.ready &^= writable
		c.stream.WriteFailed(to)
		return transfer{over: true}
	default:
		// What splice(2) leaves in a pipe may have other reasons than a full socket, which alone is certain
		// to become writable again: there only EAGAIN counts.
		if n < b.buffered() && b.pipe == nil {
			end.ready &^= writable
		}
		b.consume(n)
		c.stream.Wrote(to, n)
		if b.buffered() == 0 {
			w.dropBuffer(c, 1-to)
		}
	}
	return transfer{n: n}
}

// undelay turns Nagle's algorithm off before the second write.
func (w *worker) undelay(end *endpoint) {
	switch end.nagle {
	case nagleUntouched:
		end.nagle = nagleWritten
	case nagleWritten:
		w.kernel.NoDelay(int(end.fd))
		end.nagle = nagleOff
	case nagleOff:
	}
}

// hangUp tells the stream of a connection that broke after its end of file was read, when reading no longer
// would. A hang-up without an error is the orderly end of both directions, which the stream knows or will
// find when it writes.
func (w *worker) hangUp(c *conn, side stream.Side) bool {
	end := &c.ends[side]
	if !end.ready.has(hungUp) || end.ready.has(connecting) || end.fd < 0 || !c.stream.InShut(side) {
		return false
	}
	end.ready &^= hungUp | readable
	if errno := w.kernel.SocketError(int(end.fd)); errno != 0 {
		end.ready &^= writable
		c.stream.Broken(side)
	}
	return true
}

// countIO enters a call into the ledger.
func countIO(io *evidence.IO, n int, errno sys.Errno) {
	io.Calls++
	switch errno {
	case 0:
		io.Bytes += uint64(n)
		switch {
		case n == 0:
			io.Zero++
		case n <= tinyIO:
			io.Tiny++
		}
	case sys.EAGAIN:
		io.Again++
	case sys.ECONNRESET:
		io.Reset++
	case sys.EPIPE:
		io.Pipe++
	default:
		io.Errors++
	}
}
