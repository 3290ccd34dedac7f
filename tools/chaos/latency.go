package main

import (
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// A histogram has buckets that grow by 1/bucketsPerDoubling of a doubling: 4 % wide.
const (
	bucketsPerDoubling = 16
	buckets            = 40 * bucketsPerDoubling // up to 18 minutes
)

// histogram counts durations. Any goroutine may add.
type histogram [buckets]atomic.Uint64

func (h *histogram) add(d time.Duration) {
	i := int(math.Log2(float64(max(d, 1))) * bucketsPerDoubling)
	h[min(i, buckets-1)].Add(1)
}

// p99 returns the duration that 99 of 100 did not exceed, and how many there were.
func (h *histogram) p99() (time.Duration, uint64) {
	var all, sum uint64
	for i := range h {
		all += h[i].Load()
	}
	for i := range h {
		if sum += h[i].Load(); sum*100 >= all*99 && sum > 0 {
			return time.Duration(math.Exp2(float64(i+1) / bucketsPerDoubling)), all
		}
	}
	return 0, all
}

// parts is how many parts the run is cut into, for a p99 of each. Medians over the first third of them and
// over the last are compared, so that a part in which the machine was busy with something else counts for
// nothing.
const parts = 30

// course is how latencies went over time.
type course struct {
	began time.Time
	over  time.Duration
	parts [parts]histogram
}

func (c *course) add(d time.Duration) {
	part := int(time.Since(c.began) * parts / c.over)
	c.parts[min(max(part, 0), parts-1)].add(d)
}

// flatWithin is how much longer the p99 of the last third may be than that of the first: by half. What grows
// with what a proxy has done (lists that are searched, timers that pile up) grows by more over minutes.
const flatWithin = 1.5

// trend compares the first third of a run with the last: the median p99 of each, and the median of its ratio
// to that of a course beside it, the same talk through a proxy that has nothing else to do. On a machine that
// became busy with other things both take longer, and the ratio stays.
type trend struct {
	p99, beside, ratio [2]time.Duration // of a ratio of 1 the last is a second
	exchanges          [2]uint64
}

func compare(c, beside *course) (t trend) {
	for third, from := range [2]int{0, parts - parts/3} {
		var p99, other, ratio []time.Duration
		for i := from; i < from+parts/3; i++ {
			a, n := c.parts[i].p99()
			b, m := beside.parts[i].p99()
			if n == 0 || m == 0 {
				continue
			}
			p99, other = append(p99, a), append(other, b)
			ratio = append(ratio, time.Duration(float64(time.Second)*float64(a)/float64(b)))
			t.exchanges[third] += n
		}
		t.p99[third], t.beside[third], t.ratio[third] = median(p99), median(other), median(ratio)
	}
	return t
}

func median(all []time.Duration) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func (t *trend) String() string {
	third := func(i int) string {
		return fmt.Sprintf("%v (beside an idle proxy's %v: %.2f times; %d exchanges)", round(t.p99[i]),
			round(t.beside[i]), t.ratio[i].Seconds(), t.exchanges[i])
	}
	return fmt.Sprintf("p99 in the first third %s, in the last %s", third(0), third(1))
}

// steeper says how the p99 has grown when it has; it is empty when all is well.
func (t *trend) steeper() string {
	if t.exchanges[0] == 0 || t.exchanges[1] == 0 {
		return "there are no latencies of the first third, or of the last"
	}
	growth := float64(t.ratio[1]) / float64(t.ratio[0])
	if growth <= flatWithin || float64(t.p99[1]) <= flatWithin*float64(t.p99[0]) {
		return ""
	}
	return fmt.Sprintf("the p99 has grown by a factor of %.1f: %v", growth, t)
}

func round(d time.Duration) time.Duration { return d.Round(time.Microsecond) }
