package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/tools/tracer"
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
	for _, t := range tracer.All() {
		with, tool, err := b.underTracer(c, t, small)
		if err != nil {
			r.note("%s was not measured: %v", t.Name, err)
			continue
		}
		r.compare(t.Name, with.microseconds(), []float64{*r.Whyspin / with.microseconds()}, goal{}, nil)
		r.note("HAProxy under %-10s %6.1f us CPU/request, %.2f x of without (%.1f), and %.1f us in the tool;"+
			" %.2f x the throughput", t.Name, with.microseconds(), with.microseconds()/bare.microseconds(),
			bare.microseconds(), tool.Seconds()*1e6/with.units, with.perSecond()/bare.perSecond())
	}
	return nil
}

// underTracer measures a contestant while a tool traces it, and what the tool itself uses.
func (b *bench) underTracer(c *contestant, t tracer.Tool,
	play func(*contestant, time.Duration) (sample, error)) (s sample, used time.Duration, err error) {
	r, err := t.Start(b.ctx, b.directory, c.proxy.pid())
	if err != nil {
		return s, 0, err
	}
	before, err := r.CPU()
	if err == nil {
		s, err = b.measure(c, 2*time.Second, play)
	}
	after, cpuErr := r.CPU()
	err = errors.Join(err, cpuErr, r.Alive())
	report, stopErr := r.Stop()
	if err = errors.Join(err, stopErr); err != nil {
		return s, 0, err
	}
	// A tracer that saw nothing would be a cheap one. A request is one receive at least.
	if n := t.Calls(report, "recvfrom"); float64(n) < s.units {
		return s, 0, fmt.Errorf("it saw %d recvfrom for %.0f requests: %s", n, s.units, report)
	}
	return s, after - before, nil
}
