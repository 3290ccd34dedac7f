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
	if advanced {
		r.stepped(p, s, now)
		return
	}
	for _, met := range s.Situations(now) {
		r.result.Met[met]++
		if slices.Contains(stream.Ungiven, met) {
			r.fail("situation", "%s: client %v, server %v, %s: this was not to happen", p.name, met.Client,
				met.Server, met.Input)
		}
		if met.Input == "no server" {
			r.world.did(NoServers)
		}
	}
	p.before = s.ServerState()
	if cause := s.Account().Cause; cause >= stream.CauseTimerConnect && cause <= stream.CauseTimerHandshake &&
		r.timed != p {
		if r.timed != nil {
			r.world.did(TimersTogether)
		}
		r.timed = p
	}
}

// stepped looks at what a stream has made of what happened to it.
func (r *run) stepped(p *peer, s *stream.Stream, _ ktime.Time) {
	if state := s.ServerState(); state == stream.Queued && p.before != stream.Queued {
		r.world.did(ServerFull)
	}
}
