// Command catalogue runs every case of the lab on real sockets several times and judges the verdicts that
// come about in three ways: by the proxy's own ledger alone, by the probes in the kernel alone, and by both.
// It prints a confusion matrix for each way, what could not be told apart without the state, and every wrong
// verdict. Then each case that whyspin.spin-action can end is run once more, to see that it does.
//
//	go run ./tools/catalogue [-program FILE] [-runs N] [-window D] [CASE...]
//
// It exits with 1 unless with both every class was named with its culprit, no look-alike was accused in any
// way, no way named a wrong class, the probes alone named the family or better, and what the proxy can end it
// ended.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/whyspin/whyspin/internal/lab"
)

// options are what the command line asks for.
type options struct {
	program string
	runs    int
	window  time.Duration
	cases   []*lab.Case
}

func main() {
	o := options{}
	flag.StringVar(&o.program, "program", "bin/whyspin", "the whyspin to run as the proxy")
	flag.IntVar(&o.runs, "runs", 3, "how often each case is run")
	flag.DurationVar(&o.window, "window", 400*time.Millisecond, "how long each diagnosis watches")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := o.choose(flag.Args())
	if err == nil {
		err = o.run(ctx, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "catalogue:", err)
		os.Exit(1)
	}
}

// choose takes the cases of those names, all when there are none.
func (o *options) choose(names []string) error {
	if len(names) == 0 {
		o.cases = lab.Cases()
	}
	for _, name := range names {
		c, err := lab.Find(name)
		if err != nil {
			return err
		}
		o.cases = append(o.cases, c)
	}
	return nil
}

// run runs the cases and prints what came of them.
func (o *options) run(ctx context.Context, out io.Writer) error {
	began := time.Now()
	t := newTally()
	for _, c := range o.cases {
		for n := range o.runs {
			trial, err := lab.Try(ctx, o.program, c, lab.Ways(), o.window)
			if ctx.Err() != nil {
				return errors.New("interrupted")
			}
			t.enter(c, trial, err)
			fmt.Fprintf(out, "%-4s %-28s run %d: %s\n", c.Class, c.Name, n+1, summary(trial, err))
		}
	}
	t.print(out)
	if err := o.heal(ctx, out, t); err != nil {
		return err
	}
	fmt.Fprintf(out, "\n%d cases, %d runs each, in %v\n", len(o.cases), o.runs,
		time.Since(began).Round(time.Second))
	if n := len(t.wrong); n > 0 {
		return fmt.Errorf("%d verdicts or runs were wrong", n)
	}
	return nil
}

// heal runs the cases once more that the proxy can end by itself.
func (o *options) heal(ctx context.Context, out io.Writer, t *tally) error {
	fmt.Fprintln(out, "\nEnded by whyspin.spin-action shutdown, the CPU as before, the others unharmed:")
	for _, c := range o.cases {
		if !c.Heals() {
			continue
		}
		took, err := lab.Heal(ctx, o.program, c)
		switch {
		case ctx.Err() != nil:
			return errors.New("interrupted")
		case err != nil:
			t.wrong = append(t.wrong, err.Error())
			fmt.Fprintf(out, "  %-4s %-28s failed: %v\n", c.Class, c.Name, err)
		default:
			fmt.Fprintf(out, "  %-4s %-28s %v after its traffic had begun\n", c.Class, c.Name,
				took.Round(time.Millisecond))
		}
	}
	return nil
}

// summary says in a few words what came of a run.
func summary(trial *lab.Trial, err error) string {
	if err != nil {
		return "failed"
	}
	text := ""
	for i, way := range lab.Ways() {
		j := &trial.Judgements[i]
		mark := ""
		if j.Wrong != nil {
			mark = " (wrong)"
		}
		text += fmt.Sprintf("%s %s%s, ", way, j.Column, mark)
	}
	return text + fmt.Sprintf("API within %v", trial.Slowest.Round(100*time.Microsecond))
}
