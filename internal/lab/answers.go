package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// orders are commands of the runtime API, each with what its answer has to contain.
var orders = []struct{ line, says string }{
	{"show info", "Name: whyspin"},
	{"show version", "."},
	{"help", "show info"},
	{"show sess all", "age="},
	{"show spin", "findings: "},
	{"shutdown session", ""}, // of a connection that is opened for it
}

// answers gives each of the orders and returns how long the slowest took.
func (s *stage) answers(ctx context.Context) (slowest time.Duration, err error) {
	for _, o := range orders {
		line := o.line
		if line == "shutdown session" {
			took, err := s.shutdownSpare(ctx)
			if err != nil {
				return 0, err
			}
			slowest = max(slowest, took)
			continue
		}
		began := time.Now()
		answer, err := s.proxy.order(ctx, line)
		if err != nil {
			return 0, err
		}
		slowest = max(slowest, time.Since(began))
		if !strings.Contains(answer, o.says) {
			return 0, fmt.Errorf("the answer to %q has no %q: %.200q", line, o.says, answer)
		}
	}
	return slowest, nil
}

// shutdownSpare opens a healthy connection, has the runtime API end it and sees that it ends.
func (s *stage) shutdownSpare(ctx context.Context) (time.Duration, error) {
	c, err := s.spare()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	sessions, err := s.proxy.order(ctx, "show sess")
	if err != nil {
		return 0, err
	}
	id := ""
	for line := range strings.Lines(sessions) {
		// 0x1e: proto=tcpv4 src=127.0.0.1:53530 fe=healthy ...
		if strings.Contains(line, " src="+c.LocalAddr().String()+" ") {
			id, _, _ = strings.Cut(line, ":")
		}
	}
	if id == "" {
		return 0, fmt.Errorf("show sess does not list the connection from %s", c.LocalAddr())
	}
	began := time.Now()
	answer, err := s.proxy.order(ctx, "shutdown session "+id)
	if err != nil || !taken(answer) {
		return 0, errors.Join(err, fmt.Errorf("shutdown session %s was answered with %q", id, answer))
	}
	took := time.Since(began)
	if err := awaitEnd(c); err != nil {
		return 0, fmt.Errorf("a connection that was shut down does not end: %w", err)
	}
	return took, nil
}

// taken reports whether an order to end a session was taken, by its answer: it was carried out, or will be
// when the worker comes back to its loop, which on a busy machine may wait for a CPU.
func taken(answer string) bool {
	answer = strings.TrimSpace(answer)
	return answer == "" || strings.Contains(answer, "it ends the session as soon as it does")
}

// spare opens a healthy connection on a worker that serves it: one of several workers may not.
func (s *stage) spare() (net.Conn, error) {
	const quickly = time.Second
	var complaint error
	for range 5 * max(1, s.c.workers) {
		c, err := net.DialTimeout("tcp", s.healthyAddress, patience)
		if err != nil {
			return nil, fmt.Errorf("opening a healthy connection: %w", err)
		}
		if s.c.workers < 2 {
			return c, exchange(c, "!")
		}
		if complaint = exchangeWithin(c, "!", quickly); complaint == nil {
			return c, nil
		}
		c.Close()
	}
	return nil, fmt.Errorf("opening a healthy connection: %w", complaint)
}
