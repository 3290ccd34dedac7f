package correlate

import (
	"fmt"
	"slices"

	"github.com/whyspin/whyspin/internal/evidence"
)

// unmaskable is the rule for F4: an error or a hang-up, which is reported whatever was asked for, and nobody
// reads the error or closes. The deciding fact is the event itself, on a descriptor that stays open.
func unmaskable(r *repeat) (Fact, bool) {
	bad := r.mask & (evidence.EventErr | evidence.EventHup)
	if bad == 0 || r.Closes > 0 {
		return Fact{}, false
	}
	return Fact{
		Text:  fmt.Sprintf("closes of it, though it is reported with %v, which cannot be masked", bad),
		Count: evidence.Know(r.Closes), Source: sourceSyscalls, Weight: 0.7,
	}, true
}

// bursts is the rule for F4 on a thread that sleeps as well: until somebody closes the descriptor the loop
// turns, and then it sleeps again. The deciding fact is a long row of deliveries, each with an error or a
// hang-up, without a call on the descriptor; two or a few are in order (look-alikes L12 and L22).
func bursts(in *input) []Finding {
	if in.Window == nil || in.busyPolling() {
		return nil
	}
	var found []Finding
	for i := range in.loops {
		l := &in.loops[i]
		if l.awake || l.source != sourceSyscalls || in.explained(l.tid) {
			continue
		}
		for j := range in.Window.Descriptors {
			d := &in.Window.Descriptors[j]
			if d.EpollFD != l.epollFD || d.Row < leastRow || d.Delivered() < leastRepeats ||
				in.accused(d.FD) || !alwaysBroken(d) || moved(&d.Read)+moved(&d.Write)+d.Accepts > 0 {
				continue
			}
			r := &repeat{Descriptor: d, in: in, loop: l, delivered: d.Delivered()}
			r.socket, r.known = d.Socket.Get()
			for _, v := range d.Deliveries {
				r.mask |= v.Mask
			}
			if f := r.accuse(); f.Class == F4 {
				in.addWaits(&f)
				in.addFunctions(&f)
				found = append(found, f)
			}
		}
	}
	return found
}

// alwaysBroken reports whether every delivery of a descriptor came with an error or a hang-up.
func alwaysBroken(d *evidence.Descriptor) bool {
	const bad = evidence.EventErr | evidence.EventHup
	return !slices.ContainsFunc(d.Deliveries, func(v evidence.Delivery) bool {
		return v.Mask&bad == 0 && v.Count > 0
	})
}
