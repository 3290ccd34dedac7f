package sim

import (
	"math/rand/v2"
	"time"

	"github.com/whyspin/whyspin/internal/fault"
)

// leastStreams and leastServers are the size below which a schedule leaves too little to chance.
const (
	leastStreams = 24
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
	s.MaxConn = m.oneOf(1000, 1000, 1000, 5)
	s.ServerMaxConn = m.oneOf(0, 0, 1, 3)
	s.Retries = m.oneOf(0, 1, 3, 3)
	s.Redispatch = m.oneOf(-1, -1, -1, 0, 1)
	s.AbortOnClose = m.IntN(4) == 0
	s.Unix = m.IntN(6) == 0
	m.timeouts()
	m.noise()
	for range leastServers + m.IntN(2) {
		s.Servers = append(s.Servers, m.server())
	}
	for range leastStreams + m.IntN(16) {
		s.Clients = append(s.Clients, m.client())
	}
	for range m.oneOf(0, 0, 1, 3) {
		s.Kills = append(s.Kills, Kill{1 + m.IntN(len(s.Clients)), m.delay()})
	}
	if m.IntN(8) == 0 {
		s.Stop = time.Duration(1+m.IntN(400)) * time.Millisecond
	}
	if m.IntN(8) == 0 {
		s.Renew = time.Duration(1+m.IntN(400)) * time.Millisecond
	}
	return s
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
	for _, n := range m.s.Noise.list() {
		if m.IntN(3) == 0 {
			*n.value = float64(1+m.IntN(20)) / 100
		}
	}
	// A descriptor that is missing too often would only ever show the pause.
	m.s.Noise.NoFile /= 4
	m.s.Noise.NoPort /= 2
	m.s.Noise.NoWatch /= 4
	m.s.Noise.Aborted /= 2
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
		v.Answers = append(v.Answers, Answer(m.oneOf(0, 0, 0, int(Refuses), int(Silent))))
	}
	if m.IntN(2) == 0 {
		// The server speaks first, as in SMTP.
		v.Steps = append(v.Steps, Step{Do: Send, N: 24})
	}
	v.Steps = append(v.Steps, m.conversation()...)
	return v
}

func (m maker) client() ClientScript {
	c := ClientScript{At: time.Duration(m.IntN(200)) * time.Millisecond}
	if m.IntN(4) == 0 {
		// A client that only comes and goes.
		goes := Verb(m.oneOf(int(Fin), int(Fin), int(Fin), int(Reset), int(Close)))
		c.Steps = []Step{{After: m.delay(), Do: goes}}
		return c
	}
	c.Steps = m.conversation()
	return c
}

// conversation is some steps of a peer that wants to get something done, and how it ends.
func (m maker) conversation() []Step {
	var steps []Step
	add := func(do Verb, n int) { steps = append(steps, Step{m.delay() / 2, do, n}) }
	for range m.IntN(10) {
		switch m.IntN(8) {
		case 0, 1, 2:
			add(Send, 1+m.IntN(m.oneOf(16, 200, 5000)))
		case 3:
			add(Urgent, 0)
		case 4:
			add(Pause, 0)
			add(Resume, 0)
		case 5:
			add(Await, 1+m.IntN(30))
		case 6, 7:
			// Several in a row without a pause arrive as one.
			steps = append(steps, Step{0, Send, 1 + m.IntN(50)})
		}
	}
	switch m.IntN(9) {
	case 0, 1, 2, 3:
		add(Fin, 0)
	case 4:
		add(Reset, 0)
	case 5:
		add(Close, 0)
	case 6:
		add(AwaitEnd, 0)
		add(Fin, 0)
	case 7:
		add(Hold, 0)
	case 8:
		// Answer an end with an end.
	}
	return steps
}
