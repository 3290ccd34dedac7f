package correlate

import (
	"fmt"
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
			t.Calls.Or(0) > waits || system < time.Duration(waits)*longWait {
			continue
		}
		f := Finding{Class: B3, threads: []int{t.TID}, Remedy: in.restart(B3)}
		f.add(Fact{
			Text: fmt.Sprintf("waits by thread %d, which took %v of CPU time each in the kernel", t.TID,
				(system / time.Duration(waits)).Round(time.Microsecond)),
			Count: evidence.Know(waits), Source: sourceSyscalls, Weight: 0.7,
		})
		in.addSleep(&f, t.TID)
		in.addFunctions(&f)
		found = append(found, f)
	}
	return found
}
