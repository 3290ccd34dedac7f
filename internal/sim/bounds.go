package sim

import (
	"time"

	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
)

// lateBy is how late a timer may be that wakes its worker: waits are whole milliseconds and round up, and a
// turn takes some time.
const lateBy = 1100 * time.Microsecond

// checkTimers: nothing that has a timeout goes on for longer. What is compared are the moments at which the
// world told the engine something, and the configuration.
func (r *run) checkTimers(v *engine.StreamView) {
	w := r.world
	p := w.client[v.Client]
	f, t := &p.facts, &w.scenario.Timeouts
	switch v.ServerState {
	case stream.Initial:
		r.checkBound(v, "client-hs", f.opened, w.handshakeTime())
	case stream.Connecting:
		r.checkBound(v, "connect", f.began, t.Connect)
	case stream.Queued:
		limit := t.Queue
		if limit == 0 {
			limit = t.Connect
		}
		r.checkBound(v, "queue", f.queued, limit)
	case stream.TurnAround:
		r.checkBound(v, "turn-around", f.failed, w.pause())
	case stream.Established, stream.Closed:
		r.checkTraffic(v, p.socket, f.server())
	default:
		r.fail("timer", "stream %s: it rests in state %s, which has no timeout", v.ID, v.ServerState)
	}
}

// checkTraffic: neither side is waited for longer than it may be silent.
func (r *run) checkTraffic(v *engine.StreamView, ends ...*socket) {
	t := &r.world.scenario.Timeouts
	since := ktime.Time(0)
	for _, s := range ends {
		if s != nil {
			since = max(since, s.told.stirred)
		}
	}
	client := side{"waiting for the client", v.ClientState, t.Client, t.ClientFin, since}
	server := side{"waiting for the server", v.ServerState, t.Server, t.ServerFin, since}
	r.checkSide(v, client, &v.Request, &v.Response)
	r.checkSide(v, server, &v.Response, &v.Request)
}

// side is one side of a stream, with its timeouts and since when nothing has happened.
type side struct {
	name     string
	state    stream.SideState
	own, fin time.Duration
	since    ktime.Time
}

// checkSide: in is the direction that is read from the side, out the one that is written to it.
func (r *run) checkSide(v *engine.StreamView, of side, in, out *stream.ChannelView) {
	limit := of.own
	if d := r.world.scenario.Timeouts.Tunnel; d > 0 {
		limit = d
	}
	if of.state != stream.Established || limit == 0 {
		return
	}
	if out.Buffered > 0 && out.Out != stream.Shut {
		r.checkBound(v, of.name, of.since, max(limit, of.fin))
	}
	if in.In == stream.Open && !in.Full {
		if of.fin > 0 && out.Out == stream.Shut {
			limit = of.fin
		}
		r.checkBound(v, of.name, of.since, limit)
	}
}

// checkBound: what began at a moment is over once its limit has passed; there is none for 0.
func (r *run) checkBound(v *engine.StreamView, what string, since ktime.Time, limit time.Duration) {
	if lasts := r.world.now.Sub(since); limit > 0 && lasts > limit+lateBy {
		r.fail("timer", "stream %s (client %s, server %s): %s: %v, should be %v at most", v.ID, v.ClientState,
			v.ServerState, what, lasts, limit)
	}
}

// busyWait is how long a worker sleeps at most after events, whatever it waits for.
const busyWait = 2 * time.Millisecond

// checkIdle: without a stream, and without a listener that rests, nothing wakes a worker.
func (r *run) checkIdle(streams int) {
	w := r.world
	if streams > 0 || w.trouble.IsSet() && w.now.Sub(w.trouble) < afterTrouble {
		return
	}
	for i, v := range r.workers {
		if v.wakeAt.IsSet() && v.wakeAt.Sub(w.now) > busyWait {
			r.fail("leak", "worker %d is to wake in %v though there is no stream", i+1, v.wakeAt.Sub(w.now))
		}
	}
}

// memoryEvery is how often the memory is looked at, in rests.
const memoryEvery = 4

// mostSealed is the size of the largest buffer that holds what an end of a stream has sealed.
const mostSealed = 64 << 10

// checkMemory: the buffers keep within their limit, and all of them are some stream's. The limit is for what
// makes buffers larger than the first size; one of that size is never refused.
func (r *run) checkMemory() {
	if r.rests++; r.rests%memoryEvery != 0 {
		return
	}
	used, first := 0, 2*r.world.scenario.BufferSize
	if r.world.scenario.secured() {
		first += 2 * mostSealed
	}
	for _, v := range r.engine.Workers() {
		used += v.BufferBytes
		if most := v.BufferLimit + first*r.world.scenario.MaxConn; v.BufferPeak > most {
			r.fail("memory", "worker %d had %d bytes of buffers, should be %d at most: its limit is %d",
				v.Index, v.BufferPeak, most, v.BufferLimit)
		}
	}
	if used != r.buffered {
		r.fail("memory", "%d bytes of buffers are in use, and streams have %d", used, r.buffered)
	}
}
