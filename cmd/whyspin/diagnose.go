package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/report"
)

// The exit codes of diagnose beside those that all commands share: 0 is healthy or configured.
const (
	exitSpin  = 3
	exitOther = 4 // anything else was found
)

const diagnoseUsage = "[--json] [--anonymize] " + targetUsage + " [--for 2s] [--without probes|state]" +
	" [--record FILE]\n       whyspin diagnose [--json] [--anonymize] --replay FILE"

func runDiagnose(arguments []string) int {
	set := flag.NewFlagSet("diagnose", flag.ContinueOnError)
	a := newAim(set, 2*time.Second)
	asJSON := set.Bool("json", false, "print one JSON object instead of text")
	k := newKeeping(set)
	words, code, ok := interspersed(set, diagnoseUsage, arguments)
	if !ok {
		return code
	}
	if err := k.check(a, words); err != nil {
		return complain("diagnose", err)
	}
	c, code, ok := k.obtain(a, words)
	if !ok {
		return code
	}
	d := correlate.Correlate(c)
	// First the report: a file that cannot be written must not cost the diagnosis.
	write := report.Text
	if *asJSON {
		write = report.JSON
	}
	if err := write(os.Stdout, d); err != nil {
		return fail("diagnose", fmt.Errorf("writing the report: %w", err))
	}
	if err := k.keep(c); err != nil {
		return fail("diagnose", err)
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
