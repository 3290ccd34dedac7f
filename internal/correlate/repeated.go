package correlate

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/whyspin/whyspin/internal/evidence"
)

// The F family: the kernel says that a descriptor is ready, and nothing the program does changes that. The
// wait then returns at once, whatever its timeout. Such a descriptor is delivered again and again while
// little or nothing is done on it.

const (
	// leastRow is how many deliveries with one mask and without a call between them it takes to accuse:
	// handlers that are deferred let a few pass (look-alike L22).
	leastRow = 100
	// leastRepeats is how many deliveries it takes at all.
	leastRepeats = 100
	// repeatShare is in how many of the waits that returned events the descriptor must have been, at least,
	// to be what keeps the loop awake: one in so many.
	repeatShare = 4
	// deliveriesPerProgress is how many deliveries go with one call that moved bytes on a descriptor that
	// somebody handles, at most.
	deliveriesPerProgress = 10
)

// repeat is a descriptor that is delivered again and again.
type repeat struct {
	*evidence.Descriptor
	in   *input
	loop *loop
	// socket is what the kernel's tables say of it; zero when that is not known.
	socket    evidence.Socket
	known     bool
	delivered uint64
	// mask holds the events that came with at least a tenth of the deliveries.
	mask evidence.EventMask
}

// readyRule is the rule for one class of the F family.
type readyRule struct {
	class Class
	// is decides; its fact is the deciding one.
	is func(*repeat) (Fact, bool)
	// blind is true exactly when that can be told without knowing what the descriptor is: a listener (F5) and
	// a closed one (F6) are delivered like others.
	blind bool
}

// readyRules are asked in this order: what a descriptor is decides before what was done on it.
var readyRules = []readyRule{
	{F6, orphanedRegistration, true}, {F5, acceptStall, true}, {F7, wrongRecipient, true},
	{F8, interestChurn, true}, {F4, unmaskable, false}, {F3, unlatchedEOF, true},
	{F2, unreadInterest, false}, {F1, idleWriteInterest, false},
}

// repeated is the rule for the F family.
func repeated(in *input) []Finding {
	if in.Window == nil || in.busyPolling() {
		return nil
	}
	var found []Finding
	accused := map[int]bool{}
	for i := range in.loops {
		l := &in.loops[i]
		if !l.awake || l.source != sourceSyscalls || in.explained(l.tid) {
			continue
		}
		for j := range in.Window.Descriptors {
			r, ok := in.repeat(l, &in.Window.Descriptors[j])
			if !ok {
				continue
			}
			if accused[r.FD] {
				at := slices.IndexFunc(found, func(f Finding) bool { return f.FD.Number == r.FD })
				found[at].threads = append(found[at].threads, l.tid)
				continue
			}
			accused[r.FD] = true
			found = append(found, r.accuse())
		}
	}
	for i := range found {
		in.addWaits(&found[i])
		in.addFunctions(&found[i])
	}
	return found
}

// repeat reports whether a descriptor is one that keeps the loop awake.
func (in *input) repeat(l *loop, d *evidence.Descriptor) (*repeat, bool) {
	r := &repeat{Descriptor: d, in: in, loop: l, delivered: d.Delivered()}
	if d.EpollFD != l.epollFD && !deliveredTo(d, l.tid) || r.delivered < leastRepeats {
		return nil, false
	}
	if r.delivered*repeatShare < l.waits.Result(evidence.ResultEvents) {
		return nil, false
	}
	done := moved(&d.Read) + moved(&d.Write) + d.Accepts + d.Closes
	if done*deliveriesPerProgress > r.delivered {
		return nil, false
	}
	if d.Row < leastRow && r.idle()*2 < r.delivered {
		return nil, false
	}
	r.socket, r.known = d.Socket.Get()
	for _, v := range d.Deliveries {
		if v.Count*10 >= r.delivered {
			r.mask |= v.Mask
		}
	}
	return r, true
}

// deliveredTo reports whether a descriptor that is in several epoll sets was delivered to the thread again
// and again.
func deliveredTo(d *evidence.Descriptor, tid int) bool {
	return slices.ContainsFunc(d.Deliverers, func(t evidence.Deliverer) bool {
		return t.TID == tid && t.Count >= leastRepeats
	})
}

// idle is how many calls were made on the descriptor that changed nothing.
func (r *repeat) idle() uint64 {
	return r.Read.Calls + r.Write.Calls - moved(&r.Read) - moved(&r.Write) + r.AcceptErrors + r.Controls +
		r.Connects
}

// accuse makes the finding.
func (r *repeat) accuse() Finding {
	f := Finding{FD: r.in.describe(r.FD), Partial: !r.loop.gated, threads: []int{r.loop.tid}}
	for _, rule := range readyRules {
		if fact, ok := rule.is(r); ok && (r.known || rule.blind) {
			f.Class = rule.class
			f.add(fact)
			break
		}
	}
	if f.Class != F6 { // the events are those of another file
		f.Stream = r.in.streamOf(r.FD)
	}
	if f.Class == F5 {
		r.in.addListener(&f, r.FD, r.Socket)
		r.in.addLimit(&f)
	}
	f.addTLS()
	text := fmt.Sprintf("deliveries of descriptor %d with %v", r.FD, r.mask)
	f.add(Fact{Text: text, Count: evidence.Know(r.delivered), Source: sourceSyscalls, Weight: 0.5})
	if r.Row > 0 {
		f.add(Fact{
			Text:  "deliveries in a row without a call on it between them",
			Count: evidence.Know(r.Row), Source: sourceSyscalls, Weight: rowWeight(r.Row),
		})
	}
	f.add(Fact{
		Text:  fmt.Sprintf("calls that moved bytes on descriptor %d", r.FD),
		Count: evidence.Know(moved(&r.Read) + moved(&r.Write)), Source: sourceSyscalls,
	})
	r.in.addClaim(&f)
	if !r.known {
		what := fmt.Sprintf("what descriptor %d is", r.FD)
		if f.Class == Unknown {
			what += ": without it F1 to F6 may look the same"
		}
		f.Unknown = append(f.Unknown, what)
	}
	f.Remedy = r.in.readyRemedy(&f, r)
	return f
}

func rowWeight(row uint64) float64 {
	if row >= leastRow {
		return 0.5
	}
	return 0
}

// streamOf returns the stream, among those that the process reports, that has the descriptor.
func (in *input) streamOf(fd int) *evidence.Stream {
	if in.After == nil {
		return nil
	}
	for i := range in.After.Streams {
		if s := &in.After.Streams[i]; s.ClientFD == fd || s.ServerFD == fd {
			return s
		}
	}
	return nil
}

// busiest returns the threads that a descriptor was delivered to, the one that got it most first.
func busiest(d *evidence.Descriptor) []evidence.Deliverer {
	return slices.SortedStableFunc(slices.Values(d.Deliverers), func(a, b evidence.Deliverer) int {
		return cmp.Compare(b.Count, a.Count)
	})
}
