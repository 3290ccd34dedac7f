package correlate

import (
	"fmt"

	"github.com/whyspin/whyspin/internal/evidence"
)

// futilePerSecond is how many calls per second that change nothing, on one descriptor, are made by nobody who
// waits for anything.
const futilePerSecond = 1000

// futile is the rule for programs that do not even ask the kernel between two attempts: a runtime that hides
// the waits lets a handler try the same call again at once. Which class it is, the failure tells: an end of
// input (F3), an accept (F5), EAGAIN (T6). The deciding fact is the number of such calls on one descriptor,
// with next to no event delivered for it and next to nothing moved.
func futile(in *input) []Finding {
	if in.Window == nil || in.busyPolling() {
		return nil
	}
	threads, awake := in.awakeThreads()
	if !awake {
		return nil
	}
	var found []Finding
	for i := range in.Window.Descriptors {
		d := &in.Window.Descriptors[i]
		class, text, calls := futileCalls(d)
		done := moved(&d.Read) + moved(&d.Write) + d.Accepts + d.Closes
		least := max(leastRepeats, futilePerSecond*in.Window.Length().Seconds())
		if float64(calls) < least || in.accused(d.FD) ||
			max(done, d.Delivered())*deliveriesPerProgress > calls {
			continue
		}
		f := Finding{
			Class: class, FD: in.describe(d.FD), Stream: in.streamOf(d.FD), threads: threads,
			Remedy: in.restart(class),
		}
		f.add(Fact{
			Text:  fmt.Sprintf("%s on descriptor %d", text, d.FD),
			Count: evidence.Know(calls), Source: sourceSyscalls, Weight: 0.8,
		})
		f.add(Fact{
			Text:  "events delivered for it",
			Count: evidence.Know(d.Delivered()), Source: sourceSyscalls, Weight: 0.3,
		})
		if class == F5 {
			in.addListener(&f, d.FD, d.Socket)
			f.Remedy = in.acceptRemedy(&f)
		}
		in.addFunctions(&f)
		found = append(found, f)
	}
	return found
}

// futileCalls returns the calls on a descriptor that changed nothing, of the commonest kind.
func futileCalls(d *evidence.Descriptor) (class Class, text string, calls uint64) {
	class, text, calls = T6, "calls that returned EAGAIN", d.Read.Again+d.Write.Again
	if d.Read.Zero > calls {
		class, text, calls = F3, "reads that returned 0, the end of the input,", d.Read.Zero
	}
	if d.AcceptErrors > calls {
		class, text, calls = F5, "calls of accept that failed", d.AcceptErrors
	}
	return class, text, calls
}

// accused reports whether a finding is about the descriptor already.
func (in *input) accused(fd int) bool {
	for i := range in.found {
		if f := &in.found[i]; f.FD != nil && f.FD.Number == fd {
			return true
		}
	}
	return false
}

// awakeThreads returns the threads that slept next to nothing, and whether the process was awake all the
// time: by one of them, or by several that took turns, as a runtime has them.
func (in *input) awakeThreads() (tids []int, always bool) {
	var used float64
	for i := range in.Window.Threads {
		t := &in.Window.Threads[i]
		slept, ok := t.Blocked(in.Window.Length()).Get()
		if !ok {
			continue
		}
		used += 1 - slept
		if slept < awake {
			tids = append(tids, t.TID)
		}
	}
	for i := range in.loops {
		if in.loops[i].awake {
			return tids, true
		}
	}
	return tids, len(tids) > 0 || used > 1-awake
}
