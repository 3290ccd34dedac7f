// Command probecost measures what whyspin's probes cost: each level for the process that is watched and for
// another one on the machine, beside other tools that do the equivalent counting; and what a diagnosis of
// a large process takes.
//
//	probecost [-rounds 7] [-messages 100000] [-whyspin bin/whyspin] [-short]
//
// Every figure is a median over rounds in which everything is measured in turn. Everything that is measured
// has to have counted every call: a probe that saw nothing is cheap. The exit code is 1 when one did not.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	rounds, toolRounds, messages, calls int
	whyspin                             string
	descriptors                         int
	windows                             windows
}

// shorten leaves little of everything.
func (o *options) shorten() {
	o.rounds, o.toolRounds, o.messages, o.calls, o.descriptors = 1, 1, 500, 1000, 1500
	o.windows = windows{short: 10 * time.Millisecond, long: 50 * time.Millisecond}
}

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		runRole(role)
		return
	}
	os.Exit(run(os.Args[1:]))
}

func run(arguments []string) int {
	o := options{toolRounds: 3, calls: 100000, descriptors: 15000,
		windows: windows{short: shortWindow, long: longWindow}}
	set := flag.NewFlagSet("probecost", flag.ContinueOnError)
	set.IntVar(&o.rounds, "rounds", 7, "how many rounds; the other tools have three")
	set.IntVar(&o.messages, "messages", 100000, "how many messages the target answers in one measurement")
	set.StringVar(&o.whyspin, "whyspin", filepath.Join("bin", "whyspin"), "the whyspin to measure")
	short := set.Bool("short", false, "little of everything: shows that it works, measures nothing")
	if err := set.Parse(arguments); err != nil {
		return 2
	}
	if set.NArg() > 0 || o.rounds < 1 || o.messages < connections {
		fmt.Fprintf(os.Stderr, "probecost: unexpected arguments %q, or too few rounds or messages\n",
			set.Args())
		return 2
	}
	if *short {
		o.shorten()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Children die with the thread that started them.
	runtime.LockOSThread()
	if err := errors.Join(levels(ctx, o, probeLevels(), tools()), crowdRow(ctx, o)); err != nil {
		fmt.Fprintf(os.Stderr, "probecost: %v\n", err)
		return 1
	}
	return 0
}

// cost is what one measurement came to, in nanoseconds of CPU time.
type cost struct {
	message    float64 // of the target, for one message
	call       float64 // of the neighbour, for a call that does nothing
	socketCall float64 // of the neighbour, for a call on a socket
	watcher    float64 // of the tool itself, for one message; 0 for probes
	counted    float64 // the share of the calls that it counted
}

// levels measures every level and every tool, and prints the table.
func levels(ctx context.Context, o options, probes, others []watcher) error {
	b, err := newBench(o)
	if err != nil {
		return err
	}
	defer b.close()
	fmt.Printf("an epoll server that answers %d messages of %d bytes on %d connections, and a neighbour\n\n",
		o.messages, messageBytes, connections)
	for _, c := range []struct {
		watchers []watcher
		rounds   int
	}{{probes, o.rounds}, {others, o.toolRounds}} {
		if len(c.watchers) == 0 {
			continue
		}
		err = errors.Join(err, b.contest(ctx, append([]watcher{nothing{}}, c.watchers...), c.rounds))
	}
	return err
}

// contest measures watchers in turn and prints what they cost beside the first, which is nobody.
func (b *bench) contest(ctx context.Context, watchers []watcher, rounds int) error {
	results := make([][]cost, len(watchers))
	failed := make([]error, len(watchers))
	for range rounds {
		for i, w := range watchers {
			if failed[i] != nil {
				continue
			}
			c, err := b.measure(ctx, w)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			results[i] = append(results[i], c)
			failed[i] = err
		}
	}
	fmt.Printf("%-30s %10s %18s %10s %14s %11s %8s\n", "", "target", "x without", "neighbour:", "",
		"tool itself", "counted")
	fmt.Printf("%-30s %10s %18s %10s %14s %11s %8s\n", "", "us/message", "median, range", "ns/call",
		"ns/socket call", "us/message", "")
	var errs []error
	for i, w := range watchers {
		if failed[i] != nil {
			fmt.Printf("%-30s not measured: %v\n", w.name(), failed[i])
			if !errors.Is(failed[i], exec.ErrNotFound) && !errors.Is(failed[i], errRefused) {
				errs = append(errs, fmt.Errorf("%s: %w", w.name(), failed[i]))
			}
			continue
		}
		printRow(w.name(), results[i], results[0])
	}
	fmt.Println()
	return errors.Join(errs...)
}

func printRow(name string, own, without []cost) {
	var message, ratio, call, socket, tool, counted []float64
	for i, c := range own {
		message = append(message, c.message/1000)
		ratio = append(ratio, c.message/without[i].message)
		call = append(call, c.call-without[i].call)
		socket = append(socket, c.socketCall-without[i].socketCall)
		tool = append(tool, c.watcher/1000)
		counted = append(counted, c.counted)
	}
	if &own[0] == &without[0] {
		fmt.Printf("%-30s %10.2f %18s %10.0f %14.0f\n", name, median(message), "1",
			median(pick(own, func(c cost) float64 { return c.call })),
			median(pick(own, func(c cost) float64 { return c.socketCall })))
		return
	}
	fmt.Printf("%-30s %10.2f %18s %+10.0f %+14.0f %11.2f %7.0f%%\n", name, median(message),
		fmt.Sprintf("%.2f (%.2f-%.2f)", median(ratio), slices.Min(ratio), slices.Max(ratio)), median(call),
		median(socket), median(tool), 100*median(counted))
}

func pick(costs []cost, f func(cost) float64) (values []float64) {
	for _, c := range costs {
		values = append(values, f(c))
	}
	return values
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
