package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/diagnose"
	"github.com/whyspin/whyspin/internal/report"
	"github.com/whyspin/whyspin/internal/target"
)

// The exit codes of diagnose beside those that all commands share: 0 is healthy or configured.
const (
	exitSpin  = 3
	exitOther = 4 // anything else was found
)

const diagnoseUsage = "[--pid N | --socket PATH | NAME] [--for 2s] [--json]"

func runDiagnose(arguments []string) int {
	set := flag.NewFlagSet("diagnose", flag.ContinueOnError)
	pid := set.Int("pid", 0, "the `process` to diagnose")
	socket := set.String("socket", "", "the `path` or host:port of its runtime API")
	length := set.Duration("for", 2*time.Second, "how long to watch it")
	asJSON := set.Bool("json", false, "print one JSON object instead of text")
	names, code, ok := interspersed(set, diagnoseUsage, arguments)
	if !ok {
		return code
	}
	switch {
	case len(names) > 1:
		return complain("diagnose", fmt.Errorf("one name at most, not %q", names))
	case len(names) == 1 && (*pid != 0 || *socket != ""):
		return complain("diagnose", errors.New("a name and --pid or --socket exclude each other"))
	case *pid < 0:
		return complain("diagnose", fmt.Errorf("process %d: the number must be above 0", *pid))
	case *length < diagnose.MinWindow || *length > diagnose.MaxWindow:
		return complain("diagnose", fmt.Errorf("--for %v: it must be from %v to %v", *length,
			diagnose.MinWindow,
			diagnose.MaxWindow))
	}
	o := diagnose.Options{PID: *pid, Socket: *socket, For: *length}
	var err error
	switch {
	case len(names) == 1:
		o.PID, err = target.Find(names[0])
	case o.PID == 0 && o.Socket == "":
		o.PID, err = target.FindProxy()
	}
	if err != nil {
		return fail("diagnose", err)
	}
	ctx, stop := interruptible()
	defer stop()
	d, err := diagnose.Run(ctx, o)
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
