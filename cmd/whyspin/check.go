package main

import (
	"errors"
	"flag"
	"fmt"
	"strings"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/process"
)

const checkUsage = "-f FILE..."

func runCheck(arguments []string) int {
	set := flag.NewFlagSet("check", flag.ContinueOnError)
	var names files
	set.Var(&names, "f", "a configuration `file`, or a directory of .cfg files; may be given several times")
	allowFaults := set.Bool("allow-faults", false, "accept whyspin.fault")
	words, code, ok := interspersed(set, checkUsage, arguments)
	if !ok {
		return code
	}
	names = append(names, words...)
	if len(names) == 0 {
		return complain("check", errors.New("no configuration file was named"))
	}
	say := messages{}
	c, _, err := check(say, names, *allowFaults, process.Options{})
	if err != nil {
		say.alert(err)
		return exitFailed
	}
	fmt.Fprintf(standardOutput, "%s: the configuration is valid\n", strings.Join(c.Files, ", "))
	return exitOK
}

// check reads a configuration, looks for what a start would fail on, and prints and counts the warnings.
func check(say messages, names []string, allowFaults bool, o process.Options) (
	c *config.Config, warnings int, err error,
) {
	if c, err = load(names, allowFaults); err != nil {
		return nil, 0, err
	}
	warnings = say.warnAll(c.Warnings)
	more, err := process.Check(c, o)
	for _, text := range more {
		say.warn("warning: " + text)
	}
	return c, warnings + len(more), err
}
