// Command leakcheck diagnoses a small process again and again, lets some of the runs fail, interrupts some
// and kills some in the middle, and then looks for what stayed: BPF programs, maps and links that nobody
// holds, pins, dynamic probes, mounts, processes, temporary files, and descriptors or a tracer in the
// process that was watched.
//
//	leakcheck [-runs 1000] [-whyspin bin/whyspin]
//
// It exits 1 with a list when something stayed, or when a run did not end as it should. Other programs on
// the machine may use BPF at the same time: what a living process holds is its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	if os.Getenv(targetVariable) != "" {
		runTarget()
		return
	}
	os.Exit(run(os.Args[1:]))
}

func run(arguments []string) int {
	set := flag.NewFlagSet("leakcheck", flag.ContinueOnError)
	runs := set.Int("runs", 1000, "how many diagnoses")
	program := set.String("whyspin", filepath.Join("bin", "whyspin"), "the program to check")
	objects := set.String("objects", filepath.Join("internal", "probe"),
		"the directory with the compiled programs, whose names tell what is whyspin's")
	if err := set.Parse(arguments); err != nil {
		return 2
	}
	if set.NArg() > 0 || *runs < 1 {
		fmt.Fprintf(os.Stderr, "leakcheck: unexpected arguments %q, or fewer than one run\n", set.Args())
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := check(ctx, *program, *objects, *runs); err != nil {
		fmt.Fprintf(os.Stderr, "leakcheck: %v\n", err)
		return 1
	}
	return 0
}

// errLeak is the error when something stayed.
var errLeak = errors.New("something stayed behind")

// settle is how long the kernel is given to release what a dead process held: links go at once, programs
// and maps after grace periods, 3 s at most on an idle machine.
const settle = 30 * time.Second

func check(ctx context.Context, program, objects string, runs int) error {
	names, err := ownNames(objects)
	if err != nil {
		return err
	}
	target, err := startTarget(ctx)
	if err != nil {
		return err
	}
	defer target.stop()
	temporary, err := os.MkdirTemp("", "leakcheck")
	if err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	defer os.RemoveAll(temporary)

	before, err := look(target.pid(), temporary, program)
	if err != nil {
		return err
	}
	began := time.Now()
	r := runner{program: program, target: target, temporary: temporary}
	counts, err := r.all(ctx, runs)
	if err != nil {
		return err
	}
	fmt.Printf("%d runs in %v: %v\n", runs, time.Since(began).Round(time.Millisecond), counts)

	var left []string
	for deadline := time.Now().Add(settle); ; {
		after, err := look(target.pid(), temporary, program)
		if err != nil {
			return err
		}
		left = after.since(before, names)
		if len(left) == 0 {
			fmt.Printf("nothing stayed behind; %d BPF objects that came since are held by living processes\n",
				after.newAndHeld(before))
			return nil
		}
		if time.Now().After(deadline) {
			break
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, line := range left {
		fmt.Println(line)
	}
	return fmt.Errorf("%w: %d things, after %v", errLeak, len(left), settle)
}
