package correlate

import (
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// TestWhoMeetsAtALockIsAwake: threads that share a set sleep a little in their waits, for the kernel's lock.
func TestWhoMeetsAtALockIsAwake(t *testing.T) {
	for _, c := range []struct {
		slept uint64
		want  Verdict
	}{{0, Spin}, {70, Spin}, {7_000, Healthy}} {
		e := foreign()
		delivered(e, evidence.EventOut)
		thread := &e.Window.Threads[0]
		thread.Run = evidence.Know(1790 * time.Millisecond) // of 2 s
		thread.Runnable = false
		thread.VoluntarySwitches = evidence.Know(c.slept)
		thread.Sets[0].Slept = evidence.Know(c.slept)
		if got := Correlate(e).Verdict; got != c.want {
			t.Errorf("%d sleeps in 700 000 waits: %s, want %s", c.slept, got, c.want)
		}
	}
}
