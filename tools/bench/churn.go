package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// drainPatience is how long the last answers of a load may take.
const drainPatience = 5 * time.Second

// churner makes connection after connection, a few at a time, with one request on each.
type churner struct {
	poller    *poller
	to        *unix.SockaddrInet4
	request   []byte
	open      []attempt
	running   int
	completed int
	size      int // of an answer, 0 until the first is there
	buffer    []byte
}

// attempt is one connection.
type attempt struct {
	fd   int // -1 when there is none
	sent bool
	got  int
	tail [len(smallBody)]byte // the last bytes of the answer so far
}

// churn makes connections through a proxy for a while. The units are connections, each of which got its
// whole answer and an orderly end.
func churn(ctx context.Context, address string, together int, over time.Duration) (sample, error) {
	return onThread(func() (s sample, err error) {
		c := &churner{
			request: []byte("GET / HTTP/1.0\r\nHost: bench\r\n\r\n"), buffer: make([]byte, 4096),
			open: make([]attempt, together),
		}
		for i := range c.open {
			c.open[i].fd = -1
		}
		if c.to, err = socketAddress(address); err != nil {
			return s, err
		}
		if c.poller, err = newPoller(); err != nil {
			return s, err
		}
		defer c.close()
		began := time.Now()
		if err := c.run(ctx, began.Add(over)); err != nil {
			return s, err
		}
		s.units, s.wall = float64(c.completed), time.Since(began)
		return s, nil
	})
}

func (c *churner) close() {
	for i := range c.open {
		if c.open[i].fd >= 0 {
			unix.Close(c.open[i].fd)
		}
	}
	c.poller.close()
}

// run makes connections until the deadline and completes those that are open then.
func (c *churner) run(ctx context.Context, deadline time.Time) error {
	for i := range c.open {
		if err := c.start(i); err != nil {
			return err
		}
	}
	for c.running > 0 && ctx.Err() == nil {
		if time.Since(deadline) > drainPatience {
			return fmt.Errorf("%d of %d connections got no end within %v", c.running, c.running+c.completed,
				drainPatience)
		}
		events, err := c.poller.wait(time.Now().Add(100 * time.Millisecond))
		if err != nil {
			return err
		}
		for _, e := range events {
			ended, err := c.event(int(e.Fd))
			if err != nil {
				return err
			}
			if ended && time.Now().Before(deadline) {
				if err := c.start(int(e.Fd)); err != nil {
					return err
				}
			}
		}
	}
	return ctx.Err()
}

func (c *churner) start(i int) error {
	fd, err := connect(c.to)
	if err != nil {
		return err
	}
	c.running++
	c.open[i] = attempt{fd: fd}
	if err := c.send(&c.open[i]); err != nil {
		return err
	}
	events := uint32(unix.EPOLLIN)
	if !c.open[i].sent {
		events |= unix.EPOLLOUT | unix.EPOLLET
	}
	return c.poller.add(fd, int32(i), events)
}

func (c *churner) send(a *attempt) error {
	_, err := unix.Write(a.fd, c.request)
	switch {
	case err == nil:
		a.sent = true
	case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOTCONN):
		return fmt.Errorf("sending a request: %w", err)
	}
	return nil
}

// event takes what has come on a connection and reports whether it has ended.
func (c *churner) event(i int) (ended bool, err error) {
	a := &c.open[i]
	if !a.sent {
		if err := c.send(a); err != nil || !a.sent {
			return false, err
		}
	}
	for {
		n, err := unix.Read(a.fd, c.buffer)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false, nil
		case err != nil:
			return false, fmt.Errorf("reading an answer: %w", err)
		case n == 0:
			return true, c.end(a)
		}
		a.got += n
		if n >= len(a.tail) {
			copy(a.tail[:], c.buffer[n-len(a.tail):n])
		} else {
			copy(a.tail[:], a.tail[n:])
			copy(a.tail[len(a.tail)-n:], c.buffer[:n])
		}
	}
}

// end closes a connection and checks what it brought.
func (c *churner) end(a *attempt) error {
	unix.Close(a.fd)
	a.fd = -1
	c.running--
	if c.size == 0 {
		c.size = a.got
	}
	if a.got != c.size || !bytes.Equal(a.tail[:], []byte(smallBody)) {
		return fmt.Errorf("an answer of %d bytes ends with %q, should be %d and %q", a.got, a.tail[:], c.size,
			smallBody)
	}
	c.completed++
	return nil
}
