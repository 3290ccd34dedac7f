package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// windowTarget is how much level 2 may cost.
const windowTarget = 1.08

// exactRequests is how many requests are counted one by one.
const exactRequests = 20000

func (b *bench) traceWindow() (*result, error) {
	const unit = "us CPU/request"
	server, err := b.startWebServer()
	if err != nil {
		return unlessMissing(unit, err)
	}
	t, blind, err := b.startTraced(server)
	switch {
	case err != nil:
		return nil, err
	case blind != "":
		return notMeasured(unit, "%s", blind), nil
	}
	defer t.close()
	if err := b.countExactly(t); err != nil {
		return nil, err
	}
	samples, err := b.contest(b.roundsOr(tcpRounds), []*contestant{
		{name: whyspinName, proxy: t.proxy, address: t.address},
		{name: "off", proxy: t.proxy, address: t.address},
	}, func(c *contestant, over time.Duration) (sample, error) {
		small := load{connections: smallConnections, path: "/", over: over}
		if c.name == "off" {
			return b.wrk(c.address, small)
		}
		s, _, err := b.inWindow(t, func() (sample, error) { return b.wrk(c.address, small) })
		return s, err
	})
	if err != nil {
		return unlessMissing(unit, err)
	}
	r := compare(unit, samples, map[string]goal{"off": {ratio: windowTarget}}, sample.microseconds)
	r.note("whyspin is with level 2, off without; the kernel's counts were whyspin's own in every window")
	return r, b.otherTracers(r, server)
}

// inWindow does some work while level 2 counts, and requires that the kernel saw what whyspin's ledger
// says, to the last call and byte.
func (b *bench) inWindow(t *traced, work func() (sample, error)) (s sample, seen account, err error) {
	// What came before must have come to its end, the question for the ledger included.
	idle, err := t.proxy.idleDescriptors(b.ctx)
	if err != nil {
		return s, seen, err
	}
	ended := func() (bool, error) {
		n, err := t.proxy.descriptors()
		return n <= idle, err
	}
	before, err := b.ledger(t)
	if err != nil {
		return s, seen, err
	}
	if err := until(b.ctx, drainPatience, "the runtime API to hang up", ended); err != nil {
		return s, seen, err
	}
	recording, err := t.probe.Begin()
	if err != nil {
		return s, seen, err
	}
	if s, err = work(); err != nil {
		return s, seen, err
	}
	// No question to the runtime API: it would be among the calls.
	if err := until(b.ctx, drainPatience, "the streams to end", ended); err != nil {
		return s, seen, err
	}
	window, err := recording.End()
	if err != nil {
		return s, seen, err
	}
	after, err := b.ledger(t)
	if err != nil {
		return s, seen, err
	}
	if window.Losses.Any() {
		return s, seen, fmt.Errorf("the probes lost %+v", window.Losses)
	}
	seen.read, seen.write = counted(window)
	own := account{minus(after.read, before.read), minus(after.write, before.write)}
	if seen != own {
		return s, seen, fmt.Errorf("the kernel saw %+v, the ledger %+v", seen, own)
	}
	// A request was read and written, and so was its answer, each by at least one call.
	if least := 2 * s.units; float64(seen.read.Calls) < least || float64(seen.write.Calls) < least {
		return s, seen, fmt.Errorf("the kernel saw %d reads and %d writes for %.0f requests", seen.read.Calls,
			seen.write.Calls, s.units)
	}
	return s, seen, nil
}

// account is whyspin's own count of its calls.
type account struct{ read, write evidence.IO }

func (b *bench) ledger(t *traced) (account, error) {
	var a account
	state, err := t.state(b.ctx)
	if err != nil {
		return a, err
	}
	for i := range state.Workers {
		addIO(&a.read, &state.Workers[i].Read)
		addIO(&a.write, &state.Workers[i].Write)
	}
	return a, nil
}

func minus(a, b evidence.IO) evidence.IO {
	return evidence.IO{Calls: a.Calls - b.Calls, Bytes: a.Bytes - b.Bytes, Tiny: a.Tiny - b.Tiny,
		Zero: a.Zero - b.Zero, Again: a.Again - b.Again, Reset: a.Reset - b.Reset, Pipe: a.Pipe - b.Pipe,
		Errors: a.Errors - b.Errors}
}

// countExactly lets a known number of requests pass while level 2 counts, and requires that the kernel
// counted their bytes.
func (b *bench) countExactly(t *traced) error {
	total := exactRequests
	if b.short {
		total /= 100
	}
	answer := 0
	_, seen, err := b.inWindow(t, func() (sample, error) {
		p, err := schedule{address: t.address, connections: smallConnections, request: smallRequest,
			total: total}.play(b.ctx)
		if err != nil {
			return sample{}, err
		}
		answer = p.answer
		return sample{units: float64(total)}, nil
	})
	if err != nil {
		return err
	}
	// One more was sent to learn how long an answer is.
	want := uint64(total+1) * uint64(len(smallRequest)+answer)
	if seen.read.Bytes != want || seen.write.Bytes != want {
		return fmt.Errorf("the kernel saw %d bytes read and %d written for %d requests, which are %d",
			seen.read.Bytes, seen.write.Bytes, total+1, want)
	}
	return nil
}

// tracer is a tool that others use to see what level 2 shows.
type tracer struct {
	name    string
	program string
	// arguments has %d for the process and %s for a file for the output.
	arguments []string
	stop      syscall.Signal
	// ready is what it prints once it sees the process; empty when the kernel shows a tracer.
	ready string
}

var tracers = []tracer{
	{name: "strace", program: "strace", arguments: []string{"-f", "-c", "-p", "%d", "-o", "%s"},
		stop: syscall.SIGINT},
	{name: "perf trace", program: "perf", arguments: []string{"trace", "-s", "-p", "%d", "-o", "%s"},
		stop: syscall.SIGINT},
	{name: "bpftrace", program: "bpftrace", arguments: []string{"-B", "line", "-e",
		`BEGIN { printf("ready\n"); }
tracepoint:syscalls:sys_enter_recvfrom,tracepoint:syscalls:sys_enter_sendto /pid == %d/ {
	@calls[probe, args->fd] = count(); }
tracepoint:syscalls:sys_exit_epoll_wait /pid == %d/ { @waits[args->ret] = count(); }`},
		stop: syscall.SIGINT, ready: "ready"},
}

// otherTracers shows what other tools cost, on HAProxy with the same load. They are comparisons, so their
// absence is only mentioned.
func (b *bench) otherTracers(r *result, server string) error {
	c, err := b.plainHAProxy(server)
	if err != nil {
		r.note("other tracers were not measured: %v", err)
		return nil
	}
	small := func(c *contestant, over time.Duration) (sample, error) {
		return b.wrk(c.address, load{connections: smallConnections, path: "/", over: over})
	}
	bare, err := b.measure(c, 2*time.Second, small)
	if err != nil {
		return err
	}
	for _, t := range tracers {
		with, tool, err := b.underTracer(c, t, small)
		if err != nil {
			r.note("%s was not measured: %v", t.name, err)
			continue
		}
		r.compare(t.name, with.microseconds(), []float64{*r.Whyspin / with.microseconds()}, goal{}, nil)
		r.note("HAProxy under %-10s %6.1f us CPU/request, %.2f x of without (%.1f), and %.1f us in the tool;"+
			" %.2f x the throughput", t.name, with.microseconds(), with.microseconds()/bare.microseconds(),
			bare.microseconds(), tool.Seconds()*1e6/with.units, with.perSecond()/bare.perSecond())
	}
	return nil
}

// underTracer measures a contestant while a tool traces it, and what the tool itself uses.
func (b *bench) underTracer(c *contestant, t tracer, play func(*contestant, time.Duration) (sample, error)) (
	sample, time.Duration, error) {
	program, err := find(t.program)
	if err != nil {
		return sample{}, 0, err
	}
	output := filepath.Join(b.directory, strings.ReplaceAll(t.name, " ", "-"))
	arguments := make([]string, len(t.arguments))
	for i, a := range t.arguments {
		arguments[i] = strings.ReplaceAll(strings.ReplaceAll(a, "%d", fmt.Sprint(c.proxy.pid())), "%s",
			output)
	}
	p, err := b.start(t.name, program, nil, arguments...)
	if err != nil {
		return sample{}, 0, err
	}
	defer p.stop(t.stop)
	if err := b.attached(p, c, t); err != nil {
		return sample{}, 0, err
	}
	before, err := p.cpu()
	if err != nil {
		return sample{}, 0, err
	}
	s, err := b.measure(c, 2*time.Second, play)
	if err != nil {
		return s, 0, err
	}
	if err := p.alive(); err != nil {
		return s, 0, err
	}
	after, err := p.cpu()
	if err != nil {
		return s, 0, err
	}
	// A tracer that saw nothing would be a cheap one.
	p.stop(t.stop)
	text, _ := os.ReadFile(output) // absent when it writes to its standard output
	if !strings.Contains(string(text)+p.output.String(), "recvfrom") {
		return s, 0, fmt.Errorf("it saw no recvfrom: %s", p.output)
	}
	return s, after - before, nil
}

// perfAttach is how long perf trace is given to attach, which it does not tell anybody about.
const perfAttach = time.Second

// attached waits until a tracer sees the process.
func (b *bench) attached(p *process, c *contestant, t tracer) error {
	if t.name == "perf trace" {
		if err := b.pause(perfAttach); err != nil {
			return err
		}
		return p.alive()
	}
	return until(b.ctx, startPatience, t.name+" to attach", func() (bool, error) {
		if err := p.alive(); err != nil {
			return false, err
		}
		if t.ready != "" {
			return strings.Contains(p.output.String(), t.ready), nil
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.proxy.pid()))
		return strings.Contains(string(status), fmt.Sprintf("TracerPid:\t%d\n", p.pid())), err
	})
}
