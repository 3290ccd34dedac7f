package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// request and answer are what a client and the server say. The server closes after the answer to a request
// of the other kind.
var (
	request     = []byte("one more")
	lastRequest = []byte("the last")
	answer      = []byte("an answer that is a little longer than what was asked")
)

// server answers requests.
type server struct {
	listener net.Listener
	serving  sync.WaitGroup
}

func startServer() (*server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the server: %w", err)
	}
	s := &server{listener: l}
	s.serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.serving.Go(func() { serve(c) })
		}
	})
	return s, nil
}

func (s *server) address() string { return s.listener.Addr().String() }

// close ends the server. Its connections end with the proxies before it.
func (s *server) close() {
	s.listener.Close()
	s.serving.Wait()
}

func serve(c net.Conn) {
	defer c.Close()
	got := make([]byte, len(request))
	for {
		if _, err := io.ReadFull(c, got); err != nil {
			return
		}
		if _, err := c.Write(answer); err != nil || string(got) == string(lastRequest) {
			return
		}
	}
}

// work is something that both proxies do.
type work struct {
	name, does string
	unit       string
	units      int
	// prepare brings about what is no part of the work, and returns it. open opens a connection.
	prepare func(open opener) (play func() error, err error)
	secure  bool // the clients speak TLS
	budget  map[string]allowance
}

const (
	requests    = 300
	connections = 200
	together    = 20
)

// works are what both do. One request at a time shows what one costs; many together show what batches save.
var works = []work{
	{
		name: "request", does: "one connection, one request after the other", unit: "request",
		units: requests, budget: perRequest,
		prepare: func(open opener) (func() error, error) { return keepAlive(open, 1, requests) },
	},
	{
		name: "requests", does: fmt.Sprintf("%d connections, a request on each at a time", together),
		unit: "request", units: requests / together * together, budget: perRequest,
		prepare: func(open opener) (func() error, error) {
			return keepAlive(open, together, requests/together)
		},
	},
	{
		name: "connection", does: "one connection after the other, the server closes", unit: "connection",
		units: connections, budget: perConnection,
		prepare: func(open opener) (func() error, error) {
			return func() error { return visits(open, connections, lastRequest) }, nil
		},
	},
	{
		name: "client closes", does: "one connection after the other, the client closes",
		unit: "connection", units: connections, budget: perAbort,
		prepare: func(open opener) (func() error, error) {
			return func() error { return visits(open, connections, request) }, nil
		},
	},
	{
		name: "TLS request", does: "one connection over TLS, one request after the other", unit: "request",
		units: requests, budget: perRequest, secure: true,
		prepare: func(open opener) (func() error, error) { return keepAlive(open, 1, requests) },
	},
	{
		name: "TLS connection", does: "one connection over TLS after the other, the server closes",
		unit: "connection", units: connections, budget: perHandshake, secure: true,
		prepare: func(open opener) (func() error, error) {
			return func() error { return visits(open, connections, lastRequest) }, nil
		},
	},
}

// opener opens a connection to a proxy.
type opener func() (net.Conn, error)

// opener returns how the clients of a work reach the proxy.
func (p *proxy) opener(w *work) opener {
	address := p.address
	if w.secure {
		address = p.secure
	}
	return func() (net.Conn, error) {
		c, err := dial(address)
		if err != nil {
			return nil, err
		}
		if p.opened = append(p.opened, c); !w.secure {
			return c, nil
		}
		t := tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})
		return t, t.Handshake()
	}
}

// dial opens a connection on which nothing lasts for ever.
func dial(address string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	return c, c.SetDeadline(time.Now().Add(patience))
}

// ask sends a request and takes the answer.
func ask(c net.Conn, what []byte) error {
	if _, err := c.Write(what); err != nil {
		return err
	}
	return take(c)
}

func take(c net.Conn) error {
	got := make([]byte, len(answer))
	if _, err := io.ReadFull(c, got); err != nil {
		return fmt.Errorf("reading an answer: %w", err)
	}
	if string(got) != string(answer) {
		return fmt.Errorf("the answer is %q", got)
	}
	return nil
}

// keepAlive opens connections that reach the server, and returns the work to send requests on them: one on
// each, then all answers, and again.
func keepAlive(open opener, n, rounds int) (func() error, error) {
	var all []net.Conn
	for range n {
		c, err := open()
		if err != nil {
			return nil, err
		}
		all = append(all, c)
		// Delays are switched off at the second request, once for a connection.
		for range 2 {
			if err := ask(c, request); err != nil {
				return nil, err
			}
		}
	}
	return func() error {
		for range rounds {
			for _, c := range all {
				if _, err := c.Write(request); err != nil {
					return err
				}
			}
			for _, c := range all {
				if err := take(c); err != nil {
					return err
				}
			}
		}
		return nil
	}, nil
}

// visits opens one connection after the other with one request on each. After the last request the server
// closes, and the client when it sees that; otherwise the client closes.
func visits(open opener, n int, what []byte) error {
	for range n {
		c, err := open()
		if err != nil {
			return err
		}
		if err := ask(c, what); err != nil {
			return err
		}
		if string(what) == string(lastRequest) {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				return fmt.Errorf("after the answer comes %v, should be the end", err)
			}
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}
