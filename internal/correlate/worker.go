package correlate

import (
	"slices"

	"github.com/whyspin/whyspin/internal/evidence"
)

// workerCourse is what a worker did between the two looks at it, by its own account.
type workerCourse struct {
	before, after *evidence.Worker
	index, tid    int
	// zero is why its waits had a timeout of zero; all of it is 0 when it does not say.
	zero evidence.ZeroTimeouts
}

// workers compares the two looks at each worker that was in both, and whose thread is known.
func (in *input) workers() []workerCourse {
	if in.Before == nil || in.After == nil {
		return nil
	}
	var found []workerCourse
	for i := range in.After.Workers {
		after := &in.After.Workers[i]
		before := workerOf(in.Before, after.Index)
		tid, ok := threadOf(in.Case, after.Index)
		if before == nil || !ok {
			continue
		}
		w := workerCourse{before: before, after: after, index: after.Index, tid: tid}
		now, known := after.ZeroTimeouts.Get()
		then, knew := before.ZeroTimeouts.Get()
		if known && knew {
			w.zero, _ = now.Sub(then) // the summary of a busy worker may be older than what it said before
		}
		found = append(found, w)
	}
	return found
}

// waits is how many waits it made; 0 when its summary is older than what it said before.
func (w *workerCourse) waits() uint64 {
	before, now := w.before.Waits.Total(), w.after.Waits.Total()
	return max(now, before) - before
}

// gated reports whether the gate says of a thread that it is awake all the time without progress.
func (in *input) gated(tid int) bool {
	return slices.ContainsFunc(in.loops, func(l loop) bool { return l.tid == tid && l.gated })
}

// concernsThread reports whether one of the findings keeps the thread awake.
func concernsThread(found []Finding, tid int) bool {
	return slices.ContainsFunc(found, func(f Finding) bool { return slices.Contains(f.threads, tid) })
}
