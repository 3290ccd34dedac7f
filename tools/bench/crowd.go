package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// echo is a server that sends back what it gets and otherwise holds its connections.
type echo struct {
	listener net.Listener
	address  string
	serving  sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]bool
	done bool
}

func newEcho() (*echo, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the echo server: %w", err)
	}
	e := &echo{listener: l, address: l.Addr().String(), open: map[net.Conn]bool{}}
	e.serving.Go(e.accept)
	return e, nil
}

func (e *echo) accept() {
	for {
		c, err := e.listener.Accept()
		if err != nil {
			return
		}
		e.mu.Lock()
		if e.done {
			e.mu.Unlock()
			c.Close()
			return
		}
		e.open[c] = true
		e.mu.Unlock()
		e.serving.Go(func() { e.serve(c) })
	}
}

// echoBuffer is small because there are thousands of connections with messages of a few bytes.
const echoBuffer = 64

func (e *echo) serve(c net.Conn) {
	defer func() {
		e.mu.Lock()
		delete(e.open, c)
		e.mu.Unlock()
		c.Close()
	}()
	var buffer [echoBuffer]byte
	for {
		n, err := c.Read(buffer[:])
		if err != nil {
			return
		}
		if _, err := c.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func (e *echo) close() {
	e.listener.Close()
	e.mu.Lock()
	e.done = true
	for c := range e.open {
		c.Close()
	}
	e.mu.Unlock()
	e.serving.Wait()
}

// crowd are connections through a proxy that are idle after each has sent a few bytes and got them back.
type crowd struct {
	members []net.Conn
}

// dialers is how many connections are opened at a time.
const dialers = 8

// gather opens n connections to an echo server through a proxy.
func gather(ctx context.Context, open func() (net.Conn, error), n int) (*crowd, error) {
	c := &crowd{members: make([]net.Conn, n)}
	var next atomic.Int64
	var working sync.WaitGroup
	failures := make([]error, dialers)
	for d := range dialers {
		working.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if c.members[i], failures[d] = greet(open, i); failures[d] != nil {
					return
				}
			}
		})
	}
	working.Wait()
	if err := errors.Join(append(failures, ctx.Err())...); err != nil {
		c.close()
		return nil, fmt.Errorf("opening %d connections: %w", n, err)
	}
	return c, nil
}

// greet opens a connection and sees that it leads to the server and back.
func greet(open func() (net.Conn, error), number int) (net.Conn, error) {
	c, err := open()
	if err != nil {
		return nil, err
	}
	message := fmt.Sprintf("%04x", number)
	got := make([]byte, len(message))
	if _, err = io.WriteString(c, message); err == nil {
		_, err = io.ReadFull(c, got)
	}
	if err == nil && string(got) != message {
		err = fmt.Errorf("%q came back, should be %q", got, message)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *crowd) close() {
	for _, m := range c.members {
		if m != nil {
			m.Close()
		}
	}
}
