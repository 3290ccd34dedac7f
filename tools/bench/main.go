// Command bench measures whyspin against HAProxy and nginx: CPU time per unit of work, in rounds that take
// turns, so that what the machine does besides meets all of them.
//
//	bench [-case ROW[,ROW]] [-rounds N] [-short] [-whyspin bin/whyspin] [-json bin/bench.json]
//
// It prints a table and writes the same as JSON. It reports and does not judge: the exit code is 1 only
// when a row could not be measured though everything it needs was there, or when work was lost.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// row is one line of the table of what whyspin must reach.
type row struct {
	name string
	does string // the work, in a few words
	run  func(*bench) (*result, error)
}

func rows() []row {
	return []row{
		{"tcp-small", "wrk, 50 keep-alive connections, 23-byte bodies", (*bench).tcpSmall},
		{"tcp-bulk", "wrk, 8 connections, 10 MB bodies", (*bench).tcpBulk},
		{"tcp-churn", "a new connection for each request", (*bench).tcpChurn},
		{"tcp-idle", "5000 idle connections", (*bench).tcpIdle},
		{"tcp-tiny", "4-byte messages to and fro over 200 connections", (*bench).tcpTiny},
		{"tls-small", "tcp-small over TLS", (*bench).tlsSmall},
		{"tls-bulk", "tcp-bulk over TLS", (*bench).tlsBulk},
		{"tls-handshake-ecdsa", "tcp-churn over TLS, an ECDSA certificate", (*bench).tlsHandshakeECDSA},
		{"tls-handshake-rsa", "tcp-churn over TLS, an RSA certificate", (*bench).tlsHandshakeRSA},
		{"tls-resume", "tcp-churn over TLS, every handshake takes up a session", (*bench).tlsResume},
		{"tls-idle", "2500 idle connections with TLS", (*bench).tlsIdle},
		{"latency", "constant rate, counted from the scheduled time", (*bench).latency},
		{"scale-small", "tcp-small with two workers", (*bench).scaleSmall},
		{"scale-churn", "tcp-churn with two workers", (*bench).scaleChurn},
		{"scale-idle", "50 busy connections beside 100, 1000 and 5000 idle ones", (*bench).scaleIdle},
		{"trace-1", "tcp-small with and without the duty cycle of the probes", (*bench).traceDuty},
		{"trace-2", "tcp-small with and without level 2 all the time", (*bench).traceWindow},
		{"api-under-spin", "the runtime API with 5000 streams and every worker spinning",
			(*bench).apiUnderSpin},
		{"time-to-verdict", "diagnose --for 1s with 5000 streams, one of them spinning",
			(*bench).timeToVerdict},
		{"self-detection", "from the first no-progress wakeup to the finding in the log",
			(*bench).selfDetection},
	}
}

// leastRounds is how many rounds a row has at least: with fewer, one disturbed round is the median.
const leastRounds = 5

// bench is one run of the program.
type bench struct {
	ctx     context.Context
	whyspin string // the program to measure
	rounds  int    // 0: each row's own number
	short   bool   // every slice for a fraction of a second: to see that it works
	say     func(format string, args ...any)

	// As long as a row runs.
	directory string
	children  []*process
}

func main() { os.Exit(run(os.Args[1:])) }

func run(arguments []string) int {
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	cases := set.String("case", "", "the `rows` to run, separated by commas; all of them when empty")
	rounds := set.Int("rounds", 0, "how many rounds; 0 is each row's own number, at least 5")
	short := set.Bool("short", false,
		"a fraction of a second for everything: shows that it works, measures nothing")
	whyspin := set.String("whyspin", "bin/whyspin", "the whyspin to measure")
	file := set.String("json", "bin/bench.json", "where the results go; empty for nowhere")
	if err := set.Parse(arguments); err != nil {
		return 2
	}
	chosen, err := choose(*cases)
	if err == nil && set.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", set.Arg(0))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b := &bench{ctx: ctx, whyspin: *whyspin, rounds: *rounds, short: *short,
		say: func(format string, args ...any) { fmt.Printf(format+"\n", args...) }}
	// Relative to here, whatever the directory of a child will be.
	if b.whyspin, err = filepath.Abs(*whyspin); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	results, failed := b.runAll(chosen)
	printTable(os.Stdout, results)
	if *file != "" {
		if err := writeJSON(*file, results); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return 1
		}
	}
	if failed {
		return 1
	}
	return 0
}

// choose returns the rows of the names, in the order of the table.
func choose(names string) ([]row, error) {
	all := rows()
	if names == "" {
		return all, nil
	}
	wanted := strings.Split(names, ",")
	var chosen []row
	for _, r := range all {
		if slices.Contains(wanted, r.name) {
			chosen = append(chosen, r)
		}
	}
	if len(chosen) == len(wanted) {
		return chosen, nil
	}
	var known []string
	for _, r := range all {
		known = append(known, r.name)
	}
	return nil, fmt.Errorf("no rows %q; there are %s", names, strings.Join(known, ", "))
}

// runAll runs the rows one after the other. A row that cannot be measured says why; one that fails makes
// the run a failure and does not keep the others from running.
func (b *bench) runAll(chosen []row) (results []*result, failed bool) {
	b.say("%s", machine())
	for _, r := range chosen {
		if b.ctx.Err() != nil {
			return results, true
		}
		b.say("\n%s: %s", r.name, r.does)
		result, err := b.runRow(r)
		if err != nil {
			b.say("  FAILED: %v", err)
			failed = true
			continue
		}
		for _, n := range result.notes {
			b.say("  %s", n)
		}
		results = append(results, result)
	}
	return results, failed
}

// runRow runs one row in a directory of its own and ends whatever it started.
func (b *bench) runRow(r row) (res *result, err error) {
	// A child dies with the thread that started it, see start; so there is one thread for that.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if b.directory, err = os.MkdirTemp("", "whyspin-bench-"); err != nil {
		return nil, fmt.Errorf("making a directory for %s: %w", r.name, err)
	}
	defer os.RemoveAll(b.directory)
	defer b.stopAll()
	others := watchOthers()
	if res, err = r.run(b); err != nil {
		return nil, fmt.Errorf("%s: %w", r.name, err)
	}
	res.Case = r.name
	if note := others.note(); note != "" {
		res.note("%s", note)
	}
	return res, nil
}

// roundsOr returns the number of rounds that was asked for, else the row's own.
func (b *bench) roundsOr(own int) int {
	if b.rounds > 0 {
		return b.rounds
	}
	return max(own, leastRounds)
}
