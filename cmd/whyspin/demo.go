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
	if err := lab.Demo(ctx, os.Stdout, program); err != nil {
		if errors.Is(err, context.Canceled) {
			err = errors.New("interrupted")
		}
		return fail("demo", err)
	}
	fmt.Println("\nEverything was as it has to be.")
	return exitOK
}
