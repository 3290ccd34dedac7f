package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/whyspin/whyspin/internal/correlate"
)

// ownEcho is an echo server to which only the streams of the case are connected.
func ownEcho(s *stage) ([]string, error) {
	v, err := s.serve(echo)
	if err != nil {
		return nil, err
	}
	s.culprit.connections = append(s.culprit.connections, v.address())
	return []string{"server own " + v.address()}, nil
}

// holdingServer reads to the end, says so, and keeps its connection.
func holdingServer(s *stage) ([]string, error) {
	s.ended = make(chan struct{}, 1)
	v, err := s.serve(func(c net.Conn) {
		silent(c)
		select {
		case s.ended <- struct{}{}:
		default:
		}
		<-s.traffic.Done()
	})
	if err != nil {
		return nil, err
	}
	return []string{"server holds " + v.address()}, nil
}

// shutAndReset is a client that shuts down, and resets when the proxy has passed that on.
func shutAndReset(ctx context.Context, s *stage) error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	s.blame(c)
	if _, err := io.WriteString(c, "QUIT\r\n"); err != nil {
		return err
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	err = until(ctx, patience, "the end of the client's input to arrive", func() (bool, error) {
		return len(s.ended) > 0, s.proxy.alive()
	})
	return errors.Join(err, reset(c))
}

// overfill opens one connection more than the frontend takes.
func overfill(ctx context.Context, s *stage) error {
	s.culprit.listener = s.address
	for range 2 {
		if err := sayOne(ctx, s); err != nil {
			return err
		}
	}
	s.culprit.connections = nil // those are in order
	_, err := s.dial()
	return err
}

// endingServer ends a connection after its first answer.
func endingServer(s *stage) ([]string, error) {
	v, err := s.serve(func(c net.Conn) { _, _ = io.CopyN(c, c, int64(len(farewell))) })
	if err != nil {
		return nil, err
	}
	return []string{"server ends " + v.address()}, nil
}

// farewell is all that a client of endingServer says.
const farewell = "QUIT\r\n"

// sayAndLeave is a client that has its answer, sees the end and ends, too.
func sayAndLeave(_ context.Context, s *stage) error {
	s.culprit.gone = true
	return s.visit(func(c *net.TCPConn) error {
		return errors.Join(exchange(c, farewell), awaitEnd(c))
	})
}

// crowd opens connections until some have been handed from one worker to another. All of them go on talking,
// so that it can be seen who serves them.
func crowd(ctx context.Context, s *stage) error {
	const together, attempts = 30, 20
	// Connections of the background, whose frontend is in order, may have been handed over, too.
	before, err := s.handed(ctx)
	if err != nil {
		return err
	}
	for range attempts {
		for range together {
			c, err := s.dial()
			if err != nil {
				return err
			}
			s.blame(c)
			s.repeat(1, rest, func() error { return exchange(c, message) })
		}
		// The proxy has answered each before it is asked how many it has handed over.
		if err := s.awaitDone(ctx, s.done.Load()+4*together); err != nil {
			return err
		}
		if handed, err := s.handed(ctx); err != nil || handed > before {
			return err
		}
	}
	return fmt.Errorf("of %d connections none was handed to another worker", together*attempts)
}

// handed is how many connections the workers have handed to others.
func (s *stage) handed(ctx context.Context) (int, error) {
	activity, err := s.proxy.order(ctx, "show activity")
	if err != nil {
		return 0, err
	}
	_, counts, _ := strings.Cut(activity, "accq_pushed:")
	var handed int
	if _, err := fmt.Sscan(counts, &handed); err != nil {
		return 0, fmt.Errorf("show activity does not say what was handed over: %w: %.200q", err, activity)
	}
	return handed, nil
}

// drain lets the last streams end, and with them the process.
func drain(ctx context.Context, s *stage, _ *correlate.Diagnosis) error {
	if err := s.endTraffic(); err != nil {
		return err
	}
	select {
	case <-s.proxy.ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	s.remedied = append(s.remedied, "the last streams have ended")
	return nil
}
