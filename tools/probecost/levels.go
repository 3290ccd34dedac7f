package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/probe"
	"github.com/whyspin/whyspin/tools/tracer"
)

// connections is how many connections the messages go over.
const connections = 50

// bench is the processes that are measured.
type bench struct {
	options
	server, neighbour *child
	port              int
	clients           []int // descriptors, blocking
	directory         string
}

func newBench(o options) (b *bench, err error) {
	b = &bench{options: o}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.directory, err = os.MkdirTemp("", "probecost"); err != nil {
		return nil, fmt.Errorf("making a directory: %w", err)
	}
	if b.server, err = startRole("server"); err != nil {
		return nil, err
	}
	if err := b.server.answer(&b.port); err != nil {
		return nil, err
	}
	if b.neighbour, err = startRole("neighbour"); err != nil {
		return nil, err
	}
	for range connections {
		fd, err := b.dial()
		if err != nil {
			return nil, err
		}
		b.clients = append(b.clients, fd)
	}
	return b, b.play(connections) // every connection has been accepted when this is answered
}

func (b *bench) dial() (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return -1, fmt.Errorf("making a connection: %w", err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: b.port}); err != nil {
		return -1, fmt.Errorf("connecting to the server: %w", err)
	}
	// Small messages are sent as they come.
	return fd, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

func (b *bench) close() {
	for _, fd := range b.clients {
		_ = unix.Close(fd)
	}
	for _, c := range []*child{b.server, b.neighbour} {
		if c != nil {
			c.stop()
		}
	}
	_ = os.RemoveAll(b.directory)
}

// play sends messages, one on each connection at a time, and reads the answers.
func (b *bench) play(messages int) error {
	var message [messageBytes]byte
	for sent := 0; sent < messages; {
		round := b.clients[:min(len(b.clients), messages-sent)]
		for _, fd := range round {
			if _, err := unix.Write(fd, message[:]); err != nil {
				return fmt.Errorf("sending a message: %w", err)
			}
		}
		for _, fd := range round {
			n, err := unix.Read(fd, message[:])
			if err != nil || n != messageBytes {
				return fmt.Errorf("reading an answer: %d bytes, %w", n, err)
			}
		}
		sent += len(round)
	}
	return nil
}

// watcher is something that watches the server. start returns a function that ends it, given how many
// messages there were, and says whether it saw them all.
type watcher interface {
	name() string
	start(ctx context.Context, b *bench) (running, error)
}

type running interface {
	// cpu is what it has used itself, 0 when that is part of this process.
	cpu() (time.Duration, error)
	// stop ends it and returns the share of the messages that it counted.
	stop(messages int) (counted float64, err error)
}

// errRefused is the error for a level that this machine does not allow.
var errRefused = errors.New("it cannot be had on this machine")

// measure measures with one watcher.
func (b *bench) measure(ctx context.Context, w watcher) (c cost, err error) {
	r, err := w.start(ctx, b)
	if err != nil {
		return c, err
	}
	before, err1 := tracer.CPU(b.server.pid())
	tool, err2 := r.cpu()
	err3 := b.play(b.messages)
	after, err4 := tracer.CPU(b.server.pid())
	toolAfter, err5 := r.cpu()
	var call, socket int64
	err6 := b.neighbour.ask(fmt.Sprintf("call %d", b.calls), &call)
	err7 := b.neighbour.ask(fmt.Sprintf("socket %d", b.calls), &socket)
	counted, err8 := r.stop(b.messages)
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7, err8); err != nil {
		return c, err
	}
	return cost{
		counted:    counted,
		message:    float64(after-before) / float64(b.messages),
		call:       float64(call) / float64(b.calls),
		socketCall: float64(socket) / float64(b.calls),
		watcher:    float64(toolAfter-tool) / float64(b.messages),
	}, nil
}

// nothing watches nothing.
type nothing struct{}

func (nothing) name() string                                   { return "without" }
func (nothing) start(context.Context, *bench) (running, error) { return nothing{}, nil }
func (nothing) cpu() (time.Duration, error)                    { return 0, nil }
func (nothing) stop(int) (float64, error)                      { return 0, nil }

// level is one level of whyspin's probes.
type level struct {
	text            string
	resets, traffic bool
	window, samples bool
}

func probeLevels() []watcher {
	return []watcher{
		level{text: "level 1: resets, all the time", resets: true},
		level{text: "level 2: calls, in a window", window: true},
		level{text: "level 2 and bytes by socket", window: true, traffic: true},
		level{text: "level 3: calls and samples", window: true, samples: true},
		level{text: "all of a diagnosis", resets: true, window: true, traffic: true, samples: true},
	}
}

func (l level) name() string { return l.text }

func (l level) start(_ context.Context, b *bench) (running, error) {
	p, err := probe.Load(probe.Options{PID: b.server.pid(), Traffic: l.traffic,
		Samples: l.samples})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRefused, err)
	}
	for _, s := range p.Plan() {
		if text := s.Unknown(); text != "" {
			_ = p.Close()
			return nil, fmt.Errorf("%w: %s", errRefused, text)
		}
	}
	r := &watching{level: l, bench: b, probe: p}
	if l.resets {
		err = p.WatchResets()
	}
	switch {
	case err != nil || !l.window:
	case l.samples:
		r.recording, err = p.BeginSampling()
	default:
		r.recording, err = p.Begin()
	}
	if err != nil {
		_ = p.Close()
		return nil, err
	}
	return r, nil
}

// watching is a level that is on.
type watching struct {
	level
	bench     *bench
	probe     *probe.Probe
	recording *probe.Recording
}

func (w *watching) cpu() (time.Duration, error) { return 0, nil }

func (w *watching) stop(messages int) (float64, error) {
	defer w.probe.Close()
	if w.window {
		window, err := w.recording.End()
		if err != nil {
			return 0, err
		}
		if err := w.checkWindow(window, uint64(messages)); err != nil {
			return 0, err
		}
	}
	if w.resets {
		return 1, w.checkResets()
	}
	return 1, nil
}

// checkWindow requires that the kernel counted every message once in and once out.
func (w *watching) checkWindow(window *evidence.Window, messages uint64) error {
	var read, written evidence.IO
	var delivered uint64
	for i := range window.Descriptors {
		d := &window.Descriptors[i]
		if socket, ok := d.Socket.Get(); ok && socket.Kind != "tcp" {
			continue // the Go runtime has an eventfd to wake itself
		}
		read.Calls, read.Bytes = read.Calls+d.Read.Calls, read.Bytes+d.Read.Bytes
		written.Calls, written.Bytes = written.Calls+d.Write.Calls, written.Bytes+d.Write.Bytes
		delivered += d.Delivered()
	}
	want := evidence.IO{Calls: messages, Bytes: messages * messageBytes}
	if read != want || written != want || delivered != messages {
		return fmt.Errorf("it counted %+v in, %+v out and %d events for %d messages", read, written,
			delivered, messages)
	}
	if w.samples {
		if err := checkSamples(window); err != nil {
			return err
		}
	}
	traffic, ok := window.Traffic.Get()
	if w.traffic && (!ok || traffic.Received != want.Bytes || traffic.Sent != want.Bytes) {
		return fmt.Errorf("it counted %+v by socket for %d bytes each way", traffic, want.Bytes)
	}
	return nil
}

// checkSamples requires at least half of the samples that the CPU time of the threads is worth.
func checkSamples(window *evidence.Window) error {
	if window.Samples == nil || window.Samples.Period <= 0 {
		return errors.New("it took no samples")
	}
	var taken uint64
	for _, s := range window.Samples.Stacks {
		taken += s.Count
	}
	var worth uint64
	for _, t := range window.Threads {
		worth += uint64(t.Run.Or(0) / window.Samples.Period)
	}
	if 2*taken < worth {
		return fmt.Errorf("it took %d samples, %d lost, of CPU time worth %d", taken, window.Samples.Lost,
			worth)
	}
	return nil
}

// resetPatience is how long a reset may take to be counted.
const resetPatience = 10 * time.Second

// checkResets makes a reset and requires that it is counted.
func (w *watching) checkResets() error {
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", w.bench.port))
	if err != nil {
		return fmt.Errorf("making a connection to reset: %w", err)
	}
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
	for deadline := time.Now().Add(resetPatience); ; time.Sleep(time.Millisecond) {
		totals, _, err := w.probe.Resets()
		switch {
		case err != nil:
			return err
		case totals.Received > 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("a reset was not counted: %+v", totals)
		}
	}
}

// tool is one of the programs that others use.
type tool struct{ tracer.Tool }

func tools() (all []watcher) {
	for _, t := range tracer.All() {
		all = append(all, tool{t})
	}
	return all
}

func (t tool) name() string { return t.Name }

func (t tool) start(ctx context.Context, b *bench) (running, error) {
	r, err := t.Start(ctx, b.directory, b.server.pid())
	if err != nil {
		return nil, err
	}
	return &tracing{tool: t, Running: r}, nil
}

type tracing struct {
	tool
	*tracer.Running
}

func (t *tracing) cpu() (time.Duration, error) { return t.CPU() }

// leastCounted is the share of the calls that a tool has to have counted for its cost to mean anything. perf
// loses events when it is late, and says so.
const leastCounted = 0.5

func (t *tracing) stop(messages int) (float64, error) {
	report, err := t.Stop()
	if err != nil {
		return 0, err
	}
	least := 1.0
	for _, call := range []string{"recvfrom", "sendto"} {
		n := t.Calls(report, call)
		least = min(least, float64(n)/float64(messages))
		if least < leastCounted || n > uint64(messages) {
			return 0, fmt.Errorf("it counted %d %s for %d messages: %s", n, call, messages, report)
		}
	}
	return least, nil
}
