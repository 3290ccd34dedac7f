package sim

import (
	"math/rand/v2"
	"time"

	"github.com/whyspin/whyspin/internal/fault"
)

// leastStreams and leastServers are the size below which a schedule leaves too little to chance.
const (
	leastStreams = 34
	leastServers = 2
)

// maker makes a scenario from a seed.
type maker struct {
	*rand.Rand
	s *Scenario
}

// Generate returns the scenario of a seed. Timeouts are short and delays are drawn around them, since what
// matters happens when several things fall into one wakeup.
func Generate(seed uint64, f fault.Set) *Scenario {
	m := maker{rand.New(rand.NewPCG(seed, 0x6e6)), &Scenario{Seed: seed, Fault: f}}
	s := m.s
	s.Workers = 1 + m.IntN(2)
	s.BufferSize = 64 << (2 * m.IntN(4))
	s.MaxConn = 1000
	if m.has(ProxyFull) {
		s.MaxConn = 5
	}
	if m.has(ServerFull) {
		s.ServerMaxConn = m.oneOf(1, 3)
	}
	s.Retries = m.oneOf(0, 1, 3, 3, 3, 12)
	s.Redispatch = m.oneOf(-1, -1, -1, 0, 1)
	s.AbortOnClose = m.IntN(4) == 0
	s.Unix = m.IntN(6) == 0
	s.NoServers = m.has(NoServers)
	m.secure()
	m.timeouts()
	m.noise()
	for range leastServers + m.IntN(2) {
		s.Servers = append(s.Servers, m.server())
	}
	for range leastStreams + m.IntN(16) {
		s.Clients = append(s.Clients, m.client())
	}
	if m.has(TimersTogether) {
		m.gather()
	}
	m.orders()
	if s.Unix && m.IntN(3) == 0 {
		m.collapse()
	}
	s.Pipes = m.oneOf(0, 2, 8, 64)
	return s
}

// collapse lets all servers go down at once, while streams wait for a slot and may try very often. On unix
// sockets attempts fail at once, so a stream uses up its share of a turn between two of them; and some are
// ended by the operator then.
func (m maker) collapse() {
	s := m.s
	s.Retries, s.ServerMaxConn = 12, 1
	at, last := m.moment()/2, m.moment()
	for i := range s.Servers {
		s.Servers[i].Answers = []Answer{Accepts}
		s.Outages = append(s.Outages, Outage{i + 1, at, last})
	}
	for i := range s.Clients {
		if m.IntN(2) == 0 {
			soon := time.Duration(m.IntN(150)) * time.Microsecond
			s.Kills = append(s.Kills, Kill{i + 1, at + soon})
		}
	}
}

// has decides whether the scenario has a hazard.
func (m maker) has(h Hazard) bool { return m.Float64() < table[h].in }

// secureShare is the share of the scenarios in which somebody speaks TLS: it costs more than all the rest.
const secureShare = 0.1

// secure decides who speaks TLS.
func (m maker) secure() {
	s := m.s
	if m.Float64() >= secureShare {
		return
	}
	sides := m.IntN(3)
	if sides != 1 {
		s.TLSClient = tlsNames[m.IntN(len(tlsNames))]
	}
	if sides != 0 {
		s.TLSServer = tlsNames[m.IntN(len(tlsNames))]
	}
	s.Timeouts.ClientHandshake = m.milliseconds(0, 30, 100)
	s.MaxSSLConn = m.oneOf(0, 0, 0, 4)
}

// secured reports whether somebody speaks TLS.
func (s *Scenario) secured() bool { return s.TLSClient != "" || s.TLSServer != "" }

// orders are what the operator does, and the outages.
func (m maker) orders() {
	s := m.s
	if m.has(ScriptedKill) {
		for range 1 + m.IntN(3) {
			n := m.IntN(len(s.Clients))
			s.Kills = append(s.Kills, Kill{n + 1, s.Clients[n].At + m.delay()})
		}
	}
	if m.has(SoftStop) {
		s.Stop = m.moment()
	}
	if m.has(NewSets) {
		s.Renew = m.moment()
	}
	if m.has(Outages) {
		for range 1 + m.IntN(3) {
			o := Outage{1 + m.IntN(len(s.Servers)), m.moment(), 1 + m.delay()}
			s.Outages = append(s.Outages, o)
		}
	}
}

// moment is some time while clients come and go.
func (m maker) moment() time.Duration { return time.Duration(1+m.IntN(400)) * time.Millisecond }

// gather makes the clients come at few instants, most of them with nothing to tell them apart.
func (m maker) gather() {
	var instants [3]time.Duration
	for i := range instants {
		instants[i] = time.Duration(m.IntN(200)) * time.Millisecond
	}
	clients := m.s.Clients
	for i := range clients {
		clients[i].At = instants[m.IntN(len(instants))]
		if i > 0 && m.IntN(3) > 0 {
			clients[i].Steps = clients[i-1].Steps
		}
	}
}

func (m maker) oneOf(choices ...int) int { return choices[m.IntN(len(choices))] }

func (m maker) milliseconds(choices ...int) time.Duration {
	return time.Duration(m.oneOf(choices...)) * time.Millisecond
}

func (m maker) timeouts() {
	t := &m.s.Timeouts
	t.Connect = m.milliseconds(20, 50, 100)
	t.Client = m.milliseconds(100, 200, 500)
	t.Server = m.milliseconds(100, 200, 500)
	t.Tunnel = m.milliseconds(0, 150, 300, 1000)
	if m.IntN(6) == 0 {
		t.Tunnel = time.Hour
	}
	t.ClientFin = m.milliseconds(0, 0, 30)
	t.ServerFin = m.milliseconds(0, 0, 40)
	t.Queue = m.milliseconds(0, 30, 200)
}

func (m maker) noise() {
	for h := range noises {
		if (h < FullHandshake || m.s.secured()) && m.has(h) {
			m.s.Noise[h] = table[h].most * float64(1+m.IntN(20)) / 20
		}
	}
}

// delay is none, a few microseconds, or about one of the timeouts.
func (m maker) delay() time.Duration {
	t := m.s.Timeouts
	switch m.IntN(4) {
	case 0:
		return 0
	case 1:
		return time.Duration(m.Int64N(int64(2 * time.Millisecond)))
	default:
		marks := []time.Duration{
			t.Connect, t.Connect, 2 * t.Connect, t.Queue, t.ClientFin, t.ServerFin, t.Server / 2,
		}
		// A timer fires up to a millisecond late, and what happens in that time is seen in the same wakeup.
		return marks[m.IntN(len(marks))] + time.Duration(m.Int64N(int64(1200*time.Microsecond)))
	}
}

func (m maker) server() ServerScript {
	v := ServerScript{Delay: m.milliseconds(0, 0, 1, 5)}
	for range 1 + m.IntN(6) {
		v.Answers = append(v.Answers, m.answer())
	}
	if m.IntN(2) == 0 {
		// The server speaks first, as in SMTP.
		v.Steps = append(v.Steps, Step{Do: Send, N: 24})
	}
	v.Steps = append(v.Steps, m.conversation(HalfCloseServer)...)
	return v
}

func (m maker) answer() Answer {
	x := m.Float64()
	for _, a := range [...]struct {
		hazard Hazard
		answer Answer
	}{{Refused, Refuses}, {Never, Silent}, {Slow, Late}} {
		if x -= table[a.hazard].most; x < 0 {
			return a.answer
		}
	}
	return Accepts
}

func (m maker) client() ClientScript {
	c := ClientScript{At: time.Duration(m.IntN(200)) * time.Millisecond}
	if m.IntN(4) == 0 {
		// A client that only comes and goes.
		goes := Verb(m.oneOf(int(Fin), int(Fin), int(Fin), int(Reset), int(Close)))
		c.Steps = []Step{{After: m.delay(), Do: goes}}
		return c
	}
	c.Steps = m.conversation(HalfCloseClient)
	return c
}

// conversation is some steps of a peer that wants to get something done, and how it ends: often with a
// half-close, the hazard that is given.
func (m maker) conversation(halfClose Hazard) []Step {
	var steps []Step
	add := func(do Verb, n int) { steps = append(steps, Step{m.delay() / 2, do, n}) }
	for range m.IntN(10) {
		switch x := m.Float64(); {
		case x < table[UrgentData].most:
			add(Urgent, 0)
		case x < table[UrgentData].most+table[SlowReader].most:
			add(Pause, 0)
			if m.IntN(4) > 0 {
				add(Resume, 0)
			}
		case x < 0.4:
			add(Await, 1+m.IntN(30))
		case x < 0.65:
			// Several in a row without a pause arrive as one.
			steps = append(steps, Step{0, Send, 1 + m.IntN(50)})
		default:
			add(Send, 1+m.IntN(m.oneOf(16, 200, 5000)))
		}
	}
	x := m.Float64()
	for _, end := range [...]struct {
		hazard Hazard
		do     Verb
	}{{halfClose, Fin}, {ScriptedReset, Reset}, {CloseBoth, Close}} {
		if x -= table[end.hazard].most; x < 0 {
			add(end.do, 0)
			if end.do == Fin && m.IntN(4) == 0 {
				add(Reset, 0)
			}
			return steps
		}
	}
	switch m.IntN(3) {
	case 0:
		add(AwaitEnd, 0)
		add(Fin, 0)
	case 1:
		add(Hold, 0)
	case 2:
		// Answer an end with an end.
	}
	return steps
}
