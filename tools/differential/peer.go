package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// peer is one connection of a client or a server, seen from its end.
type peer struct {
	name   string
	fd     int // -1 when it is closed
	port   int // its own
	toSend int // bytes
	// fins is true exactly when the write direction is to be shut once everything is sent.
	fins       bool
	paused     bool
	gone       bool // the connection is broken: nothing more can come
	finished   bool // the end of what the other side sends was seen
	sent, seen int  // bytes
	told       int  // those of seen that are in the transcript
	events     []string
}

// verb is something a peer or a server can be told to do.
type verb struct {
	number   bool // it has a number
	do       func(c *peer, n int) error
	ofServer func(p *play, s *server) error
	ofProxy  func(p *proxy, n int) error
	ofPlay   func(p *play, n int) error // also a step of the proxy
	until    func(p *play, m move, c *peer) bool
}

// verbs are the steps by their names; where they are the simulator's they mean the same.
var verbs map[string]verb

func init() {
	verbs = map[string]verb{
		"connect": {}, // see play.make
		"send":    {number: true, do: func(c *peer, n int) error { c.toSend += n; return nil }},
		"urgent":  {do: (*peer).urgent},
		"fin":     {do: func(c *peer, _ int) error { c.fins = true; return nil }},
		"close":   {do: func(c *peer, _ int) error { c.drop(); return nil }},
		"reset":   {do: (*peer).reset},
		"pause":   {do: func(c *peer, _ int) error { c.paused = true; return nil }},
		"resume":  {do: func(c *peer, _ int) error { c.paused = false; return nil }},
		"await":   {number: true, until: func(_ *play, m move, c *peer) bool { return c.seen >= m.n }},
		"await-end": {until: func(_ *play, _ move, c *peer) bool {
			return c.finished || c.gone || c.fd < 0
		}},
		"await-reset": {until: func(_ *play, _ move, c *peer) bool { return c.gone || c.fd < 0 }},
		"await-log":   {until: func(p *play, _ move, c *peer) bool { return p.log.has(c.port) }},
		"await-connection": {until: func(p *play, m move, _ *peer) bool {
			return p.peer(m.actor) != nil
		}},
		// What happens while the proxy is stopped happens for it at once.
		"stop":       {ofProxy: (*proxy).halt},
		"continue":   {ofProxy: (*proxy).proceed},
		"lapse":      {number: true, ofProxy: (*proxy).lapse},
		"leave":      {ofProxy: (*proxy).leave},
		"kill":       {number: true, ofPlay: (*play).kill},
		"await-exit": {ofPlay: func(p *play, _ int) error { return p.await(p.proxy.hasEnded) }},
		"open":       {ofServer: func(_ *play, s *server) error { return s.become(accepts) }},
		"refuse":     {ofServer: func(_ *play, s *server) error { return s.become(refuses) }},
	}
}

// What is read and written with one call.
const chunk = 64 << 10

// pattern is the byte at an offset of everything that is ever sent in one direction.
func pattern(offset int) byte { return byte(offset*7 + offset>>8) }

// move sends and receives what is possible and reports whether anything was.
func (c *peer) move() (bool, error) {
	if c.fd < 0 {
		return false, nil
	}
	sent, err := c.send()
	if err != nil {
		return false, err
	}
	received, err := c.receive()
	return sent || received, err
}

func (c *peer) send() (moved bool, err error) {
	if c.gone {
		return false, nil
	}
	for c.toSend > 0 {
		data := make([]byte, min(c.toSend, chunk))
		for i := range data {
			data[i] = pattern(c.sent + i)
		}
		n, err := unix.SendmsgN(c.fd, data, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		switch err {
		case nil:
			c.sent += n
			c.toSend -= n
			moved = true
		case unix.EAGAIN:
			return moved, nil
		case unix.EPIPE, unix.ECONNRESET:
			c.broken()
			return true, nil
		default:
			return moved, fmt.Errorf("%s sends: %w", c.name, err)
		}
	}
	if !c.fins {
		return moved, nil
	}
	c.fins = false
	if err := unix.Shutdown(c.fd, unix.SHUT_WR); err != nil && err != unix.ENOTCONN {
		return moved, fmt.Errorf("%s shuts: %w", c.name, err)
	}
	return true, nil
}

func (c *peer) urgent(int) error {
	data := []byte{pattern(c.sent)}
	_, err := unix.SendmsgN(c.fd, data, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT|unix.MSG_OOB)
	return err
}

// broken notes that the connection was reset.
func (c *peer) broken() {
	c.tellBytes()
	c.gone = true
	c.events = append(c.events, "RST")
}

func (c *peer) receive() (moved bool, err error) {
	data := make([]byte, chunk)
	for !c.paused && !c.gone {
		if c.finished {
			// After the end of file only a reset can come, and it shows as an error of the socket.
			if code, _ := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); code != 0 {
				c.broken()
				moved = true
			}
			return moved, nil
		}
		n, _, err := unix.Recvfrom(c.fd, data, unix.MSG_DONTWAIT)
		switch {
		case err == unix.EAGAIN:
			return moved, nil
		case err == unix.ECONNRESET || err == unix.EPIPE:
			c.broken()
		case err != nil:
			return moved, fmt.Errorf("%s reads: %w", c.name, err)
		case n == 0:
			c.tellBytes()
			c.finished = true
			c.events = append(c.events, "FIN")
		default:
			for i, b := range data[:n] {
				if b != pattern(c.seen+i) {
					return true, fmt.Errorf("%s: byte %d is not the one that was sent", c.name, c.seen+i)
				}
			}
			c.seen += n
		}
		moved = true
	}
	return moved, nil
}

// tellBytes puts what was received since the last time among the events.
func (c *peer) tellBytes() {
	if n := c.seen - c.told; n > 0 {
		c.events = append(c.events, fmt.Sprintf("%d bytes", n))
		c.told = c.seen
	}
}

// tell returns what happened since the last time.
func (c *peer) tell() []string {
	c.tellBytes()
	events := c.events
	c.events = nil
	return events
}

// drop closes the connection: with a FIN, or with a reset when there is something that was not read.
func (c *peer) drop() {
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}

func (c *peer) reset(int) error {
	if c.fd < 0 {
		return nil
	}
	err := unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	c.drop()
	return err
}

// streamSocket returns a socket for an address that does not block.
func streamSocket(at unix.Sockaddr) (int, error) {
	domain := unix.AF_INET
	switch at.(type) {
	case *unix.SockaddrInet6:
		domain = unix.AF_INET6
	case *unix.SockaddrUnix:
		domain = unix.AF_UNIX
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("making a socket: %w", err)
	}
	return fd, nil
}

// dialPeer connects to a listener of this machine, which the kernel does at once. A connection that is
// refused is a peer without one.
func dialPeer(to unix.Sockaddr, name string) (*peer, error) {
	fd, err := streamSocket(to)
	if err != nil {
		return nil, err
	}
	if err = unix.Connect(fd, to); err == unix.EINPROGRESS {
		err = awaitConnected(fd)
	}
	if err == unix.ECONNREFUSED || err == unix.ENOENT {
		unix.Close(fd)
		return &peer{name: name, fd: -1, events: []string{"refused"}}, nil
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("connecting to %+v: %w", to, err)
	}
	return &peer{name: name, fd: fd, port: portOf(fd)}, nil
}

// awaitConnected waits for the end of a connection attempt.
func awaitConnected(fd int) error {
	set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(set, int(patience.Milliseconds()))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("waiting for a connection: %w", err)
		case n == 0:
			return fmt.Errorf("a listener of this machine does not answer")
		default:
			if code, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); code != 0 {
				return unix.Errno(code)
			}
			return nil
		}
	}
}

// portOf returns the port that a socket is bound to. A client of a unix socket has none; in the log it has
// the number of the listener.
func portOf(fd int) int {
	at, err := unix.Getsockname(fd)
	if err != nil {
		return 0
	}
	switch at := at.(type) {
	case *unix.SockaddrInet4:
		return at.Port
	case *unix.SockaddrInet6:
		return at.Port
	}
	return onlyListener
}

// onlyListener is the number of the proxy's listener.
const onlyListener = 1
