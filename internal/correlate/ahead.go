package correlate

import (
	"fmt"

	"github.com/whyspin/whyspin/internal/evidence"
)

// leastAhead is how many waits with a timeout of zero before a deadline that lies ahead it takes. A program
// that rounds up makes none at all.
const leastAhead = 100

// aheadOfTime is the rule for T2: a deadline that is miscomputed or truncated. The deciding fact is a
// deadline in the future while the program acts as if it had passed: a stream that is woken by a timer
// again and again though none of its timers has passed, or a worker that does not sleep before a deadline
// that lies ahead. The latter may be bursts, of less than a millisecond each, that end when the timer does
// pass: resolution, which no stream is to blame for.
func aheadOfTime(in *input) []Finding {
	var found []Finding
	for _, c := range in.courses() {
		next := c.Next()
		if _, overdue := c.Overdue(in.After.At); overdue || !c.fruitless || !c.byTimer() || c.TimersUnknown ||
			!next.Deadline.IsSet() {
			continue
		}
		f := in.finding(T2, c.Stream)
		f.add(Fact{
			Text: fmt.Sprintf("the %s timer, the nearest, passes in %s, and the stream is woken by a timer",
				next.Name, seconds(next.Deadline.Sub(in.After.At))),
			Source: sourceState, Weight: 0.8,
		})
		f.Timer = &Timer{Name: next.Name, Ahead: evidence.Know(next.Deadline.Sub(in.After.At))}
		in.addCourse(&f, c)
		in.addWaits(&f)
		in.addSilence(&f, c.Stream)
		found = append(found, f)
	}
	for _, w := range in.workers() {
		if w.zero.Ahead < leastAhead || concernsThread(found, w.tid) {
			continue
		}
		f := Finding{Class: T2, threads: []int{w.tid}, Remedy: in.restart(T2),
			Partial: !in.gated(w.tid) || w.zero.Ahead*2 < max(w.zero.Total(), w.waits())}
		f.add(Fact{
			Text: fmt.Sprintf("waits of worker %d with a timeout of zero though the nearest deadline lay"+
				" ahead and nothing was due", w.index),
			Count: evidence.Know(w.zero.Ahead), Source: sourceLedger, Weight: 0.9,
		})
		f.add(noStream("the worker's reckoning of its timeout"))
		in.addWaits(&f)
		found = append(found, f)
	}
	return found
}

// noStream says that no stream is to blame.
func noStream(what string) Fact {
	return Fact{Text: "no stream is to blame: it is " + what, Source: sourceState}
}
