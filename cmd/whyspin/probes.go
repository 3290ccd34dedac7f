package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/probe"
)

func runProbes(arguments []string) int {
	set := flag.NewFlagSet("probes", flag.ContinueOnError)
	asJSON := set.Bool("json", false, "print the plan as one JSON object, and no cost")
	if code, ok := flags(set, "[--json]", arguments); !ok {
		return code
	}
	if set.NArg() > 0 {
		return complain("probes", fmt.Errorf("it takes no arguments, not %q", set.Args()))
	}
	began := time.Now()
	p, err := probe.Load(probe.Options{PID: os.Getpid(), Samples: true, Traffic: true})
	if err != nil {
		return fail("probes", err)
	}
	defer p.Close()
	loaded := time.Since(began)
	// What the attempt comes to is in the plan.
	_ = p.WatchResets()
	if *asJSON {
		return printPlanJSON(p.Plan())
	}
	cost, costErr := p.Cost()
	printPlan(p.Plan())
	fmt.Fprintf(standardOutput, "\nloading took %v\n", loaded.Round(time.Millisecond))
	if costErr != nil {
		fmt.Fprintf(standardOutput, "cost: not measured: %v\n", costErr)
		return exitOK
	}
	fmt.Fprintf(standardOutput, "cost of level 2 (%s) while a window is open, for each system call:\n",
		cost.Hook)
	for _, line := range []struct {
		what string
		cost time.Duration
	}{
		{"of another process", cost.Neighbour}, {"of the watched process", cost.Call},
		{"that reads or writes", cost.IO}, {"a wait that delivers an event", cost.Wait},
	} {
		fmt.Fprintf(standardOutput, "  %-30s +%d ns\n", line.what, line.cost.Nanoseconds())
	}
	return exitOK
}

// planJSON is what probes --json prints. A signal is to be had exactly when taken is not empty; a try works
// exactly when its error is empty.
type planJSON struct {
	Kernel  string       `json:"kernel"`
	Signals []signalJSON `json:"signals"`
}

type signalJSON struct {
	Name    string    `json:"name"`
	Shows   string    `json:"shows"`
	Taken   string    `json:"taken"`
	Missing string    `json:"missing"`
	Tries   []tryJSON `json:"tries"`
}

type tryJSON struct {
	Hook  string `json:"hook"`
	On    string `json:"on"`
	Loses string `json:"loses,omitempty"`
	Error string `json:"error,omitempty"`
}

func printPlanJSON(plan []probe.Signal) int {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return fail("probes", fmt.Errorf("reading the kernel's release: %w", err))
	}
	out := planJSON{Kernel: strings.TrimSpace(string(release))}
	for _, s := range plan {
		signal := signalJSON{Name: s.Name, Shows: s.Shows, Missing: s.Missing}
		if try, ok := s.Taken(); ok {
			signal.Taken = try.Hook
		}
		for _, t := range s.Tries {
			try := tryJSON{Hook: t.Hook, On: t.On, Loses: t.Loses}
			if t.Err != nil {
				try.Error = t.Err.Error()
			}
			signal.Tries = append(signal.Tries, try)
		}
		out.Signals = append(out.Signals, signal)
	}
	encoder := json.NewEncoder(standardOutput)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(out); err != nil {
		return fail("probes", fmt.Errorf("writing the plan: %w", err))
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
		fmt.Fprintf(standardOutput, "%-9s %-14s %s\n", s.Name, verdict, s.Shows)
		for _, t := range s.Tries {
			if t.Err != nil {
				fmt.Fprintf(standardOutput, "            no  %-11s %s: %v\n", t.Hook, t.On, t.Err)
				continue
			}
			fmt.Fprintf(standardOutput, "            yes %-11s %s\n", t.Hook, t.On)
		}
		if text := s.Unknown(); text != "" {
			fmt.Fprintf(standardOutput, "            %s\n", text)
		}
	}
}
