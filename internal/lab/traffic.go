package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// server accepts connections on loopback and handles each by a function.
type server struct {
	listener net.Listener
	handle   func(net.Conn)
	handlers sync.WaitGroup

	mu   sync.Mutex
	open map[net.Conn]bool // nil once it is closed
}

func startServer(handle func(net.Conn)) (*server, error) { return startServerAt("127.0.0.1:0", handle) }

func startServerAt(address string, handle func(net.Conn)) (*server, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("starting a server: %w", err)
	}
	s := &server{listener: l, handle: handle, open: map[net.Conn]bool{}}
	s.handlers.Go(s.accept)
	return s, nil
}

func (s *server) address() string { return s.listener.Addr().String() }

func (s *server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.open == nil {
			s.mu.Unlock()
			c.Close()
			return
		}
		s.open[c] = true
		s.mu.Unlock()
		s.handlers.Go(func() {
			s.handle(c)
			s.mu.Lock()
			delete(s.open, c)
			s.mu.Unlock()
			c.Close()
		})
	}
}

// close ends the server and all connections to it.
func (s *server) close() {
	s.listener.Close()
	s.mu.Lock()
	for c := range s.open {
		c.Close()
	}
	s.open = nil
	s.mu.Unlock()
	s.handlers.Wait()
}

// echo sends back what it gets, until the end of it.
func echo(c net.Conn) { _, _ = io.Copy(c, c) }

// silent reads and says nothing.
func silent(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// exchange sends a message to an echo and waits until it has come back.
func exchange(c net.Conn, message string) error { return exchangeWithin(c, message, patience) }

func exchangeWithin(c net.Conn, message string, limit time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, message); err != nil {
		return err
	}
	back := make([]byte, len(message))
	if _, err := io.ReadFull(c, back); err != nil {
		return err
	}
	if string(back) != message {
		return errors.New("a message came back changed")
	}
	return nil
}

// awaitEnd reads until the other side ends the connection, in whatever way.
func awaitEnd(c net.Conn) error {
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return err
	}
	return nil
}

// reset ends a connection with a reset.
func reset(c *net.TCPConn) error {
	if err := c.SetLinger(0); err != nil {
		return err
	}
	return c.Close()
}

// conversation is the healthy traffic: clients that send a message, wait for its echo, and rest.
type conversation struct {
	served  atomic.Int64
	finish  chan struct{}
	talkers sync.WaitGroup

	mu     sync.Mutex
	failed error // the first failure
}

// message is what a healthy client says.
var message = strings.Repeat("a message of some length ", 8)

// converse opens the conversations and waits until each has begun.
func converse(ctx context.Context, address string, together int) (*conversation, error) {
	v := &conversation{finish: make(chan struct{})}
	for range together {
		c, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", address)
		if err == nil {
			err = exchange(c, message)
		}
		if err != nil {
			return v, fmt.Errorf("beginning a healthy conversation: %w", err)
		}
		v.talkers.Go(func() {
			defer context.AfterFunc(ctx, func() { c.Close() })()
			defer c.Close()
			v.talk(c)
		})
	}
	return v, nil
}

func (v *conversation) talk(c net.Conn) {
	for {
		if err := exchange(c, message); err != nil {
			v.mu.Lock()
			if v.failed == nil {
				v.failed = fmt.Errorf("a healthy conversation: %w", err)
			}
			v.mu.Unlock()
			return
		}
		v.served.Add(1)
		select {
		case <-v.finish:
			return
		case <-time.After(rest):
		}
	}
}

// failure returns what has gone wrong so far.
func (v *conversation) failure() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.failed
}

// end ends the conversations in order and returns what was wrong.
func (v *conversation) end() error {
	close(v.finish)
	v.talkers.Wait()
	return v.failure()
}

// reservePort binds a port of loopback without listening on it: connections to it are refused, and nobody
// else is given it. The caller calls release.
func reservePort() (address string, release func(), err error) {
	fail := func(err error) (string, func(), error) {
		return "", nil, fmt.Errorf("reserving a port: %w", err)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	release = func() { syscall.Close(fd) }
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		release()
		return fail(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		release()
		return fail(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port), release, nil
}

// refusing returns an address that refuses connections until the stage releases it.
func (s *stage) refusing() (string, error) {
	address, release, err := reservePort()
	if err == nil {
		s.release = sync.OnceFunc(release)
		s.closers = append(s.closers, s.release)
	}
	return address, err
}
