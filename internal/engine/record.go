package engine

import (
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/proxyheader"
	"github.com/whyspin/whyspin/internal/rules"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
	"github.com/whyspin/whyspin/internal/tlsconn"
)

// RecordEvent tells at which moment of a stream's life a record was made.
type RecordEvent uint8

// The moments.
const (
	RecordEnd         RecordEvent = iota // both sides are closed
	RecordConnect                        // the client was accepted
	RecordEstablished                    // the server was reached
	RecordHandshake                      // it ended within the client's TLS handshake
)

// Record is what the access log may want to know of a stream. It belongs to whoever gets it.
type Record struct {
	Event RecordEvent
	// Accepted is the wall-clock time of the client's connection.
	Accepted time.Time
	Frontend *config.Proxy
	// Bind is the bind line of the listener that took it.
	Bind *config.Bind
	// Backend and Server are nil when the stream had none.
	Backend *config.Proxy
	Server  *config.Server
	Client  sys.Address
	Front   sys.Address // the address the client connected to, only for RecordConnect
	Serial  uint64

	// Queue is the time until a server was assigned, or until the stream ended in the queue, Connect the
	// time from there to the connection; negative when it did not come to that. Total is the stream's whole
	// life.
	Queue, Connect, Total time.Duration
	// FromClient and ToClient are bytes.
	FromClient, ToClient uint64
	Ending               stream.Ending
	// Session is what a log format may ask for; nil where none asks for anything.
	Session *rules.Session
	// TLS is true exactly when the client's connection has TLS.
	TLS bool
	// Handshake is the failure of its latest TLS handshake that failed, a *tlsconn.Error, or of the PROXY
	// protocol header of its client, an error of package proxyheader; nil for none. It was with a server if
	// the client's is complete.
	Handshake    error
	Retries      int
	Redispatched bool
	// The concurrent streams when it ended, itself included: of the process, the frontend, the backend, the
	// server.
	ProcessConns, FrontendConns, BackendConns, ServerConns int
	// ServerQueue and BackendQueue are how many streams the queue let go while it waited, itself included;
	// 0 when it never waited.
	ServerQueue, BackendQueue int
}

// count enters an ended stream's bytes into the totals of what it passed through.
func (c *conn) count() {
	in, out := c.stream.Request().Total, c.stream.Response().Total
	for _, t := range c.traffics() {
		if t != nil {
			t.bytesIn.Add(in)
			t.bytesOut.Add(out)
		}
	}
}

// traffics returns the totals of what the stream passed through, nil for what it did not.
func (c *conn) traffics() [4]*traffic {
	t := [4]*traffic{&c.worker.engine.traffic, &c.frontend.traffic}
	if c.backend != nil {
		t[2] = &c.backend.traffic
	}
	if c.server != nil {
		t[3] = &c.server.traffic
	}
	return t
}

// logConnect hands over the record of a connection that has just been accepted, for the default format,
// which is written then and not at the end.
func (w *worker) logConnect(c *conn) {
	front := c.frontend.config
	if w.engine.options.Log == nil || len(front.Logs) == 0 || front.TCPLog {
		return
	}
	r := w.record(c)
	r.Event, r.Front = RecordConnect, w.kernel.LocalAddress(int(c.ends[stream.Client].fd))
	if c.session != nil && c.session.Proxied && c.session.Destination.IsValid() {
		r.Front.IP = c.session.Destination
	}
	w.engine.options.Log(r)
}

// logEstablished hands over the record of a stream that has just reached its server, for "option logasap".
func (w *worker) logEstablished(c *conn) {
	front := c.frontend.config
	if c.logged || !front.LogAsap || !front.TCPLog || c.stream.ServerState() != stream.Established {
		return
	}
	c.logged = true
	if w.engine.options.Log == nil || len(front.Logs) == 0 {
		return
	}
	r := w.record(c)
	r.Event = RecordEstablished
	w.engine.options.Log(r)
}

// logEnd hands over the record of an ended stream.
func (w *worker) logEnd(c *conn) {
	front := c.frontend.config
	if w.engine.options.Log == nil || len(front.Logs) == 0 {
		return
	}
	s := &c.stream
	if c.listener.shakes() && !c.shaken {
		w.logHandshake(c)
		return
	}
	if !front.TCPLog || c.logged {
		return
	}
	if front.DontLogNull && s.Request().Total == 0 {
		return
	}
	if front.DontLogNormal && s.Ending().By == 0 && s.Retries() == 0 {
		return
	}
	w.engine.options.Log(w.record(c))
}

// logHandshake hands over the record of a stream that ended within its client's handshake. As with HAProxy
// one that only closed its connection is none with "option dontlognull".
func (w *worker) logHandshake(c *conn) {
	if c.frontend.config.DontLogNull {
		e, is := c.failure.(*tlsconn.Error)
		if is && (e.Cause == tlsconn.CauseClosed || e.Cause == tlsconn.CauseCut) ||
			c.failure == proxyheader.ErrEmpty || c.stream.Ending().By == 'P' {
			return
		}
	}
	r := w.record(c)
	r.Event = RecordHandshake
	w.engine.options.Log(r)
}

// record copies what the access log may want to know.
func (w *worker) record(c *conn) *Record {
	s := &c.stream
	times := s.Times()
	r := &Record{
		Event: RecordEnd, Accepted: sys.WallTime(times.Accepted), Frontend: c.frontend.config,
		Bind:   c.listener.bind,
		Client: c.client,
		Serial: c.serial, Queue: -1, Connect: -1, Total: w.now.Sub(times.Accepted),
		FromClient: s.Request().Total, ToClient: s.Response().Written, Ending: s.Ending(),
		TLS: c.listener.tls != nil, Handshake: c.failure,
		Retries: s.Retries(), Redispatched: s.Redispatched(),
		ProcessConns:  int(w.engine.conns.Load()),
		FrontendConns: int(c.frontend.conns.Load()),
		BackendQueue:  c.queuePosition,
	}
	if c.session != nil {
		s := *c.session
		r.Session = &s
	}
	if c.backend != nil {
		r.Backend, r.BackendConns = c.backend.config, int(c.backend.conns.Load())
	}
	if c.server != nil {
		r.Server, r.ServerConns = c.server.config, int(c.server.conns.Load())
	}
	r.nameParts()
	if times.Assigned.IsSet() {
		r.Queue = times.Assigned.Sub(times.Accepted)
		if times.Connected.IsSet() {
			r.Connect = times.Connected.Sub(times.Assigned)
		}
	}
	return r
}

// nameParts completes the session with what the stream has passed through.
func (r *Record) nameParts() {
	if r.Session == nil {
		return
	}
	back := r.Backend
	if back == nil {
		back = r.Frontend // as in HAProxy
	}
	r.Session.Backend = rules.Named{Name: back.Name, ID: back.ID}
	if r.Server != nil {
		r.Session.Target = rules.Named{Name: r.Server.Name, ID: r.Server.ID}
	}
}
