package stream

import (
	"fmt"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/ktime"
)

// Walk is what was found on the way through every state of the core that any order of inputs, batches of
// inputs and timers can reach: where rules 2 and 4 and the rest of Check do not hold, and what is met.
type Walk struct {
	// States is the number of different states, apart from the clock and the account; Steps that of the
	// wakeups that were tried from them; Depth how many it takes at most to reach a state.
	States, Steps, Depth int
	// Pairs counts the states by the pair of side states, Met has the situations that were met.
	Pairs map[[2]SideState]int
	Met   map[Situation]bool
	// Broken says what does not hold, and the way to it. The walk ends with the first state of that kind.
	Broken []string
}

// WalkPolicy is a configuration to walk through.
type WalkPolicy struct {
	Name   string
	Policy Policy
}

// WalkPolicies are the configurations that together have everything that changes what the core does.
func WalkPolicies() []WalkPolicy {
	return []WalkPolicy{
		{"founding case", Policy{Connect: time.Second, Tunnel: 5 * time.Second, Retries: 2, Redispatch: -1}},
		{"no tunnel timeout", Policy{Connect: time.Second, Client: 3 * time.Second, Server: 4 * time.Second,
			Queue: 2 * time.Second, Retries: 1, Redispatch: 1, AbortOnClose: true}},
		{"fin timeouts", Policy{Connect: time.Second, Client: 3 * time.Second, Server: 4 * time.Second,
			Tunnel: 5 * time.Second, ClientFin: time.Second, ServerFin: 2 * time.Second, Retries: 1}},
		{"no timeouts, no retries", Policy{}},
		{"TLS on both sides", Policy{Connect: time.Second, Client: 3 * time.Second, Server: 4 * time.Second,
			ClientHandshake: 2 * time.Second, ClientFin: time.Second, Retries: 1, Redispatch: 1}},
	}
}

// Explore walks through all states that streams of the policy can reach. With onlyKill it asks for nothing
// but that a kill order is total.
func Explore(policy Policy, faults fault.Set, onlyKill bool) *Walk {
	w := &walker{
		seen: map[stateKey]bool{}, onlyKill: onlyKill, client: batches(Client), server: batches(Server),
		Walk: Walk{Pairs: map[[2]SideState]int{}, Met: map[Situation]bool{}},
	}
	now := ktime.Time(time.Hour)
	s := New(&policy, faults, now)
	if policy.ClientHandshake > 0 {
		s.BeginHandshake(Client, now)
	}
	s.Begin(CauseAccepted, now)
	w.advance(&place{s: s, now: now})
	for len(w.queue) > 0 && len(w.Broken) == 0 {
		next := w.queue[0]
		w.queue = w.queue[1:]
		w.expand(next)
	}
	w.States = len(w.seen)
	return &w.Walk
}

// walker explores the reachable states, breadth first.
type walker struct {
	Walk
	seen           map[stateKey]bool
	queue          []*place
	client, server [][]event
	onlyKill       bool
}

// place is one reached state and the way to it.
type place struct {
	s    Stream
	now  ktime.Time
	from *place
	// by is what was done to come here from there: the events of both sides, and whether timers passed.
	by     [2][]event
	timer  string
	answer string // to Assign, in the middle of a wakeup
	depth  int
}

// path is the way to a place in words.
func (p *place) path() string {
	if p.from == nil {
		return "accepted"
	}
	var names []string
	for _, batch := range p.by {
		for _, e := range batch {
			names = append(names, e.name)
		}
	}
	if p.answer != "" {
		return fmt.Sprintf("%s (%s, %s)", p.from.path(), p.answer, strings.Join(names, ", "))
	}
	return fmt.Sprintf("%s; %s%s", p.from.path(), strings.Join(names, ", "), p.timer)
}

// stateKey is the state of a stream without the clock and the account, so that states that only differ in
// these are one.
type stateKey struct {
	client, server  SideState
	wants           Want
	inputs          input
	retries         int
	flags           [8]bool
	deadlines       [6]int64 // milliseconds from now
	ends            [4]EndState
	timers          [4]Timer
	buffered        [2]int
	failed, ended   [2]bool
	requestIsFull   bool
	responseIsFull  bool
	connectionError ConnectError
}

func (s *Stream) key(now ktime.Time) stateKey {
	left := func(d ktime.Time) int64 {
		if !d.IsSet() {
			return -1
		}
		return int64(d.Sub(now) / time.Millisecond)
	}
	k := stateKey{
		client: s.client.state, server: s.server.state, wants: s.wants, inputs: s.inputs,
		retries: s.retriesLeft,
		flags: [8]bool{s.slot, s.others, s.avoid, s.silent, s.client.handshake, s.server.handshake,
			s.times.Connected.IsSet(), s.ending.By != 0},
		requestIsFull: s.request.full, responseIsFull: s.response.full, connectionError: s.connectErr,
	}
	k.deadlines[4], k.deadlines[5] = left(s.client.deadline), left(s.server.deadline)
	for i, e := range s.allEnds() {
		k.deadlines[i], k.ends[i], k.timers[i] = left(e.deadline), e.state, e.timer
	}
	for i, c := range [...]*channel{&s.request, &s.response} {
		k.buffered[i], k.failed[i], k.ended[i] = c.buffered, c.failed, c.ended
	}
	return k
}

func (s *Stream) allEnds() [4]*end {
	return [4]*end{&s.request.in, &s.request.out, &s.response.in, &s.response.out}
}

// moments are when the next wakeup may be: at once, when the nearest deadline passes, or so late that all of
// them have.
func (p *place) moments() (list []ktime.Time) {
	list = []ktime.Time{p.now}
	first, _ := p.s.Deadline()
	if !first.IsSet() || first <= p.now {
		return list
	}
	list = append(list, first)
	last := first
	for _, d := range [...]ktime.Time{
		p.s.client.deadline, p.s.server.deadline, p.s.request.in.deadline, p.s.request.out.deadline,
		p.s.response.in.deadline, p.s.response.out.deadline,
	} {
		if d.IsSet() {
			last = max(last, d)
		}
	}
	if last > first {
		list = append(list, last)
	}
	return list
}

// expand tries every batch of events of the client and of the server, and of timers.
func (w *walker) expand(from *place) {
	timers := [...]string{"", ", timer", ", all timers"}
	moments := from.moments()
	for _, c := range w.client {
		for _, v := range w.server {
			if !c[0].possible(&from.s) || !v[0].possible(&from.s) {
				continue
			}
			for i, now := range moments {
				next := &place{
					s: from.s, now: now, from: from, by: [2][]event{c, v}, timer: timers[i],
					depth: from.depth + 1,
				}
				next.s.Begin(CauseClientEvent, now)
				next.s.meet(c)
				next.s.meet(v)
				w.advance(next)
			}
		}
	}
}

// meet lets the events happen that are possible.
func (s *Stream) meet(batch []event) {
	for _, e := range batch {
		if e.possible(s) {
			e.happen(s)
		}
	}
}

func (w *walker) note(s *Stream, now ktime.Time) {
	if w.onlyKill {
		return
	}
	for _, m := range s.Situations(now) {
		w.Met[m] = true
	}
}

// advance completes a wakeup: it advances, answers Assign in every possible way, and checks the result.
func (w *walker) advance(next *place) {
	s := &next.s
	w.Steps++
	// As in the engine, a buffer is full as long as it holds what filled it.
	s.SetFull(s.request.full && s.request.buffered > 0, s.response.full && s.response.buffered > 0)
	w.note(s, next.now)
	if s.Advance(next.now).Has(Assign) {
		w.answer(next)
		return
	}
	s.Settle(next.now, false, false)
	k := s.key(next.now)
	if w.seen[k] {
		return
	}
	w.check(next)
	w.seen[k] = true
	w.Depth = max(w.Depth, next.depth)
	w.Pairs[[2]SideState{s.client.state, s.server.state}]++
	if !s.Ended() {
		w.queue = append(w.queue, next)
	}
}

// answer goes on with every answer to Assign, together with everything that the client may do before the
// stream has seen the answer.
func (w *walker) answer(from *place) {
	for _, a := range answers {
		for _, c := range w.client {
			if !c[0].possible(&from.s) {
				continue
			}
			next := &place{
				s: from.s, now: from.now, from: from, by: [2][]event{c}, answer: a.name, depth: from.depth,
			}
			a.happen(&next.s)
			queued := next.s.inputs&inEnqueued != 0
			next.s.meet(c)
			after := next.s
			want := after.Advance(next.now)
			if queued && after.server.state != Queued && !want.Has(LeaveQueue) {
				w.Broken = append(w.Broken, next.path()+": it is left in the queue")
			}
			w.advance(next)
		}
	}
}

// check proves the rules for one state: Check, and that a kill order is total.
func (w *walker) check(at *place) {
	if err := at.s.Check(at.now); err != nil && !w.onlyKill {
		w.Broken = append(w.Broken, fmt.Sprintf("%s:\n%v", at.path(), err))
		return
	}
	killed := at.s
	killed.Kill(KillAdmin)
	if !at.s.Ended() {
		w.note(&killed, at.now)
	}
	killed.Advance(at.now)
	if !killed.Ended() || !w.onlyKill && killed.Check(at.now) != nil {
		w.Broken = append(w.Broken, fmt.Sprintf("%s: a kill order does not end it (rule 4)", at.path()))
	}
}
