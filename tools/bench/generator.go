package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// schedule is a load at a constant rate, whether answers come or not. A request that finds no free
// connection waits, and its latency counts from the moment it was scheduled for: a proxy that stalls is
// charged with every request of that time (no coordinated omission).
type schedule struct {
	address     string
	connections int
	request     []byte
	answer      int // its size in bytes; 0: learn it from the first one, an HTTP answer with its length
	total       int // requests
	// rate is how many requests per second are sent; 0 sends each as soon as a connection is free.
	rate float64
}

// smallRequest asks the web server for the small body.
var smallRequest = []byte("GET / HTTP/1.1\r\nHost: bench\r\n\r\n")

// played is what came of a schedule.
type played struct {
	latencies []time.Duration // from the scheduled moment, sorted
	lateness  []time.Duration // how late the generator itself was to send, sorted
	answer    int             // bytes of an answer
	wall      time.Duration
}

// quantile returns the latency that the share of the requests did not exceed.
func quantile(sorted []time.Duration, share float64) time.Duration {
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// generator plays a schedule.
type generator struct {
	schedule
	poller *poller
	wires  []wire
	free   []int32
	began  time.Time
	next   int // the next request to send
	played
	buffer [16 << 10]byte
}

// wire is one connection, with at most one request at a time.
type wire struct {
	fd        int
	left      int // bytes of the answer that are still to come
	scheduled time.Time
}

// play sends all requests of a schedule and waits for all answers.
func (s schedule) play(ctx context.Context) (*played, error) {
	return onThread(func() (*played, error) {
		g := &generator{schedule: s}
		g.latencies = make([]time.Duration, 0, s.total)
		g.lateness = make([]time.Duration, 0, s.total)
		var err error
		if g.poller, err = newPoller(); err != nil {
			return nil, err
		}
		defer g.close()
		if err := g.open(); err != nil {
			return nil, err
		}
		if err := g.run(ctx); err != nil {
			return nil, err
		}
		g.played.answer = g.schedule.answer
		slices.Sort(g.latencies)
		slices.Sort(g.lateness)
		return &g.played, nil
	})
}

func (g *generator) close() {
	for _, w := range g.wires {
		unix.Close(w.fd)
	}
	g.poller.close()
}

func (g *generator) open() error {
	to, err := socketAddress(g.address)
	if err != nil {
		return err
	}
	for i := range g.connections {
		fd, err := connect(to)
		if err != nil {
			return err
		}
		g.wires = append(g.wires, wire{fd: fd})
		if err := established(fd); err != nil {
			return err
		}
		if err := g.poller.add(fd, int32(i), unix.EPOLLIN); err != nil {
			return err
		}
		g.free = append(g.free, int32(i))
	}
	if g.schedule.answer == 0 {
		return g.learn()
	}
	return nil
}

// learn sends one request and measures the answer, which has a Content-Length.
func (g *generator) learn() error {
	if _, err := unix.Write(g.wires[0].fd, g.request); err != nil {
		return fmt.Errorf("sending the first request: %w", err)
	}
	var text []byte
	for deadline := time.Now().Add(drainPatience); time.Now().Before(deadline); {
		if _, err := g.poller.wait(deadline); err != nil {
			return err
		}
		n, err := unix.Read(g.wires[0].fd, g.buffer[:])
		if err != nil {
			return fmt.Errorf("reading the first answer: %w", err)
		}
		text = append(text, g.buffer[:n]...)
		head, body, whole := bytes.Cut(text, []byte("\r\n\r\n"))
		if !whole {
			continue
		}
		_, after, _ := bytes.Cut(head, []byte("\r\nContent-Length: "))
		value, _, _ := bytes.Cut(after, []byte("\r\n"))
		size, err := strconv.Atoi(string(value))
		if err != nil {
			return fmt.Errorf("the first answer does not say how long it is:\n%s", head)
		}
		if len(body) >= size {
			g.schedule.answer = len(head) + len("\r\n\r\n") + size
			return nil
		}
	}
	return fmt.Errorf("the first answer did not come within %v", drainPatience)
}

// due returns when a request is scheduled for.
func (g *generator) due(request int) time.Time {
	if g.rate == 0 {
		return g.began
	}
	return g.began.Add(time.Duration(float64(request) / g.rate * float64(time.Second)))
}

func (g *generator) run(ctx context.Context) error {
	g.began = time.Now()
	end := g.due(g.total).Add(drainPatience)
	if g.rate == 0 {
		end = g.began.Add(time.Minute) // as long as a load without a rate may take
	}
	for len(g.latencies) < g.total && ctx.Err() == nil {
		if err := g.send(); err != nil {
			return err
		}
		until := end
		if g.next < g.total && len(g.free) > 0 {
			until = g.due(g.next)
		}
		events, err := g.poller.wait(until)
		if err != nil {
			return err
		}
		now := time.Now()
		for _, e := range events {
			if err := g.receive(e.Fd, now); err != nil {
				return err
			}
		}
		if now.After(end) {
			return fmt.Errorf("%d of %d answers did not come within %v", g.total-len(g.latencies), g.total,
				drainPatience)
		}
	}
	g.wall = time.Since(g.began)
	return ctx.Err()
}

// send sends every request that is due, as far as there are free connections.
func (g *generator) send() error {
	for g.next < g.total && len(g.free) > 0 {
		now := time.Now()
		due := g.due(g.next)
		if now.Before(due) {
			return nil
		}
		// The connection that has been free for longest, so that all are used alike.
		w := &g.wires[g.free[0]]
		g.free = append(g.free[:0], g.free[1:]...)
		w.left, w.scheduled = g.schedule.answer, due
		g.lateness = append(g.lateness, now.Sub(due))
		g.next++
		if _, err := unix.Write(w.fd, g.request); err != nil {
			return fmt.Errorf("sending a request: %w", err)
		}
	}
	return nil
}

func (g *generator) receive(id int32, now time.Time) error {
	w := &g.wires[id]
	n, err := unix.Read(w.fd, g.buffer[:])
	switch {
	case errors.Is(err, unix.EAGAIN):
		return nil
	case err != nil:
		return fmt.Errorf("reading an answer: %w", err)
	case n == 0:
		return errors.New("a connection ended in the middle")
	case n > w.left:
		return fmt.Errorf("an answer is longer than the first one: %d more bytes than %d", n-w.left, w.left)
	}
	if w.left -= n; w.left > 0 {
		return nil
	}
	g.latencies = append(g.latencies, now.Sub(w.scheduled))
	g.free = append(g.free, id)
	return nil
}
