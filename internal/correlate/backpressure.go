package correlate

import "github.com/whyspin/whyspin/internal/evidence"

const (
	// wakeupsPerWrite is how many wakeups go with one write that is taken, at least, when a producer is woken
	// for a buffer that is full: hundreds on real ones. One that is handled is woken when there is room.
	wakeupsPerWrite = 50
)

// backPressure is the rule for T5: a producer is woken again and again though the buffer that it would fill
// is full. The deciding fact is a buffer without room, towards a side that takes nothing, while the other
// side is noted as readable. It ends when the peer reads; as long as it reads slowly the stream makes some
// progress.
func backPressure(in *input) []Finding {
	var found []Finding
	for _, c := range in.courses() {
		if isOrphan(c.Stream) || in.about(c.Stream) || !in.wakesItself(c) {
			continue
		}
		for _, ch := range c.channels() {
			if !ch.Full.Or(false) || ch.Buffered == 0 || ch.InShut || !ch.from.known || !ch.to.known ||
				!ch.from.now.Readable || ch.to.now.Writable {
				continue
			}
			taken := ch.to.writes - min(ch.to.writes, ch.to.writesAgain)
			if c.wakeups < taken*wakeupsPerWrite {
				continue
			}
			f := in.concerns(T5, c, ch.to)
			f.Partial = !c.frozen && !in.anyGated(f.threads)
			f.add(heldFact(&ch))
			f.add(Fact{
				Text:   "the buffer is full, and the " + ch.from.name + " side is noted as readable",
				Source: sourceState, Weight: 0.7,
			})
			f.add(Fact{
				Text:  "writes to the " + ch.to.name + " that it took",
				Count: evidence.Know(taken), Source: sourceLedger,
			})
			in.addCourse(&f, c)
			in.addWaits(&f)
			found = append(found, f)
			break
		}
	}
	return found
}

// anyGated reports whether the gate holds for one of the threads; without any it is not known to.
func (in *input) anyGated(tids []int) bool {
	for _, tid := range tids {
		if in.gated(tid) {
			return true
		}
	}
	return false
}
