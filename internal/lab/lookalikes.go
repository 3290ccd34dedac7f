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

	"github.com/whyspin/whyspin/internal/correlate"
)

// lookAlikes are the cases that only look like one of the classes. What by its nature is another program's
// (L2, L4) runs in one. Not here: L19 (AF_UNIX datagrams), which no epoll program at hand uses, and L21 (slow
// motion under strace), for what is being traced cannot be watched.
var lookAlikes = []Case{
	{
		Name: "saturated", Class: "L1",
		Shows: "as many messages as the proxy can take, and it never sleeps",
		start: saturate,
	},
	{
		Name: "busy-polling", Class: "L2",
		Shows: "a HAProxy whose configuration asks it never to sleep",
		Needs: "haproxy", launch: launchHAProxy, start: nothing, verdict: correlate.Configured,
	},
	{
		Name: "runtime-poller", Class: "L3",
		Shows: "the Go runtime's own epoll set, busy with the runtime API",
		start: runtimePoller,
	},
	{
		Name: "immediates", Class: "L4",
		Shows: "a Node that computes in slices, with polls in between",
		Needs: "node", launch: launchNode, start: nothing,
	},
	{
		Name: "short-timers", Class: "L5",
		Shows: "streams that end by timeouts of 10 ms, one after the other",
		lines: plain("timeout client 10ms"), start: shortTimers,
	},
	{
		Name: "four-byte-chat", Class: "L6",
		Shows: "messages of four bytes to and fro on 50 connections",
		start: chat(50, 1, "tick", 5*time.Millisecond),
	},
	{
		Name: "record-headers", Class: "L7",
		Shows: "headers of 5 bytes that come alone, as those of TLS records do",
		start: recordHeaders,
	},
	{
		Name: "tls-stops", Class: "L7",
		Shows:  "TLS that waits: within handshakes, within records, and for clients that do not read",
		secure: true, start: stopWithin,
	},
	{
		Name: "ends-of-bursts", Class: "L8",
		Shows: "one EAGAIN after each burst and one end of input after the last",
		start: bursts,
	},
	{
		Name: "accept-bursts", Class: "L9",
		Shows:   "50 connections at a time on two workers that wait for them",
		workers: 2, start: acceptBursts,
	},
	{
		Name: "health-checks", Class: "L10",
		Shows: "connections that are closed as soon as they are there",
		start: probesOfOthers,
	},
	{
		Name: "reset-storm", Class: "L11",
		Shows: "clients that reset their connections, each followed by a close",
		start: resetStorm,
	},
	{
		Name: "hangup-twice", Class: "L12",
		Shows: "an end of input, then a reset: RDHUP first, then ERR and HUP with it",
		lines: resettingServer, start: hangUpTwice,
	},
	{
		Name: "wakeup-bytes", Class: "L13",
		Shows:   "workers that wake each other, and messages of one byte",
		workers: 2, start: wakeupBytes,
	},
	{
		Name: "heavy-handlers", Class: "L14",
		Shows: "dumps of 400 streams, one after the other: much CPU, much work",
		start: heavyHandlers,
	},
	{
		Name: "traffic-loop", Class: "L15",
		Shows: "a server that is the proxy's own listener: a client's connection comes back 100 times",
		lines: ownListener, start: circle, verdict: correlate.TrafficLoop,
	},
	{
		Name: "housekeeping", Class: "L16",
		Shows: "300 idle streams, and somebody who asks for figures 100 times a second",
		start: housekeeping,
	},
	{
		Name: "soft-stop", Class: "L17",
		Shows: "a proxy that stops and waits for its last streams",
		start: softStop,
	},
	{
		Name: "retries-with-delay", Class: "L18",
		Shows: "a dead server, tried again and again with a delay",
		lines: deadServer, start: retriesWithDelay,
	},
	{
		Name: "profiling-signals", Class: "L20",
		Shows: "a thousand SIGPROF a second: waits that end with EINTR",
		start: profilingSignals,
	},
	{
		Name: "deferred-handlers", Class: "L22",
		Shows: "500 connections at once: events come again before it is their turn",
		start: chat(500, 3, message, 50*time.Millisecond),
	},
}

// nothing starts no traffic: the program itself is the case.
func nothing(ctx context.Context, s *stage) error { return s.awaitHealthy(ctx) }

// plain are lines in front of the echo server.
func plain(more ...string) func(s *stage) ([]string, error) {
	return func(s *stage) ([]string, error) { return append(more, "server echo "+s.echo.address()), nil }
}

// chat opens connections on each of which messages go to and fro, several pieces to a message.
func chat(connections, pieces int, piece string, pause time.Duration) func(context.Context, *stage) error {
	return func(ctx context.Context, s *stage) error {
		for range connections {
			c, err := s.dial()
			if err != nil {
				return err
			}
			s.repeat(1, pause, func() error {
				for range pieces - 1 {
					if _, err := io.WriteString(c, piece); err != nil {
						return err
					}
				}
				if err := exchange(c, piece); err != nil {
					return err
				}
				_, err := io.CopyN(io.Discard, c, int64(len(piece)*(pieces-1)))
				return err
			})
		}
		return s.awaitDone(ctx, int64(5*connections))
	}
}

func saturate(ctx context.Context, s *stage) error {
	return chat(64, 1, strings.Repeat("x", 4<<10), 0)(ctx, s)
}

func runtimePoller(ctx context.Context, s *stage) error {
	s.repeat(4, 0, func() error {
		_, err := s.proxy.order(s.traffic, "show info")
		return err
	})
	return s.awaitDone(ctx, 100)
}

func shortTimers(ctx context.Context, s *stage) error {
	s.repeat(20, 0, func() error {
		return s.visit(func(c *net.TCPConn) error { return awaitEnd(c) })
	})
	return s.awaitDone(ctx, 100)
}

func recordHeaders(ctx context.Context, s *stage) error {
	for range 10 {
		c, err := s.dial()
		if err != nil {
			return err
		}
		s.repeat(1, time.Millisecond, func() error {
			if err := exchange(c, "\x17\x03\x03\x01\x00"); err != nil {
				return err
			}
			return exchange(c, message)
		})
	}
	return s.awaitDone(ctx, 500)
}

func bursts(ctx context.Context, s *stage) error {
	burst := strings.Repeat("x", 16<<10)
	s.repeat(8, time.Millisecond, func() error {
		return s.visit(func(c *net.TCPConn) error {
			for range 4 {
				if err := exchange(c, burst); err != nil {
					return err
				}
			}
			return errors.Join(c.CloseWrite(), awaitEnd(c))
		})
	})
	return s.awaitDone(ctx, 100)
}

func acceptBursts(ctx context.Context, s *stage) error {
	s.repeat(50, 50*time.Millisecond, func() error {
		return s.visit(func(c *net.TCPConn) error { return exchange(c, "!") })
	})
	return s.awaitDone(ctx, 300)
}

func probesOfOthers(ctx context.Context, s *stage) error {
	s.repeat(8, 5*time.Millisecond, func() error {
		return s.visit(func(*net.TCPConn) error { return nil })
	})
	return s.awaitDone(ctx, 200)
}

func resetStorm(ctx context.Context, s *stage) error {
	s.repeat(8, 0, func() error {
		return s.visit(func(c *net.TCPConn) error {
			_, err := io.WriteString(c, message)
			return errors.Join(err, reset(c))
		})
	})
	return s.awaitDone(ctx, 500)
}

// resettingServer is one that answers the end of its input with a reset.
func resettingServer(s *stage) ([]string, error) {
	v, err := s.serve(func(c net.Conn) {
		silent(c)
		_ = reset(c.(*net.TCPConn)) // it may be closed already
	})
	if err != nil {
		return nil, err
	}
	return []string{"server resets " + v.address()}, nil
}

func hangUpTwice(ctx context.Context, s *stage) error {
	s.repeat(8, time.Millisecond, func() error {
		return s.visit(func(c *net.TCPConn) error {
			_, err := io.WriteString(c, message)
			return errors.Join(err, c.CloseWrite(), awaitEnd(c))
		})
	})
	return s.awaitDone(ctx, 200)
}

func wakeupBytes(ctx context.Context, s *stage) error {
	s.repeat(4, time.Millisecond, func() error {
		return s.visit(func(c *net.TCPConn) error { return exchange(c, "!") })
	})
	s.repeat(1, time.Millisecond, func() error {
		_, err := s.proxy.order(s.traffic, "show sess all")
		return err
	})
	return s.awaitDone(ctx, 200)
}

// idle opens connections that say one thing and then nothing.
func (s *stage) idle(connections int) error {
	for range connections {
		c, err := s.dial()
		if err != nil {
			return err
		}
		if err := exchange(c, "!"); err != nil {
			return err
		}
	}
	return nil
}

func heavyHandlers(ctx context.Context, s *stage) error {
	if err := s.idle(400); err != nil {
		return err
	}
	s.repeat(3, 0, func() error {
		_, err := s.proxy.order(s.traffic, "show sess all")
		return err
	})
	return s.awaitDone(ctx, 20)
}

// ownListener leads back to where the client came from, until there is no more room.
func ownListener(s *stage) ([]string, error) {
	return []string{"maxconn 100", "server self " + s.address}, nil
}

func circle(ctx context.Context, s *stage) error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(c, message); err != nil {
		return err
	}
	return until(ctx, patience, "the circle to be closed 100 times", func() (bool, error) {
		state, err := s.proxy.state(ctx)
		return err == nil && state.StreamCount >= 100, err
	})
}

func housekeeping(ctx context.Context, s *stage) error {
	if err := s.idle(300); err != nil {
		return err
	}
	s.repeat(1, 10*time.Millisecond, func() error {
		_, err := s.proxy.order(s.traffic, "show info")
		return err
	})
	return s.awaitDone(ctx, 20)
}

func softStop(ctx context.Context, s *stage) error {
	if err := chat(10, 1, message, 5*time.Millisecond)(ctx, s); err != nil {
		return err
	}
	s.stopping = true
	if err := s.proxy.command.Process.Signal(syscall.SIGUSR1); err != nil {
		return fmt.Errorf("stopping the proxy: %w", err)
	}
	return until(ctx, patience, "the proxy to stop listening", func() (bool, error) {
		c, err := net.Dial("tcp", s.address)
		if err == nil {
			c.Close()
		}
		return err != nil, s.proxy.alive()
	})
}

func deadServer(s *stage) ([]string, error) {
	address, err := s.refusing()
	if err != nil {
		return nil, err
	}
	return []string{"retries 3", "timeout connect 100ms", "server dead " + address}, nil
}

func retriesWithDelay(ctx context.Context, s *stage) error {
	s.repeat(20, 0, func() error {
		return s.visit(func(c *net.TCPConn) error { return awaitEnd(c) })
	})
	return s.awaitDone(ctx, 20)
}

// profilingSignals sends them to the worker, as a profiler's timer does.
func profilingSignals(ctx context.Context, s *stage) error {
	state, err := s.proxy.state(ctx)
	if err != nil {
		return err
	}
	s.repeat(1, time.Millisecond, func() error {
		return syscall.Tgkill(s.proxy.pid(), state.Workers[0].TID, syscall.SIGPROF)
	})
	return s.awaitDone(ctx, 200)
}
