package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/whyspin/whyspin/internal/lab"
)

func runDemo(arguments []string) int {
	set := flag.NewFlagSet("demo", flag.ContinueOnError)
	if code, ok := flags(set, "", arguments); !ok {
		return code
	}
	if set.NArg() > 0 {
		return complain("demo", fmt.Errorf("it takes no arguments, not %q", set.Args()))
	}
	program, err := os.Executable()
	if err != nil {
		return fail("demo", err)
	}
	ctx, stop := interruptible()
	defer stop()
	if err := lab.Demo(ctx, standardOutput, program); err != nil {
		if errors.Is(err, context.Canceled) {
			err = errInterrupted
		}
		return fail("demo", err)
	}
	fmt.Fprintln(standardOutput, "\nEverything was as it has to be.")
	return exitOK
}
