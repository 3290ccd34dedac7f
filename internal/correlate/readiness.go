package correlate

import (
	"fmt"

	"github.com/whyspin/whyspin/internal/evidence"
)

// readyFlag is the rule for T6 when the stream says what it believes. The deciding fact is a flag that says
// "ready" on a descriptor whose calls return EAGAIN, in nearly each wakeup of the stream.
func readyFlag(in *input) []Finding {
	var found []Finding
	for _, c := range in.courses() {
		for i := range c.sides {
			side := &c.sides[i]
			again, flag := side.readsAgain, side.now.Readable
			if side.writesAgain > again {
				again, flag = side.writesAgain, side.now.Writable
			}
			if !side.known || side.fd < 0 || !flag || !c.fruitless || again*2 < c.wakeups {
				continue
			}
			f := in.concerns(T6, c, side)
			f.add(Fact{
				Text:  fmt.Sprintf("calls on descriptor %d that returned EAGAIN", side.fd),
				Count: evidence.Know(again), Source: sourceLedger, Weight: 0.6,
			})
			f.add(Fact{Text: "the stream has the descriptor noted as ready", Source: sourceState,
				Weight: 0.7})
			if d := in.descriptor(side.fd); d != nil {
				f.add(Fact{
					Text:  "events delivered for it",
					Count: evidence.Know(d.Delivered()), Source: sourceSyscalls, Weight: 0.3,
				})
			}
			in.addCourse(&f, c)
			in.addWaits(&f)
			in.addFunctions(&f)
			found = append(found, f)
			break
		}
	}
	return found
}

// speculative is the rule for T6: a flag that says "ready" was not cleared after EAGAIN, so the descriptor
// is tried in each turn and the loop does not sleep, as the kernel alone sees it. The deciding fact is
// EAGAIN again and again on a descriptor that the kernel does not report.
func speculative(in *input) []Finding {
	if in.Window == nil || in.busyPolling() {
		return nil
	}
	var found []Finding
	for i := range in.loops {
		l := &in.loops[i]
		zero := l.waits[evidence.TimeoutZero][evidence.ResultNone]
		if !l.gated || l.source != sourceSyscalls || zero*2 < l.waits.Total() || in.explained(l.tid) {
			continue
		}
		for j := range in.Window.Descriptors {
			d := &in.Window.Descriptors[j]
			again := d.Read.Again + d.Write.Again
			done := moved(&d.Read) + moved(&d.Write)
			if again < leastRepeats || again*2 < zero || done*deliveriesPerProgress > again ||
				d.Delivered()*deliveriesPerProgress > again {
				continue
			}
			f := Finding{
				Class: T6, FD: in.describe(d.FD), Stream: in.streamOf(d.FD), threads: []int{l.tid},
				Remedy: in.restart(T6),
			}
			f.add(Fact{
				Text:  fmt.Sprintf("calls on descriptor %d that returned EAGAIN", d.FD),
				Count: evidence.Know(again), Source: sourceSyscalls, Weight: 0.8,
			})
			f.add(Fact{
				Text:  "events delivered for it",
				Count: evidence.Know(d.Delivered()), Source: sourceSyscalls, Weight: 0.3,
			})
			in.addWaits(&f)
			in.addFunctions(&f)
			found = append(found, f)
		}
	}
	return found
}
