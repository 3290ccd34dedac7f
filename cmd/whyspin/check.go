package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
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
	c, err := load(names, *allowFaults)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	for _, w := range c.Warnings {
		fmt.Fprintln(os.Stderr, w)
	}
	fmt.Printf("%s: the configuration is valid\n", strings.Join(c.Files, ", "))
	return exitOK
}
