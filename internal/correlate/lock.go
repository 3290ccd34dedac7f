package correlate

import (
	"fmt"

	"github.com/whyspin/whyspin/internal/evidence"
)

const (
	// leastYields is how many calls of sched_yield and futex per second of CPU time are a storm: on a busy
	// machine each gives a whole slice away, so in wall time there are few. leastAsked is how many it takes
	// at all.
	leastYields = 1000
	leastAsked  = 20
	// yieldShare is which part of the thread's calls they are at least: nine in ten.
	yieldShare = 0.9
)

// lockSpin is the rule for B2: a thread asks for a lock again and again. The deciding fact is that
// sched_yield and futex are nearly all of its calls.
func lockSpin(in *input) []Finding {
	if in.Window == nil || in.busyPolling() {
		return nil
	}
	var found []Finding
	for i := range in.Window.Threads {
		t := &in.Window.Threads[i]
		slept, ok := t.Blocked(in.Window.Length()).Get()
		calls, counted := t.Calls.Get()
		asked := t.Yields.Or(0) + t.Futexes.Or(0)
		if !ok || slept >= awake || !counted || in.explained(t.TID) ||
			asked < leastAsked || float64(asked) < leastYields*t.Run.Or(0).Seconds() ||
			float64(asked) < yieldShare*float64(calls+waitsOf(t)) {
			continue
		}
		f := Finding{Class: B2, threads: []int{t.TID}, Remedy: in.restart(B2)}
		f.add(Fact{
			Text:  fmt.Sprintf("calls of sched_yield and futex by thread %d", t.TID),
			Count: evidence.Know(asked), Source: sourceSyscalls, Weight: 0.8,
		})
		f.add(Fact{
			Text:  "all other calls by it",
			Count: evidence.Know(calls + waitsOf(t) - asked), Source: sourceSyscalls, Weight: 0.3,
		})
		in.addSleep(&f, t.TID)
		in.addFunctions(&f)
		in.addStuck(&f, t.TID)
		found = append(found, f)
	}
	return found
}
