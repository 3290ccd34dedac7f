package sim

import (
	"slices"

	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// observe sees a stream before and after each time that it is advanced.
func (r *run) observe(client sys.Address, s *stream.Stream, advanced bool, now ktime.Time) {
	p := r.world.client[client]
	r.world.acting = p
	if advanced {
		r.stepped(p, s, now)
		return
	}
	p.facts.granted = false
	if p.facts.opened == 0 {
		p.facts.opened = now
	}
	if a := p.facts.attempt; a != nil && a.socket != nil && s.ServerState() == stream.Connecting {
		a.socket.learn()
	}
	for _, met := range s.Situations(now) {
		switch {
		case met.Input == "client's handshake completes":
			p.socket.completes(now)
		case met.Input == "connected" && p.facts.attempt != nil:
			p.facts.attempt.socket.completes(now)
		}
		p.facts.granted = p.facts.granted || met.Input == "assigned"
		r.result.Met[met]++
		if slices.Contains(stream.Ungiven, met) {
			r.fail("situation", "%s: client %v, server %v, %s: this was not to happen", p.name, met.Client,
				met.Server, met.Input)
		}
		if met.Input == "no server" {
			r.world.did(NoServers)
		}
	}
	p.count(s, now)
	p.facts.before = s.ServerState()
	if cause := s.Account().Cause; cause >= stream.CauseTimerConnect && cause <= stream.CauseTimerHandshake &&
		r.timed != p {
		if r.timed != nil {
			r.world.did(TimersTogether)
		}
		r.timed = p
	}
}

// stepped looks at what a stream has made of what happened to it.
func (r *run) stepped(p *peer, s *stream.Stream, now ktime.Time) {
	state, before := s.ServerState(), p.facts.before
	p.facts.state = state
	switch {
	case state == stream.Queued && before != stream.Queued:
		r.world.did(ServerFull)
		p.facts.queued = now
		r.line = append(r.line, p)
	case before == stream.Queued && state != stream.Queued:
		r.leaves(p, state != stream.Closed)
	case before == stream.Request && state == stream.Connecting && p.facts.ahead > 0:
		r.fail("queue", "%s: it gets a slot at once while %d streams wait for one", p.name, p.facts.ahead)
	}
	if state == stream.Request {
		_, p.facts.ahead = r.engine.Slots()
	}
	p.shuts(s, now)
	r.judge(p, s, now)
}

// leaves takes a stream out of the line. With a slot it must have been the first of those that had none yet:
// whoever still waits came after it.
func (r *run) leaves(p *peer, slot bool) {
	i := slices.Index(r.line, p)
	r.line = slices.Delete(r.line, i, i+1)
	_, waiting := r.engine.Slots()
	if behind := len(r.line) - i; slot && waiting > behind {
		r.fail("queue", "%s: it gets a slot before one that came earlier: %d wait and %d came after it",
			p.name, waiting, behind)
	}
}
