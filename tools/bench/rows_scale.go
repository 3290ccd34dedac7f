package main

import (
	"fmt"
	"time"
)

// The rows about scale: more workers, and more connections that do nothing.
const (
	scaleWorkers = 2
	busyPlayers  = 50
	// idleGrowth is by how much the cost of a message may grow from the smallest to the largest crowd: it
	// must not grow, and the median of a few rounds is not known better.
	idleGrowth = 1.05
)

// oneWorker is whyspin with one worker, beside which its two are measured.
const oneWorker = "one worker"

// team starts the proxies with two workers, and whyspin with one. nginx has no part: with two workers it is
// several processes.
func (b *bench) team() ([]*contestant, error) {
	two := proxyOptions{threads: scaleWorkers}
	return b.lineUp(
		func(server string) (*contestant, error) { return b.startWhyspin(server, two) },
		func(server string) (*contestant, error) { return b.startHAProxy("haproxy", server, two) },
		func(server string) (*contestant, error) {
			c, err := b.startWhyspin(server, proxyOptions{})
			if err == nil {
				c.name = oneWorker
			}
			return c, err
		})
}

func (b *bench) scaleSmall() (*result, error) {
	return b.withTwo("us CPU/request", func(c *contestant, over time.Duration) (sample, error) {
		return b.wrk(c.address, load{connections: smallConnections, path: "/", over: over})
	})
}

func (b *bench) scaleChurn() (*result, error) {
	return b.withTwo("us CPU/connection", func(c *contestant, over time.Duration) (sample, error) {
		return churn(b.ctx, c.address, churnTogether, over)
	})
}

// withTwo plays a load with two workers.
func (b *bench) withTwo(unit string, play func(*contestant, time.Duration) (sample, error)) (*result, error) {
	all, err := b.team()
	if err != nil {
		return unlessMissing(unit, err)
	}
	samples, err := b.contest(b.roundsOr(defaultRounds), all, play)
	if err != nil {
		return unlessMissing(unit, err)
	}
	return compare(unit, samples, map[string]goal{"haproxy": {ratio: 0.95}}, sample.microseconds), nil
}

// scaleIdle plays ping-pong beside crowds of idle connections. What is compared is whyspin with itself; the
// one with the largest crowd is measured against the others.
func (b *bench) scaleIdle() (*result, error) {
	court, err := newCourt()
	if err != nil {
		return nil, err
	}
	defer court.close()
	targets := map[string]goal{}
	var all []*contestant
	for _, idle := range []int{b.crowdSize(), b.crowdSize() / 5, b.crowdSize() / 50} {
		c, err := b.plainWhyspin(court.address)
		if err != nil {
			return nil, err
		}
		if len(all) > 0 {
			c.name = fmt.Sprintf("%d idle", idle)
			targets[c.name] = goal{ratio: idleGrowth}
		}
		if err := court.seat(b.ctx, c.address, idle); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	samples, err := b.contest(b.roundsOr(defaultRounds), all,
		func(c *contestant, over time.Duration) (sample, error) {
			return court.play(b.ctx, c.address, busyPlayers, over)
		})
	if err != nil {
		return nil, err
	}
	r := compare("us CPU/message", samples, targets, sample.microseconds)
	r.note("%s has %d idle connections", whyspinName, b.crowdSize())
	return r, nil
}
