package accesslog

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/sys"
)

// The test in this file runs Debian's haproxy and whyspin's engine with the same configuration, lets the
// same clients talk to both, and compares what arrives at two syslog servers, line by line and in every
// header format.

// formats are the header formats by their names in the configuration, in the order of the test's servers.
var formats = []struct {
	name   string
	format config.LogFormat
}{
	{"rfc3164", config.LogRFC3164}, {"local", config.LogLocal}, {"rfc5424", config.LogRFC5424},
	{"priority", config.LogPriority}, {"short", config.LogShort}, {"timed", config.LogTimed},
	{"iso", config.LogISO}, {"raw", config.LogRaw},
}

// world is what both proxies talk to: a server that greets, a port that refuses, syslog servers.
type world struct {
	greeting, refusing netip.AddrPort
	syslog             []*net.UDPConn // by format
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{greeting: serveGreeting(t), refusing: refusingPort(t)}
	for range formats {
		_, c := udpTarget(t, config.LogRaw)
		w.syslog = append(w.syslog, c)
	}
	return w
}

// serveGreeting runs a server that speaks first, as SMTP servers do, and answers an end of file with one.
func serveGreeting(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprint(c, "220 ready\r\n")
				io.Copy(io.Discard, c)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// refusingPort returns an address that refuses connections for as long as the test runs: it is taken by a
// socket that does not listen.
func refusingPort(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	t.Cleanup(func() { taken.Close() })
	return taken.LocalAddr().(*net.TCPAddr).AddrPort()
}

// proxies are the listen sections of both configurations.
var proxies = []struct {
	name               string
	tcpLog, asap       bool
	servers, redisp    bool
	retries            int
	refusing, unix, v6 bool
}{
	{name: "smtp", tcpLog: true, servers: true},
	{name: "asap", tcpLog: true, asap: true, servers: true},
	{name: "refused", tcpLog: true, servers: true, refusing: true, redisp: true, retries: 2},
	{name: "nosrv", tcpLog: true},
	{name: "local", tcpLog: true, servers: true, unix: true},
	{name: "six", tcpLog: true, servers: true, v6: true},
	{name: "plain", servers: true},
	{name: "plainlocal", servers: true, unix: true},
	{name: "plainsix", servers: true, v6: true},
}

// listen opens the listener of every section.
func listen(t *testing.T) []net.Listener {
	t.Helper()
	directory, err := os.MkdirTemp("", "log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	var all []net.Listener
	for _, p := range proxies {
		network, at := "tcp4", "127.0.0.1:0"
		switch {
		case p.unix:
			network, at = "unix", filepath.Join(directory, p.name)
		case p.v6:
			network, at = "tcp6", "[::1]:0"
		}
		l, err := net.Listen(network, at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		all = append(all, l)
	}
	return all
}

// file returns a descriptor of a listener for another owner.
func file(t *testing.T, l net.Listener) *os.File {
	t.Helper()
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// runHAProxy starts haproxy with the sections.
func runHAProxy(t *testing.T, w *world, listeners []net.Listener) {
	t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		t.Fatalf("this test compares with the real haproxy, which must be installed: %v", err)
	}
	var text bytes.Buffer
	fmt.Fprint(&text, "global\n maxconn 100\n nbthread 1\n log-tag proxy\n")
	for i, f := range formats {
		fmt.Fprintf(&text, " log %s format %s local0\n", w.syslog[i].LocalAddr(), f.name)
	}
	fmt.Fprint(&text, "defaults\n mode tcp\n log global\n timeout connect 5s\n timeout client 20s\n"+
		" timeout server 20s\n")
	command := exec.Command(program, "-db", "-f", "/dev/stdin")
	for i, p := range proxies {
		// Descriptors from 3 on are the listeners, in order.
		command.ExtraFiles = append(command.ExtraFiles, file(t, listeners[i]))
		fmt.Fprintf(&text, "listen %s\n bind fd@%d\n", p.name, 3+i)
		for _, option := range []struct {
			is   bool
			text string
		}{
			{p.tcpLog, "option tcplog"}, {p.asap, "option logasap"}, {p.redisp, "option redispatch"},
			{p.retries > 0, fmt.Sprint("retries ", p.retries)},
			{p.servers && !p.refusing, fmt.Sprint("server s1 ", w.greeting)},
			{p.refusing, fmt.Sprint("server s1 ", w.refusing, "\n server s2 ", w.refusing)},
		} {
			if option.is {
				fmt.Fprintln(&text, "", option.text)
			}
		}
	}
	command.Stdin = &text
	var said bytes.Buffer
	command.Stderr = &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
		if t.Failed() {
			t.Logf("haproxy said:\n%s", said.String())
		}
	})
}

// runEngine starts whyspin's engine with the same sections and a Logger.
func runEngine(t *testing.T, w *world, listeners []net.Listener) {
	t.Helper()
	c := &config.Config{}
	c.Global.BufferSize, c.Global.MaxAccept, c.Global.LogTag = 16384, 4, "proxy"
	for i, f := range formats {
		at := w.syslog[i].LocalAddr().(*net.UDPAddr).AddrPort()
		c.Global.Logs = append(c.Global.Logs, config.LogTarget{
			Kind: config.LogUDP, Format: f.format, Facility: 16, MaxLevel: 7, MaxLen: 1024,
			Address: config.Address{Kind: config.AddressIP, IP: at.Addr().Unmap(), Port: int(at.Port())},
		})
	}
	var open []engine.Listener
	for i, p := range proxies {
		fd, err := syscall.Dup(int(file(t, listeners[i]).Fd())) // the engine closes its own
		if err != nil {
			t.Fatal(err)
		}
		if err := sys.InheritedListener(fd); err != nil {
			t.Fatal(err)
		}
		bind := &config.Bind{ID: 1, Address: config.Address{Kind: config.AddressFD, FD: fd}}
		proxy := &config.Proxy{
			Name: p.name, IsFrontend: true, IsBackend: true, TCPLog: p.tcpLog, LogAsap: p.asap,
			Retries: p.retries, Logs: c.Global.Logs, Binds: []*config.Bind{bind},
			Timeouts: config.Timeouts{
				Connect: 5 * time.Second, Client: 20 * time.Second, Server: 20 * time.Second,
			},
		}
		proxy.DefaultBackend = proxy
		if p.redisp {
			proxy.Redispatch = -1
		}
		if p.servers {
			proxy.Servers = append(proxy.Servers, &config.Server{Name: "s1", Weight: 1})
		}
		if p.refusing {
			proxy.Servers = append(proxy.Servers, &config.Server{Name: "s2", Weight: 1})
		}
		c.Proxies = append(c.Proxies, proxy)
		open = append(open, engine.Listener{FD: fd, Proxy: proxy, Bind: bind})
	}
	logger, err := New(Options{Config: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(logger.Close)
	refused := c.Proxies[2].Servers
	e, err := engine.New(engine.Options{
		Config: c, Listeners: open, Kernel: sys.Linux{}, Workers: 1, MaxConn: 100, Log: logger.Log,
		Resolve: func(s *config.Server) (sys.Address, error) {
			if s == refused[0] || s == refused[1] {
				return sys.Address{IP: w.refusing}, nil
			}
			return sys.Address{IP: w.greeting}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	e.Start()
	t.Cleanup(e.Stop)
}

// visit is one client: it reads a greeting, says that it is done, and reads to the end.
func visit(t *testing.T, to net.Addr) {
	t.Helper()
	c, err := net.Dial(to.Network(), to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(make([]byte, 100))
	if err != nil || n == 0 {
		return // a section without a server that answers
	}
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Fatal(err)
	}
}

// masks hide what differs between two runs of one program.
var masks = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d`), "TIME"},
	{regexp.MustCompile(`\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d\.\d{3}\]`), "[DATE]"},
	{regexp.MustCompile(`[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d `), "DATE "},
	{regexp.MustCompile(`proxy\[\d+\]`), "proxy[PID]"},
	{regexp.MustCompile(`proxy \d+ - -`), "proxy PID - -"},
	{regexp.MustCompile(`(127\.0\.0\.1|::1):\d+`), "$1:PORT"},
	{regexp.MustCompile(` (-1|\d+)/(-1|\d+)/(\+?)\d+ `), " TW/TC/${3}TT "},
	// A greeting may or may not have come when a line is written at once.
	{regexp.MustCompile(`\+TT \+\d+ `), "+TT +BYTES "},
}

// timers are the ones that did not happen: -1, or not.
var timers = regexp.MustCompile(` (-1|\d+)/(-1|\d+)/(\+?)\d+ `)

func mask(line string) string {
	unset := ""
	if m := timers.FindStringSubmatch(line); m != nil {
		unset = fmt.Sprintf(" queue %t connect %t", m[1] != "-1", m[2] != "-1")
	}
	for _, m := range masks {
		line = m.what.ReplaceAllString(line, m.by)
	}
	return line + unset
}

// observe lets one client visit each section and returns the lines that it brought, in every format.
func observe(t *testing.T, w *world, listeners []net.Listener) []string {
	t.Helper()
	var all []string
	for _, l := range listeners {
		visit(t, l.Addr())
		for i := range formats {
			all = append(all, mask(receive(t, w.syslog[i])))
		}
	}
	return all
}

func TestLinesAreThoseOfHAProxy(t *testing.T) {
	theirs, ours := newWorld(t), newWorld(t)
	listeners := listen(t)
	runHAProxy(t, theirs, listeners)
	want := observe(t, theirs, listeners)
	listeners = listen(t)
	runEngine(t, ours, listeners)
	got := observe(t, ours, listeners)
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("section %s, format %s:\nwhyspin %q\nhaproxy %q",
				proxies[i/len(formats)].name, formats[i%len(formats)].name, got[i], want[i])
		}
	}
	t.Logf("%d lines, the first of each section:", len(want))
	for i := range proxies {
		t.Logf("%q", want[i*len(formats)+1])
	}
	text := strings.Join(want, "")
	if !strings.Contains(text, "Connect from") || !strings.Contains(text, "+2") {
		t.Errorf("haproxy's lines are not those that the test is about:\n%s", text)
	}
}
