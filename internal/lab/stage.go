package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whyspin/whyspin/internal/freeport"
)

// stage is a case in progress: the proxy, the servers, the healthy traffic and that of the case.
type stage struct {
	c         *Case
	program   string // the whyspin to run as the proxy
	action    string // whyspin.spin-action, empty for the default
	directory string
	socket    string // of the proxy's runtime API
	proxy     *proxy
	echo      *server
	// address is where the traffic of the case goes, healthyAddress where the healthy traffic does.
	address, healthyAddress string
	healthy                 *conversation
	culprit                 culprit
	stopping                bool     // true exactly when the proxy takes no more connections
	remedied                []string // what the remedy did, in order

	// done counts what the traffic of the case has done, complaint is the last error that it met.
	done      atomic.Int64
	complaint atomic.Value
	// traffic ends with cancel; closers close the servers of the case after it.
	traffic context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	closers []func()
	ended   chan struct{} // filled when a server of the case has read to the end
	release func()        // of the address that refuses connections
}

// talkers is how many healthy conversations go on beside the case, with rest between two messages: far below
// what the proxy could serve, as it is where a spin goes unnoticed.
const (
	talkers = 8
	rest    = 20 * time.Millisecond
)

// patience bounds every wait for a condition. It measures nothing: who reaches it has hung.
const patience = 30 * time.Second

// open starts the proxy of a case and the healthy traffic. The caller closes the stage, also after an error.
func open(ctx context.Context, c *Case, program, action string) (*stage, error) {
	s := &stage{c: c, program: program, action: action}
	s.traffic, s.cancel = context.WithCancel(ctx)
	if err := c.Missing(); err != nil {
		return s, err
	}
	var err error
	if s.directory, err = os.MkdirTemp("", "whyspin-lab-"); err != nil {
		return s, fmt.Errorf("making a directory for the case: %w", err)
	}
	s.socket = filepath.Join(s.directory, "stats.sock")
	for _, address := range []*string{&s.address, &s.healthyAddress} {
		port, err := freeport.Get()
		if err != nil {
			return s, err
		}
		*address = fmt.Sprintf("127.0.0.1:%d", port)
	}
	if s.echo, err = startServer(echo); err != nil {
		return s, err
	}
	if c.launch != nil {
		err = c.launch(ctx, s)
	} else {
		err = s.launch(ctx)
	}
	if err != nil {
		return s, err
	}
	s.healthy, err = converse(ctx, s.healthyAddress, talkers)
	return s, err
}

// launch starts the proxy.
func (s *stage) launch(ctx context.Context) error {
	text, err := s.c.configuration(s)
	if err != nil {
		return err
	}
	s.proxy, err = startProxy(ctx, s.program, s.directory, text, s.socket)
	return err
}

// endTraffic ends the traffic of the case and its servers, and the healthy one. It returns what was wrong
// with the healthy one.
func (s *stage) endTraffic() error {
	var err error
	if s.healthy != nil {
		err = s.healthy.end()
		s.healthy = nil
	}
	s.endCase()
	return err
}

// endCase ends the traffic of the case and its servers.
func (s *stage) endCase() {
	s.cancel()
	s.running.Wait()
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
	s.closers = nil
}

// close ends everything that open and the case have started.
func (s *stage) close() {
	_ = s.endTraffic() // whoever wants to know has ended it before
	if s.proxy != nil {
		s.proxy.stop()
	}
	if s.echo != nil {
		s.echo.close()
	}
	if s.directory != "" {
		os.RemoveAll(s.directory)
	}
}

// serve starts a server of the case whose connections are handled by a function. It ends with the traffic.
func (s *stage) serve(handle func(net.Conn)) (*server, error) {
	v, err := startServer(handle)
	if err == nil {
		s.closers = append(s.closers, v.close)
	}
	return v, err
}

// dial opens a connection to the proxy's section of the case. It is closed with the traffic at the latest.
func (s *stage) dial() (*net.TCPConn, error) {
	c, _, err := s.connect()
	return c, err
}

// connect is dial for connections that end before the traffic: forget must be called then.
func (s *stage) connect() (_ *net.TCPConn, forget func() bool, _ error) {
	c, err := (&net.Dialer{Timeout: patience}).DialContext(s.traffic, "tcp", s.address)
	if err != nil {
		return nil, nil, err
	}
	return c.(*net.TCPConn), context.AfterFunc(s.traffic, func() { c.Close() }), nil
}

// visit opens a connection, does something with it and closes it.
func (s *stage) visit(do func(c *net.TCPConn) error) error {
	c, forget, err := s.connect()
	if err != nil {
		return err
	}
	defer forget()
	defer c.Close()
	return do(c)
}

// repeat does something again and again, several times at once, with a pause between, until the traffic
// ends. What it met last goes into the error when a wait for its success is in vain.
func (s *stage) repeat(together int, pause time.Duration, do func() error) {
	for range together {
		s.running.Go(func() {
			for s.traffic.Err() == nil {
				wait := pause
				if err := do(); err == nil {
					s.done.Add(1)
				} else if s.traffic.Err() == nil {
					s.complaint.Store(err.Error())
					wait = max(pause, time.Millisecond) // no ports for the moment, for instance
				}
				if wait > 0 {
					s.pause(wait)
				}
			}
		})
	}
}

// pause lasts a time, or until the traffic ends.
func (s *stage) pause(length time.Duration) {
	select {
	case <-time.After(length):
	case <-s.traffic.Done():
	}
}

// awaitDone waits until the traffic has done its thing so many times.
func (s *stage) awaitDone(ctx context.Context, times int64) error {
	err := until(ctx, patience, "the traffic of the case", func() (bool, error) {
		return s.done.Load() >= times, s.proxy.alive()
	})
	if text, ok := s.complaint.Load().(string); ok && err != nil {
		err = fmt.Errorf("%w: its last complaint was: %s", err, text)
	}
	return err
}

// awaitHealthy waits until the healthy traffic has made progress.
func (s *stage) awaitHealthy(ctx context.Context) error {
	before := s.healthy.served.Load()
	return until(ctx, patience, "progress of the healthy traffic", func() (bool, error) {
		return s.healthy.served.Load() >= before+talkers, errors.Join(s.proxy.alive(), s.healthy.failure())
	})
}
