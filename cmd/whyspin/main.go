// Command whyspin is a TCP proxy that can always say why it is awake, and the tool that finds out why
// another process is.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

// command is one subcommand.
type command struct {
	name    string
	usage   string // what follows the name
	summary string
	run     func(arguments []string) int
}

// Exit codes that all subcommands share.
const (
	exitOK     = 0
	exitFailed = 1 // could not run, or the answer is no
	exitUsage  = 2
)

func commands() []command {
	return []command{
		{"run", "-f FILE...", "the proxy in the foreground", runProxy},
		{"check", "-f FILE...", "check a configuration: all errors at once", runCheck},
		{"diagnose", "[TARGET | --replay FILE] [--json]",
			"say whether a process spins, why, and who is to blame", runDiagnose},
		{"profile", "[TARGET] [--for 10s] [-o FILE]",
			"a pprof file: where CPU time goes, and wakeups without progress", runProfile},
		{"probes", "", "what can be attached here, at what cost, and what stays unknown", runProbes},
		{"lab", labUsage, "bring back a class of bug, or what only looks like one, and judge the verdict",
			runLab},
		{"demo", "", "the founding case from end to end", runDemo},
		{"version", "", "print the version", runVersion},
	}
}

func init() {
	// The main thread stays with this goroutine, so that no worker runs on it: a worker names its thread,
	// and the name of the main thread is that of the process.
	runtime.LockOSThread()
}

func main() {
	os.Exit(standardOutput.complete(dispatch(os.Args[1:])))
}

func dispatch(arguments []string) int {
	if len(arguments) == 0 {
		help(os.Stderr)
		return exitUsage
	}
	name := arguments[0]
	for _, c := range commands() {
		if c.name == name {
			return c.run(arguments[1:])
		}
	}
	switch {
	case name == "help" || name == "-h" || name == "--help":
		help(standardOutput)
		return exitOK
	case strings.HasPrefix(name, "-"):
		return runCompatible(arguments)
	}
	fmt.Fprintf(os.Stderr, "whyspin: no command %q; \"whyspin help\" lists them\n", name)
	return exitUsage
}

func help(w io.Writer) {
	fmt.Fprint(w, "whyspin is a TCP proxy that can always say why it is awake.\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  whyspin %-39s %s\n", c.name+" "+c.usage, c.summary)
	}
	fmt.Fprint(w, `
TARGET is --pid N, --socket PATH (of a runtime API), or the name of a process; without one, the only
running whyspin.
Without a command the flags of the haproxy program are taken: -f -c -d -db -dr -dS -dW -C -D -n -N -p -q -V
-v -vv; flags that tune what only HAProxy has (-dM, -m, ...) are accepted and have no effect.
`)
}

// interruptible returns a context that ends on SIGINT and SIGTERM.
func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// flags parses the flags of a subcommand. When it returns false, the subcommand ends with the code.
func flags(set *flag.FlagSet, usage string, arguments []string) (code int, ok bool) {
	set.SetOutput(io.Discard)
	err := set.Parse(arguments)
	switch {
	case err == nil:
		return 0, true
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(standardOutput, "usage: whyspin %s %s\n", set.Name(), usage)
		set.SetOutput(standardOutput)
		set.PrintDefaults()
		return exitOK, false
	}
	return complain(set.Name(), err), false
}

// complain prints a mistake in the usage.
func complain(name string, err error) int {
	fmt.Fprintf(os.Stderr, "whyspin %s: %v; see \"whyspin %s -h\"\n", name, err, name)
	return exitUsage
}

// fail prints why a subcommand could not do its work.
func fail(name string, err error) int {
	fmt.Fprintf(os.Stderr, "whyspin %s: %v\n", name, err)
	return exitFailed
}

// files collects the values of a flag that may be given several times.
type files []string

func (f *files) String() string { return strings.Join(*f, ",") }

func (f *files) Set(value string) error {
	*f = append(*f, value)
	return nil
}
