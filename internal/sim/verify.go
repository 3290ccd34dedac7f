package sim

import (
	"time"

	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// atRest checks what must hold whenever every worker sleeps.
func (r *run) atRest() {
	w := r.world
	nearest := ktime.Never
	streams := 0
	r.buffered, r.secured = 0, 0
	r.engine.Visit(func(v *engine.StreamView) bool {
		streams++
		r.buffered += v.RequestSize + v.ResponseSize + v.Ends[0].Sealed + v.Ends[1].Sealed
		r.result.Reached[[2]stream.SideState{v.ClientState, v.ServerState}]++
		nearest = ktime.Min(nearest, v.Deadline)
		if w.scenario.TLSClient != "" {
			r.secured++
		}
		if v.Ends[stream.Server].TLS != nil {
			r.secured++
		}
		if v.Due {
			r.fail("rule 6", "stream %s is due to run while its worker sleeps", v.ID)
		}
		r.compare(v)
		r.checkTimers(v)
		return true
	})
	wake := ktime.Never
	for _, v := range r.workers {
		wake = ktime.Min(wake, v.wakeAt)
	}
	if nearest.IsSet() && wake > nearest.Add(lateBy) && wake.Sub(w.now) > lateBy {
		r.fail("timer", "the nearest deadline is at %v and no worker wakes before %v", nearest, wake)
	}
	r.checkLimits(streams)
	r.checkIdle(streams)
	r.checkMemory()
	r.checkKills()
}

// afterTrouble is how long at most a listener may rest after a call failed for it: the engine's pause, and
// what waits round up.
const afterTrouble = 105 * time.Millisecond

// checkLimits: no limit is exceeded, and nobody waits though there is room.
func (r *run) checkLimits(streams int) {
	w, s := r.world, r.world.scenario
	if n := r.engine.Streams(); n != streams {
		r.fail("leak", "%d streams are counted and %d are there", n, streams)
	}
	if streams > s.MaxConn {
		r.fail("limit", "%d streams, maxconn is %d", streams, s.MaxConn)
	}
	if s.MaxSSLConn > 0 && r.secured > s.MaxSSLConn {
		r.fail("limit", "%d connections with TLS, maxsslconn is %d", r.secured, s.MaxSSLConn)
	}
	full := s.TLSClient != "" && s.MaxSSLConn > 0 && r.secured == s.MaxSSLConn
	resting := w.trouble.IsSet() && w.now.Sub(w.trouble) < afterTrouble
	if len(w.listen.backlog) > 0 && streams == s.MaxConn {
		w.did(ProxyFull)
	}
	if n := len(w.listen.backlog); n > 0 && streams < s.MaxConn && !full && !resting {
		r.fail("limit", "%d connections wait in the backlog, with %d streams and maxconn %d", n, streams,
			s.MaxConn)
	}
	if taken, queued := r.engine.Slots(); queued > 0 && (s.ServerMaxConn == 0 ||
		taken < s.ServerMaxConn*len(s.Servers)) {
		r.fail("limit", "%d streams are queued with %d of %d slots taken", queued, taken,
			s.ServerMaxConn*len(s.Servers))
	}
	open := make([]int, len(s.Servers))
	for _, socket := range w.byFD {
		if v := socket.peer.server; v >= 0 {
			if open[v]++; s.ServerMaxConn > 0 && open[v] > s.ServerMaxConn {
				r.fail("limit", "server %d has %d connections, its maxconn is %d", v+1, open[v],
					s.ServerMaxConn)
			}
		}
	}
}

// checkKills: an order to end a stream is carried out before the workers sleep again.
func (r *run) checkKills() {
	for _, k := range r.killing {
		select {
		case <-k.answer:
		default:
			r.fail("rule 4", "the stream of client %d was to be ended and is not", k.client)
			continue
		}
		record := r.records[clientAddress(k.client-1)]
		switch {
		case record == nil:
			r.fail("rule 4", "the stream of client %d was to be ended and left no record", k.client)
		case k.unblamed && record.Ending.By != 'K':
			r.fail("rule 4", "the stream of client %d was to be ended and ended with %s", k.client,
				record.Ending)
		}
	}
	r.killing = r.killing[:0]
}

// willTell reports whether the stream's worker will be told what holds of a socket: by an event that is ready
// already, or, level-triggered, as soon as it asks.
func (r *run) willTell(v *engine.StreamView, s *socket) bool {
	set := r.world.file(r.workers[v.Worker-1].set).set
	i := set.interests[registration{s.fd, file{socket: s}}]
	return i != nil && (i.queued || i.events&sys.EventEdge == 0)
}

// compare finds lost wakeups (rule 6): a socket that can be read or written, of which the engine will not
// be told any more and does not know.
func (r *run) compare(v *engine.StreamView) {
	client, server := r.world.byFD[v.Ends[stream.Client].FD], r.world.byFD[v.Ends[stream.Server].FD]
	if client != nil && server != nil && v.ServerState == stream.Established {
		client.peer.partner = server.peer
	}
	if v.ServerState == stream.Established && server != nil && server.state == connecting {
		r.fail("connect", "stream %s: %s is taken for established", v.ID, server.peer.name)
	}
	if v.ServerState == stream.Connecting && !v.Due && server != nil && server.state == established &&
		!r.willTell(v, server) && v.Ends[stream.Server].TLS == nil {
		r.fail("rule 6", "stream %s: the connect to %s has ended and the engine does not know", v.ID,
			server.peer.name)
	}
	if v.Ends[stream.Server].TLS != nil && server != nil && server.peer.unbegun() && !server.noRoom &&
		!r.willTell(v, server) {
		r.fail("rule 6", "stream %s: the handshake with %s is not begun", v.ID, server.peer.name)
	}
	for side, end := range v.Ends {
		s := r.world.byFD[end.FD]
		if end.FD < 0 || s == nil || r.willTell(v, s) || s.state != established {
			continue
		}
		in, out := v.Request, v.Response
		if stream.Side(side) == stream.Server {
			in, out = v.Response, v.Request
		}
		pending := s.peer.tls != nil && s.noRoom // word of it in TLS waits for room
		if out.Out == stream.Shut && !pending && !s.shut && !s.broken && v.ServerState == stream.Established {
			r.fail("shutdown", "stream %s: %s is not told that nothing more comes", v.ID, s.peer.name)
		}
		canRead, canWrite, due := r.engine.Readiness(v.Worker-1, end.FD)
		hasInput := len(s.receive) > 0 && !s.withheld || s.fin || s.broken
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
	for _, v := range r.engine.Workers() {
		r.result.Events += int(v.Events)
		r.result.Spliced += v.Spliced
	}
	for _, v := range r.workers {
		r.turn(v.stop)
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
	streams := 0
	r.engine.Visit(func(*engine.StreamView) bool {
		streams++
		return true
	})
	if n := r.engine.Streams(); n != streams {
		r.fail("leak", "%d streams are counted and %d are there at the end", n, streams)
	}
	if streams > 0 {
		return
	}
	if r.world.listen.closed {
		r.base--
	}
	if n := r.world.openFiles(); n != r.base {
		r.fail("leak", "%d descriptors are open without any stream, %d were at the start", n, r.base)
	}
	for _, v := range r.engine.Workers() {
		if v.Buffers != 0 || v.BufferBytes != 0 || v.Pipes != 0 {
			r.fail("leak", "worker %d has %d buffers in use without any stream", v.Index, v.Buffers)
		}
		if v.Unnamed > 0 {
			r.fail("rule 1", "worker %d had %d wakeups without a cause", v.Index, v.Unnamed)
		}
		if v.Late > 0 {
			r.fail("rule 2", "worker %d had %d wakeups that left a deadline in the past", v.Index, v.Late)
		}
	}
	if t := r.engine.TLS(); t.Current != [2]int{} || t.Lent != 0 {
		r.fail("leak", "%v connections with TLS and %d buffers for them without any stream", t.Current,
			t.Lent)
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
			got += v.got()
		}
		if len(servers[p.client]) > 1 {
			r.fail("bytes", "the bytes of %s went to %d connections", p.name, len(servers[p.client]))
		}
		if got > p.taken {
			r.fail("bytes", "%s: %d bytes were taken from it and %d delivered", p.name, p.taken, got)
		}
		r.checkRetries(p, record)
		if server := p.facts.server(); server != nil {
			r.checkCandor(p, server.peer, 'S', record.Ending)
			r.checkCandor(server.peer, p, 'C', record.Ending)
		}
		if record.Ending.By != 0 {
			continue
		}
		if got < p.taken {
			r.fail("bytes", "%s: %d bytes were taken from it, %d delivered, and the stream ended with %s",
				p.name, p.taken, got, record.Ending)
		}
		if down := int(record.ToClient); p.got() != down {
			r.fail("bytes", "%s: got %d bytes, the log says %d", p.name, p.got(), down)
		}
		r.checkOrderly(p)
		if v := r.partner(p, servers[p.client]); v != nil {
			r.checkOrderly(v)
			if v.taken != p.got() {
				r.fail("bytes", "%s: %d bytes were taken from it, %s got %d, and the stream ended with %s",
					v.name, v.taken, p.name, p.got(), record.Ending)
			}
		}
	}
}

// partner returns the server's connection that a client's stream reached: the one that its bytes went to, or
// came from, or that was seen when the workers slept; nil when it cannot be told.
func (r *run) partner(client *peer, took []*peer) *peer {
	if len(took) > 0 {
		return took[0]
	}
	for _, p := range r.world.peers {
		if p.client < 0 && p.number > 0 && p.number == client.from && p.of == client {
			return p
		}
	}
	return client.partner
}

// got is how many bytes the peer was sent.
func (p *peer) got() int { return p.received + p.unread + p.discarded }

// checkOrderly: of a peer of a stream that ended without an error everything was read, and it was told the
// end.
func (r *run) checkOrderly(p *peer) {
	if p.broke {
		return
	}
	if p.sent != p.taken {
		r.fail("bytes", "%s: sent %d bytes, %d were taken, and the stream ended without an error", p.name,
			p.sent, p.taken)
	}
	if !p.endSent {
		r.fail("shutdown", "%s: the stream ended without an error and it was not told", p.name)
	}
	if l := p.tls; l != nil && !l.announced && !l.crowded {
		r.fail("shutdown", "%s: the stream ended without an error and it was not told in TLS", p.name)
	}
}

// checkCandor: a peer with TLS can tell when bytes are missing, because the other side's ended in an error:
// then nothing says that they have come to their end.
func (r *run) checkCandor(p, source *peer, blamed byte, e stream.Ending) {
	if p.tls == nil || !p.tls.announced || e.By != blamed || e.During != 'D' {
		return
	}
	if t := &source.socket.told; t.failed() && !t.eof {
		r.fail("shutdown", "%s was told in TLS that it got everything, and %s broke off (%s)", p.name,
			source.name, e)
	}
}

// checkRetries: a stream that ended because its attempts failed has used all of them.
func (r *run) checkRetries(p *peer, record *engine.Record) {
	switch record.Ending {
	case stream.Ending{By: 'S', During: 'C'}, stream.Ending{By: 's', During: 'C'},
		stream.Ending{By: 'R', During: 'C'}:
		want := r.world.scenario.Retries
		if r.world.scenario.NoServers {
			want = 0
		}
		if record.Retries != want {
			r.fail("retries", "%s: ended with %s after %d retries, %d are configured", p.name, record.Ending,
				record.Retries, want)
		}
	}
}
