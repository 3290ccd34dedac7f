package sim

import (
	"slices"
	"time"
)

// shrinkRuns bounds how many scenarios a search for a shorter one runs: a few seconds' worth.
const shrinkRuns = 4000

// Shrink returns the shortest scenario it finds that breaks the same rule as the given one does, and what
// it breaks.
func Shrink(s *Scenario, rule string) (*Scenario, Violation) {
	h := &shrinker{rule: rule}
	best := s.clone()
	if !h.breaks(best) {
		return best, Violation{Rule: rule, Message: "not reproduced"}
	}
	for shorter := true; shorter && h.runs < shrinkRuns; {
		shorter = false
		for _, candidate := range simpler(best) {
			if h.breaks(candidate) {
				best, shorter = candidate, true
				break
			}
		}
	}
	h.breaks(best)
	return best, h.last
}

type shrinker struct {
	rule string
	runs int
	last Violation
}

// breaks reports whether the scenario breaks the rule.
func (h *shrinker) breaks(s *Scenario) bool {
	h.runs++
	for _, v := range Run(s, Options{Alone: true}).Violations {
		if v.Rule == h.rule {
			h.last = v
			return true
		}
	}
	return false
}

func (s *Scenario) clone() *Scenario {
	c := *s
	c.Servers = slices.Clone(s.Servers)
	for i := range c.Servers {
		c.Servers[i].Answers = slices.Clone(c.Servers[i].Answers)
		c.Servers[i].Steps = slices.Clone(c.Servers[i].Steps)
	}
	c.Clients = slices.Clone(s.Clients)
	for i := range c.Clients {
		c.Clients[i].Steps = slices.Clone(c.Clients[i].Steps)
	}
	c.Kills, c.Outages = slices.Clone(s.Kills), slices.Clone(s.Outages)
	return &c
}

// simpler returns the scenarios that are one thing simpler, the largest simplifications first.
func simpler(s *Scenario) []*Scenario {
	var list []*Scenario
	try := func(change func(*Scenario)) {
		c := s.clone()
		change(c)
		if c.String() != s.String() {
			list = append(list, c)
		}
	}
	for i := range s.Clients {
		try(func(c *Scenario) {
			c.Clients = slices.Delete(c.Clients, i, i+1)
			c.Kills = slices.DeleteFunc(c.Kills, func(k Kill) bool { return k.Client == i+1 })
			for j := range c.Kills {
				if c.Kills[j].Client > i+1 {
					c.Kills[j].Client--
				}
			}
		})
	}
	for i := range s.Kills {
		try(func(c *Scenario) { c.Kills = slices.Delete(c.Kills, i, i+1) })
	}
	for i := range s.Outages {
		try(func(c *Scenario) { c.Outages = slices.Delete(c.Outages, i, i+1) })
	}
	for i := range s.Servers {
		if len(s.Servers) > 1 {
			try(func(c *Scenario) { c.dropServer(i) })
		}
	}
	try(func(c *Scenario) { c.Noise = Noise{} })
	try(func(c *Scenario) { c.Workers = 1 })
	try(func(c *Scenario) { c.ServerMaxConn = 0 })
	try(func(c *Scenario) { c.MaxConn = 1000 })
	try(func(c *Scenario) { c.BufferSize = 16384 })
	try(func(c *Scenario) { c.Pipes = 0 })
	try(func(c *Scenario) { c.AbortOnClose = false })
	try(func(c *Scenario) { c.Unix = false })
	try(func(c *Scenario) { c.TLSClient = "" })
	try(func(c *Scenario) { c.TLSServer = "" })
	try(func(c *Scenario) { c.MaxSSLConn = 0 })
	try(func(c *Scenario) { c.Stop = 0 })
	try(func(c *Scenario) { c.Renew = 0 })
	try(func(c *Scenario) { c.Retries = min(c.Retries, 1) })
	for i := range s.Timeouts.list() {
		try(func(c *Scenario) { *c.Timeouts.list()[i].value = 0 })
	}
	for i := range s.Noise {
		try(func(c *Scenario) { c.Noise[i] = 0 })
	}
	for i := range s.Servers {
		simplerServer(s, i, try)
	}
	for i := range s.Clients {
		simplerSteps(s.Clients[i].Steps, func(steps []Step) {
			try(func(c *Scenario) { c.Clients[i].Steps = steps })
		})
		try(func(c *Scenario) { c.Clients[i].At = 0 })
	}
	return list
}

// dropServer leaves a server out; the others' numbers follow.
func (s *Scenario) dropServer(i int) {
	s.Servers = slices.Delete(s.Servers, i, i+1)
	s.Outages = slices.DeleteFunc(s.Outages, func(o Outage) bool { return o.Server == i+1 })
	for j := range s.Outages {
		if s.Outages[j].Server > i+1 {
			s.Outages[j].Server--
		}
	}
}

func simplerServer(s *Scenario, i int, try func(func(*Scenario))) {
	for j := range s.Servers[i].Answers {
		if len(s.Servers[i].Answers) > 1 {
			try(func(c *Scenario) { c.Servers[i].Answers = slices.Delete(c.Servers[i].Answers, j, j+1) })
		}
	}
	try(func(c *Scenario) { c.Servers[i].Delay = 0 })
	simplerSteps(s.Servers[i].Steps, func(steps []Step) {
		try(func(c *Scenario) { c.Servers[i].Steps = steps })
	})
}

func simplerSteps(steps []Step, try func([]Step)) {
	for i := range steps {
		try(slices.Delete(slices.Clone(steps), i, i+1))
	}
	for i, s := range steps {
		simple := slices.Clone(steps)
		simple[i].After = 0
		if s.After > 0 {
			try(simple)
		}
		if rounded := s.After.Truncate(time.Millisecond); rounded != s.After {
			simple = slices.Clone(steps)
			simple[i].After = rounded
			try(simple)
		}
		if s.N > 1 {
			simple = slices.Clone(steps)
			simple[i].N = 1
			try(simple)
		}
	}
}
