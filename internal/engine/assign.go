package engine

import (
	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/stream"
)

// assign chooses a server for the stream, or queues it, and answers the stream's Assign.
func (w *worker) assign(c *conn) {
	b := c.backend
	if b == nil {
		c.stream.NoServer()
		return
	}
	if c.faults.Has(fault.LockYields) && !w.takeTurn(c) {
		return // the order to end the stream waits in the inbox
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.choose(c)
	switch {
	case s != nil:
		c.leaveTurn()
		c.take(s)
	case b.activeCount() == 0:
		c.leaveTurn()
		c.stream.NoServer()
	default:
		c.grantsBefore = b.grants
		c.queued = b.queue.PushBack(c)
		c.stream.Enqueued()
	}
}

// choose returns the server whose turn it is among those with a free slot, without the one to avoid if any
// other will do; nil when there is none. The backend's lock is held.
func (b *backend) choose(c *conn) *server {
	free := func(i int) bool {
		return b.active[i] && b.servers[i].hasSlot()
	}
	if c.stream.AvoidServer() && c.server != nil {
		i, ok := b.order.Next(func(i int) bool { return free(i) && b.servers[i] != c.server })
		if ok {
			return b.servers[i]
		}
	}
	if i, ok := b.order.Next(free); ok {
		return b.servers[i]
	}
	return nil
}

// take occupies a slot of the server for the stream and tells the stream. The backend's lock is held.
func (c *conn) take(s *server) {
	s.slots++
	s.enter()
	others := s.backend.activeCount() > 1
	changed := c.server != nil && c.server != s
	c.server = s
	c.stream.Assigned(others, changed)
}

// release gives the stream's slot back and hands it to the stream that has waited longest.
func (w *worker) release(c *conn) {
	s := c.server
	s.leave()
	w.freeSlot(s)
}

// freeSlot frees a slot of the server and grants it to the head of the queue, if there is one.
func (w *worker) freeSlot(s *server) {
	b := s.backend
	b.mu.Lock()
	s.slots--
	var next *worker
	order := message{kind: messageSlot, server: s}
	for i, active := range b.active {
		if active && b.servers[i] == s && s.hasSlot() && b.queue.Len() > 0 {
			c := b.queue.Remove(b.queue.Front()).(*conn)
			c.leftQueue()
			b.grants++
			// Once the lock is free, the stream may end at its worker and its conn become another's.
			next, order.id = c.worker, c.id
			s.slots++
		}
	}
	b.mu.Unlock()
	if next == nil {
		return
	}
	if next == w {
		w.receive(order)
		return
	}
	next.post(order)
}

// leaveQueue takes the stream out of its backend's queue. When a slot was granted in the meantime, the
// message about it will find no stream, and the slot goes to the next.
func (w *worker) leaveQueue(c *conn) {
	b := c.backend
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.queued != nil {
		b.queue.Remove(c.queued)
		c.leftQueue()
	}
}

// leftQueue notes how many streams the queue let go before this one, which is now out of it. Like HAProxy it
// counts slots that were granted, this one's included whether it came to that or not: those that gave up
// held up nobody. A stream that was queued several times has the sum. The backend's lock is held.
func (c *conn) leftQueue() {
	c.leaveTurn()
	c.queued = nil
	c.queuePosition += int(c.backend.grants-c.grantsBefore) + 1
}

// grant hands a slot that was freed for it to the stream of that id.
func (w *worker) grant(id uint64, s *server) {
	c := w.find(id)
	if c == nil || c.backend != s.backend || c.stream.ServerState() != stream.Queued {
		w.freeSlot(s)
		return
	}
	c.grant = s
	w.enqueue(c, stream.CauseSlot)
}

// takeGrant tells the stream of the slot that it was granted.
func (c *conn) takeGrant() {
	s := c.grant
	if s == nil {
		return
	}
	c.grant = nil
	s.backend.mu.Lock()
	defer s.backend.mu.Unlock()
	// The slot is occupied already, on behalf of this stream.
	s.slots--
	c.take(s)
}
