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

// TestALoadedMachineHidesNobody: the time that a thread waits for a CPU comes late into the scheduler's sums.
func TestALoadedMachineHidesNobody(t *testing.T) {
	const window = 2 * time.Second
	for _, c := range []struct {
		name      string
		accounted time.Duration // run, or waited for a CPU
		runnable  bool
		switches  uint64
		want      bool
	}{
		{"never asleep", 1990 * time.Millisecond, false, 9, true},
		{"it waits for a CPU, and never slept to speak of", 1850 * time.Millisecond, true, 4, true},
		{"it slept at one of the ends", 1850 * time.Millisecond, false, 4, false},
		{"it slept now and then", 1850 * time.Millisecond, true, 5, false},
		{"it slept long", 1750 * time.Millisecond, true, 1, false},
	} {
		thread := evidence.Thread{Run: evidence.Know(c.accounted), Queued: evidence.Know(time.Duration(0)),
			Runnable: c.runnable, VoluntarySwitches: evidence.Know(c.switches)}
		if got := busy(&thread, window); got != c.want {
			t.Errorf("%s: busy is %t, should be %t", c.name, got, c.want)
		}
	}
}
