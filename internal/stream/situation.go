package stream

import "github.com/whyspin/whyspin/internal/ktime"

// Situation is a state of both sides, and an input or a timer that meets a stream in it.
type Situation struct {
	Client, Server SideState
	// Input is what meets it, in words.
	Input string
}

// serverStates is a set of states of the server's side.
type serverStates uint16

func in(states ...SideState) (set serverStates) {
	for _, s := range states {
		set |= 1 << s
	}
	return set
}

func (s serverStates) has(v SideState) bool { return s>>v&1 != 0 }

// unended is where the server's side can be between two calls of Advance while the client's is open: the
// states that it passes through at once are left out. unserved is that without the end of
// the server's side, after which nothing more is read from the client. Initial is where it is during the
// client's handshake.
var (
	unended  = in(Request, Queued, TurnAround, Connecting, Established, Closed)
	unserved = in(Request, Queued, TurnAround, Connecting, Established)
)

// meetings are the inputs and timers, with the states in which they can come about; a test walks through
// every state and proves that they are those and no others.
var meetings = []struct {
	name  string
	input input // 0 for a timer
	timer Timer
	// server is where the server's side is while the client's is open. alone is true exactly when it can
	// also be when the client's side is closed and the server's established.
	server serverStates
	alone  bool
}{
	{name: "client sends", input: inClientRead, server: unserved | in(Initial)},
	{name: "client takes bytes", input: inClientWrote, server: in(Established, Closed)},
	{name: "client's end of data", input: inClientEOF, server: unserved},
	{name: "client breaks", input: inClientBroken, server: unended},
	{name: "client refuses bytes", input: inClientWriteFailed, server: in(Established, Closed)},
	{name: "server sends", input: inServerRead, server: in(Established)},
	{name: "server takes bytes", input: inServerWrote, server: in(Established), alone: true},
	{name: "server's end of data", input: inServerEOF, server: in(Established)},
	{name: "server breaks", input: inServerBroken, server: in(Established), alone: true},
	{name: "server refuses bytes", input: inServerWriteFailed, server: in(Established), alone: true},
	{name: "connected", input: inConnected, server: in(Connecting)},
	{name: "connect fails", input: inConnectFailed, server: in(Connecting)},
	{name: "assigned", input: inAssigned, server: in(Request, Queued)},
	{name: "enqueued", input: inEnqueued, server: in(Request)},
	{name: "no server", input: inNoServer, server: in(Request)},
	{name: "kill order", input: inKilled, server: unended | in(Initial), alone: true},
	{name: "client's handshake completes", input: inHandshaken, server: in(Initial)},
	{name: "client's handshake fails", input: inHandshakeFailed, server: in(Initial)},
	{name: "client is refused", input: inRefused, server: in(Initial)},
	{name: "timeout client-hs", timer: TimerClientHandshake, server: in(Initial)},
	{name: "timeout connect", timer: TimerConnect, server: in(Connecting)},
	{name: "timeout queue", timer: TimerQueue, server: in(Queued)},
	{name: "turn-around", timer: TimerTurnAround, server: in(TurnAround)},
	{name: "timeout client", timer: TimerClient, server: in(Queued, TurnAround, Connecting, Established,
		Closed)},
	{name: "timeout server", timer: TimerServer, server: in(Established), alone: true},
	{name: "timeout tunnel", timer: TimerTunnel, server: in(Established, Closed), alone: true},
	{name: "timeout client-fin", timer: TimerClientFin, server: in(Established, Closed)},
	{name: "timeout server-fin", timer: TimerServerFin, server: in(Established)},
}

// Situations returns what the next Advance meets at now.
func (s *Stream) Situations(now ktime.Time) []Situation {
	var met []Situation
	for i := range meetings {
		m := &meetings[i]
		if s.inputs&m.input != 0 || m.input == 0 && s.fires(m.timer, now) {
			met = append(met, Situation{s.client.state, s.server.state, m.name})
		}
	}
	return met
}

// fires reports whether a timer of that kind has passed.
func (s *Stream) fires(t Timer, now ktime.Time) bool {
	for _, v := range [...]*side{&s.client, &s.server} {
		if v.timer == t && v.deadline.Passed(now) {
			return true
		}
	}
	for _, e := range [...]*end{&s.request.in, &s.request.out, &s.response.in, &s.response.out} {
		if e.timer == t && e.deadline.Passed(now) {
			return true
		}
	}
	return false
}

// Ungiven are the situations that the core takes, which the walk proves, and that the engine does not bring
// about in a simulated world; the simulator takes it for a broken rule when it does.
//
// A client that has gone leaves the server's side established only for bytes that are still to be written
// there. So whenever the server's connection breaks, the pass that hears of it begins with a write, which
// takes the error with it and is reported as "server refuses bytes"; a look at the socket's error after that
// finds none.
//
// In Initial a client is refused by a rule, or has sent bytes behind a PROXY protocol header; no simulated
// proxy has the one or waits for the other.
var Ungiven = []Situation{
	{Closed, Established, "server breaks"},
	{Established, Initial, "client sends"},
	{Established, Initial, "client is refused"},
}

// Admitted returns every situation that can come about.
func Admitted() []Situation {
	var all []Situation
	for server := Initial; server <= Closed; server++ {
		for i := range meetings {
			if meetings[i].server.has(server) {
				all = append(all, Situation{Established, server, meetings[i].name})
			}
		}
	}
	for i := range meetings {
		if meetings[i].alone {
			all = append(all, Situation{Closed, Established, meetings[i].name})
		}
	}
	return all
}
