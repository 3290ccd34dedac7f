package stream

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/ktime"
)

// The tests in this file walk through every state of the pure core that can be reached by any order of
// inputs, batches of inputs and timers, and prove rules 2 and 4 and the absence of orphans for each.

// event is something the world can do to a stream, with the condition under which it can.
type event struct {
	name     string
	possible func(*Stream) bool
	happen   func(*Stream)
}

func nothing(*Stream) {}

func always(*Stream) bool { return true }

// clientEvents and serverEvents are what one wakeup may bring from either side; buffers hold at most one
// byte, which stands for all others.
var clientEvents = []event{
	{"-", always, nothing},
	{"client sends", func(s *Stream) bool { return s.wants.Has(ReadClient) && s.request.buffered == 0 },
		func(s *Stream) { s.Read(Client, 1) }},
	{"client's handshake completes", func(s *Stream) bool { return s.client.handshake },
		(*Stream).Handshaken},
	{"client's handshake fails", func(s *Stream) bool { return s.client.handshake },
		(*Stream).HandshakeFailed},
	{"client FIN", func(s *Stream) bool { return s.request.in.state == Open && !s.client.handshake },
		func(s *Stream) { s.EOF(Client) }},
	{"client reset", func(s *Stream) bool { return s.client.state != Closed && !s.client.handshake },
		func(s *Stream) { s.Broken(Client) }},
	{"client reads", func(s *Stream) bool { return s.wants.Has(WriteClient) },
		func(s *Stream) { s.Wrote(Client, 1) }},
	{"client write fails", func(s *Stream) bool { return s.wants.Has(WriteClient) },
		func(s *Stream) { s.WriteFailed(Client) }},
	{"admin kill", always, func(s *Stream) { s.Kill(KillAdmin) }},
}

var serverEvents = []event{
	{"-", always, nothing},
	{"handshake with the server", func(s *Stream) bool {
		return s.server.state == Connecting && !s.server.handshake && s.policy.ClientHandshake > 0
	}, func(s *Stream) { s.BeginHandshake(Server, s.times.Accepted) }},
	{"connected", func(s *Stream) bool { return s.server.state == Connecting }, (*Stream).Connected},
	{"connect fails", func(s *Stream) bool { return s.server.state == Connecting },
		func(s *Stream) { s.ConnectFailed(ConnectRefused) }},
	{"slot", func(s *Stream) bool { return s.server.state == Queued },
		func(s *Stream) { s.Assigned(true, false) }},
	{"server sends", func(s *Stream) bool { return s.wants.Has(ReadServer) && s.response.buffered == 0 },
		func(s *Stream) { s.Read(Server, 1) }},
	{"server FIN", func(s *Stream) bool {
		return s.server.state == Established &&
			s.response.in.state == Open
	},
		func(s *Stream) { s.EOF(Server) }},
	{"server reset", func(s *Stream) bool { return s.server.state == Established },
		func(s *Stream) { s.Broken(Server) }},
	{"server reads", func(s *Stream) bool { return s.wants.Has(WriteServer) },
		func(s *Stream) { s.Wrote(Server, 1) }},
	{"server write fails", func(s *Stream) bool { return s.wants.Has(WriteServer) },
		func(s *Stream) { s.WriteFailed(Server) }},
}

// answers are the engine's possible answers to Assign.
var answers = []event{
	{"assigned, others", always, func(s *Stream) { s.Assigned(true, true) }},
	{"assigned, no others", always, func(s *Stream) { s.Assigned(false, false) }},
	{"enqueued", always, (*Stream).Enqueued},
	{"no server", always, (*Stream).NoServer},
}

// key is the state of a stream without the clock and the account, so that states that only differ in these
// are one.
func key(s *Stream, now ktime.Time) string {
	left := func(d ktime.Time) int64 {
		if !d.IsSet() {
			return -1
		}
		return int64(d.Sub(now) / time.Millisecond)
	}
	text := fmt.Sprint(s.client.state, s.server.state, left(s.server.deadline), s.retriesLeft, s.slot,
		s.others, s.avoid, s.silent, left(s.client.deadline), s.client.handshake, s.server.handshake,
		s.wants, s.inputs)
	for _, c := range [...]*channel{&s.request, &s.response} {
		text += fmt.Sprint(" ", c.in.state, c.in.timer, left(c.in.deadline), c.out.state, c.out.timer,
			left(c.out.deadline), c.buffered, c.failed)
	}
	return text
}

// walker explores the reachable states, breadth first.
type walker struct {
	t      *testing.T
	seen   map[string]bool
	queue  []walk
	broken []string
	pairs  map[[2]SideState]int
	met    map[Situation]bool
	// onlyKill leaves out all rules but the one that a kill order is total.
	onlyKill bool
}

// walk is one reached state and the way to it.
type walk struct {
	s    Stream
	now  ktime.Time
	path string
}

// explore walks from a new stream of the policy and returns what it found.
func explore(t *testing.T, policy Policy, faults fault.Set, onlyKill bool) *walker {
	t.Helper()
	w := &walker{t: t, seen: map[string]bool{}, pairs: map[[2]SideState]int{}, met: map[Situation]bool{},
		onlyKill: onlyKill}
	now := ktime.Time(time.Hour)
	s := New(&policy, faults, now)
	if policy.ClientHandshake > 0 {
		s.BeginHandshake(Client, now)
	}
	s.Begin(CauseAccepted, now)
	w.advance(walk{s: s, now: now, path: "accepted"})
	for len(w.queue) > 0 && len(w.broken) == 0 {
		next := w.queue[0]
		w.queue = w.queue[1:]
		w.expand(next)
	}
	return w
}

func (w *walker) meet(s *Stream, now ktime.Time) {
	for _, m := range s.Situations(now) {
		w.met[m] = true
	}
}

// expand tries every batch of one client event, one server event and the passing of time.
func (w *walker) expand(from walk) {
	times := []ktime.Time{from.now}
	if d, _ := from.s.Deadline(); d.IsSet() && d > from.now {
		times = append(times, d)
	}
	for _, c := range clientEvents {
		for _, v := range serverEvents {
			for i, now := range times {
				if !c.possible(&from.s) || !v.possible(&from.s) {
					continue
				}
				next := from
				next.now = now
				next.path += fmt.Sprintf("; %s, %s", c.name, v.name)
				if i == 1 {
					next.path += ", timer"
				}
				next.s.Begin(CauseClientEvent, now)
				c.happen(&next.s)
				v.happen(&next.s)
				w.advance(next)
			}
		}
	}
}

// advance completes a wakeup: it advances, answers Assign in every possible way, and checks the result.
func (w *walker) advance(next walk) {
	w.meet(&next.s, next.now)
	want := next.s.Advance(next.now)
	if want.Has(Assign) {
		w.answer(next)
		return
	}
	next.s.Settle(next.now, false, false)
	w.check(next)
	k := key(&next.s, next.now)
	if w.seen[k] {
		return
	}
	w.seen[k] = true
	w.pairs[[2]SideState{next.s.client.state, next.s.server.state}]++
	if !next.s.Ended() {
		w.queue = append(w.queue, next)
	}
}

// answer goes on with every answer to Assign, together with everything that the client may do before the
// stream has seen the answer.
func (w *walker) answer(from walk) {
	for _, a := range answers {
		for _, c := range clientEvents {
			if !c.possible(&from.s) {
				continue
			}
			next := from
			next.path += fmt.Sprintf(" (%s, %s)", a.name, c.name)
			a.happen(&next.s)
			queued := next.s.inputs&inEnqueued != 0
			c.happen(&next.s)
			after := next.s
			want := after.Advance(next.now)
			if queued && after.server.state != Queued && !want.Has(LeaveQueue) {
				w.broken = append(w.broken, next.path+": it is left in the queue")
			}
			w.advance(next)
		}
	}
}

// check proves the rules for one state: Check, and that a kill order is total.
func (w *walker) check(at walk) {
	if err := at.s.Check(at.now); err != nil && !w.onlyKill {
		w.broken = append(w.broken, fmt.Sprintf("%s:\n%v", at.path, err))
		return
	}
	killed := at.s
	killed.Kill(KillAdmin)
	if !at.s.Ended() {
		w.meet(&killed, at.now)
	}
	killed.Advance(at.now)
	if !killed.Ended() || !w.onlyKill && killed.Check(at.now) != nil {
		w.broken = append(w.broken, fmt.Sprintf("%s: a kill order does not end it (rule 4)", at.path))
	}
}

var explored = []struct {
	name   string
	policy Policy
}{
	{"founding case", Policy{Connect: time.Second, Tunnel: 5 * time.Second, Retries: 2, Redispatch: -1}},
	{"no tunnel timeout", Policy{Connect: time.Second, Client: 3 * time.Second, Server: 4 * time.Second,
		Queue: 2 * time.Second, Retries: 1, Redispatch: 1, AbortOnClose: true}},
	{"fin timeouts", Policy{Connect: time.Second, Client: 3 * time.Second, Server: 4 * time.Second,
		Tunnel: 5 * time.Second, ClientFin: time.Second, ServerFin: 2 * time.Second, Retries: 1}},
	{"no timeouts, no retries", Policy{}},
	{"TLS on both sides", Policy{Connect: time.Second, Client: 3 * time.Second, Server: 4 * time.Second,
		ClientHandshake: 2 * time.Second, ClientFin: time.Second, Retries: 1, Redispatch: 1}},
}

func TestEveryReachableStateIsSound(t *testing.T) {
	for _, e := range explored {
		t.Run(e.name, func(t *testing.T) {
			w := explore(t, e.policy, 0, false)
			for _, b := range w.broken {
				t.Error(b)
			}
			t.Logf("%d states, %d pairs of side states", len(w.seen), len(w.pairs))
			if len(w.seen) < 100 {
				t.Errorf("only %d states were reached: the walk is broken", len(w.seen))
			}
		})
	}
}

// TestAdmittedSituationsAreThoseThatCanBe: the simulator's list of what it never reached is as short as it
// can be, and nothing that can be is missing from it.
func TestAdmittedSituationsAreThoseThatCanBe(t *testing.T) {
	met := map[Situation]bool{}
	for _, e := range explored {
		maps.Copy(met, explore(t, e.policy, 0, false).met)
	}
	for _, s := range Admitted() {
		if !met[s] {
			t.Errorf("it is admitted and never met: %+v", s)
		}
		delete(met, s)
	}
	for s := range met {
		t.Errorf("it is met and not admitted: %+v", s)
	}
}

func TestTheFoundingFaultIsReachable(t *testing.T) {
	w := explore(t, explored[0].policy, fault.RedispatchAfterAbort, false)
	if len(w.broken) == 0 {
		t.Fatal("no state breaks a rule though the fault is on")
	}
	t.Log(w.broken[0])
}

// TestAKillOrderIsTotalWhateverTheFault: healing must not depend on the conditions that a fault weakens.
func TestAKillOrderIsTotalWhateverTheFault(t *testing.T) {
	for _, f := range []fault.Set{fault.RedispatchAfterAbort, fault.TimerNotDisarmed, fault.RetriesAtOnce} {
		t.Run(f.String(), func(t *testing.T) {
			for _, e := range explored {
				w := explore(t, e.policy, f, true)
				for _, b := range w.broken {
					t.Errorf("%s: %s", e.name, b)
				}
				if len(w.seen) < 100 {
					t.Errorf("%s: only %d states were reached: the walk is broken", e.name, len(w.seen))
				}
			}
		})
	}
}
