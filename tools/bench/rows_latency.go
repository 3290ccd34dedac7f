package main

import (
	"fmt"
	"time"
)

// The latency row.
const (
	latencyConnections = 50
	// loadShare is the share of the rate at which the slowest of the proxies is saturated.
	loadShare = 0.5
)

func (b *bench) latency() (*result, error) {
	const unit = "ms p99"
	all, err := b.lineUp(b.plainWhyspin, b.plainHAProxy, b.startNginx)
	if err != nil {
		return unlessMissing(unit, err)
	}
	rate, err := b.halfSaturation(all)
	if err != nil {
		return unlessMissing(unit, err)
	}
	var lateness []float64
	samples, err := b.contest(b.roundsOr(tcpRounds), all,
		func(c *contestant, over time.Duration) (sample, error) {
			played, err := schedule{
				address: c.address, connections: latencyConnections, request: smallRequest, rate: rate,
				total: int(rate * over.Seconds()),
			}.play(b.ctx)
			if err != nil {
				return sample{}, err
			}
			lateness = append(lateness, quantile(played.lateness, 0.99).Seconds()*1e3)
			return sample{units: float64(len(played.latencies)), wall: played.wall,
				p50: quantile(played.latencies, 0.5), p99: quantile(played.latencies, 0.99)}, nil
		})
	if err != nil {
		return nil, err
	}
	r := compare(unit, samples, map[string]goal{"haproxy": {ratio: 1}},
		func(s sample) float64 { return s.p99.Seconds() * 1e3 })
	r.note("at %.0f requests/s, half of what the slowest of them reaches; the generator itself was %.3f ms"+
		" late at p99, which is in every figure", rate, median(lateness))
	return r, nil
}

// halfSaturation returns half the rate at which the slowest of the proxies is saturated.
func (b *bench) halfSaturation(all []*contestant) (float64, error) {
	var least float64
	for _, c := range all {
		s, err := b.wrk(c.address, load{connections: latencyConnections, path: "/", over: leastWrk})
		if err != nil {
			return 0, err
		}
		if least == 0 || s.perSecond() < least {
			least = s.perSecond()
		}
	}
	if least == 0 {
		return 0, fmt.Errorf("none of %d proxies answered", len(all))
	}
	return loadShare * least, nil
}
