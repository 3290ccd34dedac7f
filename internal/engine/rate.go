package engine

import (
	"time"

	"github.com/whyspin/whyspin/internal/ktime"
)

// rate counts events per second as HAProxy shows them: over the last second, estimated from the present
// second and the one before.
type rate struct {
	second        ktime.Time // when the present second began
	current, last uint64
	highest       uint64
}

const second = ktime.Time(time.Second)

func (r *rate) roll(now ktime.Time) {
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

func (r *rate) add(now ktime.Time) {
	r.roll(now)
	r.current++
	r.highest = max(r.highest, r.current)
}

// perSecond returns the rate at now.
func (r *rate) perSecond(now ktime.Time) uint64 {
	r.roll(now)
	return r.current + r.last*uint64(second-(now-r.second))/uint64(second)
}
