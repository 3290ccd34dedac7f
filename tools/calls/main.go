// Command calls counts the system calls that whyspin and HAProxy make for the same work, with strace, and
// prints them side by side.
//
//	calls [-whyspin bin/whyspin]
//
// Its test holds whyspin to a budget for each call, see budget.go.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/whyspin/whyspin/tools/tracer"
)

func main() {
	whyspin := flag.String("whyspin", "bin/whyspin", "the whyspin to look at")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	counts, err := compare(ctx, *whyspin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "calls:", err)
		os.Exit(1)
	}
	printCounts(os.Stdout, counts)
}

// count is what one proxy did for one kind of work.
type count struct {
	work  *work
	units int
	// calls are those of the threads that carry the work; waits, which depend on how fast the peers are, are
	// not among them.
	calls map[string]int
	// again are the calls that returned EAGAIN: asked in vain.
	again map[string]int
	waits int
	// runtime are calls of the workers, and others those of all other threads, whose number depends on the
	// time alone.
	runtime, others int
}

// perUnit is a number of calls per unit of work.
func (c *count) perUnit(calls int) float64 { return float64(calls) / float64(c.units) }

// total is the number of calls per unit of work, without waits.
func (c *count) total() float64 {
	sum := 0
	for _, n := range c.calls {
		sum += n
	}
	return c.perUnit(sum)
}

// pair is one kind of work done by both.
type pair struct{ whyspin, haproxy *count }

// compare has both proxies do every work and returns what they called for it.
func compare(ctx context.Context, whyspin string) ([]pair, error) {
	// What is started dies with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	directory, err := os.MkdirTemp("", "whyspin-calls-")
	if err != nil {
		return nil, fmt.Errorf("making a directory: %w", err)
	}
	defer os.RemoveAll(directory)
	if whyspin, err = filepath.Abs(whyspin); err != nil {
		return nil, err
	}
	haproxy, err := exec.LookPath("haproxy")
	if err != nil {
		haproxy = "/usr/sbin/haproxy" // where a user's PATH does not look
	}
	server, err := startServer()
	if err != nil {
		return nil, err
	}
	defer server.close()
	pairs := make([]pair, len(works))
	for _, side := range []struct {
		program   string
		arguments []string
		keep      func(int, *count)
	}{
		{whyspin, []string{"run", "-f"}, func(i int, c *count) { pairs[i].whyspin = c }},
		{haproxy, []string{"-db", "-f"}, func(i int, c *count) { pairs[i].haproxy = c }},
	} {
		p, err := startProxy(directory, server.address(), side.program, side.arguments...)
		if err != nil {
			return nil, err
		}
		for i := range works {
			c, err := p.observe(ctx, directory, &works[i])
			if err != nil {
				p.stop()
				return nil, fmt.Errorf("%s: %s: %w", filepath.Base(side.program), works[i].name, err)
			}
			side.keep(i, c)
		}
		p.stop()
	}
	return pairs, nil
}

// observe has the proxy do a work while strace looks on.
func (p *proxy) observe(ctx context.Context, directory string, w *work) (*count, error) {
	play, err := w.prepare(p.opener(w))
	if err != nil {
		return nil, err
	}
	workers, err := p.workers()
	if err != nil {
		return nil, err
	}
	strace, err := tracer.Listing().Start(ctx, directory, p.pid())
	if err != nil {
		return nil, err
	}
	playErr := play()
	listing, err := strace.Stop()
	if playErr != nil {
		return nil, playErr
	}
	if err != nil {
		return nil, err
	}
	c := &count{work: w, units: w.units}
	return c, c.read(listing, workers)
}

// printCounts writes the calls of both side by side, per unit of work.
func printCounts(w io.Writer, pairs []pair) {
	const row = "%-14s %8s %8s %8s\n"
	number := func(x float64) string { return fmt.Sprintf("%.2f", x) }
	for _, p := range pairs {
		own, peer := p.whyspin, p.haproxy
		fmt.Fprintf(w, "\n%s: %s\n", own.work.name, own.work.does)
		fmt.Fprintf(w, row, "per "+own.work.unit, "whyspin", "HAProxy", "budget")
		for _, name := range names(own, peer) {
			allowed := "-"
			if b, ok := own.work.budget[name]; ok {
				allowed = number(b.most)
			}
			fmt.Fprintf(w, row, name, number(own.perUnit(own.calls[name])),
				number(peer.perUnit(peer.calls[name])), allowed)
		}
		for _, line := range []struct {
			name      string
			own, peer float64
		}{
			{"all of these", own.total(), peer.total()},
			{"in vain", own.perUnit(sum(own.again)), peer.perUnit(sum(peer.again))},
			{"runtime", own.perUnit(own.runtime), peer.perUnit(peer.runtime)},
			{"waits", own.perUnit(own.waits), peer.perUnit(peer.waits)},
		} {
			fmt.Fprintf(w, row, line.name, number(line.own), number(line.peer), "")
		}
	}
}
