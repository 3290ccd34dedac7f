package engine

import (
	"crypto/tls"
	"io"

	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
	"github.com/whyspin/whyspin/internal/tlsconn"
)

// secured is the TLS of one end. Bytes go through it in both directions, so what is known of the descriptor
// and what is known of the end are two things here. Of such an end readable means that reading may bring
// something, be it that the connection has bytes or that the TLS layer still has some of those that were read
// before; whether the connection has is arrived. And what was sealed is the stream's until the connection has
// taken it, so that nothing is lost when both agree that everything is written.
type secured struct {
	conn  *tlsconn.Conn
	owner *conn
	side  stream.Side
	// arrived is true exactly when the connection may have bytes that were not read.
	arrived bool
	// shaking is true exactly when the handshake is under way, begun when its first step was made.
	shaking, begun bool
	// sealed is what the connection has not taken, nil for nothing. Until it has, nothing new is sealed but
	// what the protocol demands.
	sealed *buffer
	// plain is how many of the stream's bytes were sealed and are not known to be written.
	plain int
	// shut is true exactly when the write direction is to be shut when sealed is empty, dead when nothing can
	// be written any more, because it was shut or is broken.
	shut, dead bool
	// broken is the error that a write has met with which the stream had nothing to do. The connection tells
	// it once, so that reading has to be told of it from here; 0 for none.
	broken  sys.Errno
	failure error // what ended it, nil while nothing did
	// taken is the bytes read from the connection. wakeup is the number of the latest wakeup in which it was
	// to be read, enough the effort with which its share of that is used up.
	taken, wakeup, enough uint64
	// early is what was read before TLS began and belongs to it, nil for nothing.
	early *buffer
}

// effortPerWakeup is how much is read for TLS from one end in one wakeup, in bytes. A record counts for
// recordEffort more than it has: with records of one byte, or that change the keys, a peer could have turns
// of any length otherwise.
const (
	effortPerWakeup = bytesPerWakeup
	recordEffort    = 1 << 10
)

// effort is what it took to read what was read.
func (s *secured) effort() uint64 { return s.taken + recordEffort*s.conn.Records() }

// secure begins TLS on one end.
func (w *worker) secure(c *conn, side stream.Side, config *tls.Config) {
	s := &secured{owner: c, side: side, shaking: true, arrived: c.ends[side].ready.has(readable)}
	if side == stream.Client {
		s.conn = tlsconn.Server(config, s, &w.lent)
	} else {
		s.conn = tlsconn.Client(config, s, &w.lent)
	}
	c.ends[side].tls = s
	w.stats.tls.begin(side)
	c.stream.BeginHandshake(side, w.now)
}

// Read reads from the connection, for the TLS layer. When that has had its share of the wakeup, there is
// nothing more to read, and arrived stays true.
func (s *secured) Read(p []byte) (int, error) {
	w, end := s.owner.worker, &s.owner.ends[s.side]
	if s.early != nil {
		n := copy(p, s.early.data[s.early.r:s.early.w])
		if s.early.consume(n); s.early.buffered() == 0 {
			w.dropEarly(s)
		}
		return n, nil
	}
	if s.wakeup != w.stats.wakeups {
		s.wakeup, s.enough = w.stats.wakeups, s.effort()+effortPerWakeup
	}
	if !s.arrived || s.effort() >= s.enough {
		return 0, tlsconn.ErrWouldBlock
	}
	n, errno := w.kernel.Read(int(end.fd), p)
	end.reads++
	countIO(&w.stats.read, n, errno)
	switch {
	case errno == sys.EAGAIN:
		end.readsAgain++
		end.ready &^= drain
		s.arrived = false
		return 0, tlsconn.ErrWouldBlock
	case errno != 0:
		s.arrived = false
		return 0, errno
	case n == 0:
		s.arrived = false
		if s.broken != 0 {
			return 0, s.broken
		}
		return 0, io.EOF
	}
	s.taken += uint64(n)
	if n < len(p) && !end.unix && end.ready&(drain|finished) == 0 {
		s.arrived = false
	}
	return n, nil
}

// wait notes that reading brings nothing now: unless the share of the wakeup is used up, not before an event.
func (s *secured) wait(end *endpoint) {
	if !s.arrived {
		end.ready &^= readable
	}
}

// Send takes what the TLS layer has sealed. It is written, or kept, by sendSealed. Nothing follows the word
// that nothing will.
func (s *secured) Send(p []byte) {
	if s.shut || s.dead {
		return
	}
	w := s.owner.worker
	w.sealing = append(w.sealing, p...)
}

// sendSealed writes what was sealed as far as the connection takes it, and keeps the rest. Whatever may
// have sealed something is followed by it. n is how many bytes were written.
func (w *worker) sendSealed(s *secured) (n int, errno sys.Errno) {
	defer w.clearSealing()
	if s.dead || s.sealed == nil && len(w.sealing) == 0 {
		return 0, 0
	}
	waiting := w.sealing
	if s.sealed != nil {
		if !w.keep(s, w.sealing) {
			return 0, sys.ENOBUFS
		}
		waiting = s.sealed.data[s.sealed.r:s.sealed.w]
	}
	end := &s.owner.ends[s.side]
	if end.ready.has(writable) {
		w.undelay(end)
		n, errno = w.kernel.Write(int(end.fd), waiting, s.shut)
		end.writes++
		countIO(&w.stats.write, n, errno)
		if errno == 0 {
			w.stats.sent.Add(w.now, uint64(n))
		}
		if errno != 0 || n < len(waiting) {
			end.ready &^= writable
		}
		if errno == sys.EAGAIN {
			end.writesAgain++
			n, errno = 0, 0
		}
	}
	switch {
	case errno != 0:
		return 0, errno
	case s.sealed != nil:
		if s.sealed.consume(n); s.sealed.buffered() == 0 {
			w.dropSealed(s)
		}
	case n < len(waiting) && !w.keep(s, waiting[n:]):
		return 0, sys.ENOBUFS
	}
	return n, 0
}

// maxSealing is how much the worker keeps of the memory in which records are sealed.
const maxSealing = 128 << 10

// clearSealing makes room for what is sealed next.
func (w *worker) clearSealing() {
	if w.sealing = w.sealing[:0]; cap(w.sealing) > maxSealing {
		w.sealing = nil
	}
}

// keep puts bytes behind those that the connection has not taken. It reports false when there is no room,
// which means that the peer makes the TLS layer answer and takes no answers.
func (w *worker) keep(s *secured, p []byte) bool {
	if s.sealed == nil {
		s.sealed = w.buffers.takeFor(len(p))
	}
	b := s.sealed
	if len(b.data)-b.w < len(p) {
		b.w = copy(b.data, b.data[b.r:b.w])
		b.r = 0
	}
	if len(b.data)-b.w < len(p) {
		larger := w.buffers.takeFor(b.buffered() + len(p))
		larger.w = copy(larger.data, b.data[b.r:b.w])
		w.buffers.give(b)
		s.sealed, b = larger, larger
	}
	n := copy(b.data[b.w:], p)
	b.w += n
	return n == len(p)
}

// takeFor returns an empty buffer with room for n bytes, or of the largest size, whatever the limit.
func (p *bufferPool) takeFor(n int) *buffer {
	class := 0
	for class < p.largest && p.sizes[class] < n {
		class++
	}
	limit := p.limit
	p.limit = max(limit, p.used+p.sizes[class])
	b := p.take(class)
	p.limit = limit
	return b
}

func (w *worker) dropSealed(s *secured) {
	if s.sealed != nil {
		w.buffers.give(s.sealed)
		s.sealed = nil
	}
}

func (w *worker) dropEarly(s *secured) {
	if s.early != nil {
		w.buffers.give(s.early)
		s.early = nil
	}
}

// flush sends, and tells the stream what came of it. It reports false when nothing can be written any more.
func (w *worker) flush(s *secured) bool {
	if s.dead {
		w.sealing = w.sealing[:0]
		return false
	}
	n, errno := w.sendSealed(s)
	c := s.owner
	if errno != 0 {
		parting := s.shut
		w.die(s)
		switch {
		case s.shaking:
			w.fail(s, &tlsconn.Error{Cause: tlsconn.CauseBroken, Err: errno})
			c.ends[s.side].ready |= readable // which lets the handshake come to its end
		case parting:
			// The stream has nothing more to write. If it still reads, it hears of it by that.
			s.broken, s.arrived = errno, true
			c.ends[s.side].ready |= readable
			w.kernel.ShutdownWrite(int(c.ends[s.side].fd))
		default:
			c.stream.WriteFailed(s.side)
		}
		return false
	}
	if n > 0 {
		// What is left may be the last of what was sealed.
		left := 0
		if s.sealed != nil {
			left = s.sealed.buffered()
		}
		if wrote := s.plain - min(s.plain, left); wrote > 0 {
			s.plain -= wrote
			c.stream.Wrote(s.side, wrote)
		}
	}
	if s.shut && s.sealed == nil {
		w.die(s)
		w.kernel.ShutdownWrite(int(c.ends[s.side].fd))
	}
	return true
}

// dropWritten drops what was read from a side and will not be written, sealed or not.
func (w *worker) dropWritten(c *conn, from stream.Side) {
	w.dropBuffer(c, from)
	if s := c.ends[1-from].tls; s != nil {
		w.die(s)
	}
}

// die forgets what was sealed: nothing can be written any more.
func (w *worker) die(s *secured) {
	w.dropSealed(s)
	w.sealing = w.sealing[:0]
	s.plain, s.dead, s.shut = 0, true, false
}

// readSecured reads from a side what fits into the channel's buffer, and tells the stream. It is read for
// TLS.
func (w *worker) readSecured(c *conn, from stream.Side) (transfer, bool) {
	end := &c.ends[from]
	s, b := end.tls, c.buffers[from]
	if b == nil {
		b = w.takeBuffer(c, from)
		c.buffers[from] = b
	}
	if len(b.space()) == 0 {
		return transfer{}, false
	}
	empty, total := b.buffered() == 0, 0
	vain := s.conn.Failed() != nil
	var err error
	for space := b.space(); len(space) > 0 && err == nil; space = b.space() {
		var n int
		n, err = s.conn.Read(space)
		b.w += n
		total += n
	}
	if len(w.sealing) > 0 {
		w.flush(s)
	}
	if total > 0 {
		c.stream.Read(from, total)
	}
	switch {
	case err == nil:
		if empty {
			c.classes[from] = w.buffers.grow(b.class)
		}
	case total < w.buffers.sizes[0]:
		c.classes[from] = 0
	}
	over := err != nil && err != tlsconn.ErrWouldBlock
	switch {
	case err == nil:
	case err == tlsconn.ErrWouldBlock:
		s.wait(end)
	case err == io.EOF:
		end.ready &^= readable
		end.ready |= ended
		c.stream.EOF(from)
	case c.swallows(from, err):
		end.ready &^= readable
	default:
		end.ready &^= readable
		w.fail(s, err)
		if from == stream.Server {
			w.serverTrouble(c.server, err)
		}
		c.stream.Broken(from)
	}
	if b.buffered() == 0 {
		w.dropBuffer(c, from)
	}
	return transfer{n: total, over: over, vain: vain}, true
}

// swallows reports whether the stream is not told that the connection beneath the TLS of a side is broken.
func (c *conn) swallows(side stream.Side, err error) bool {
	if side != stream.Client || !c.faults.Has(fault.TLSErrorSwallowed) {
		return false
	}
	e, is := err.(*tlsconn.Error)
	return is && e.Cause == tlsconn.CauseBroken
}

// writeSecured writes to a side what is buffered for it, and tells the stream. It is write for TLS.
func (w *worker) writeSecured(c *conn, to stream.Side) transfer {
	s := c.ends[to].tls
	if b := c.buffers[1-to]; b != nil && s.sealed == nil && !s.dead {
		n, err := w.seal(c, to, b.data[b.r:b.w])
		if err != nil {
			w.sealing = w.sealing[:0]
			w.fail(s, err)
			w.die(s)
			c.stream.WriteFailed(to)
			return transfer{over: true}
		}
		s.plain += n
		if b.consume(n); b.buffered() == 0 {
			w.dropBuffer(c, 1-to)
		}
	}
	before := s.plain
	if !w.flush(s) {
		return transfer{over: true}
	}
	return transfer{n: before - s.plain}
}

// seal seals what is there for a side, or a part of it, and returns how many bytes. While they come in small
// amounts they go into records of no more than "tune.ssl.maxrecord", which the peer can read one by one; to a
// stream that fills its buffers the throughput matters.
func (w *worker) seal(c *conn, to stream.Side, p []byte) (n int, err error) {
	room := w.buffers.sizes[w.buffers.largest]
	p = p[:min(len(p), tlsconn.MaxWrite, room/4*3)]
	record := len(p)
	if most := w.engine.maxRecord; most > 0 && c.classes[1-to] == 0 {
		record = min(record, most)
	}
	for n < len(p) && (n == 0 || len(w.sealing)+tlsconn.Sealed(record) <= room) {
		part := p[n:min(n+record, len(p))]
		if err := c.ends[to].tls.conn.Write(part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

// fail notes what ended the TLS of an end.
func (w *worker) fail(s *secured, err error) {
	if s.failure == nil {
		s.failure = err
	}
}

// pumpSecured is pump for a direction with TLS at one end or both.
func (w *worker) pumpSecured(c *conn, from stream.Side) (called bool) {
	to := 1 - from
	source, sink := &c.ends[from], &c.ends[to]
	reading := c.want.Has(readWant[from])
	writing := c.stream.MayWrite(to)
	for moved, round := 0, 0; moved < pumpBytes && round < pumpRounds; round++ {
		n := 0
		if reading && source.ready.has(readable) && source.fd >= 0 {
			var done transfer
			made := false
			if source.tls != nil {
				done, made = w.readSecured(c, from)
			} else {
				done, made = w.read(c, from)
			}
			called = called || made && !done.vain
			n += done.n
			reading = !done.over && made
		}
		if writing && sink.ready.has(writable) && sink.fd >= 0 {
			var done transfer
			switch b := c.buffers[from]; {
			case sink.tls != nil && (b != nil || sink.tls.sealed != nil):
				done = w.writeSecured(c, to)
				called = true
			case sink.tls == nil && b != nil:
				done = w.write(c, to, b)
				called = true
			}
			n += done.n
			writing = !done.over
		}
		if n == 0 {
			break
		}
		moved += n
	}
	return called
}
