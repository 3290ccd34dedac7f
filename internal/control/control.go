// Package control is the runtime API: the commands of HAProxy's stats socket, with the layouts of HAProxy
// 2.6, so that its clients and people who know it read whyspin alike.
//
// It never needs a healthy event loop. Every connection has a goroutine, which looks at the engine through
// copies that the engine makes under a short lock; no lock is held while an answer is written, so a client
// that does not read holds up nobody. A worker that does not come back to its loop is named with its stack.
package control

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/whyspin/whyspin/internal/certificate"
	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/engine"
)

// Options say what is served.
type Options struct {
	Engine *engine.Engine
	Config *config.Config
	// Version is whyspin's own version and ReleaseDate its date, "2026/11/22".
	Version, ReleaseDate string
	// Sockets are the open sockets of the "stats socket" lines; the Server owns them from New on.
	Sockets []Socket
	// MaxSockets is how many descriptors the process may need at most ("show info", Maxsock).
	MaxSockets int
	// Spin adds to "show spin"; nil when there is no diagnosis.
	Spin Spinner
	// Probes is one line about the kernel probes: what is attached, or why nothing is. nil: unknown.
	Probes func() string
	// DroppedLogs is the number of log lines that were lost; nil: none.
	DroppedLogs func() uint64
	// Certificates are those of TLS; nil when nothing speaks it.
	Certificates *certificate.Store
	// HandOver gives the process at the other end of a connection the listeners, to replace this one; nil
	// when they are not offered.
	HandOver func(net.Conn) error
	// Alert takes a message for the operator; it must not block. nil drops them.
	Alert func(message string)
}

// Socket is an open listening socket of the runtime API. It does not block.
type Socket struct {
	FD     int
	Config *config.StatsSocket
}

// Spinner is what knows more of a spin than the engine: the diagnosis, which has seen the kernel's side.
type Spinner interface {
	// ShowSpin writes the current findings and what the kernel saw of them, in lines of text. It is called
	// from any goroutine; the writer may be slow, so no lock may be held while writing. Errors of the
	// writer need no care.
	ShowSpin(w io.Writer)
	// ShowFinding writes a finding that is remembered, with its evidence: that of a number, or the latest
	// about a stream of that id ("0x..."). It reports whether there is one.
	ShowFinding(w io.Writer, id string) bool
}

// compatibleVersion begins the version that is shown: existing clients parse it and decide by it which
// fields to expect.
const compatibleVersion = config.CompatibleVersion + "-whyspin-"

// Limits of the HAProxy defaults, for a Config that does not set them.
const (
	defaultMaxConn = 10
	defaultTimeout = 10 * time.Second
)

// Server answers on the sockets of the runtime API.
type Server struct {
	options  Options
	version  string
	hostname string
	timeout  time.Duration
	pointers pointers

	listeners []*listener
	running   sync.WaitGroup

	mu       sync.Mutex
	sessions map[uint64]*session
	serial   uint64 // of the latest connection, and so their number
	sent     uint64 // bytes
	sentRate engine.Rate
	closed   bool
}

// listener is one socket. Its number is its place among the "stats socket" lines, from 1, which dumps show.
// "stats maxconn" is the limit of each socket, so that connections of one, which those who may only look can
// open as many of as they like, do not lock out the others.
type listener struct {
	*limited
	number int
	config *config.StatsSocket
	fd     int
}

// New takes the sockets over. On error they are closed.
func New(o Options) (*Server, error) {
	s := &Server{
		options: o, version: compatibleVersion + o.Version,
		timeout: o.Config.Global.StatsTimeout, pointers: newPointers(o.Config, o.Sockets),
		sessions: map[uint64]*session{},
	}
	maxConn := o.Config.Global.StatsMaxConn
	if maxConn == 0 {
		maxConn = defaultMaxConn
	}
	if s.timeout == 0 {
		s.timeout = defaultTimeout
	}
	if s.hostname = o.Config.Global.Node; s.hostname == "" {
		// Without a name the field is empty.
		s.hostname, _ = os.Hostname()
	}
	var wrong []error
	for i, socket := range o.Sockets {
		file := os.NewFile(uintptr(socket.FD), "stats socket")
		l, err := net.FileListener(file)
		file.Close() // the listener has a copy
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s: stats socket: %w", socket.Config.Position, err))
			continue
		}
		name := "stats socket " + socket.Config.Address.String()
		s.listeners = append(s.listeners, &listener{
			limit(l, name, maxConn, o.Alert), i + 1, socket.Config, descriptorOf(l),
		})
	}
	if err := errors.Join(wrong...); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Start serves until Close.
func (s *Server) Start() {
	for _, l := range s.listeners {
		s.running.Go(func() { s.accept(l) })
	}
}

// Close closes the sockets and all connections and returns when the last answer has broken off.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for _, c := range s.sessions {
		c.conn.Close()
	}
	s.mu.Unlock()
	s.StopListening()
	s.running.Wait()
}

// StopListening closes the sockets. The connections stay.
func (s *Server) StopListening() {
	for _, l := range s.listeners {
		l.Close()
	}
}

// accept takes connections until the listener is closed.
func (s *Server) accept(l *listener) {
	for {
		conn, err := l.take()
		if err != nil {
			return
		}
		s.open(l, conn)
	}
}

// open serves a connection.
func (s *Server) open(l *listener, conn net.Conn) {
	c := newSession(s, l, conn)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		conn.Close()
		l.release()
		return
	}
	s.serial++
	c.id = s.serial
	s.sessions[c.id] = c
	s.mu.Unlock()
	s.running.Go(func() {
		defer s.forget(c)
		c.serve()
	})
}

func (s *Server) forget(c *session) {
	c.conn.Close()
	s.mu.Lock()
	delete(s.sessions, c.id)
	s.mu.Unlock()
	c.socket.release()
}

func (s *Server) alert(format string, args ...any) {
	if s.options.Alert != nil {
		s.options.Alert(fmt.Sprintf(format, args...))
	}
}
