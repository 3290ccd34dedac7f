package main

import (
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/whyspin/whyspin/internal/diagnose"
	"github.com/whyspin/whyspin/internal/target"
)

// targetUsage is how the subcommands that look at a process name it.
const targetUsage = "[--pid N | --socket PATH | NAME]"

// aim are the flags by which a subcommand finds a process, and how long it watches it.
type aim struct {
	set    *flag.FlagSet
	pid    *int
	socket *string
	length *time.Duration
}

// newAim adds the flags to those of a subcommand.
func newAim(set *flag.FlagSet, length time.Duration) *aim {
	return &aim{
		set:    set,
		pid:    set.Int("pid", 0, "the `process` to "+set.Name()),
		socket: set.String("socket", "", "the `path` or host:port of its runtime API"),
		length: set.Duration("for", length, "how long to watch it"),
	}
}

// parse parses the flags of the subcommand and finds the process. When it returns false, the subcommand ends
// with the code.
func (a *aim) parse(usage string, arguments []string) (o diagnose.Options, code int, ok bool) {
	names, code, ok := interspersed(a.set, usage, arguments)
	if !ok {
		return o, code, false
	}
	return a.find(names)
}

// find finds the process when the flags are parsed; names are the other words.
func (a *aim) find(names []string) (o diagnose.Options, code int, ok bool) {
	err := a.check(names)
	if err != nil {
		return o, complain(a.set.Name(), err), false
	}
	o = diagnose.Options{PID: *a.pid, For: *a.length}
	if a.given("socket") {
		if o.Socket, err = target.ParseAddress(*a.socket); err != nil {
			return o, complain(a.set.Name(), err), false
		}
	}
	switch {
	case len(names) == 1:
		o.PID, err = target.Find(names[0])
	case o.PID == 0 && o.Socket == "":
		o.PID, err = target.FindProxy()
	}
	if err != nil {
		return o, fail(a.set.Name(), err), false
	}
	return o, exitOK, true
}

// check finds mistakes in the usage.
func (a *aim) check(names []string) error {
	switch {
	case len(names) > 1:
		return fmt.Errorf("one name at most, not %q", names)
	case len(names) == 1 && (a.given("pid") || a.given("socket")):
		return errors.New("a name and --pid or --socket exclude each other")
	case a.given("pid") && *a.pid <= 0:
		return fmt.Errorf("process %d: the number must be above 0", *a.pid)
	case *a.length < diagnose.MinWindow || *a.length > diagnose.MaxWindow:
		return fmt.Errorf("--for %v: it must be from %v to %v", *a.length, diagnose.MinWindow,
			diagnose.MaxWindow)
	}
	return nil
}

// given reports whether a flag is on the command line. An empty value, of a variable that is not set, is no
// reason to look at some other process.
func (a *aim) given(name string) bool {
	found := false
	a.set.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}
