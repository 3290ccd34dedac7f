package main

import (
	"crypto/tls"
	"fmt"
	"math"
	"net"
	"slices"
	"time"
)

// sample is what one contestant did in one round.
type sample struct {
	units    float64       // of work done
	cpu      time.Duration // user and system, of the proxy process
	wall     time.Duration // 0 when the speed has no meaning
	p50, p99 time.Duration // of a request, 0 when that was not measured
	memory   int64         // bytes that the work holds, 0 when that was not measured
}

func (s sample) microseconds() float64 { return s.cpu.Seconds() * 1e6 / s.units }
func (s sample) perSecond() float64    { return s.units / s.wall.Seconds() }
func (s sample) bytes() float64        { return float64(s.memory) / s.units }

// contestant is a proxy that takes part in a row.
type contestant struct {
	name    string // as a peer in the results; "whyspin" is whom they are compared with
	proxy   *process
	address string // where clients connect
	control string // its runtime API, empty when it has none
	// tls is how clients speak TLS to it, nil when they do not.
	tls *tls.Config
}

// open opens a connection as a client.
func (c *contestant) open() (net.Conn, error) {
	if c.tls == nil {
		return dial(c.address)
	}
	return dialTLS(c.address, c.tls)
}

const whyspinName = "whyspin"

// contest lets every contestant play in each of the rounds, always in the same order, so that what changes
// slowly on the machine meets all of them. A short game before the first round warms them up.
func (b *bench) contest(rounds int, all []*contestant, play func(*contestant, time.Duration) (sample,
	error)) (
	map[string][]sample, error) {
	const warm, slice, shortSlice = 300 * time.Millisecond, 2 * time.Second, 100 * time.Millisecond
	length := slice
	if b.short {
		length = shortSlice
	}
	samples := map[string][]sample{}
	for round := range rounds + 1 {
		for _, c := range all {
			if err := b.ctx.Err(); err != nil {
				return nil, err
			}
			over := length
			if round == 0 {
				over = min(warm, length)
			}
			s, err := b.measure(c, over, play)
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", c.name, round, err)
			}
			if round > 0 {
				samples[c.name] = append(samples[c.name], s)
			}
		}
	}
	return samples, nil
}

// measure lets one contestant play and takes its CPU time.
func (b *bench) measure(c *contestant, over time.Duration,
	play func(*contestant, time.Duration) (sample, error)) (sample, error) {
	before, err := c.proxy.cpu()
	if err != nil {
		return sample{}, err
	}
	began := time.Now()
	s, err := play(c, over)
	if err != nil {
		return sample{}, err
	}
	if s.wall == 0 {
		s.wall = time.Since(began)
	}
	after, err := c.proxy.cpu()
	if err != nil {
		return sample{}, err
	}
	s.cpu = after - before
	if !(s.units > 0) || s.cpu <= 0 {
		return sample{}, fmt.Errorf("%g units of work in %v of CPU time", s.units, s.cpu)
	}
	return s, nil
}

// goal is what whyspin must reach against a peer; 0 is nothing.
type goal struct {
	ratio      float64 // at most, of the value per unit
	throughput float64 // at least, of the units per second
}

// compare makes a result of samples: the medians, and the ratios round by round.
func compare(unit string, samples map[string][]sample, targets map[string]goal,
	value func(sample) float64) *result {
	own := samples[whyspinName]
	r := newResult(unit, apply(own, value))
	r.note("%s", describe(whyspinName, own, value))
	for _, name := range slices.Sorted(mapsKeys(samples)) {
		if name == whyspinName {
			continue
		}
		peer := samples[name]
		var ratios, speeds []float64
		for i := range own {
			ratios = append(ratios, value(own[i])/value(peer[i]))
			if own[i].wall > 0 && peer[i].wall > 0 {
				speeds = append(speeds, own[i].perSecond()/peer[i].perSecond())
			}
		}
		var throughput *float64
		if len(speeds) > 0 {
			middle := median(speeds)
			throughput = &middle
		}
		r.compare(name, median(apply(peer, value)), ratios, targets[name], throughput)
		r.note("%s", describe(name, peer, value))
	}
	return r
}

// describe is what is printed beside the table for one contestant.
func describe(name string, samples []sample, value func(sample) float64) string {
	values := apply(samples, value)
	text := fmt.Sprintf("%-18s %9.4g (%.4g to %.4g)", name, median(values), slices.Min(values),
		slices.Max(values))
	if samples[0].wall > 0 {
		text += fmt.Sprintf("  %9.5g units/s, %3.0f %% of a CPU", median(apply(samples, sample.perSecond)),
			100*median(apply(samples, func(s sample) float64 { return s.cpu.Seconds() / s.wall.Seconds() })))
	}
	if samples[0].p99 == 0 {
		return text
	}
	milliseconds := func(of func(sample) time.Duration) float64 {
		return 1e3 * median(apply(samples, func(s sample) float64 { return of(s).Seconds() }))
	}
	return text + fmt.Sprintf("  p50 %.3f ms, p99 %.3f ms",
		milliseconds(func(s sample) time.Duration { return s.p50 }),
		milliseconds(func(s sample) time.Duration { return s.p99 }))
}

func apply(samples []sample, f func(sample) float64) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = f(s)
	}
	return values
}

// median returns the middle of the values, the mean of the two in the middle of an even number.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	switch {
	case n == 0:
		return math.NaN()
	case n%2 == 1:
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

// halfWidth is half the length of the interval that holds the median with a probability of at least 95 %:
// between the order statistics that the binomial distribution gives, whatever the values' own distribution.
// It is infinite for fewer than six values, which cannot tell.
func halfWidth(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	below := math.Pow(0.5, float64(n)) // the probability that k values or fewer are below the median
	term := below
	k := 0
	for 2*below <= 0.05 {
		k++
		term *= float64(n-k+1) / float64(k)
		below += term
	}
	if k == 0 {
		return math.Inf(1)
	}
	return (sorted[n-k] - sorted[k-1]) / 2
}
