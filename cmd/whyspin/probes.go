package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/whyspin/whyspin/internal/probe"
)

func runProbes(arguments []string) int {
	set := flag.NewFlagSet("probes", flag.ContinueOnError)
	if code, ok := flags(set, "", arguments); !ok {
		return code
	}
	if set.NArg() > 0 {
		return complain("probes", fmt.Errorf("it takes no arguments, not %q", set.Args()))
	}
	began := time.Now()
	p, err := probe.Load(probe.Options{PID: os.Getpid()})
	if err != nil {
		return fail("probes", err)
	}
	defer p.Close()
	loaded := time.Since(began)
	// What the attempt comes to is in the plan.
	_ = p.WatchResets()
	cost, costErr := p.Cost()
	printPlan(p.Plan())
	fmt.Printf("\nloading took %v\n", loaded.Round(time.Millisecond))
	if costErr != nil {
		fmt.Printf("cost: not measured: %v\n", costErr)
		return exitOK
	}
	fmt.Printf("cost of level 2 (%s) while a window is open, for each system call:\n", cost.Hook)
	for _, line := range []struct {
		what string
		cost time.Duration
	}{
		{"of another process", cost.Neighbour}, {"of the watched process", cost.Call},
		{"that reads or writes", cost.IO}, {"a wait that delivers an event", cost.Wait},
	} {
		fmt.Printf("  %-30s +%d ns\n", line.what, line.cost.Nanoseconds())
	}
	return exitOK
}

// printPlan prints the attach plan as found on this machine.
func printPlan(plan []probe.Signal) {
	for _, s := range plan {
		verdict := "NOT OBSERVED"
		if try, ok := s.Taken(); ok {
			verdict = "by " + try.Hook
		}
		fmt.Printf("%-9s %-14s %s\n", s.Name, verdict, s.Shows)
		for _, t := range s.Tries {
			if t.Err != nil {
				fmt.Printf("            no  %-11s %s: %v\n", t.Hook, t.On, t.Err)
				continue
			}
			fmt.Printf("            yes %-11s %s\n", t.Hook, t.On)
		}
		if text := s.Unknown(); text != "" {
			fmt.Printf("            %s\n", text)
		}
	}
}
