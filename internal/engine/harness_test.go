package engine

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// patience bounds every wait for a condition in these tests. It is no measure of anything: a test that
// reaches it has hung.
const patience = 30 * time.Second

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
		time.Sleep(time.Millisecond)
	}
}

// clock is the real kernel with a clock that stands still until a test moves it, so that no timer fires by
// itself, and with a gate before each wait, so that a test can let several things happen before the workers
// look.
type clock struct {
	sys.Linux
	now    atomic.Int64
	gate   sync.RWMutex
	atGate atomic.Int64
}

func newClock() *clock {
	c := &clock{}
	c.now.Store(int64(sys.Now()))
	return c
}

func (c *clock) Now() ktime.Time { return ktime.Time(c.now.Load()) }

func (c *clock) EpollWait(set int, events []sys.Event, timeout int, park bool) (int, sys.Errno) {
	c.atGate.Add(1)
	c.gate.RLock()
	c.atGate.Add(-1)
	c.gate.RUnlock()
	return c.Linux.EpollWait(set, events, timeout, park)
}

// inOneBatch lets things happen while every worker is held before its next wait, so that the wait brings
// all of them.
func (c *clock) inOneBatch(t *testing.T, e *Engine, happen func()) {
	t.Helper()
	c.gate.Lock()
	defer c.gate.Unlock()
	for _, w := range e.workers {
		c.Wake(w.waker)
	}
	eventually(t, "the workers to reach the gate",
		func() bool { return c.atGate.Load() == int64(len(e.workers)) })
	happen()
}

// proxy is an engine under test with one frontend and one backend.
type proxy struct {
	t       *testing.T
	engine  *Engine
	address string
	config  *config.Config
	mu      sync.Mutex
	records []*Record
	alerts  []string
}

// settings change what a test needs different.
type settings struct {
	kernel   Kernel
	workers  int
	maxConn  int
	change   func(*config.Config, *config.Proxy)
	listen   sys.Address
	mayBreak bool // rules may be broken: a fault is on
	// tls is for the clients, serverTLS for the servers; nil for none.
	tls, serverTLS *tls.Config
}

// harnessPipes is how many pipes there may be.
const harnessPipes = 16

// start runs an engine in front of the servers and stops it when the test ends. Every rule is checked all
// the time.
func start(t *testing.T, s settings, servers ...string) *proxy {
	t.Helper()
	p := &proxy{t: t}
	front := &config.Proxy{
		Name: "mail", ID: 2, IsFrontend: true, IsBackend: true, TCPLog: true, Retries: 3,
		Logs: []config.LogTarget{{}},
		Timeouts: config.Timeouts{
			Connect: time.Second, Client: time.Minute, Server: time.Minute, Tunnel: time.Hour,
		},
		Binds: []*config.Bind{{ID: 1}},
	}
	front.DefaultBackend = front
	for i := range servers {
		front.Servers = append(front.Servers, &config.Server{Name: fmt.Sprintf("s%d", i+1), ID: i + 1,
			Weight: 1})
	}
	p.config = &config.Config{Proxies: []*config.Proxy{front}}
	p.config.Global.BufferSize, p.config.Global.MaxAccept = 16384, 4
	if s.change != nil {
		s.change(p.config, front)
	}
	if s.kernel == nil {
		s.kernel = sys.Linux{}
	}
	if !s.listen.IP.IsValid() && s.listen.Path == "" {
		s.listen.IP = netip.MustParseAddrPort("127.0.0.1:0")
	}
	fd, err := sys.Listen(s.listen, sys.ListenOptions{Backlog: 1024, UID: -1, GID: -1})
	if err != nil {
		t.Fatal(err)
	}
	p.address = sys.Linux{}.LocalAddress(fd).String()
	if s.maxConn == 0 {
		s.maxConn = 1000
	}
	options := Options{
		Config: p.config, Kernel: s.kernel, Workers: max(1, s.workers), MaxConn: s.maxConn,
		MaxPipes:  harnessPipes,
		Listeners: []Listener{{FD: fd, Proxy: front, Bind: front.Binds[0], TLS: s.tls}},
		ServerTLS: func(*config.Server) *tls.Config { return s.serverTLS },
		Resolve:   func(v *config.Server) (sys.Address, error) { return parseAddress(servers[v.ID-1]) },
		Log: func(r *Record) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.records = append(p.records, r)
		},
	}
	options.Alert = func(message string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.alerts = append(p.alerts, message)
	}
	if !s.mayBreak {
		options.Audit = func(id string, err error) { t.Errorf("stream %s breaks a rule: %v", id, err) }
	}
	if p.engine, err = New(options); err != nil {
		t.Fatal(err)
	}
	p.engine.Start()
	t.Cleanup(p.engine.Stop)
	return p
}

func parseAddress(text string) (sys.Address, error) {
	if text[0] == '/' || text[0] == '@' {
		return sys.Address{Path: text}, nil
	}
	ip, err := netip.ParseAddrPort(text)
	return sys.Address{IP: ip}, err
}

func (p *proxy) dial() *net.TCPConn {
	p.t.Helper()
	c, err := net.Dial("tcp", p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// ended waits until n streams have been logged and none is left, and returns the log.
func (p *proxy) ended(n int) []*Record {
	p.t.Helper()
	var records []*Record
	eventually(p.t, fmt.Sprintf("%d streams to end", n), func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		records = p.records
		return len(records) >= n && p.engine.Streams() == 0
	})
	return records
}

// endings counts the termination states in the log.
func (p *proxy) endings() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := map[string]int{}
	for _, r := range p.records {
		counts[r.Ending.String()]++
	}
	return counts
}

// views returns copies of all streams. On a machine with more to do than it can, a worker may be kept off the
// processor for so long that it counts as stuck; then it is visited again.
func (p *proxy) views() []StreamView {
	p.t.Helper()
	var views []StreamView
	eventually(p.t, "every worker to be visited", func() bool {
		views = nil
		return len(p.engine.Visit(func(v *StreamView) bool {
			views = append(views, *v)
			return true
		})) == 0
	})
	return views
}

// inState counts the streams whose server side is in a state.
func (p *proxy) inState(s stream.SideState) int {
	n := 0
	for _, v := range p.views() {
		if v.ServerState == s {
			n++
		}
	}
	return n
}

// serve runs a TCP server that handles each connection with f, which owns it.
func serve(t *testing.T, f func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var handlers sync.WaitGroup
	handlers.Go(func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				t.Errorf("server: %v", err)
				return
			}
			handlers.Go(func() {
				defer c.Close()
				if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
					t.Error(err)
				}
				f(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		handlers.Wait()
	})
	return l.Addr().String()
}

// echo sends back what it gets, and its end when it gets the end.
func echo(c *net.TCPConn) { _, _ = io.Copy(c, c) }

// greet speaks first, as an SMTP server does, and then waits for the end.
func greet(c *net.TCPConn) {
	_, _ = io.WriteString(c, banner)
	_, _ = io.Copy(io.Discard, c)
}

const banner = "220 mx.example ESMTP ready\r\n"

// silent returns the address of a server whose accept queue is full: connection attempts get no answer.
func silent(t *testing.T) string {
	t.Helper()
	fd, err := sys.Listen(sys.Address{IP: netip.MustParseAddrPort("127.0.0.1:0")},
		sys.ListenOptions{UID: -1, GID: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	address := sys.Linux{}.LocalAddress(fd)
	// One connection fits into a queue of length 0; a second one stays unanswered and shows that the queue
	// is full.
	for range 2 {
		filler, errno := sys.Linux{}.Connect(address, false)
		if errno != 0 && errno != sys.EINPROGRESS {
			t.Fatal(errno)
		}
		t.Cleanup(func() { unix.Close(filler) })
	}
	return address.String()
}

// refusing returns an address where nobody listens.
func refusing(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// descriptors is the number of open descriptors of this process.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
