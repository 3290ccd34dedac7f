package main

import (
	"fmt"
	"slices"
	"syscall"
	"time"
)

// The idle row: how many connections, and how many when it is only to be shown that it works.
const (
	idleConnections      = 5000
	idleConnectionsShort = 1000
)

// settling is how long a proxy is left alone before its memory is looked at; idleFor is how long its CPU
// time is watched.
const (
	settling = 700 * time.Millisecond
	idleFor  = 1500 * time.Millisecond
)

// idleShare is the share of a CPU that still counts as none: timers of the runtime, and the duty cycle of
// the probes.
const idleShare = 0.002

func (b *bench) crowdSize() int {
	if b.short {
		return idleConnectionsShort
	}
	return idleConnections
}

func (b *bench) scaled(d time.Duration) time.Duration {
	if b.short {
		return d / 10
	}
	return d
}

func (b *bench) tcpIdle() (*result, error) {
	const unit = "bytes/connection"
	server, err := newEcho()
	if err != nil {
		return nil, err
	}
	defer server.close()
	samples, err := b.idleRounds(server.address, b.crowdSize(), b.plainWhyspin, b.plainHAProxy, b.startNginx)
	if err != nil {
		return unlessMissing(unit, err)
	}
	r := compare(unit, samples, map[string]goal{"haproxy": {ratio: 0.5}}, sample.bytes)
	r.note("nginx takes its connections' memory when it starts, so most of it is not in this figure")
	b.judgeIdleCPU(r, samples)
	return r, nil
}

// idleRounds measures a crowd of idle connections at each proxy in turn.
func (b *bench) idleRounds(server string, crowd int, starts ...func(string) (*contestant, error)) (
	map[string][]sample, error) {
	samples := map[string][]sample{}
	for range b.roundsOr(defaultRounds) {
		for _, start := range starts {
			// A fresh process each time: memory that was once used is not always given back.
			c, err := start(server)
			if err != nil {
				return nil, err
			}
			s, err := b.idle(c, crowd)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			samples[c.name] = append(samples[c.name], s)
			c.proxy.stop(syscall.SIGKILL)
		}
	}
	return samples, nil
}

// judgeIdleCPU adds what the idle connections cost, and the limit for it.
func (b *bench) judgeIdleCPU(r *result, samples map[string][]sample) {
	share := func(s sample) float64 { return s.cpu.Seconds() / b.scaled(idleFor).Seconds() }
	for _, c := range slices.Sorted(mapsKeys(samples)) {
		r.note("%-10s uses %.3f %% of a CPU with all of them idle", c, 100*median(apply(samples[c], share)))
	}
	r.limit("idle CPU", 100*idleShare, apply(samples[whyspinName],
		func(s sample) float64 { return 100 * share(s) }))
}

// atRest returns a proxy's memory when it does not give any back any more: what starting took goes bit by
// bit.
func (b *bench) atRest(c *contestant) (memory int64, err error) {
	err = until(b.ctx, startPatience, "the memory to shrink no more", func() (bool, error) {
		if err := b.pause(b.scaled(settling)); err != nil {
			return false, err
		}
		last := memory
		memory, err = c.proxy.memory()
		return last > 0 && memory >= last, err
	})
	return memory, err
}

// idle measures what so large a crowd of idle connections holds of the proxy's memory, and what it costs.
func (b *bench) idle(c *contestant, crowd int) (sample, error) {
	// The first connection brings in code and tables that are no connection's own.
	first, err := gather(b.ctx, c.open, 1)
	if err != nil {
		return sample{}, err
	}
	defer first.close()
	before, err := b.atRest(c)
	if err != nil {
		return sample{}, err
	}
	s := sample{units: float64(crowd)}
	all, err := gather(b.ctx, c.open, crowd)
	if err != nil {
		return s, err
	}
	defer all.close()
	if err := b.pause(b.scaled(settling)); err != nil {
		return s, err
	}
	after, err := c.proxy.memory()
	if err != nil {
		return s, err
	}
	if s.memory = after - before; s.memory <= 0 {
		return s, fmt.Errorf("%d connections hold %d bytes", len(all.members), s.memory)
	}
	began, err := c.proxy.cpu()
	if err != nil {
		return s, err
	}
	if err := b.pause(b.scaled(idleFor)); err != nil {
		return s, err
	}
	ended, err := c.proxy.cpu()
	s.cpu = ended - began
	return s, err
}
