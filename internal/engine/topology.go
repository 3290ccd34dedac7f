package engine

import (
	"container/list"
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/whyspin/whyspin/internal/balance"
	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/rules"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// frontend is where clients come in.
type frontend struct {
	config  *config.Proxy
	backend *backend // nil when the frontend has none
	policy  *stream.Policy
	maxConn int64
	// needs is what rules and logs ask of streams. routed is true exactly when rules are to be looked at
	// before a stream may ask for a server; routes are the other backends that they may choose.
	needs  rules.Needs
	routed bool
	routes map[*config.Proxy]route
	traffic
}

// backend is a group of servers. Its lock guards the order of the servers and the queue; workers share it.
type backend struct {
	config  *config.Proxy
	servers []*server
	traffic

	mu     sync.Mutex
	order  *balance.RoundRobin
	active []bool      // per server: takes new streams
	queue  list.List   // of *conn: streams that wait for a slot
	grants uint64      // slots given to streams of the queue
	turn   atomic.Bool // a lock of streams with the fault lock-yields, see takeTurn
}

// server is one server of a backend.
type server struct {
	config  *config.Server
	backend *backend
	address sys.Address
	tls     *tls.Config // nil for a connection without TLS
	traffic
	// slots is the number of streams that occupy a slot, guarded by the backend's lock.
	slots int
	// alerted is when (ktime.Time) the operator was last told of trouble with its TLS.
	alerted atomic.Int64
}

// hasSlot reports whether the server takes one more stream. The backend's lock is held.
func (s *server) hasSlot() bool { return s.config.MaxConn == 0 || s.slots < s.config.MaxConn }

// traffic counts the streams and bytes of a frontend, backend or server. In and Out are seen from the client.
type traffic struct {
	conns, cumulated  atomic.Int64
	bytesIn, bytesOut atomic.Uint64
	peak              atomic.Int64
}

// enter counts a stream in.
func (t *traffic) enter() {
	t.conns.Add(1)
	t.count()
}

// count completes the counts for a stream that is among conns already.
func (t *traffic) count() {
	t.cumulated.Add(1)
	n := t.conns.Load()
	for peak := t.peak.Load(); n > peak && !t.peak.CompareAndSwap(peak, n); peak = t.peak.Load() {
	}
}

func (t *traffic) leave() { t.conns.Add(-1) }

// listener is one listening descriptor, registered with every worker.
type listener struct {
	fd       int
	index    int         // among the engine's
	tls      *tls.Config // nil for clients without TLS
	frontend *frontend
	bind     *config.Bind
	faults   fault.Set
	conns    atomic.Int64
	maxConn  int64 // 0 for none
	accepted atomic.Uint64
	// refused counts the calls of accept that failed, otherwise than with EAGAIN; failure is the latest error
	// (sys.Errno).
	refused atomic.Uint64
	failure atomic.Uint64
	// taken counts what left the backlog, connections that were gone when they were accepted included.
	taken atomic.Uint64
	// alerted is when (ktime.Time) the operator was last told of trouble with it.
	alerted atomic.Int64
}

// Listener is an open listening descriptor of a bind line.
type Listener struct {
	FD    int
	Proxy *config.Proxy
	Bind  *config.Bind
	// TLS is for the clients that it takes; nil when they do not speak TLS.
	TLS *tls.Config
}

// build makes the engine's frontends and backends from the configuration. resolve turns a server's address
// into that of a socket.
func (e *Engine) build(c *config.Config, resolve func(*config.Server) (sys.Address, error)) error {
	backends := map[*config.Proxy]*backend{}
	for _, p := range c.Proxies {
		if !p.IsBackend {
			continue
		}
		b := &backend{config: p}
		for _, s := range p.Servers {
			address, err := resolve(s)
			if err != nil {
				return fmt.Errorf("%s: server %q of backend %q: %w", s.Position, s.Name, p.Name, err)
			}
			if s.TLS != nil && e.options.serverTLS(s) == nil {
				return fmt.Errorf("%s: server %q is to be reached by TLS and nobody said how", s.Position,
					s.Name)
			}
			b.servers = append(b.servers, &server{
				config: s, backend: b, address: address, tls: e.options.serverTLS(s),
			})
		}
		b.arrange()
		backends[p] = b
		e.backends = append(e.backends, b)
	}
	for _, p := range c.Proxies {
		if !p.IsFrontend || p.Disabled {
			continue
		}
		f := &frontend{config: p, maxConn: int64(p.MaxConn)}
		if f.maxConn == 0 {
			f.maxConn = e.maxConn
		}
		if p.DefaultBackend != nil {
			f.backend = backends[p.DefaultBackend]
		}
		f.policy = policyOf(p, p.DefaultBackend)
		f.addRoutes(backends)
		e.frontends = append(e.frontends, f)
	}
	return nil
}

// policyOf joins what the frontend and the backend say about a stream.
func policyOf(front, back *config.Proxy) *stream.Policy {
	p := &stream.Policy{
		Client:          front.Timeouts.Client,
		ClientFin:       front.Timeouts.ClientFin,
		ClientHandshake: front.Timeouts.ClientHS,
	}
	if back != nil {
		p.Connect = back.Timeouts.Connect
		p.Server = back.Timeouts.Server
		p.Tunnel = back.Timeouts.Tunnel
		p.ServerFin = back.Timeouts.ServerFin
		p.Queue = back.Timeouts.Queue
		p.Retries = back.Retries
		p.Redispatch = back.Redispatch
		p.AbortOnClose = back.AbortOnClose
	}
	return p
}

// arrange decides which servers take streams: all that are enabled and have a weight; the first backup
// server only when there is no other.
func (b *backend) arrange() {
	weights := make([]int, len(b.servers))
	b.active = make([]bool, len(b.servers))
	regular, firstBackup := 0, -1
	for i, s := range b.servers {
		usable := !s.config.Disabled && s.config.Weight > 0
		weights[i] = s.config.Weight
		switch {
		case usable && !s.config.Backup:
			b.active[i] = true
			regular++
		case usable && firstBackup < 0:
			firstBackup = i
		}
	}
	if regular == 0 && firstBackup >= 0 {
		b.active[firstBackup] = true
	}
	b.order = balance.NewRoundRobin(weights)
}

// activeCount is the number of servers that take streams.
func (b *backend) activeCount() int {
	n := 0
	for _, a := range b.active {
		if a {
			n++
		}
	}
	return n
}
