package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// messageSize is the size of a message of ping-pong: a number.
const messageSize = 4

// court plays ping-pong through proxies: players send a number, the wall behind the proxy sends it back.
// Players and wall share one thread, which leaves the other core to the proxy.
type court struct {
	address  string // of the wall
	poller   *poller
	places   []place                // by the id of their events; 0 is the listener
	teams    map[string][]int32     // the players of each proxy, by its address
	returned map[bool]int           // messages that came back to players (false) and to the wall (true)
	buffer   [16 * messageSize]byte // more than one message is a mistake, to be seen
}

// place is one connection.
type place struct {
	fd   int
	wall bool
	next uint32 // the number that a player expects back
}

func newCourt() (c *court, err error) {
	c = &court{teams: map[string][]int32{}, places: []place{{fd: -1}}}
	if c.poller, err = newPoller(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("creating a socket: %w", err)
	}
	c.places[0].fd = fd
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return nil, fmt.Errorf("setting TCP_NODELAY: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, fmt.Errorf("binding the wall: %w", err)
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		return nil, fmt.Errorf("asking for the address of the wall: %w", err)
	}
	c.address = fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port)
	return c, c.poller.add(fd, 0, unix.EPOLLIN)
}

func (c *court) close() {
	for _, p := range c.places {
		if p.fd >= 0 {
			unix.Close(p.fd)
		}
	}
	c.poller.close()
}

// play lets the players of a proxy exchange messages for a while. The units are messages: each exchange is
// two, there and back.
func (c *court) play(ctx context.Context, address string, players int, over time.Duration) (sample, error) {
	return onThread(func() (s sample, err error) {
		if len(c.teams[address]) == 0 {
			if err := c.join(address, players); err != nil {
				return s, err
			}
		}
		c.returned = map[bool]int{}
		began := time.Now()
		if err := c.exchange(ctx, c.teams[address], began.Add(over)); err != nil {
			return s, err
		}
		s.wall = time.Since(began)
		if c.returned[true] != c.returned[false] {
			return s, fmt.Errorf("%d messages reached the wall and %d came back", c.returned[true],
				c.returned[false])
		}
		s.units = float64(c.returned[true] + c.returned[false])
		return s, nil
	})
}

// join connects the players of a proxy.
func (c *court) join(address string, players int) error {
	to, err := socketAddress(address)
	if err != nil {
		return err
	}
	for range players {
		fd, err := connect(to)
		if err != nil {
			return err
		}
		id := int32(len(c.places))
		c.places = append(c.places, place{fd: fd})
		if err := established(fd); err != nil {
			return err
		}
		if err := c.poller.add(fd, id, unix.EPOLLIN); err != nil {
			return err
		}
		c.teams[address] = append(c.teams[address], id)
	}
	return nil
}

func (c *court) exchange(ctx context.Context, team []int32, deadline time.Time) error {
	playing := len(team)
	for _, id := range team {
		if err := c.serve(&c.places[id]); err != nil {
			return err
		}
	}
	for playing > 0 && ctx.Err() == nil {
		if time.Since(deadline) > drainPatience {
			return fmt.Errorf("%d messages did not come back within %v", playing, drainPatience)
		}
		events, err := c.poller.wait(time.Now().Add(100 * time.Millisecond))
		if err != nil {
			return err
		}
		more := time.Now().Before(deadline)
		for _, e := range events {
			var err error
			p := &c.places[e.Fd]
			switch {
			case e.Fd == 0:
				err = c.accept()
			case p.wall:
				err = c.bounce(p)
			default:
				var ended bool
				ended, err = c.receive(p, more)
				if ended {
					playing--
				}
			}
			if err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

func (c *court) accept() error {
	for {
		fd, _, err := unix.Accept4(c.places[0].fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil:
			return fmt.Errorf("accepting: %w", err)
		}
		id := int32(len(c.places))
		c.places = append(c.places, place{fd: fd, wall: true})
		if err := c.poller.add(fd, id, unix.EPOLLIN); err != nil {
			return err
		}
	}
}

// seat connects spectators to the wall through a proxy: connections on which nothing is ever said.
func (c *court) seat(ctx context.Context, address string, n int) error {
	_, err := onThread(func() (struct{}, error) {
		to, err := socketAddress(address)
		if err != nil {
			return struct{}{}, err
		}
		before := len(c.places)
		for range n {
			fd, err := connect(to)
			if err != nil {
				return struct{}{}, err
			}
			c.places = append(c.places, place{fd: fd})
			if err := established(fd); err != nil {
				return struct{}{}, err
			}
			if err := c.accept(); err != nil {
				return struct{}{}, err
			}
		}
		// Each has two places: its own, and the one of the wall. The proxy may still be on its way there.
		err = until(ctx, startPatience, "the spectators to be seated", func() (bool, error) {
			return len(c.places)-before >= 2*n, c.accept()
		})
		return struct{}{}, err
	})
	return err
}

// serve sends a player's next number.
func (c *court) serve(p *place) error {
	p.next++
	binary.LittleEndian.PutUint32(c.buffer[:], p.next)
	if _, err := unix.Write(p.fd, c.buffer[:messageSize]); err != nil {
		return fmt.Errorf("sending message %d: %w", p.next, err)
	}
	return nil
}

// bounce sends back what reached the wall.
func (c *court) bounce(p *place) error {
	n, err := unix.Read(p.fd, c.buffer[:])
	switch {
	case errors.Is(err, unix.EAGAIN):
		return nil
	case err != nil:
		return fmt.Errorf("reading at the wall: %w", err)
	case n == 0:
		// Whoever looked whether the proxy is there has gone. A player that loses its wall gets no message
		// back, and that is noticed.
		err := unix.Close(p.fd)
		p.fd = -1
		return err
	case n != messageSize:
		return fmt.Errorf("%d bytes reached the wall, a message has %d", n, messageSize)
	}
	c.returned[true]++
	if _, err := unix.Write(p.fd, c.buffer[:n]); err != nil {
		return fmt.Errorf("sending back: %w", err)
	}
	return nil
}

// receive takes what came back to a player and lets it send the next number. It reports whether the player
// has ended.
func (c *court) receive(p *place, more bool) (ended bool, err error) {
	n, err := unix.Read(p.fd, c.buffer[:])
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("reading what came back: %w", err)
	case n != messageSize || binary.LittleEndian.Uint32(c.buffer[:]) != p.next:
		return false, fmt.Errorf("%x came back, should be message %d", c.buffer[:n], p.next)
	}
	c.returned[false]++
	if !more {
		return true, nil
	}
	return false, c.serve(p)
}
