// Command sim runs the production engine in many seeded worlds and looks for a broken rule.
//
//	sim -seeds 20000 [-fault NAME] [-seed N]
//
// It exits with 1 when a rule was broken, after printing the seed and the shortest scenario found that
// breaks the same rule; with 0 when none was; with 2 on bad usage.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/sim"
	"github.com/whyspin/whyspin/internal/stream"
)

func main() {
	seeds := flag.Uint64("seeds", 2000, "how many seeds to run")
	seed := flag.Int64("seed", -1, "run only this seed and print what happens")
	name := flag.String("fault", "", "switch this engine fault on")
	flag.Parse()
	var f fault.Set
	if *name != "" {
		var err error
		if f, err = fault.Parse(*name); err != nil {
			fmt.Fprintln(os.Stderr, "sim:", err)
			os.Exit(2)
		}
	}
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "sim: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	if *seed >= 0 {
		os.Exit(one(uint64(*seed), f))
	}
	os.Exit(many(*seeds, f))
}

// one runs a single seed and prints its transcript.
func one(seed uint64, f fault.Set) int {
	s := sim.Generate(seed, f)
	r := sim.Run(s, sim.Options{Transcript: true})
	fmt.Print(s)
	for _, line := range r.Transcript {
		fmt.Println(line)
	}
	if len(r.Violations) > 0 {
		explain(seed, f, r.Violations[0])
		return 1
	}
	fmt.Printf("seed %d: %d streams ended in %d turns, no rule was broken\n", seed, r.Streams, r.Turns)
	return 0
}

// outcome is what the seeds of one search have in common.
type outcome struct {
	mu      sync.Mutex
	turns   []int
	streams []int
	reached map[[2]stream.SideState]int
	met     map[stream.Situation]int
	broken  map[uint64]sim.Violation
}

// many runs seeds on all processors and reports.
func many(seeds uint64, f fault.Set) int {
	began := time.Now()
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
				seed := next.Add(1) - 1
				if seed >= seeds {
					return
				}
				if out.add(seed, sim.Run(sim.Generate(seed, f), sim.Options{})) {
					stop.Store(true)
				}
			}
		})
	}
	workers.Wait()
	out.print(time.Since(began), f)
	if len(out.broken) == 0 {
		return 0
	}
	first := ^uint64(0)
	for seed := range out.broken {
		first = min(first, seed)
	}
	explain(first, f, out.broken[first])
	return 1
}

// add enters a result and reports whether a rule was broken.
func (o *outcome) add(seed uint64, r *sim.Result) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.turns = append(o.turns, r.Turns)
	o.streams = append(o.streams, r.Streams)
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
	fmt.Printf("fault %v: %d seeds, %d turns (median %d a seed, %.0f a second), median %d streams, "+
		"%d pairs of side states\n",
		f, len(o.turns), total, o.turns[len(o.turns)/2], float64(total)/took.Seconds(),
		o.streams[len(o.streams)/2], len(o.reached))
	if f == 0 {
		o.printMissed()
	}
}

// printMissed prints the situations that the contract admits and no stream was in.
func (o *outcome) printMissed() {
	admitted := stream.Admitted()
	var missed []string
	last := [2]stream.SideState{}
	n := 0
	for _, s := range admitted {
		if o.met[s] > 0 {
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
	fmt.Printf("%d of %d situations (client's state, server's state, input) were never reached\n", n,
		len(admitted))
	for _, line := range missed {
		fmt.Println(line)
	}
}

// explain prints a broken rule and the shortest scenario found that breaks it.
func explain(seed uint64, f fault.Set, v sim.Violation) {
	fmt.Printf("\nseed %d breaks a rule: %v\n", seed, v)
	short, again := sim.Shrink(sim.Generate(seed, f), v.Rule)
	fmt.Printf("\nthe shortest scenario found that does, %v:\n\n%s\n", again, short)
	for _, line := range sim.Run(short, sim.Options{Transcript: true}).Transcript {
		fmt.Println(line)
	}
	command := fmt.Sprintf("make sim SEED=%d", seed)
	if f != 0 {
		command += fmt.Sprintf(" FAULT=%v", f)
	}
	fmt.Printf("\nto see all of it: %s\n", command)
}
