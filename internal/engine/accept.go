package engine

import (
	"sync/atomic"
	"time"

	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// acceptPause is how long a listener rests when the machine has no descriptor or memory for another
// connection. The backlog keeps the listener readable, so without a pause the worker would be told of it
// for ever (class F5).
const acceptPause = 100 * time.Millisecond

// unlimitedAccepts stands for tune.maxaccept -1; there is always an end, so that streams are not starved.
const unlimitedAccepts = 1 << 10

// handOver is by how many streams another worker must have fewer for a connection to be handed to it. Below
// that the cost of waking it outweighs the better balance.
const handOver = 4

// pausedListener is a listener that the worker has taken out of its epoll set.
type pausedListener struct {
	listener *listener
	until    ktime.Time // Never: until a limit is left again
}

// listen registers a listener.
func (w *worker) listen(l *listener) sys.Errno {
	return w.register(l.fd, descriptor{kind: kindListener, listener: l}, listenerEvents)
}

// accept acts on an event of a listener.
func (w *worker) accept(l *listener) {
	w.takeConnections(l)
	w.settleListener(l)
}

// takeConnections takes connections from a listener until there are no more or its share of the turn is used
// up. The share is about what the last events brought, so that the call that finds no more is rarely made:
// a listener is level-triggered, and what is left makes an event at once.
func (w *worker) takeConnections(l *listener) {
	most := w.engine.options.Config.Global.MaxAccept
	if most < 0 {
		most = unlimitedAccepts
	}
	a := &w.listeners[l.index]
	if a.fullAt+1 == w.turn {
		a.share *= 2 // the last turn left some
	}
	a.share = min(max(a.share, 1), most)
	for n := range a.share {
		if wait := w.engine.paceTLS(l, w.now); wait > 0 {
			w.pause(l, w.now.Add(wait))
			return
		}
		if !w.engine.admit(l) {
			if !l.faults.Has(fault.AcceptNotPaused) {
				w.pause(l, ktime.Never)
			}
			return
		}
		fd, peer, errno := w.kernel.Accept(l.fd)
		if errno == 0 {
			w.stats.accepted++
			l.accepted.Add(1)
			l.taken.Add(1)
			w.engine.countTLS(l, w.now)
			w.place(message{
				kind: messageAccepted, fd: fd, peer: peer, listener: l,
				faults: w.engine.chooseFaults(w.random, l.frontend.config.Name),
			})
			w.makeVisit()
			continue
		}
		w.engine.dismiss(l)
		w.engine.resume()
		if errno == sys.EAGAIN {
			a.share = n
			return
		}
		w.stats.refused++
		l.refused.Add(1)
		l.failure.Store(uint64(errno))
		switch errno {
		case sys.ECONNABORTED, sys.EINTR:
			// That one connection is gone; the next may be there.
			l.taken.Add(1)
		default:
			// EMFILE, ENFILE, ENOBUFS, ENOMEM; EPERM and EACCES of a security module, which leave the
			// connection in the backlog; or something not foreseen.
			w.acceptTrouble(l, errno)
			return
		}
	}
	a.fullAt = w.turn
}

// alertEvery is how often at most the operator is told of trouble with one listener, or one server.
const alertEvery = 10 * time.Second

// mayAlert reports whether the operator may be told of something again, and notes when (ktime.Time) that was
// done last.
func (w *worker) mayAlert(told *atomic.Int64) bool {
	last := told.Load()
	return (last == 0 || w.now.Sub(ktime.Time(last)) >= alertEvery) &&
		told.CompareAndSwap(last, int64(w.now))
}

// acceptTrouble rests a listener that cannot give a connection though there may be one.
func (w *worker) acceptTrouble(l *listener, errno sys.Errno) {
	if !l.faults.Has(fault.AcceptNotPaused) {
		w.pause(l, w.now.Add(acceptPause))
	}
	if !w.mayAlert(&l.alerted) {
		return
	}
	w.engine.alert("frontend %s: cannot accept on %s, tries again every %v: %v",
		l.frontend.config.Name, w.kernel.LocalAddress(l.fd), acceptPause, errno)
}

// admit takes a place under every limit that a new connection is subject to, or none.
func (e *Engine) admit(l *listener) bool {
	if e.conns.Add(1) > e.maxConn {
		e.conns.Add(-1)
		return false
	}
	if l.frontend.conns.Add(1) > l.frontend.maxConn {
		e.conns.Add(-1)
		l.frontend.conns.Add(-1)
		e.resume()
		return false
	}
	n, secured := l.conns.Add(1), e.enterTLS(l)
	if l.maxConn > 0 && n > l.maxConn || !secured {
		e.dismiss(l)
		e.resume()
		return false
	}
	return true
}

// dismiss gives the place back. Another worker may have found no place meanwhile, and have paused its
// listener until a limit is left: that is now, so whoever dismisses calls resume.
func (e *Engine) dismiss(l *listener) {
	e.conns.Add(-1)
	l.frontend.conns.Add(-1)
	l.conns.Add(-1)
	e.leaveTLS(l.tls != nil)
}

// mayAdmit reports whether there is a place under every limit.
func (e *Engine) mayAdmit(l *listener) bool {
	return e.conns.Load() < e.maxConn && l.frontend.conns.Load() < l.frontend.maxConn &&
		(l.maxConn == 0 || l.conns.Load() < l.maxConn) && e.mayEnterTLS(l)
}

// place gives an accepted connection to the worker with the fewest streams, to this one unless the
// difference counts.
func (w *worker) place(m message) {
	best, least := w, int(w.load.Load())-handOver
	for _, other := range w.engine.workers {
		if n := int(other.load.Load()); other != w && n < least {
			best, least = other, n
		}
	}
	best.load.Add(1)
	if best == w {
		w.receive(m)
		return
	}
	w.stats.handed++
	if m.faults.Has(fault.RegisteredTwice) {
		w.watchBefore(m.fd)
	}
	best.post(m)
}

// open makes a stream of an accepted connection.
func (w *worker) open(m message) {
	fd, peer, l := m.fd, m.peer, m.listener
	session := w.newSession(l, fd, peer)
	if !w.mayConnect(l, fd, session) {
		return
	}
	c := w.allocate()
	c.frontend, c.listener, c.client, c.session = l.frontend, l, peer, session
	if !l.frontend.routed {
		c.backend = l.frontend.backend
	}
	c.faults = m.faults
	c.stream = stream.New(l.frontend.policy, c.faults, w.now)
	w.engine.count()
	c.frontend.count()
	if c.backend != nil {
		c.backend.enter()
	}
	w.engine.opened.add(w.now)
	c.ends[stream.Client] = endpoint{fd: int32(fd), ready: writable, unix: peer.IsUnix()}
	switch {
	case l.bind.AcceptProxy:
		w.await(c)
	case l.tls != nil:
		w.secure(c, stream.Client, l.tls)
	}
	events := c.watch(stream.Client, sys.EventIn|sys.EventRdHup)
	if errno := w.register(fd, descriptor{kind: kindClient, conn: c}, events); errno != 0 {
		w.engine.alert("frontend %s: a connection from %s is refused: registering it: %v",
			l.frontend.config.Name, peer, errno)
		w.closeSecured(c, stream.Client, true)
		w.dropHeader(c)
		c.ends[stream.Client].fd = -1
		w.kernel.Close(fd)
		w.free(c)
		return
	}
	if !l.shakes() {
		w.logConnect(c)
		w.direct(c)
	}
	w.enqueue(c, stream.CauseAccepted)
}

// watchBefore registers a connection that is about to be handed to another worker, as if it were this one's
// until its first bytes come, and nobody takes the registration away.
func (w *worker) watchBefore(fd int) {
	// When it fails, there is no second registration.
	_ = w.register(fd, descriptor{kind: kindHanded}, connectionEvents&^sys.EventEdge)
}

// pause takes a listener out of the worker's epoll set, until the moment or, for Never, until a limit is
// left.
func (w *worker) pause(l *listener, until ktime.Time) {
	w.kernel.EpollDelete(w.set, l.fd)
	w.forget(l.fd)
	w.pausedAt = append(w.pausedAt, pausedListener{l, until})
	w.engine.paused.Add(1)
	// A stream may have ended between the check of the limit and here, and have seen nobody paused.
	// resumeListeners runs later in this same turn and looks again.
}

// resume tells the workers that a limit may have been left.
func (e *Engine) resume() {
	if e.paused.Load() == 0 {
		return
	}
	for _, w := range e.workers {
		w.post(message{kind: messageResume})
	}
}

// resumeListeners registers those paused listeners again that may accept.
func (w *worker) resumeListeners() {
	if len(w.pausedAt) == 0 {
		return
	}
	still := w.pausedAt[:0]
	for _, p := range w.pausedAt {
		ready := p.until.Passed(w.now) || !p.until.IsSet() && w.engine.mayAdmit(p.listener)
		if !ready {
			still = append(still, p)
			continue
		}
		if errno := w.listen(p.listener); errno != 0 {
			p.until = w.now.Add(acceptPause)
			still = append(still, p)
			continue
		}
		w.engine.paused.Add(-1)
	}
	clear(w.pausedAt[len(still):])
	w.pausedAt = still
}

// nextResume returns when the first paused listener's rest is over.
func (w *worker) nextResume() ktime.Time {
	next := ktime.Never
	for _, p := range w.pausedAt {
		next = ktime.Min(next, p.until)
	}
	return next
}

// letGo takes every listener out of the worker's epoll set for good. The last worker that does closes them.
func (w *worker) letGo() {
	if w.deaf {
		return
	}
	w.deaf = true
	for _, l := range w.engine.listeners {
		if l.fd < len(w.descriptors) && w.descriptors[l.fd].listener == l {
			w.kernel.EpollDelete(w.set, l.fd)
			w.forget(l.fd)
		}
	}
	w.engine.paused.Add(-int64(len(w.pausedAt)))
	w.pausedAt = nil
	if w.engine.listening.Add(-1) > 0 {
		return
	}
	for _, l := range w.engine.listeners {
		w.kernel.Close(l.fd)
	}
}
