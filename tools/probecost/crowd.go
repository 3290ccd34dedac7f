package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The limits for a diagnosis of a large process.
const (
	windowShareLimit = 0.05
	startLimit       = 300 * time.Millisecond
	memoryLimit      = 100 << 20
)

// The lengths of the two windows whose difference is what a window costs, free of what begins and ends it.
const (
	shortWindow = 100 * time.Millisecond
	longWindow  = 2100 * time.Millisecond
)

// windows are the two lengths.
type windows struct{ short, long time.Duration }

// diagnosis is what one run of whyspin took.
type diagnosis struct {
	cpu    time.Duration
	memory int64 // bytes, at most
	gap    time.Duration
	waits  float64 // of the target, per second
	report string
}

// crowdRow measures a diagnosis of a process with many descriptors that waits very often.
func crowdRow(ctx context.Context, o options) error {
	c, err := startRole("crowd", strconv.Itoa(o.descriptors))
	if err != nil {
		return err
	}
	defer c.stop()
	var set int
	if err := c.answer(&set); err != nil {
		return err
	}
	var share, start, memory, gap, quiet, waits []float64
	for range o.rounds {
		still, err := undisturbed(ctx, c, o.windows.long)
		if err != nil {
			return err
		}
		short, err1 := diagnose(ctx, o.whyspin, c, o.windows.short)
		long, err2 := diagnose(ctx, o.whyspin, c, o.windows.long)
		if err := errors.Join(err1, err2, long.check(o.descriptors)); err != nil {
			return err
		}
		perSecond := (long.cpu - short.cpu).Seconds() / (o.windows.long - o.windows.short).Seconds()
		share = append(share, perSecond)
		start = append(start, short.cpu.Seconds()-perSecond*o.windows.short.Seconds())
		memory = append(memory, float64(max(long.memory, short.memory)))
		gap = append(gap, float64(max(long.gap, short.gap)))
		quiet = append(quiet, float64(still))
		waits = append(waits, long.waits)
	}
	fmt.Printf("whyspin diagnose on a process with %d descriptors that waits %.0f times a second\n",
		o.descriptors, median(waits))
	fmt.Printf("  CPU during the window      %5.1f %% of a core (limit %.0f %%)\n", 100*median(share),
		100*windowShareLimit)
	fmt.Printf("  CPU to begin and to end    %5.0f ms (limit %d ms to begin)\n", 1000*median(start),
		startLimit.Milliseconds())
	fmt.Printf("  memory                     %5.0f MiB (limit %d MiB)\n", median(memory)/(1<<20),
		memoryLimit>>20)
	// Others on the machine cause pauses, too, but not in every round; what a diagnosis causes is in each.
	fmt.Printf("  the target's longest pause %5.1f ms, without a diagnosis %.1f ms (in the quietest round)\n",
		slices.Min(gap)/1e6, slices.Min(quiet)/1e6)
	return nil
}

// undisturbed returns the longest pause of the target in as long a time as a diagnosis takes.
func undisturbed(ctx context.Context, c *child, length time.Duration) (time.Duration, error) {
	var waits, longest int64
	if err := c.ask("begin", &waits, &longest); err != nil {
		return 0, err
	}
	select {
	case <-time.After(length):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if err := c.ask("end", &waits, &longest); err != nil {
		return 0, err
	}
	return time.Duration(longest), nil
}

// diagnose runs whyspin and returns what that took, it and the target.
func diagnose(ctx context.Context, program string, c *child, window time.Duration) (d diagnosis, err error) {
	var waits, longest int64
	if err := c.ask("begin", &waits, &longest); err != nil {
		return d, err
	}
	run := exec.CommandContext(ctx, program, "diagnose", "--pid", strconv.Itoa(c.pid()), "--for",
		window.String())
	began := time.Now()
	text, err := run.CombinedOutput()
	took := time.Since(began)
	d.report = string(text)
	if run.ProcessState == nil {
		return d, fmt.Errorf("running %s: %w", program, err)
	}
	usage := run.ProcessState.SysUsage().(*syscall.Rusage)
	d.cpu = run.ProcessState.UserTime() + run.ProcessState.SystemTime()
	d.memory = usage.Maxrss << 10 // ru_maxrss is in KiB: getrusage(2)
	if err := c.ask("end", &waits, &longest); err != nil {
		return d, err
	}
	d.gap, d.waits = time.Duration(longest), float64(waits)/took.Seconds()
	return d, nil
}

// check requires that the diagnosis saw the process.
func (d diagnosis) check(descriptors int) error {
	if !strings.Contains(d.report, "system calls by") {
		return fmt.Errorf("diagnosing a process with %d descriptors: %s", descriptors, d.report)
	}
	return nil
}
