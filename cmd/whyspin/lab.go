package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/whyspin/whyspin/internal/lab"
)

const labUsage = "[list | CASE]"

func runLab(arguments []string) int {
	set := flag.NewFlagSet("lab", flag.ContinueOnError)
	if code, ok := flags(set, labUsage, arguments); !ok {
		return code
	}
	switch name := set.Arg(0); {
	case set.NArg() > 1:
		return complain("lab", fmt.Errorf("one case at a time, not %q", set.Args()))
	case name == "" || name == "list":
		listCases()
		return exitOK
	}
	c, err := lab.Find(set.Arg(0))
	if err != nil {
		return complain("lab", err)
	}
	program, err := os.Executable()
	if err != nil {
		return fail("lab", err)
	}
	ctx, stop := interruptible()
	defer stop()
	if err := lab.Run(ctx, standardOutput, program, c); err != nil {
		if errors.Is(err, context.Canceled) {
			err = errInterrupted
		}
		return fail("lab", err)
	}
	fmt.Fprintln(standardOutput, "\nEverything was as it has to be.")
	return exitOK
}

func listCases() {
	for _, c := range lab.Cases() {
		needs := ""
		if c.Needs != "" {
			needs = " (needs " + c.Needs + ")"
		}
		fmt.Fprintf(standardOutput, "%-4s %-28s %s%s\n", c.Class, c.Name, c.Shows, needs)
	}
}
