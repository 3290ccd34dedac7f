package control

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/certificate"
	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// patience bounds every wait for a condition. A test that reaches it has hung.
const patience = 20 * time.Second

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// kernel is the real one with a clock that can be stopped and moved, a gate before every wait, so that a test
// can let several things happen in one batch, and reads that can be held up, so that a worker gets stuck in
// a handler.
type kernel struct {
	sys.Linux
	stopped atomic.Int64 // the time; 0: the clock runs
	gate    sync.RWMutex
	atGate  atomic.Int64
	reading sync.RWMutex
	inRead  atomic.Int64
}

func (k *kernel) Now() ktime.Time {
	if at := k.stopped.Load(); at != 0 {
		return ktime.Time(at)
	}
	return sys.Now()
}

func (k *kernel) EpollWait(set int, events []sys.Event, timeout int, park bool) (int, sys.Errno) {
	k.atGate.Add(1)
	k.gate.RLock()
	k.atGate.Add(-1)
	k.gate.RUnlock()
	return k.Linux.EpollWait(set, events, timeout, park)
}

func (k *kernel) Read(fd int, p []byte) (int, sys.Errno) {
	k.inRead.Add(1)
	defer k.inRead.Add(-1)
	k.reading.RLock()
	defer k.reading.RUnlock()
	return k.Linux.Read(fd, p)
}

// proxy is an engine under test with a runtime API.
type proxy struct {
	t       *testing.T
	kernel  *kernel
	engine  *engine.Engine
	control *Server
	config  *config.Config
	address map[string]string // by "frontend", or "frontend/2" for its second listener
	sockets map[config.Level]string
	tcp     string // the socket of level admin by TCP
	targets map[*config.Server]sys.Address
	alerts  chan string
	held    bool
}

// setup is what a test needs different.
type setup struct {
	workers int
	stopped bool // the clock
	spin    Spinner
	change  func(*config.Config)
	// certificates are nil for none
	certificates *certificate.Store
}

// section is one frontend and backend. A server is given by its address.
type section struct {
	proxy   config.Proxy
	servers []string
	unix    bool // has a second listener on a unix socket
	maxConn int  // of each listener
}

// start runs an engine with the sections and a server on unix sockets of every level.
func start(t *testing.T, s setup, sections ...section) *proxy {
	t.Helper()
	p := &proxy{
		t: t, kernel: &kernel{}, config: &config.Config{}, address: map[string]string{},
		sockets: map[config.Level]string{}, targets: map[*config.Server]sys.Address{},
		alerts: make(chan string, 100),
	}
	if s.stopped {
		p.kernel.stopped.Store(int64(sys.Now()))
	}
	directory, err := os.MkdirTemp("", "control") // t.TempDir may be too long for a socket's name
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(directory) })

	g := &p.config.Global
	g.BufferSize, g.MaxAccept, g.Node = 16384, 4, "vm"
	var listeners []engine.Listener
	for i := range sections {
		listeners = append(listeners, p.section(&sections[i], i+2, directory)...)
	}
	if s.change != nil {
		s.change(p.config)
	}
	p.engine, err = engine.New(engine.Options{
		Config: p.config, Listeners: listeners, Kernel: p.kernel, Workers: max(1, s.workers), MaxConn: 200,
		Resolve: func(v *config.Server) (sys.Address, error) { return p.targets[v], nil },
	})
	must(t, err)
	p.engine.Start()
	t.Cleanup(func() {
		p.release()
		p.engine.Stop()
	})
	p.serve(s, directory)
	return p
}

// section opens the listeners of a section and adds it to the configuration.
func (p *proxy) section(s *section, id int, directory string) []engine.Listener {
	p.t.Helper()
	front := &s.proxy
	front.ID, front.IsFrontend, front.IsBackend = id, true, len(s.servers) > 0
	if front.IsBackend {
		front.DefaultBackend = front
	}
	if front.Timeouts == (config.Timeouts{}) {
		front.Timeouts = config.Timeouts{Connect: time.Minute, Client: time.Hour, Server: time.Hour}
	}
	for i, server := range s.servers {
		c := &config.Server{Name: fmt.Sprintf("s%d", i+1), ID: i + 1, Weight: 1}
		if front.Name == "queued" {
			c.MaxConn = 1
		}
		front.Servers = append(front.Servers, c)
		p.targets[c] = parseAddress(p.t, server)
	}
	listen := []sys.Address{{IP: netip.MustParseAddrPort("127.0.0.1:0")}}
	if s.unix {
		listen = append(listen, sys.Address{Path: filepath.Join(directory, front.Name)})
	}
	var listeners []engine.Listener
	for i, at := range listen {
		fd, err := sys.Listen(at, sys.ListenOptions{Backlog: 128, UID: -1, GID: -1})
		must(p.t, err)
		bind := &config.Bind{ID: i + 1, MaxConn: s.maxConn}
		front.Binds = append(front.Binds, bind)
		listeners = append(listeners, engine.Listener{FD: fd, Proxy: front, Bind: bind})
		name := front.Name
		if i > 0 {
			name += fmt.Sprint("/", i+1)
		}
		p.address[name] = at.String() // a unix socket was bound under another name, see sys.Listen
		if !at.IsUnix() {
			p.address[name] = sys.Linux{}.LocalAddress(fd).String()
		}
	}
	p.config.Proxies = append(p.config.Proxies, front)
	return listeners
}

// serve starts the runtime API with a unix socket of each level, and one by TCP.
func (p *proxy) serve(s setup, directory string) {
	p.t.Helper()
	p.config.Global.StatsSockets = make([]config.StatsSocket, 4)
	var sockets []Socket
	levels := []config.Level{config.LevelAdmin, config.LevelOperator, config.LevelUser, config.LevelAdmin}
	for i, level := range levels {
		at := sys.Address{Path: filepath.Join(directory, fmt.Sprint("api", i))}
		if i == 3 {
			at = sys.Address{IP: netip.MustParseAddrPort("127.0.0.1:0")}
		} else {
			p.sockets[level] = at.Path
		}
		fd, err := sys.Listen(at, sys.ListenOptions{Backlog: 128, UID: -1, GID: -1})
		must(p.t, err)
		if i == 3 {
			p.tcp = sys.Linux{}.LocalAddress(fd).String()
		}
		p.config.Global.StatsSockets[i].Level = level
		sockets = append(sockets, Socket{FD: fd, Config: &p.config.Global.StatsSockets[i]})
	}
	var err error
	p.control, err = New(Options{
		Engine: p.engine, Config: p.config, Version: "0.1", ReleaseDate: "2026/11/22", Sockets: sockets,
		Spin: s.spin, Certificates: s.certificates,
		Alert: func(message string) { p.alerts <- message },
	})
	must(p.t, err)
	p.control.Start()
	p.t.Cleanup(p.control.Close)
}

func parseAddress(t *testing.T, text string) sys.Address {
	t.Helper()
	if text[0] == '/' || text[0] == '@' {
		return sys.Address{Path: text}
	}
	ip, err := netip.ParseAddrPort(text)
	must(t, err)
	return sys.Address{IP: ip}
}

// dial opens a client of a listener.
func (p *proxy) dial(name string) net.Conn {
	p.t.Helper()
	network, address := "tcp", p.address[name]
	if address[:5] == "unix:" {
		network, address = "unix", address[5:]
	}
	return dial(p.t, network, address)
}

func dial(t *testing.T, network, address string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, address)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	return c
}

// admin opens a connection to the runtime API.
func (p *proxy) admin() net.Conn {
	p.t.Helper()
	return dial(p.t, "unix", p.sockets[config.LevelAdmin])
}

// ask sends a line and returns all that comes until the connection is closed.
func (p *proxy) ask(line string) string {
	p.t.Helper()
	return p.askAs(config.LevelAdmin, line)
}

func (p *proxy) askAs(level config.Level, line string) string {
	p.t.Helper()
	return exchange(p.t, dial(p.t, "unix", p.sockets[level]), line+"\n")
}

func exchange(t *testing.T, c net.Conn, text string) string {
	t.Helper()
	_, err := io.WriteString(c, text)
	must(t, err)
	answer, err := io.ReadAll(c)
	must(t, err)
	c.Close()
	return string(answer)
}

// views returns copies of all streams.
func (p *proxy) views() []engine.StreamView {
	var views []engine.StreamView
	p.engine.Visit(func(v *engine.StreamView) bool {
		views = append(views, *v)
		return true
	})
	return views
}

// await waits until a stream of a frontend is in a state and returns it.
func (p *proxy) await(frontend string, state stream.SideState) engine.StreamView {
	p.t.Helper()
	var found engine.StreamView
	eventually(p.t, fmt.Sprintf("a stream of %s in state %s", frontend, state), func() bool {
		for _, v := range p.views() {
			if v.Frontend.Name == frontend && v.ServerState == state {
				found = v
				return true
			}
		}
		return false
	})
	return found
}

// established connects a client to a section whose server greets, and returns it when the greeting is there.
func (p *proxy) established(name string) net.Conn {
	p.t.Helper()
	c := p.dial(name)
	_, err := io.ReadFull(c, make([]byte, len(greeting)))
	must(p.t, err)
	return c
}

const greeting = "220 mx.example ESMTP ready\r\n"

// greets runs a server that speaks first and then waits for the end; it keeps its own end open until the
// test is over.
func greets(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	over := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			running.Go(func() {
				defer c.Close()
				_, _ = io.WriteString(c, greeting)
				_, _ = io.Copy(io.Discard, c)
				<-over
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		close(over)
	})
	return l.Addr().String()
}

// silent returns the address of a server whose accept queue is full: attempts to connect get no answer.
func silent(t *testing.T) string {
	t.Helper()
	fd, err := sys.Listen(sys.Address{IP: netip.MustParseAddrPort("127.0.0.1:0")},
		sys.ListenOptions{UID: -1, GID: -1})
	must(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	at := sys.Linux{}.LocalAddress(fd)
	for range 2 { // one fits into a queue of length 0, a second one shows that it is full
		filler, errno := sys.Linux{}.Connect(at, false)
		if errno != 0 && errno != sys.EINPROGRESS {
			t.Fatal(errno)
		}
		t.Cleanup(func() { syscall.Close(filler) })
	}
	return at.String()
}

// refuses returns the address of a port that refuses: it is bound and nobody listens.
func refuses(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { syscall.Close(fd) })
	must(t, syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	return sys.Linux{}.LocalAddress(fd).String()
}

// move lets time pass and wakes the workers, so that they see what has expired.
func (p *proxy) move(d time.Duration) {
	p.kernel.stopped.Add(int64(d))
	for _, w := range p.wakers() {
		p.kernel.Wake(w)
	}
}

func (p *proxy) wakers() []int {
	var fds []int
	p.engine.Descriptors(0, p.engine.DescriptorLimit(), func(v *engine.DescriptorView) bool {
		if v.Kind == "waker" {
			fds = append(fds, v.FD)
		}
		return true
	})
	return fds
}

// founding is the section in which the founding bug can be made.
func founding(t *testing.T) section {
	return section{
		proxy: config.Proxy{
			Name: "founding", Retries: 3, Redispatch: -1,
			Timeouts: config.Timeouts{Connect: time.Second, Tunnel: time.Minute},
		},
		// Three servers, so that their turns do not keep step with those of two workers.
		servers: []string{silent(t), greets(t), greets(t)},
	}
}

func withFault(c *config.Config) {
	c.Global.Whyspin.Faults = []config.Fault{{Fault: fault.RedispatchAfterAbort, Probability: 1}}
}

// spin makes a stream of every worker spin with the founding bug. The clock is stopped.
func (p *proxy) spin(workers int) {
	p.t.Helper()
	with := func(kind func(*engine.StreamView) bool) int {
		seen := map[int]bool{}
		for _, v := range p.views() {
			if kind(&v) {
				seen[v.Worker] = true
			}
		}
		return len(seen)
	}
	wakers := p.wakers()
	var clients []net.Conn
	eventually(p.t, "a stream of every worker to be connecting", func() bool {
		clients = append(clients, p.dial("founding"))
		return with(func(v *engine.StreamView) bool {
			return v.ServerState == stream.Connecting && v.Server.Name == "s1"
		}) == workers
	})
	eventually(p.t, "the other streams to be connected", func() bool {
		settled := 0
		for _, v := range p.views() {
			if (v.ServerState == stream.Connecting) == (v.Server != nil && v.Server.Name == "s1") {
				settled++
			}
		}
		return settled == len(clients)
	})
	p.kernel.gate.Lock()
	for _, w := range wakers {
		p.kernel.Wake(w)
	}
	eventually(p.t, "the workers to reach the gate",
		func() bool { return p.kernel.atGate.Load() == int64(workers) })
	for _, c := range clients {
		c.Close()
	}
	for _, v := range p.views() {
		fd := v.Ends[stream.Client].FD
		eventually(p.t, "the end of a client to arrive", func() bool {
			n, _, err := syscall.Recvfrom(fd, make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			return n == 0 && err == nil
		})
	}
	p.kernel.stopped.Add(int64(time.Second))
	p.kernel.gate.Unlock()
	eventually(p.t, "orphans on every worker", func() bool {
		return with(func(v *engine.StreamView) bool {
			return v.Orphaned && v.ServerState == stream.Established
		}) == workers
	})
	p.move(time.Minute)
	eventually(p.t, "every worker to spin", func() bool {
		for _, w := range p.engine.Workers() {
			if w.Late < 1000 {
				return false
			}
		}
		return true
	})
	// Let the deadlines be really in the past and the idle share be taken anew.
	p.kernel.stopped.Add(int64(2 * time.Second))
	eventually(p.t, "the workers to see that they are busy", func() bool {
		for _, w := range p.engine.Workers() {
			if w.Idle > 0 {
				return false
			}
		}
		return true
	})
}

// hold makes the worker of a stream stuck in a handler: in the next read. release lets it go on.
func (p *proxy) hold(c net.Conn) {
	p.t.Helper()
	p.kernel.reading.Lock()
	p.held = true
	_, err := io.WriteString(c, "x")
	must(p.t, err)
	eventually(p.t, "the worker to read", func() bool { return p.kernel.inRead.Load() > 0 })
}

func (p *proxy) release() {
	if p.held {
		p.held = false
		p.kernel.reading.Unlock()
	}
}
