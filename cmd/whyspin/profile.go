package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/whyspin/whyspin/internal/diagnose"
	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/profile"
	"github.com/whyspin/whyspin/internal/sys"
)

const profileUsage = targetUsage + " [--for 10s] [-o FILE.pb.gz]"

// profileFor is how long a process is watched for a profile: a thousand samples of a busy thread.
const profileFor = 10 * time.Second

func runProfile(arguments []string) int {
	set := flag.NewFlagSet("profile", flag.ContinueOnError)
	a := newAim(set, profileFor)
	name := set.String("o", "", "the `file` to write (default whyspin-PID.pb.gz in the current directory)")
	o, code, ok := a.parse(profileUsage, arguments)
	if !ok {
		return code
	}
	ctx, stop := interruptible()
	defer stop()
	c, err := diagnose.Collect(ctx, o)
	if err != nil {
		return fail("profile", err)
	}
	if *name == "" {
		*name = fmt.Sprintf("whyspin-%d.pb.gz", c.Process.PID)
	}
	err = writeWhole(*name, func(w io.Writer) error { return profile.Write(w, c, windowStart(c)) })
	if err != nil {
		return fail("profile", err)
	}
	fmt.Println(wrote(*name, c))
	return exitOK
}

// windowStart is the wall-clock time at which the window of a case began.
func windowStart(c *evidence.Case) time.Time {
	if c.Window == nil {
		return time.Now()
	}
	return sys.WallTime(c.Window.Start)
}

// wrote says in a line what is in the profile of a case.
func wrote(name string, c *evidence.Case) string {
	if c.Window == nil || c.Window.Samples == nil {
		return fmt.Sprintf("%s: no samples, and the comments in it say why", name)
	}
	s := profile.Summarize(c)
	line := fmt.Sprintf("%s: %d samples in %v, %d lost", name, s.Samples,
		c.Window.Length().Round(100*time.Millisecond), s.Lost)
	if share, ok := s.Unwound.Get(); ok {
		line += fmt.Sprintf(", %.1f %% of the stacks unwound to the start", 100*share)
	}
	return line
}

// writeWhole writes a file that only its owner may read, whole or not at all.
func writeWhole(name string, write func(io.Writer) error) (err error) {
	// A device or a link is not to be replaced by a file.
	if info, err := os.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("writing %q: it exists and is not a regular file", name)
	}
	file, err := os.CreateTemp(filepath.Dir(name), ".whyspin-*") // mode 0600
	if err != nil {
		return fmt.Errorf("writing %q: %w", name, err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name())
			err = fmt.Errorf("writing %q: %w", name, err)
		}
	}()
	if err = write(file); err != nil {
		return err
	}
	if err = file.Close(); err != nil {
		return err
	}
	return os.Rename(file.Name(), name)
}
