package correlate

import (
	"fmt"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// mostCalls is how many system calls per second a thread makes at most that is in one loop of its own: more
// of them are work that somebody sees.
const mostCalls = 1000

// leastRun is how much CPU time a thread must have had: one that waited for a CPU nearly all of the time made
// no calls for want of it.
const leastRun = 50 * time.Millisecond

// insideHandler is the rule for B1: a loop inside a handler. The thread uses its CPU in the program, does not
// come back to any wait, and an epoll set has nobody who waits on it. The function is named by the samples.
func insideHandler(in *input) []Finding {
	if in.Window == nil || !in.Window.Hooks.Syscall.IsKnown() {
		return in.stuckWorkers()
	}
	if !in.deserted() {
		return nil
	}
	var found []Finding
	for i := range in.Window.Threads {
		t := &in.Window.Threads[i]
		slept, ok := t.Blocked(in.Window.Length()).Get()
		calls, counted := t.Calls.Get()
		if !ok || slept >= nearlyAwake || !counted || waitsOf(t) > 0 ||
			t.Run.Or(0) < leastRun || in.explained(t.TID) ||
			float64(calls) > mostCalls*max(1, in.Window.Length().Seconds()) || mostlySystem(t) {
			continue
		}
		f := Finding{Class: B1, threads: []int{t.TID}, Remedy: in.restart(B1)}
		f.add(Fact{
			Text:  fmt.Sprintf("waits of any kind by thread %d, which was never asleep", t.TID),
			Count: evidence.Know(uint64(0)), Source: sourceSyscalls, Weight: 0.7,
		})
		f.add(Fact{
			Text: "system calls by it", Count: evidence.Know(calls), Source: sourceSyscalls, Weight: 0.4,
		})
		f.add(Fact{Text: "nobody waits on an epoll set of the process", Source: sourceFiles, Weight: 0.4})
		in.addSleep(&f, t.TID)
		in.addFunctions(&f)
		in.addStuck(&f, t.TID)
		found = append(found, f)
	}
	return found
}

// deserted reports whether the process has an epoll set on which no thread waited in the window and none
// sleeps now. The runtime's own set of a Go program counts as waited for: it is asked now and then by
// whichever thread is free.
func (in *input) deserted() bool {
	for i := range in.Window.Threads {
		if t := &in.Window.Threads[i]; !t.WaitsOn.IsKnown() && t.Run.IsKnown() {
			return false // it may be the one that waits
		}
	}
	for i := range in.Window.Descriptors {
		d := &in.Window.Descriptors[i]
		if s, known := d.Socket.Get(); known && s.Kind == "epoll" && !in.waitedFor(d.FD) {
			return true
		}
	}
	return false
}

func (in *input) waitedFor(set int) bool {
	for i := range in.Window.Threads {
		t := &in.Window.Threads[i]
		if on, known := t.WaitsOn.Get(); known && on == set {
			return true
		}
		for j := range t.Sets {
			if t.Sets[j].FD == set && t.Sets[j].Waits.Total() > 0 {
				return true
			}
		}
	}
	return false
}

// waitsOf is the number of waits of a thread, on whatever set or by poll and select.
func waitsOf(t *evidence.Thread) uint64 {
	polls := t.Polls.Or(evidence.Waits{})
	n := polls.Total()
	for i := range t.Sets {
		n += t.Sets[i].Waits.Total()
	}
	return n
}

// mostlySystem reports whether a thread spent most of its time in the kernel.
func mostlySystem(t *evidence.Thread) bool {
	user, ok1 := t.User.Get()
	system, ok2 := t.System.Get()
	return ok1 && ok2 && system > user
}
