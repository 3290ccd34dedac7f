package sim

import (
	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
)

// atRest checks what must hold whenever every worker sleeps.
func (r *run) atRest() {
	w := r.world
	nearest := ktime.Never
	r.engine.Visit(func(v *engine.StreamView) bool {
		r.result.Reached[[2]stream.SideState{v.ClientState, v.ServerState}]++
		nearest = ktime.Min(nearest, v.Deadline)
		if v.Due {
			r.fail("rule 6", "stream %s is due to run while its worker sleeps", v.ID)
		}
		r.compare(v)
		return true
	})
	wake := ktime.Never
	for _, v := range r.workers {
		wake = ktime.Min(wake, v.wakeAt)
	}
	// A wait may end up to a millisecond late, because waits are whole milliseconds and round up.
	if nearest.IsSet() && wake > nearest.Add(1e6) && wake.Sub(w.now) > 1e6 {
		r.fail("timer", "the nearest deadline is at %v and no worker wakes before %v", nearest, wake)
	}
}

// compare finds lost wakeups (rule 6): a socket that can be read or written, of which the engine will not
// be told any more and does not know.
func (r *run) compare(v *engine.StreamView) {
	for side, end := range v.Ends {
		s := r.world.byFD[end.FD]
		if end.FD < 0 || s == nil || s.interest == nil || s.interest.queued || s.state != established {
			continue
		}
		in, out := v.Request, v.Response
		if stream.Side(side) == stream.Server {
			in, out = v.Response, v.Request
		}
		canRead, canWrite, due := r.engine.Readiness(v.Worker-1, end.FD)
		hasInput := len(s.receive) > 0 || s.fin || s.broken
		if hasInput && !canRead && !due && in.In == stream.Open {
			r.fail("rule 6", "stream %s: %s can be read and the engine does not know", v.ID, s.peer.name)
		}
		if s.room() > 0 && !s.noRoom && !canWrite && !due && out.Out != stream.Shut {
			r.fail("rule 6", "stream %s: %s can be written and the engine does not know", v.ID, s.peer.name)
		}
	}
}

// finish checks what must hold at the end of a scenario.
func (r *run) finish(s *Scenario) {
	w := r.world
	if len(r.result.Violations) == 0 {
		r.checkEnds(s)
		r.checkLeaks()
		r.checkBytes()
	}
	for _, v := range r.workers {
		v.stop()
	}
	r.engine.Stop()
	if n := w.openFiles(); n != 0 && len(r.result.Violations) == 0 {
		r.fail("leak", "%d descriptors are open after the engine has stopped", n)
	}
}

// checkEnds: every stream ends, if there is any timeout that can end it.
func (r *run) checkEnds(s *Scenario) {
	bounded := s.Timeouts.Connect > 0 &&
		(s.Timeouts.Tunnel > 0 || s.Timeouts.Client > 0 && s.Timeouts.Server > 0)
	r.engine.Visit(func(v *engine.StreamView) bool {
		if v.Orphaned || bounded {
			r.fail("never ends", "stream %s: client %s, server %s, %s timer at %v", v.ID, v.ClientState,
				v.ServerState, v.Timer, v.Deadline)
		}
		return true
	})
}

// checkLeaks: without streams there are no descriptors, buffers or slots in use.
func (r *run) checkLeaks() {
	if r.engine.Streams() > 0 {
		return
	}
	if n := r.world.openFiles(); n != r.base {
		r.fail("leak", "%d descriptors are open without any stream, %d were at the start", n, r.base)
	}
	for _, v := range r.engine.Workers() {
		if v.Buffers != 0 || v.BufferBytes != 0 {
			r.fail("leak", "worker %d has %d buffers in use without any stream", v.Index, v.Buffers)
		}
		if v.Unnamed > 0 {
			r.fail("rule 1", "worker %d had %d wakeups without a cause", v.Index, v.Unnamed)
		}
		if v.Late > 0 {
			r.fail("rule 2", "worker %d had %d wakeups that left a deadline in the past", v.Index, v.Late)
		}
	}
	if slots, queued := r.engine.Slots(); slots != 0 || queued != 0 {
		r.fail("leak", "%d slots and %d places in queues are taken without any stream", slots, queued)
	}
}

// checkBytes: a stream that ended without an error has delivered every byte, in both directions. That bytes
// are in order and belong to one sender was checked as they arrived.
func (r *run) checkBytes() {
	servers := map[int][]*peer{}
	for _, p := range r.world.peers {
		if p.client < 0 && p.from >= 0 {
			servers[p.from] = append(servers[p.from], p)
		}
	}
	for _, p := range r.world.peers {
		if p.client < 0 {
			continue
		}
		record := r.records[p.address]
		if record == nil {
			continue
		}
		got := 0
		for _, v := range servers[p.client] {
			got += v.received + v.unread + v.discarded
		}
		if len(servers[p.client]) > 1 {
			r.fail("bytes", "the bytes of %s went to %d connections", p.name, len(servers[p.client]))
		}
		if got > p.taken {
			r.fail("bytes", "%s: %d bytes were taken from it and %d delivered", p.name, p.taken, got)
		}
		if record.Ending.By != 0 {
			continue
		}
		if got < p.taken {
			r.fail("bytes", "%s: %d bytes were taken from it, %d delivered, and the stream ended with %s",
				p.name,
				p.taken, got, record.Ending)
		}
		if down := int(record.ToClient); p.received+p.unread+p.discarded != down {
			r.fail("bytes", "%s: got %d bytes, the log says %d", p.name, p.received+p.unread+p.discarded,
				down)
		}
	}
}
