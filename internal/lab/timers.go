package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// blame says that a connection of the case is guilty.
func (s *stage) blame(c net.Conn) {
	s.culprit.connections = append(s.culprit.connections, c.LocalAddr().String())
}

// sayOne is a client that says one thing, has its answer, and stays.
func sayOne(_ context.Context, s *stage) error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	s.blame(c)
	return exchange(c, "EHLO client.example\r\n")
}

// silentLines are a server that never answers an attempt to connect.
func silentLines(s *stage) ([]string, error) {
	silent, err := startSilentServer()
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, silent.close)
	return []string{"server silent " + silent.address}, nil
}

// sayAndShut is a client that says one thing and shuts down.
func sayAndShut(_ context.Context, s *stage) error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	s.blame(c)
	_, err = io.WriteString(c, "QUIT\r\n")
	return errors.Join(err, c.CloseWrite())
}

// deafServer is a server that does not read.
func deafServer(s *stage) ([]string, error) {
	v, err := s.serve(func(net.Conn) { <-s.traffic.Done() })
	if err != nil {
		return nil, err
	}
	return []string{"server deaf " + v.address()}, nil
}

// fill is a client that sends more than all buffers on the way take.
func fill(_ context.Context, s *stage) error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	s.blame(c)
	s.running.Go(func() {
		for err == nil {
			_, err = c.Write(make([]byte, 64<<10))
		}
	})
	return nil
}

// sayUrgent is a client that sends urgent data in between.
func sayUrgent(_ context.Context, s *stage) error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	s.blame(c)
	if err := exchange(c, "EHLO client.example\r\n"); err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		_, failed = syscall.SendmsgN(int(fd), []byte("!"), nil, nil, syscall.MSG_OOB)
		return failed != syscall.EAGAIN
	})
	return errors.Join(err, failed)
}

// stall has clients send more at once than one read takes, until the answer to one of them stops coming.
func stall(ctx context.Context, s *stage) error {
	const attempts = 100
	for range attempts {
		c, err := s.dial()
		if err != nil {
			return err
		}
		if err := exchange(c, "EHLO client.example\r\n"); err != nil {
			return err
		}
		if stalled, err := stalls(c); err != nil || stalled {
			s.blame(c)
			return err
		}
		c.Close()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("%d times more was sent than one read takes, and all of it was answered", attempts)
}

// stalls sends a lot and reports whether the answer stops coming.
func stalls(c net.Conn) (bool, error) {
	const size, quiet = 60_000, 300 * time.Millisecond
	if _, err := io.WriteString(c, strings.Repeat("x", size)); err != nil {
		return false, err
	}
	buffer := make([]byte, size)
	for got := 0; got < size; {
		if err := c.SetReadDeadline(time.Now().Add(quiet)); err != nil {
			return false, err
		}
		n, err := c.Read(buffer)
		got += n
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// refusingServer is one where nobody listens.
func refusingServer(s *stage) ([]string, error) {
	address, err := s.refusing()
	if err != nil {
		return nil, err
	}
	s.culprit.destination = address
	return []string{"retries 3", "server dead " + address}, nil
}

// insist is a client that waits for a server to be reached.
func insist(_ context.Context, s *stage) error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	s.blame(c)
	return nil
}

// manyBytes are conversations of some size.
func manyBytes(ctx context.Context, s *stage) error {
	for range 4 {
		c, err := s.dial()
		if err != nil {
			return err
		}
		s.blame(c)
		s.repeat(1, time.Millisecond, func() error { return exchange(c, strings.Repeat("x", 4<<10)) })
	}
	return s.awaitDone(ctx, 40)
}
