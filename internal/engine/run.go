package engine

import (
	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// passesPerWakeup bounds how often a stream is advanced in one wakeup. A connection attempt takes up to
// four passes, and each retry that needs no pause four more; what is left after that waits for the next
// turn.
const passesPerWakeup = 16

// bytesPerWakeup is after how many bytes read a stream that could go on waits for the next turn: four of the
// largest buffers, about half a millisecond's work. More would save little (what one connection has sent
// last is still in the processor's cache) and keep the other streams waiting.
const bytesPerWakeup = 4 * maxBufferSize

// run is one wakeup of a stream: it moves what bytes can be moved, lets the stream decide, carries out its
// orders, and closes the account.
func (w *worker) run(c *conn) {
	now := w.now
	w.running.Store(c.id)
	c.woken = now
	c.stream.Begin(c.cause, now)
	w.stats.wakeups++
	if c.cause == stream.CauseNone {
		w.stats.unnamed++
	}
	untouched := c.cause == stream.CauseClientEvent || c.cause == stream.CauseServerEvent
	enough := w.stats.read.Bytes + bytesPerWakeup
	again := true
	for pass := 0; again && pass < passesPerWakeup && w.stats.read.Bytes < enough; pass++ {
		if c.killed {
			c.killed = false
			c.stream.Kill(c.killer)
		}
		c.takeGrant()
		if w.gather(c) {
			untouched = false
		}
		observe := w.engine.options.Observe
		if observe != nil {
			observe(c.client, &c.stream, false, now)
		}
		c.want = c.stream.Advance(now)
		if observe != nil {
			observe(c.client, &c.stream, true, now)
		}
		answered := w.obey(c)
		if c.want.Has(stream.End) {
			w.finish(c)
			return
		}
		again = answered || w.canMove(c)
		w.makeVisit()
	}
	w.logEstablished(c)
	if c.faults&wakingFaults != 0 {
		w.updateInterest(c)
	}
	deadline, _ := c.stream.Deadline()
	c.deadline = c.wakeAt(deadline, now)
	w.timers.update(c)
	if deadline.Passed(now) {
		w.stats.late++
	}
	charged := c.stream.Account().Charged
	suspect := c.stream.Settle(now, again, untouched)
	a := c.stream.Account()
	idle := a.Charged != charged
	w.flight.record(c, now, idle)
	if idle {
		w.stats.charged++
	}
	if suspect {
		w.pin(c)
		w.suspect(c, a)
	}
	if again {
		c.requeued++
		w.enqueue(c, stream.CauseMore)
	}
	w.audit(c, now)
}

// suspect reports a stream that has passed its budget.
func (w *worker) suspect(c *conn, a stream.Account) {
	w.raise(Suspicion{
		Stream: idString(c.id), FD: -1, Wakeups: a.Consecutive, Since: a.Since, Cause: a.Cause.String(),
	})
}

// raise reports a suspicion. When nobody hears it, it is dropped: the account remains.
func (w *worker) raise(s Suspicion) {
	s.Worker, s.At = w.index+1, w.now
	select {
	case w.engine.suspicions <- s:
	default:
	}
}

// gather does the I/O that is possible and tells the stream what came of it. It reports whether any call
// was made.
func (w *worker) gather(c *conn) bool {
	called := w.connectResult(c)
	for _, from := range [...]stream.Side{stream.Client, stream.Server} {
		called = w.hangUp(c, from) || called
		if from == stream.Client {
			called = w.introduce(c) || called
		}
		if end := &c.ends[from]; end.tls != nil {
			called = w.flushPending(end) || called
			called = w.shake(c, from) || called
		}
		called = w.pump(c, from) || called
	}
	request, response := c.buffers[stream.Client], c.buffers[stream.Server]
	c.stream.SetFull(request != nil && request.full(), response != nil && response.full())
	return called
}

// connectResult takes the result of a connect that has come to an end. A connection that is not broken is
// established, without asking.
func (w *worker) connectResult(c *conn) bool {
	end := &c.ends[stream.Server]
	if !end.ready.has(connectResult) {
		return false
	}
	end.ready &^= connecting | connectResult
	if end.ready.has(hungUp) {
		if errno := w.kernel.SocketError(int(end.fd)); errno != 0 {
			c.stream.ConnectFailed(connectError(errno, c.server))
			return true
		}
	}
	w.connected(c)
	return true
}

// connectError sorts the errors of a connect to a server.
func connectError(errno sys.Errno, to *server) stream.ConnectError {
	if errno == sys.EAGAIN && to.address.IsUnix() {
		// connect(2): the queue of the server is full. A TCP server would keep the attempt waiting.
		return stream.ConnectRefused
	}
	switch errno {
	case sys.EMFILE, sys.ENFILE, sys.ENOBUFS, sys.ENOMEM, sys.EADDRNOTAVAIL, sys.EAGAIN:
		return stream.ConnectResource
	case sys.EINVAL, sys.EBADF:
		return stream.ConnectInternal
	}
	return stream.ConnectRefused
}

// obey carries out the stream's orders, closing before opening. It reports whether the stream was given an
// answer that it has to look at.
func (w *worker) obey(c *conn) (answered bool) {
	want := c.want
	const orders = stream.Assign | stream.Connect | stream.LeaveQueue | stream.ReleaseServer |
		stream.ShutClient |
		stream.ShutServer | stream.CloseClient | stream.CloseServer | stream.DropRequest | stream.DropResponse
	if want&orders == 0 {
		return false
	}
	if want.Has(stream.DropRequest) {
		w.dropWritten(c, stream.Client)
	}
	if want.Has(stream.DropResponse) {
		w.dropWritten(c, stream.Server)
	}
	if want.Has(stream.ShutServer) {
		w.shutWrite(c, stream.Server)
	}
	if want.Has(stream.ShutClient) {
		w.shutWrite(c, stream.Client)
	}
	if want.Has(stream.CloseServer) {
		w.closeEnd(c, stream.Server, want.Has(stream.ResetServer))
	}
	if want.Has(stream.CloseClient) {
		w.closeEnd(c, stream.Client, want.Has(stream.ResetClient))
	}
	if want.Has(stream.LeaveQueue) {
		w.leaveQueue(c)
	}
	if want.Has(stream.ReleaseServer) {
		w.release(c)
	}
	if want.Has(stream.Assign) {
		w.assign(c)
		answered = true
	}
	if want.Has(stream.Connect) {
		answered = w.connect(c)
	}
	return answered
}

// connect starts the connection to the assigned server. It reports whether the result is known already.
func (w *worker) connect(c *conn) bool {
	c.attempts++
	fd, errno := w.kernel.Connect(c.server.address, c.backend.config.ServerKeepAlive)
	if errno != 0 && errno != sys.EINPROGRESS {
		c.stream.ConnectFailed(connectError(errno, c.server))
		return true
	}
	end := &c.ends[stream.Server]
	*end = endpoint{fd: int32(fd), unix: c.server.address.IsUnix(), tally: end.tally}
	if !end.unix {
		end.nagle = nagleUntouched
	}
	if errno == sys.EINPROGRESS {
		end.ready = connecting
	}
	events := c.watch(stream.Server, sys.EventOut)
	if errno := w.register(fd, descriptor{kind: kindServer, conn: c}, events); errno != 0 {
		end.fd = -1
		w.kernel.Close(fd)
		c.stream.ConnectFailed(connectError(errno, c.server))
		return true
	}
	if !end.ready.has(connecting) {
		w.connected(c)
		return true
	}
	return false
}

// canMove reports whether the stream could move bytes, or has to take note of something, right now.
func (w *worker) canMove(c *conn) bool {
	if c.faults.Has(fault.WakesItself) && c.stream.ShutPending() {
		return true
	}
	if c.awaits() {
		return true
	}
	for side := range c.ends {
		end := &c.ends[side]
		if end.ready.has(connectResult) || end.ready.has(hungUp) && c.stream.InShut(stream.Side(side)) {
			return true
		}
		if end.ready.has(connecting) {
			continue
		}
		if end.tls != nil && end.tls.due(end) {
			return true
		}
		reads, writes := c.want.Has(readWant[side]), c.want.Has(writeWant[side])
		if c.faults.Has(fault.WritesToFull) {
			reads = !c.stream.InShut(stream.Side(side))
		}
		if end.ready.has(readable) && reads || end.ready.has(writable) && writes {
			return true
		}
	}
	return false
}

// finish logs and frees an ended stream.
func (w *worker) finish(c *conn) {
	w.audit(c, w.now)
	c.count()
	w.logEnd(c)
	c.answerKills()
	w.free(c)
}

// audit checks the rules for a stream when that is asked for.
func (w *worker) audit(c *conn, now ktime.Time) {
	report := w.engine.options.Audit
	if report == nil {
		return
	}
	if err := c.stream.Check(now); err != nil {
		report(idString(c.id), err)
	}
	if err := w.check(c); err != nil {
		report(idString(c.id), err)
	}
}
