package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// crew are the servers and clients of one phase. All of them end with its context.
type crew struct {
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	times   int // how many times as many clients as usual there are
	// leaving is true once the proxy was told to end: healthy conversations come to their end then, and none
	// begins.
	leaving atomic.Bool

	begun, verified atomic.Uint64 // healthy conversations
	exchanges       atomic.Uint64 // messages that came back unchanged
	through, beside course        // of latencies: through the proxy, and through an idle one

	mu       sync.Mutex
	failures []string // the first of them
	failed   int
	done     map[string]int // what was done how often
}

// keptFailures bounds the list of what went wrong; the rest is counted.
const keptFailures = 10

func newCrew(ctx context.Context, over time.Duration, times int) *crew {
	c := &crew{times: times, done: map[string]int{}}
	c.ctx, c.cancel = context.WithCancel(ctx)
	c.through.began, c.through.over = time.Now(), over
	c.beside.began, c.beside.over = c.through.began, over
	return c
}

// end ends everybody and waits for it.
func (c *crew) end() {
	c.cancel()
	c.running.Wait()
}

// fail notes what must not happen.
func (c *crew) fail(format string, arguments ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed++; len(c.failures) < keptFailures {
		c.failures = append(c.failures, fmt.Sprintf(format, arguments...))
	}
}

// note counts what was done.
func (c *crew) note(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done[what]++
}

// pause lasts a time, or until the end.
func (c *crew) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-c.ctx.Done():
	}
}

// address is where somebody listens: "tcp" and host:port, or "unix" and a path.
type address struct{ network, at string }

// dial connects. The connection is closed at the end of the phase at the latest; forget is to be called when
// it ends before.
func (c *crew) dial(to address) (_ net.Conn, forget func() bool, _ error) {
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(c.ctx, to.network, to.at)
	if err != nil {
		return nil, nil, err
	}
	return conn, context.AfterFunc(c.ctx, func() { conn.Close() }), nil
}

// serve listens until the end and handles each connection by a function, after which it is closed.
func (c *crew) serve(at address, handle func(net.Conn)) error {
	l, err := net.Listen(at.network, at.at)
	if err != nil {
		return fmt.Errorf("starting a server: %w", err)
	}
	context.AfterFunc(c.ctx, func() { l.Close() })
	c.running.Go(func() { c.accept(l, handle) })
	return nil
}

func (c *crew) accept(l net.Listener, handle func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			c.fail("a server of the tool accepts: %v", err)
			return
		}
		c.running.Go(func() {
			defer context.AfterFunc(c.ctx, func() { conn.Close() })()
			defer conn.Close()
			handle(conn)
		})
	}
}

// flap serves like serve, but goes away and comes back again and again: while it is away connections are
// refused, and those that wait to be accepted are reset when it goes.
func (c *crew) flap(at address, away, here func() time.Duration, handle func(net.Conn)) {
	c.running.Go(func() {
		for c.ctx.Err() == nil {
			l, err := net.Listen(at.network, at.at)
			if err != nil {
				c.fail("a server comes back: %v", err)
				return
			}
			accepting := make(chan struct{})
			go func() {
				defer close(accepting)
				c.accept(l, handle)
			}()
			c.pause(here())
			l.Close()
			<-accepting
			c.note("server goes away")
			c.pause(away())
		}
	})
}
