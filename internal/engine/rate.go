package engine

import (
	"sync"
	"time"

	"github.com/whyspin/whyspin/internal/ktime"
)

// Rate counts events per second as HAProxy shows them: over the last second, estimated from the present
// second and the one before. It is for one goroutine at a time.
type Rate struct {
	second        ktime.Time // when the present second began
	current, last uint64
	highest       uint64
}

const second = ktime.Time(time.Second)

func (r *Rate) roll(now ktime.Time) {
	switch passed := now - r.second; {
	case passed < second:
		return
	case passed < 2*second:
		r.last = r.current
	default:
		r.last = 0
	}
	r.current = 0
	r.second = now - now%second
}

// Add counts n events at now.
func (r *Rate) Add(now ktime.Time, n uint64) {
	r.roll(now)
	r.current += n
	r.highest = max(r.highest, r.current)
}

// PerSecond returns the rate at now.
func (r *Rate) PerSecond(now ktime.Time) float64 {
	r.roll(now)
	return float64(r.current) + float64(r.last)*float64(second-(now-r.second))/float64(second)
}

// Highest returns the most events of any second, with a second as the clock counts them.
func (r *Rate) Highest() uint64 { return r.highest }

// sharedRate is the rate of connections of all workers: the highest rates of each, added up, are not the
// highest of all.
type sharedRate struct {
	mu   sync.Mutex
	rate Rate
}

// add counts a connection. The workers' ideas of now differ by less than a turn, which does not matter here.
func (r *sharedRate) add(now ktime.Time) {
	r.mu.Lock()
	r.rate.Add(now, 1)
	r.mu.Unlock()
}

func (r *sharedRate) read(now ktime.Time) (perSecond float64, highest uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rate.PerSecond(now), r.rate.Highest()
}
