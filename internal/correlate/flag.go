package correlate

import (
	"fmt"

	"github.com/whyspin/whyspin/internal/evidence"
)

// leastFlagged is how many waits with a timeout of zero while nothing was due it takes.
const leastFlagged = 100

// noSleep is the rule for T7: a condition of the whole process or of a worker forbids to sleep. The
// deciding fact is waits with a timeout of zero while nothing is due: no stream is, and no timer has
// passed. There is no stream to blame.
func noSleep(in *input) []Finding {
	var found []Finding
	for _, w := range in.workers() {
		idle := w.zero.Flag + w.zero.None
		if idle < leastFlagged || idle*2 < w.zero.Total() || in.explained(w.tid) {
			continue
		}
		f := Finding{Class: T7, threads: []int{w.tid}, Remedy: in.restart(T7), Partial: !in.gated(w.tid)}
		f.add(Fact{
			Text: fmt.Sprintf("waits of worker %d with a timeout of zero though no stream was due and no"+
				" timer had passed", w.index),
			Count: evidence.Know(idle), Source: sourceLedger, Weight: 0.8,
		})
		f.add(Fact{
			Text:  "streams due on it now",
			Count: evidence.Know(uint64(max(0, w.after.RunQueue))), Source: sourceState,
		})
		if in.After.Stopping {
			f.add(Fact{Text: "the process is in a soft stop", Source: sourceState, Weight: 0.5})
			f.Remedy = fmt.Sprintf("it is stopping, and ends with the last of its %d streams; to end it at"+
				" once, and them: kill -TERM %d", in.After.StreamCount, in.Process.PID)
		} else {
			f.Unknown = append(f.Unknown, "the condition that forbids it to sleep")
		}
		f.add(noStream("a condition of the whole process or worker"))
		in.addWaits(&f)
		in.addFunctions(&f)
		found = append(found, f)
	}
	return found
}
