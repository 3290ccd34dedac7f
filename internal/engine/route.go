package engine

import (
	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/rules"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// The rules of the configuration about a stream are looked at in three places: those of "tcp-request
// connection" before there is a stream, those of "tcp-request session" when the client's handshakes are
// complete, and right after them those of "tcp-request content" and "use_backend", which choose the backend.

// route is a backend that a frontend's streams may go to.
type route struct {
	backend *backend
	policy  *stream.Policy
}

// addRoutes prepares what the rules of a frontend choose from.
func (f *frontend) addRoutes(backends map[*config.Proxy]*backend) {
	p := f.config
	f.needs = needsOf(p)
	f.routed = len(p.Session)+len(p.Content)+len(p.Switches) > 0 ||
		p.DefaultBackend != nil && len(p.DefaultBackend.Content) > 0
	if len(p.Switches) == 0 {
		return
	}
	f.routes = map[*config.Proxy]route{}
	for _, s := range p.Switches {
		if _, known := f.routes[s.Backend]; !known {
			f.routes[s.Backend] = route{backends[s.Backend], policyOf(p, s.Backend)}
		}
	}
}

// mayConnect applies the rules about a connection that was accepted, and those about its session if that has
// begun with it. The connection is closed when they reject it, and nothing is logged, as in HAProxy.
func (w *worker) mayConnect(l *listener, fd int, session *rules.Session) bool {
	reject := func(shut func(int) sys.Errno) bool {
		shut(fd)
		w.load.Add(-1)
		w.engine.dismiss(l)
		w.engine.resume()
		return false
	}
	p := l.frontend.config
	switch {
	case !rules.Decide(p.Connection, session):
		return reject(w.kernel.CloseReset)
	case !l.shakes() && !rules.Decide(p.Session, session):
		return reject(w.kernel.Close)
	}
	return true
}

// shakes reports whether there is something to go through before a client's session begins.
func (l *listener) shakes() bool { return l.tls != nil || l.bind.AcceptProxy }

// handshaken goes on with a stream when its client's handshake is complete.
func (w *worker) handshaken(c *conn) {
	c.shaken = true
	if c.session != nil {
		c.session.Handshake = w.now.Sub(c.stream.Times().Accepted)
		c.noteTLS(stream.Client)
	}
	if !rules.Decide(c.frontend.config.Session, c.session) {
		c.shaken = false // it is logged as HAProxy does, like a handshake that came to nothing
		c.stream.Refuse()
		return
	}
	w.logConnect(c)
	if w.direct(c) {
		c.stream.Handshaken()
	}
}

// direct chooses the backend of a stream, or refuses it, before it asks for a server. It reports whether the
// stream goes on.
func (w *worker) direct(c *conn) bool {
	f := c.frontend
	if !f.routed {
		return true
	}
	if !rules.Decide(f.config.Content, c.session) {
		c.stream.Refuse()
		return false
	}
	to := route{f.backend, f.policy}
	for i := range f.config.Switches {
		if s := &f.config.Switches[i]; s.If.Holds(c.session) {
			to = f.routes[s.Backend]
			c.stream.Follow(to.policy)
			break
		}
	}
	if c.backend = to.backend; c.backend == nil {
		return true
	}
	c.backend.enter()
	back := c.backend.config
	if c.session != nil {
		c.session.Backend = rules.Named{Name: back.Name, ID: back.ID}
	}
	if back != f.config && !rules.Decide(back.Content, c.session) {
		c.stream.Refuse()
		return false
	}
	return true
}
