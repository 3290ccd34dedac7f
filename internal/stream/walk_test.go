package stream

import (
	"maps"
	"sync"
	"testing"

	"github.com/whyspin/whyspin/internal/fault"
)

// The tests in this file prove rules 2 and 4 and the absence of orphans for every state of the pure core that
// any order of inputs, batches of inputs and timers can reach.

// leastStates is what every walk reaches at least; a shorter one is broken.
const leastStates = 200

// walks are the walks without a fault, made once.
var walks = sync.OnceValue(func() []*Walk {
	var all []*Walk
	for _, p := range WalkPolicies() {
		all = append(all, Explore(p.Policy, 0, false))
	}
	return all
})

func TestEveryReachableStateIsSound(t *testing.T) {
	for i, w := range walks() {
		name := WalkPolicies()[i].Name
		for _, b := range w.Broken {
			t.Errorf("%s: %s", name, b)
		}
		t.Logf("%s: %d states, %d wakeups tried, %d at most to reach a state, %d pairs of side states", name,
			w.States, w.Steps, w.Depth, len(w.Pairs))
		if w.States < leastStates {
			t.Errorf("%s: only %d states were reached: the walk is broken", name, w.States)
		}
	}
}

// TestAdmittedSituationsAreThoseThatCanBe: the simulator's list of what it never reached is as short as it
// can be, and nothing that can be is missing from it.
func TestAdmittedSituationsAreThoseThatCanBe(t *testing.T) {
	met := map[Situation]bool{}
	for _, w := range walks() {
		maps.Copy(met, w.Met)
	}
	for _, s := range Ungiven {
		if !met[s] {
			t.Errorf("the engine does not bring it about, and the core does not take it either: %+v", s)
		}
	}
	for _, s := range Admitted() {
		if !met[s] {
			t.Errorf("it is admitted and never met: %+v", s)
		}
		delete(met, s)
	}
	for s := range met {
		t.Errorf("it is met and not admitted: %+v", s)
	}
}

func TestTheFoundingFaultIsReachable(t *testing.T) {
	w := Explore(WalkPolicies()[0].Policy, fault.RedispatchAfterAbort, false)
	if len(w.Broken) == 0 {
		t.Fatal("no state breaks a rule though the fault is on")
	}
	t.Log(w.Broken[0])
}

// TestAKillOrderIsTotalWhateverTheFault: healing must not depend on the conditions that a fault weakens.
func TestAKillOrderIsTotalWhateverTheFault(t *testing.T) {
	for _, f := range []fault.Set{fault.RedispatchAfterAbort, fault.TimerNotDisarmed, fault.RetriesAtOnce} {
		for _, p := range WalkPolicies() {
			w := Explore(p.Policy, f, true)
			for _, b := range w.Broken {
				t.Errorf("%v: %s: %s", f, p.Name, b)
			}
			if w.States < leastStates {
				t.Errorf("%v: %s: only %d states were reached: the walk is broken", f, p.Name, w.States)
			}
		}
	}
}
