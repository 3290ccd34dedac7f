package correlate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// addStuck adds what the process says of the worker that has the thread: how long it has not come back to its
// loop, at which stream and in which function.
func (in *input) addStuck(f *Finding, tid int) {
	if in.After == nil {
		return
	}
	for i := range in.After.Workers {
		w := &in.After.Workers[i]
		if t, ok := threadOf(in.Case, w.Index); !ok || t != tid || w.Stuck == 0 {
			continue
		}
		f.add(Fact{
			Text:   fmt.Sprintf("worker %d has not come back to its loop for %s", w.Index, seconds(w.Stuck)),
			Source: sourceState, Weight: 0.6,
		})
		stack := callsOfStack(w.Stack)
		if len(stack) > 0 {
			f.add(Fact{Text: "it is in " + strings.Join(stack[:min(len(stack), 1+maxCallers)],
				", called by "), Source: sourceState})
		}
		if len(f.Functions) == 0 && len(stack) > 0 {
			f.Functions = []Function{{Name: stack[0], Share: 1,
				Callers: stack[1:min(len(stack), 1+maxCallers)]}}
			f.Unknown = slices.DeleteFunc(f.Unknown, func(u string) bool {
				return strings.HasPrefix(u, "the functions in which")
			})
		}
		in.addRunning(f, w)
	}
}

// addRunning names the stream that a stuck worker is at.
func (in *input) addRunning(f *Finding, w *evidence.Worker) {
	if w.Running == "" {
		f.Unknown = append(f.Unknown, "the stream to blame: the worker is at none")
		return
	}
	f.Stream = &evidence.Stream{ID: w.Running, Worker: w.Index, ClientFD: -1, ServerFD: -1}
	for _, look := range [...]*evidence.Snapshot{in.Before, in.After} {
		if look == nil {
			continue
		}
		for i := range look.Streams {
			if look.Streams[i].ID == w.Running {
				f.Stream = &look.Streams[i]
			}
		}
	}
	if f.Stream.ClientState == "" {
		f.Unknown = append(f.Unknown, "the state of stream "+w.Running+": its worker gives no account of it")
	}
}

// callsOfStack returns the functions of a stack as Go's runtime prints it, the innermost first.
func callsOfStack(text string) []string {
	var calls []string
	for i, line := range strings.Split(text, "\n") {
		if i == 0 || line == "" || line[0] == '\t' || strings.HasPrefix(line, "created by ") {
			continue // the goroutine, a place in a file, and who started it
		}
		if at := strings.LastIndexByte(line, '('); at > 0 {
			line = line[:at]
		}
		calls = append(calls, line)
	}
	return calls
}

// leastStuck is how long a worker has not come back to its loop, at least, to say so without the kernel's
// view: a machine with more to do than it can keeps one off the processor for a while.
const leastStuck = time.Second

// leastGiven is how many times a worker gives its CPU away within a window, at least, that waits for a lock.
const leastGiven = 100

// stuckWorkers is the rule for B1 and B2 when only the process itself tells: a worker that was in one and the
// same turn all through the window. Which of the two it is, tells how often it gave its CPU away, by its own
// count or its stack.
func (in *input) stuckWorkers() []Finding {
	var found []Finding
	for _, w := range in.workers() {
		if w.after.Stuck < max(leastStuck, in.After.At.Sub(in.Before.At)) || w.before.Stuck == 0 {
			continue
		}
		f := Finding{Class: B1, threads: []int{w.tid}, Remedy: in.restart(B1)}
		yielded := since(w.after.Yields, w.before.Yields)
		if yielded.Or(0) >= leastGiven || yields(callsOfStack(w.after.Stack)) ||
			yields(callsOfStack(w.before.Stack)) {
			f.Class = B2
		}
		if n, known := yielded.Get(); known {
			f.add(Fact{Text: "times that it gave its CPU away for a lock", Count: evidence.Know(n),
				Source: sourceLedger, Weight: 0.3})
		}
		f.Unknown = append(f.Unknown, "the system calls of the thread, and whether it is on a CPU")
		in.addStuck(&f, w.tid)
		found = append(found, f)
	}
	return found
}

// yields reports whether a thread gives its CPU away, or waits for a lock: one of its innermost functions is
// one for that.
func yields(calls []string) bool {
	const innermost = 4
	return slices.ContainsFunc(calls[:min(len(calls), innermost)], func(name string) bool {
		name = strings.ToLower(name)
		return strings.Contains(name, "yield") || strings.Contains(name, "gosched") ||
			strings.Contains(name, "futex") || strings.Contains(name, "lockslow")
	})
}
