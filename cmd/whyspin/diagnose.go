package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/diagnose"
	"github.com/whyspin/whyspin/internal/report"
)

// The exit codes of diagnose beside those that all commands share: 0 is healthy or configured.
const (
	exitSpin  = 3
	exitOther = 4 // anything else was found
)

const diagnoseUsage = targetUsage + " [--for 2s] [--json] [--without probes|state]"

func runDiagnose(arguments []string) int {
	set := flag.NewFlagSet("diagnose", flag.ContinueOnError)
	a := newAim(set, 2*time.Second)
	asJSON := set.Bool("json", false, "print one JSON object instead of text")
	var without diagnose.Witness
	set.Func("without", "leave out one `witness`: the probes, or the state of its streams",
		func(text string) error {
			without = diagnose.Witness(text)
			if without != diagnose.Probes && without != diagnose.State {
				return fmt.Errorf("it must be %s or %s", diagnose.Probes, diagnose.State)
			}
			return nil
		})
	o, code, ok := a.parse(diagnoseUsage, arguments)
	if !ok {
		return code
	}
	o.Without = without
	ctx, stop := interruptible()
	defer stop()
	d, err := diagnose.Run(ctx, o)
	if errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	if err != nil {
		return fail("diagnose", err)
	}
	write := report.Text
	if *asJSON {
		write = report.JSON
	}
	if err := write(os.Stdout, d); err != nil {
		return fail("diagnose", fmt.Errorf("writing the report: %w", err))
	}
	return verdictCode(d.Verdict)
}

func verdictCode(v correlate.Verdict) int {
	switch v {
	case correlate.Healthy, correlate.Configured:
		return exitOK
	case correlate.Spin:
		return exitSpin
	case correlate.NotObserved:
		return exitFailed
	}
	return exitOther
}

// interspersed parses flags that may stand before and after other words, and returns those words.
func interspersed(set *flag.FlagSet, usage string, arguments []string) (words []string, code int, ok bool) {
	for {
		if code, ok := flags(set, usage, arguments); !ok {
			return nil, code, false
		}
		if set.NArg() == 0 {
			return words, 0, true
		}
		words = append(words, set.Arg(0))
		arguments = set.Args()[1:]
	}
}
