package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/diagnose"
	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/recording"
)

// keeping are the flags of diagnose about what it goes by: recordings, and one witness alone.
type keeping struct {
	set       *flag.FlagSet
	without   diagnose.Witness
	record    *string
	replay    *string
	anonymize *bool
}

func newKeeping(set *flag.FlagSet) *keeping {
	k := &keeping{
		set:    set,
		record: set.String("record", "", "keep what the diagnosis goes by in a `file`"),
		replay: set.String("replay", "", "make the diagnosis of what a `file` keeps"),
		anonymize: set.Bool("anonymize", false,
			"replace addresses, paths and names, in the report and in the file of --record"),
	}
	set.Func("without", "leave out one `witness`: the probes, or the state of its streams",
		func(text string) error {
			k.without = diagnose.Witness(text)
			if k.without != diagnose.Probes && k.without != diagnose.State {
				return fmt.Errorf("it must be %s or %s", diagnose.Probes, diagnose.State)
			}
			return nil
		})
	return k
}

// check finds mistakes in the usage.
func (k *keeping) check(a *aim, names []string) error {
	switch {
	case a.given("record") && *k.record == "", a.given("replay") && *k.replay == "":
		return errors.New("--record and --replay take the name of a file")
	case *k.replay == "":
		return nil
	case *k.record != "":
		return errors.New("--record and --replay exclude each other")
	case len(names) > 0 || a.given("pid") || a.given("socket"):
		return errors.New("--replay takes no process: the file is about one")
	case a.given("without"):
		return errors.New("--replay takes no --without: the file holds what was seen")
	case a.given("for"):
		return errors.New("--replay takes no --for: the file was made over a time of its own")
	}
	return nil
}

// obtain returns what the diagnosis goes by: from a file, or from the process. When it returns false, the
// subcommand ends with the code.
func (k *keeping) obtain(a *aim, names []string) (c *evidence.Case, code int, ok bool) {
	if *k.replay != "" {
		r, err := readRecording(*k.replay)
		if err != nil {
			return nil, fail("diagnose", err), false
		}
		return k.disguise(r.Case), exitOK, true
	}
	o, code, ok := a.find(names)
	if !ok {
		return nil, code, false
	}
	o.Without = k.without
	ctx, stop := interruptible()
	defer stop()
	c, err := diagnose.Collect(ctx, o)
	if errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	if err != nil {
		return nil, fail("diagnose", err), false
	}
	return k.disguise(c), exitOK, true
}

// keep writes the recording, if one was asked for.
func (k *keeping) keep(c *evidence.Case) error {
	if *k.record == "" {
		return nil
	}
	r := &recording.Recording{
		MadeBy: version, Kernel: kernelRelease(), At: time.Now().UTC().Truncate(time.Second),
		Anonymized: *k.anonymize, Case: c,
	}
	if *k.anonymize {
		// What follows the number tells who built it.
		r.Kernel, _, _ = strings.Cut(r.Kernel, "-")
	}
	return writeWhole(*k.record, func(w io.Writer) error { return recording.Write(w, r) })
}

// disguise replaces what tells whose process it is, if that was asked for.
func (k *keeping) disguise(c *evidence.Case) *evidence.Case {
	if *k.anonymize {
		return recording.Anonymize(c)
	}
	return c
}

func readRecording(name string) (*recording.Recording, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err // it names the file
	}
	defer file.Close()
	r, err := recording.Read(file)
	if err != nil {
		return nil, fmt.Errorf("reading %q: %w", name, err)
	}
	return r, nil
}

// kernelRelease is what uname -r prints, empty when that is not to be had.
func kernelRelease() string {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}
