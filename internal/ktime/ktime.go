// Package ktime is the time of whyspin: nanoseconds of CLOCK_MONOTONIC, the clock that the kernel's
// bpf_ktime_get_ns reads, so that a moment seen by the engine and a moment seen by a probe compare.
//
// The package is pure: it never reads a clock. Whoever needs the current time takes it as an argument.
package ktime

import (
	"fmt"
	"math"
	"time"
)

// Time is a moment in nanoseconds of CLOCK_MONOTONIC. The zero Time is the boot of the machine, a real
// moment; "this never happens" is Never.
type Time int64

// Never is the moment that does not come: a timer that is not armed. It is later than every other Time.
const Never Time = math.MaxInt64

// Add returns t+d. Never stays Never, and a sum past the end of time is Never.
func (t Time) Add(d time.Duration) Time {
	if t == Never {
		return Never
	}
	sum := t + Time(d)
	if d > 0 && sum < t {
		return Never
	}
	return sum
}

// Sub returns the time from u to t. When either is Never there is no such time; it then returns the longest
// Duration, negative if it is u that never comes.
func (t Time) Sub(u Time) time.Duration {
	switch {
	case t == Never && u == Never:
		return 0
	case t == Never:
		return math.MaxInt64
	case u == Never:
		return math.MinInt64
	}
	return time.Duration(t - u)
}

// Passed reports whether a deadline set to t is reached at now. Never is never reached.
func (t Time) Passed(now Time) bool { return t != Never && t <= now }

// IsSet reports whether t is a real moment, that is, not Never.
func (t Time) IsSet() bool { return t != Never }

// Min returns the earlier of t and u.
func Min(t, u Time) Time {
	if t < u {
		return t
	}
	return u
}

// String prints t as seconds since boot, or "never".
func (t Time) String() string {
	if t == Never {
		return "never"
	}
	return fmt.Sprintf("%d.%09ds", t/1e9, t%1e9)
}
