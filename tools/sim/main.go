// Command sim runs the production engine in many seeded worlds and looks for a broken rule.
//
//	sim -seeds 20000 [-fault NAME] [-seed N] [-dir DIR]
//	sim -scenario FILE
//
// It exits with 1 when a rule was broken, after printing the seed and the shortest scenario found that
// breaks the same rule, which it leaves in a file of DIR (bin) to be run again with -scenario; with 0 when
// none was; with 2 on bad usage.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/sim"
)

// garbage is how much the heap may grow between two collections, in percent: a simulation holds little and
// throws away much.
const garbage = 800

func main() {
	debug.SetGCPercent(garbage)
	seeds := flag.Uint64("seeds", 2000, "how many seeds to run")
	first := flag.Uint64("first", 0, "the first of them")
	seed := flag.Int64("seed", -1, "run only this seed and print what happens")
	name := flag.String("fault", "", "switch this engine fault on")
	file := flag.String("scenario", "", "run the scenario in this file and print what happens")
	dir := flag.String("dir", "bin", "where to leave the scenario of a failure")
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
	switch {
	case *file != "":
		os.Exit(replay(*file))
	case *seed >= 0:
		os.Exit(one(uint64(*seed), f, *dir))
	}
	os.Exit(many(*first, *seeds, f, *dir))
}

// replay runs the scenario in a file and prints its transcript.
func replay(file string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sim:", err)
		return 2
	}
	s, err := sim.Parse(string(text))
	if err != nil {
		fmt.Fprintf(os.Stderr, "sim: %s: %v\n", file, err)
		return 2
	}
	r := play(s)
	if len(r.Violations) > 0 {
		fmt.Printf("%s breaks a rule: %v\n", file, r.Violations[0])
		return 1
	}
	fmt.Printf("%s: %d streams ended in %d turns, no rule was broken\n", file, r.Streams, r.Turns)
	return 0
}

// play runs a scenario and prints its transcript.
func play(s *sim.Scenario) *sim.Result {
	r := sim.Run(s, sim.Options{Transcript: true, Alone: true})
	for _, line := range r.Transcript {
		fmt.Println(line)
	}
	return r
}

// one runs a single seed and prints its transcript.
func one(seed uint64, f fault.Set, dir string) int {
	s := sim.Generate(seed, f)
	fmt.Print(s)
	r := play(s)
	if len(r.Violations) > 0 {
		return explain(seed, f, r.Violations[0], dir)
	}
	fmt.Printf("seed %d: %d streams ended in %d turns, no rule was broken\n", seed, r.Streams, r.Turns)
	return 0
}

// explain prints a broken rule and the shortest scenario found that breaks it, and leaves that in a file.
func explain(seed uint64, f fault.Set, v sim.Violation, dir string) int {
	fmt.Printf("\nseed %d breaks a rule: %v\n", seed, v)
	short, again := sim.Shrink(sim.Generate(seed, f), v.Rule)
	fmt.Printf("\nthe shortest scenario found that does, %v:\n\n%s\n", again, short)
	play(short)
	command := fmt.Sprintf("make sim SEED=%d", seed)
	if f != 0 {
		command += fmt.Sprintf(" FAULT=%v", f)
	}
	file, err := keep(seed, f, short, again, dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "sim: keeping the scenario:", err)
		return 2
	}
	fmt.Printf("\nto see it once more: make sim SCENARIO=%s\nto see all of the seed: %s\n", file, command)
	return 1
}

// keep writes a scenario that breaks a rule to a file in dir and returns its name.
func keep(seed uint64, f fault.Set, s *sim.Scenario, v sim.Violation, dir string) (file string, err error) {
	if err = os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	name := fmt.Sprintf("sim-%d.txt", seed)
	if f != 0 {
		name = fmt.Sprintf("sim-%v-%d.txt", f, seed)
	}
	file = filepath.Join(dir, name)
	text := fmt.Sprintf("# Of seed %d; breaks a rule: %v\n%s", seed, v, s)
	return file, os.WriteFile(file, []byte(text), 0o644)
}
