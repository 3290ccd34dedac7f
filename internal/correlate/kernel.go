package correlate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// longWait is how much CPU time a wait takes at least that burns it in the kernel: one that only looks for
// events takes a thousandth of that.
const longWait = time.Millisecond

// insideKernel is the rule for B3: few waits, each of which takes long and is not sleep. The deciding fact is
// the CPU time per wait, spent in the kernel.
func insideKernel(in *input) []Finding {
	if in.Window == nil {
		return nil
	}
	var found []Finding
	for i := range in.Window.Threads {
		t := &in.Window.Threads[i]
		slept, ok := t.Blocked(in.Window.Length()).Get()
		system, known := t.System.Get()
		waits := waitsOf(t)
		if !ok || slept >= awake || !known || !mostlySystem(t) || waits == 0 || in.explained(t.TID) ||
			t.Calls.Or(0) > waits || system < time.Duration(waits)*longWait || in.busyElsewhere(t.TID) {
			continue
		}
		f := Finding{Class: B3, threads: []int{t.TID}}
		f.add(Fact{
			Text: fmt.Sprintf("waits by thread %d, which took %v of CPU time each in the kernel", t.TID,
				(system / time.Duration(waits)).Round(time.Microsecond)),
			Count: evidence.Know(waits), Source: sourceSyscalls, Weight: 0.7,
		})
		in.addSleep(&f, t.TID)
		in.addFunctions(&f)
		f.Remedy = in.kernelRemedy(&f)
		found = append(found, f)
	}
	return found
}

// busyElsewhere reports whether the samples say that a thread is busy in the kernel otherwise than in waits:
// with page faults, which are no calls. Without samples that name the kernel's functions it is not known to
// be.
func (in *input) busyElsewhere(tid int) bool {
	if in.Window.Samples == nil {
		return false
	}
	var waiting, other uint64
	for i := range in.Window.Samples.Stacks {
		s := &in.Window.Samples.Stacks[i]
		switch {
		case s.TID != tid || !slices.ContainsFunc(s.Kernel, isNamed):
		case slices.ContainsFunc(s.Kernel, isWait):
			waiting += s.Count
		default:
			other += s.Count
		}
	}
	return other > waiting
}

func isNamed(f evidence.Frame) bool { return f.Function != "" }

// isWait reports whether a function of the kernel is one that calls by which programs wait go through:
// do_epoll_wait, do_sys_poll, do_select.
func isWait(f evidence.Frame) bool {
	return strings.Contains(f.Function, "epoll") || strings.Contains(f.Function, "ep_") ||
		strings.Contains(f.Function, "sys_poll") || strings.Contains(f.Function, "sys_ppoll") ||
		strings.Contains(f.Function, "do_select") || strings.Contains(f.Function, "napi_busy_loop")
}

// kernelRemedy is what to do about a kernel that is busy in a wait.
func (in *input) kernelRemedy(f *Finding) string {
	for _, v := range f.Functions {
		// The loop of Documentation/networking/napi.rst, "Busy polling".
		if slices.ContainsFunc(append(v.Callers, v.Name), func(name string) bool {
			return strings.Contains(name, "busy_loop")
		}) {
			return "the wait polls a network device busily, which somebody asked for: the machine (sysctl" +
				" net.core.busy_poll; 0 ends it) or the program, for its epoll set (EPIOCSPARAMS)"
		}
	}
	return fmt.Sprintf("it is the kernel's work: look for its functions with perf top --pid %d, and for a"+
		" newer kernel", in.Process.PID)
}
