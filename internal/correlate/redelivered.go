package correlate

import (
	"fmt"

	"github.com/whyspin/whyspin/internal/evidence"
)

// redelivered is the rule for F1 to F8 when only the process itself counts: its ledger has the
// deliveries of each descriptor since the last call on it. The deciding fact is the events of the latest.
// What a closed descriptor has become only the kernel knows.
func redelivered(in *input) []Finding {
	if in.Before == nil || in.After == nil || in.busyPolling() ||
		in.Window != nil && in.Window.Hooks.Syscall.IsKnown() {
		return nil
	}
	var found []Finding
	for i := range in.After.Streams {
		s := &in.After.Streams[i]
		before := in.listedBefore(s.ID)
		if before == nil || in.about(s) {
			continue
		}
		for side, now := range [...]evidence.Observed[evidence.Side]{s.ClientSide, s.ServerSide} {
			then := [...]evidence.Observed[evidence.Side]{before.ClientSide, before.ServerSide}[side]
			fd := [...]int{s.ClientFD, s.ServerFD}[side]
			if f, ok := in.deliveredAgain(s, fd, now, then); ok {
				found = append(found, f)
			}
		}
		if f, ok := in.endAgain(s); ok {
			found = append(found, f)
		}
	}
	for _, w := range in.workers() {
		f, ok := in.staleEvents(&w)
		if !ok {
			f, ok = in.eventsElsewhere(&w)
		}
		if ok && !concernsThread(found, w.tid) && !in.explained(w.tid) {
			found = append(found, f)
		}
	}
	return append(found, in.refusing()...)
}

// deliveredAgain is for one side of a stream.
func (in *input) deliveredAgain(s *evidence.Stream, fd int, now, then evidence.Observed[evidence.Side]) (
	Finding, bool) {
	n, ok1 := now.Get()
	b, ok2 := then.Get()
	if !ok1 || !ok2 || fd < 0 || n.Row < leastRow || n.Events < b.Events+leastRepeats {
		return Finding{}, false
	}
	if n.Mask == 0 {
		return Finding{}, false
	}
	class := classOfMask(n.Mask)
	rewrites := n.Rewrites - min(n.Rewrites, b.Rewrites)
	if rewrites*2 >= n.Events-b.Events {
		class = F8
	}
	if n.EdgeTriggered && class != F8 {
		return Finding{}, false // its peer goes on sending to a stream that has no room
	}
	f := in.finding(class, s)
	f.FD = in.describe(fd)
	f.FD.Mask = evidence.Know(n.Mask.String())
	f.addTLS()
	f.add(Fact{
		Text:  fmt.Sprintf("deliveries of descriptor %d, the latest with %v", fd, n.Mask),
		Count: evidence.Know(n.Events - b.Events), Source: sourceLedger, Weight: 0.5,
	})
	f.add(Fact{
		Text:  "deliveries in a row without a call on it between them",
		Count: evidence.Know(n.Row), Source: sourceLedger, Weight: 0.5,
	})
	if class == F8 {
		f.add(Fact{
			Text:  "times that what it is watched for was written anew, each of which reports it again",
			Count: evidence.Know(rewrites), Source: sourceLedger, Weight: 0.8,
		})
	}
	if w := workerOf(in.After, s.Worker); w != nil {
		// The summary of a busy worker may be older than what it said before: then no other work is known.
		before, now := in.waitsBefore(s.Worker), w.Waits.Result(evidence.ResultEvents)
		f.Partial = (n.Events-b.Events)*repeatShare < max(now, before)-before
	}
	in.addWaits(&f)
	return f, true
}

// endAgain is for a side whose end of file is read in each wakeup (F3).
func (in *input) endAgain(s *evidence.Stream) (Finding, bool) {
	c, ok := in.courseOf(s)
	if !ok || c.wakeups < in.leastClimb() || !c.fruitless || !c.frozen {
		return Finding{}, false
	}
	now, before := workerOf(in.After, s.Worker), workerOf(in.Before, s.Worker)
	for i := range c.sides {
		side := &c.sides[i]
		if now == nil || before == nil || !side.known || side.reads*2 < c.wakeups || side.readsAgain > 0 ||
			now.Read.Zero < before.Read.Zero+side.reads {
			continue
		}
		f := in.concerns(F3, c, side)
		f.add(Fact{
			Text: fmt.Sprintf("reads of descriptor %d, while as many reads of the worker returned 0, the end"+
				" of the input", side.fd),
			Count: evidence.Know(side.reads), Source: sourceLedger, Weight: 0.7,
		})
		in.addCourse(&f, c)
		in.addWaits(&f)
		return f, true
	}
	return Finding{}, false
}

// waitsBefore is how many waits of a worker had returned events at the first look.
func (in *input) waitsBefore(worker int) uint64 {
	if w := workerOf(in.Before, worker); w != nil {
		return w.Waits.Result(evidence.ResultEvents)
	}
	return 0
}

// classOfMask is the class of a descriptor that is delivered with these events and on which nothing is done.
func classOfMask(m evidence.EventMask) Class {
	switch {
	case m&(evidence.EventErr|evidence.EventHup) != 0:
		return F4
	case m&evidence.EventRdHup != 0:
		return F3
	case m&(evidence.EventIn|evidence.EventPri) != 0:
		return F2
	}
	return F1
}

// staleEvents is for a worker that is told of descriptors that it has closed.
func (in *input) staleEvents(w *workerCourse) (Finding, bool) {
	stale, ok := since(w.after.Stale, w.before.Stale).Get()
	events := since(w.after.Events, w.before.Events).Or(0)
	if !ok || stale < leastRepeats || stale*repeatShare < events {
		return Finding{}, false
	}
	f := Finding{Class: F6, threads: []int{w.tid}, Remedy: in.restart(F6), Partial: stale*2 < events}
	f.add(Fact{
		Text: fmt.Sprintf("events that worker %d was given for descriptors that it had closed or registered"+
			" anew", w.index),
		Count: evidence.Know(stale), Source: sourceLedger, Weight: 0.8,
	})
	if len(in.After.Workers) > 1 {
		// A connection that was handed to another worker (F7) looks the same to the one that had it.
		f.Class, f.Remedy = Unknown, in.restart(Unknown)
		f.Unknown = append(f.Unknown, "whether another worker has the descriptor (F7) or a copy lives (F6)")
	}
	f.Unknown = append(f.Unknown, "which descriptor it is, and who has a copy of it")
	in.addWaits(&f)
	return f, true
}

// eventsElsewhere is for a worker that is told of connections that it has handed to another one.
func (in *input) eventsElsewhere(w *workerCourse) (Finding, bool) {
	elsewhere, ok := since(w.after.Elsewhere, w.before.Elsewhere).Get()
	events := since(w.after.Events, w.before.Events).Or(0)
	if !ok || elsewhere < leastRepeats || elsewhere*repeatShare < events {
		return Finding{}, false
	}
	f := Finding{Class: F7, threads: []int{w.tid}, Remedy: in.restart(F7), Partial: elsewhere*2 < events}
	f.add(Fact{
		Text: fmt.Sprintf("events that worker %d was given for connections that it had handed to another",
			w.index),
		Count: evidence.Know(elsewhere), Source: sourceLedger, Weight: 0.8,
	})
	f.Unknown = append(f.Unknown, "which descriptor it is")
	in.addWaits(&f)
	return f, true
}

// refusing returns the listeners that are delivered again and again and from which nothing is accepted.
func (in *input) refusing() []Finding {
	var found []Finding
	for i := range in.After.Listeners {
		l := &in.After.Listeners[i]
		before := listenerIn(in.Before, l.FD)
		if before == nil || l.Refused < before.Refused || l.Fruitless < before.Fruitless ||
			l.Armed+l.Paused != before.Armed+before.Paused || // a worker did not give its lock
			float64(l.Fruitless-before.Fruitless) < futilePerSecond*in.seconds() {
			continue
		}
		f := Finding{Class: F5, FD: in.describe(l.FD)}
		in.addListener(&f, l.FD, evidence.Observed[evidence.Socket]{})
		f.Remedy = in.acceptRemedy(&f)
		f.add(Fact{
			Text:  "deliveries of the listener after which nothing had been accepted",
			Count: evidence.Know(l.Fruitless - before.Fruitless), Source: sourceLedger, Weight: 0.8,
		})
		f.add(Fact{
			Text:  "calls of accept on the listener that failed",
			Count: evidence.Know(l.Refused - before.Refused), Source: sourceLedger,
		})
		in.addLimit(&f)
		in.addWaits(&f)
		found = append(found, f)
	}
	return found
}
