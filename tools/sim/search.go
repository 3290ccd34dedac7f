package main

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/sim"
	"github.com/whyspin/whyspin/internal/stream"
)

// outcome is what the seeds of one search have in common.
type outcome struct {
	mu      sync.Mutex
	turns   []int
	streams []int
	events  int
	// happened counts what the worlds did, seen the seeds in which they did it.
	happened, seen [sim.Hazards]int
	reached        map[[2]stream.SideState]int
	met            map[stream.Situation]int
	broken         map[uint64]sim.Violation
}

// many runs seeds on all processors and reports.
func many(from, seeds uint64, f fault.Set, dir string) int {
	began, coroutines := time.Now(), runtime.NumGoroutine()
	out := outcome{
		reached: map[[2]stream.SideState]int{}, met: map[stream.Situation]int{},
		broken: map[uint64]sim.Violation{},
	}
	var next atomic.Uint64
	var stop atomic.Bool
	var workers sync.WaitGroup
	for range runtime.NumCPU() {
		workers.Go(func() {
			for !stop.Load() {
				n := next.Add(1) - 1
				if n >= seeds {
					return
				}
				seed := from + n
				if out.add(seed, sim.Run(sim.Generate(seed, f), sim.Options{})) {
					stop.Store(true)
				}
			}
		})
	}
	workers.Wait()
	out.print(time.Since(began), f)
	if runtime.NumGoroutine() > coroutines && len(out.broken) == 0 {
		out.findLeak(from, seeds, f)
	}
	if len(out.broken) == 0 {
		if f == 0 && !walk() {
			return 1
		}
		return 0
	}
	first := ^uint64(0)
	for seed := range out.broken {
		first = min(first, seed)
	}
	return explain(first, f, out.broken[first], dir)
}

// findLeak looks for the seed of which coroutines were left. They can be counted only when seeds run one
// after the other.
func (o *outcome) findLeak(from, seeds uint64, f fault.Set) {
	for seed := from; seed < from+seeds && len(o.broken) == 0; seed++ {
		for _, v := range sim.Run(sim.Generate(seed, f), sim.Options{Alone: true}).Violations {
			o.broken[seed] = v
		}
	}
}

// walk goes through every state that the core can reach and reports whether the rules hold in each.
func walk() bool {
	states, steps, sound := 0, 0, true
	policies := stream.WalkPolicies()
	for _, p := range policies {
		w := stream.Explore(p.Policy, 0, false)
		states, steps = states+w.States, steps+w.Steps
		for _, b := range w.Broken {
			sound = false
			fmt.Printf("walk through the core, %s: %s\n", p.Name, b)
		}
	}
	if sound {
		fmt.Printf("walk through the core: %d states of streams under %d policies, all that %d wakeups "+
			"reach; rules 2 and 4 hold in each\n", states, len(policies), steps)
	}
	return sound
}

// add enters a result and reports whether a rule was broken.
func (o *outcome) add(seed uint64, r *sim.Result) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.turns = append(o.turns, r.Turns)
	o.streams = append(o.streams, r.Streams)
	o.events += r.Events
	for h, n := range r.Happened {
		o.happened[h] += n
		o.seen[h] += min(n, 1)
	}
	for pair, n := range r.Reached {
		o.reached[pair] += n
	}
	for s, n := range r.Met {
		o.met[s] += n
	}
	if len(r.Violations) == 0 {
		return false
	}
	o.broken[seed] = r.Violations[0]
	return true
}

func (o *outcome) print(took time.Duration, f fault.Set) {
	if len(o.turns) == 0 {
		fmt.Println("no seeds")
		return
	}
	total := 0
	for _, n := range o.turns {
		total += n
	}
	slices.Sort(o.turns)
	slices.Sort(o.streams)
	fmt.Printf("fault %v: %d seeds, %d turns (median %d a seed), median %d streams, "+
		"%d pairs of side states\n", f, len(o.turns), total, o.turns[len(o.turns)/2],
		o.streams[len(o.streams)/2], len(o.reached))
	fmt.Printf("%.0f turns, %.0f events and %.0f seeds a second\n", float64(total)/took.Seconds(),
		float64(o.events)/took.Seconds(), float64(len(o.turns))/took.Seconds())
	if f == 0 {
		o.printHazards()
		o.printMissed()
	}
}

// printHazards prints how often each hazard of the world has happened.
func (o *outcome) printHazards() {
	fmt.Println("what the worlds did (times, in so many seeds):")
	const columns = 3
	rows := (sim.Hazards + columns - 1) / columns
	for row := range rows {
		line := ""
		for h := row; h < sim.Hazards; h += rows {
			line += fmt.Sprintf("  %-17v %8d %6d", sim.Hazard(h), o.happened[h], o.seen[h])
		}
		fmt.Println(line)
	}
}

// printMissed prints the situations that the contract admits and no stream was in, but for those that the
// engine is known not to bring about.
func (o *outcome) printMissed() {
	admitted := stream.Admitted()
	var missed []string
	last := [2]stream.SideState{}
	n := 0
	for _, s := range admitted {
		if o.met[s] > 0 || slices.Contains(stream.Ungiven, s) {
			continue
		}
		n++
		if pair := [2]stream.SideState{s.Client, s.Server}; n == 1 || pair != last {
			last = pair
			missed = append(missed, fmt.Sprintf("  client %v, server %v: ", s.Client, s.Server))
		} else {
			missed[len(missed)-1] += ", "
		}
		missed[len(missed)-1] += s.Input
	}
	fmt.Printf("%d of %d situations (client's state, server's state, input) were never reached, besides %d "+
		"that the engine cannot bring about\n", n, len(admitted), len(stream.Ungiven))
	for _, line := range missed {
		fmt.Println(line)
	}
}
