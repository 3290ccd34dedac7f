package haproxy

import (
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/ktime"
)

// The names of timers. HAProxy does not say from which timeout a timer was armed, only what it is for: the
// one for reading from a server is that of "timeout server", or of "timeout tunnel" once there is a tunnel.
const (
	timerClientRead  = "client read"
	timerClientWrite = "client write"
	timerServerRead  = "server read"
	timerServerWrite = "server write"
	timerRequest     = "request analyser"
	timerResponse    = "response analyser"
	timerConnect     = "connection"
	timerStream      = "stream"
)

// Stream puts the session into the vocabulary of evidence. now is when the dump was asked for.
func (s *Session) Stream(now ktime.Time) evidence.Stream {
	e := evidence.Stream{
		ID: s.ID, Frontend: s.Frontend, Backend: s.Backend, Server: s.Server, Client: named(s.Source),
		Upstream: s.ServerAddress, Age: s.Age, ClientState: s.ClientSide.State,
		ServerState: s.ServerSide.State,
		ClientFD:    s.ClientSide.descriptor(), ServerFD: s.ServerSide.descriptor(),
		Calls: uint64(s.Calls), Runnable: s.Running, Redispatched: s.Flags&sessionRedispatched != 0,
	}
	if s.CountsRetries {
		// Before 2.6 the attempts that are left are printed, and how many there were at first is not.
		e.Retries = s.Retries
	}
	e.Request = s.Request.evidence(&s.ClientSide, &s.ServerSide)
	e.Response = s.Response.evidence(&s.ServerSide, &s.ClientSide)
	e.Timers = s.timers(now)
	e.TimersUnknown = s.Expire.State == Lost || s.Expire.State == NotPrinted
	return e
}

// evidence puts a channel into the vocabulary of evidence. Since 2.8 its shutdowns are flags of the sides
// that it comes from and goes to.
func (c *Channel) evidence(from, to *Side) evidence.Channel {
	e := evidence.Channel{
		InShut:     c.Flags&channelShutRead != 0,
		OutPending: c.Flags&channelShutWriteNow != 0,
		OutShut:    c.Flags&channelShutWrite != 0,
		Buffered:   c.Input + c.Output, Total: c.Total,
	}
	if from.Shuts {
		e.InShut = from.Flags&(sideEnded|sideAborted) != 0
		e.OutShut = to.Flags&sideShut != 0
		e.OutPending = to.Flags&(sideShutWanted|sideShut) == sideShutWanted
	}
	return e
}

// descriptor is the number of a side's descriptor, -1 for a side that is closed: what is printed for such a
// side is stale, and has been reused or was never one.
func (s *Side) descriptor() int {
	if !s.HasFD || s.FD < 0 || s.State == "CLO" || s.Control == "NONE" {
		return -1
	}
	return s.FD
}

// timers are those that are armed. The timer that wakes the stream is that of its task, the nearest of all:
// when it is not armed none is, and as long as it has not passed none has, whatever a channel prints of one
// that nobody waits for any more.
func (s *Session) timers(now ktime.Time) []evidence.Timer {
	if s.Expire.State == Never {
		return nil
	}
	mayHavePassed := s.Expire.State == Past || s.Expire.State == Lost
	var timers []evidence.Timer
	add := func(name string, e Expiry) {
		switch {
		case e.State == Past && mayHavePassed:
			timers = append(timers, evidence.Timer{Name: name, Deadline: ktime.Never, Passed: true})
		case e.State == Future:
			// What is printed is rounded down to seconds, so the deadline is at least that; "0s" is not yet
			// the past.
			timers = append(timers, evidence.Timer{Name: name, Deadline: now.Add(max(e.In, time.Second))})
		}
	}
	add(timerServerRead, first(s.ServerSide.Read, s.Response.Read))
	add(timerServerWrite, first(s.ServerSide.Write, s.Request.Write))
	add(timerClientRead, first(s.ClientSide.Read, s.Request.Read))
	add(timerClientWrite, first(s.ClientSide.Write, s.Response.Write))
	add(timerConnect, s.ConnectExpire)
	add(timerRequest, s.Request.Analyse)
	add(timerResponse, s.Response.Analyse)
	add(timerStream, s.Expire)
	return timers
}

func first(a, b Expiry) Expiry {
	if a.State != NotPrinted {
		return a
	}
	return b
}

// orphaned reports whether one side is closed, the other is not, and nothing can pass between them: a state
// that HAProxy never leaves a stream in on purpose.
func orphaned(s *evidence.Stream) bool {
	return (s.ClientState == "CLO") != (s.ServerState == "CLO") &&
		s.Request.InShut && s.Request.OutShut && s.Response.InShut && s.Response.OutShut
}

// fingerprint sums up what changes when a session gets on: bytes, buffers, states and shutdowns. Two equal
// ones of the same session mean that nothing was achieved between them.
func (s *Session) fingerprint() uint64 {
	// FNV-1a, 64 bits; 24 bytes of state for each session are all that is kept.
	sum := uint64(14695981039346656037)
	mix := func(n uint64) {
		for range 8 {
			sum = (sum ^ n&0xff) * 1099511628211
			n >>= 8
		}
	}
	for _, c := range []*Channel{&s.Request, &s.Response} {
		mix(c.Total)
		mix(uint64(c.Input)<<32 | uint64(uint32(c.Output)))
		mix(uint64(c.Analysers)<<32 | uint64(c.Flags&(channelShutRead|channelShutWrite)))
	}
	for _, side := range []*Side{&s.ClientSide, &s.ServerSide} {
		mix(side.Moved)
		for _, c := range []byte(side.State) {
			mix(uint64(c))
		}
		mix(uint64(side.Flags & (sideEnded | sideAborted | sideShut)))
	}
	mix(uint64(uint32(s.Retries)))
	return sum
}
