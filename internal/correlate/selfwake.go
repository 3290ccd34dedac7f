package correlate

import "github.com/whyspin/whyspin/internal/evidence"

// selfWake is the rule for T4: a stream that wakes itself without progress. The deciding fact is that it is
// due again the moment it has run, each time, while its buffers are frozen, none of its timers has passed and
// no calls are made on its descriptors.
func selfWake(in *input) []Finding {
	var found []Finding
	for _, c := range in.courses() {
		_, overdue := c.Overdue(in.After.At)
		calls, counted := in.callsOf(c).Get()
		if overdue || c.TimersUnknown || isOrphan(c.Stream) || !c.fruitless || !c.frozen ||
			!in.wakesItself(c) || !counted || calls*10 > c.wakeups || in.about(c.Stream) {
			continue
		}
		f := in.finding(T4, c.Stream)
		f.add(Fact{
			Text: "calls on its descriptors, while its buffers stayed as they were and no timer had" +
				" passed", Count: evidence.Know(calls), Source: sourceLedger, Weight: 0.6,
		})
		for _, ch := range c.channels() {
			if ch.Buffered > 0 && ch.to.known {
				f.FD = in.describe(ch.to.fd)
				f.FD.Side = ch.to.name
				f.add(heldFact(&ch))
			}
			if ch.OutPending {
				f.add(Fact{Text: "a shutdown of the " + ch.to.name + " side waits for them",
					Source: sourceState, Weight: 0.2})
			}
		}
		in.addCourse(&f, c)
		in.addWaits(&f)
		in.addSilence(&f, c.Stream)
		found = append(found, f)
	}
	return found
}

// callsOf is how many calls were made on the descriptors of a stream, by its own account or the kernel's; not
// observed when neither knows.
func (in *input) callsOf(c *course) evidence.Observed[uint64] {
	if n := c.calls(); n.IsKnown() {
		return n
	}
	if in.Window == nil || !in.Window.Hooks.Syscall.IsKnown() || lostCalls(&in.Window.Losses) > 0 {
		return evidence.Observed[uint64]{}
	}
	var n uint64
	for _, fd := range [...]int{c.ClientFD, c.ServerFD} {
		if d := in.descriptor(fd); fd >= 0 && d != nil {
			n += d.Read.Calls + d.Write.Calls
		}
	}
	return evidence.Know(n)
}
