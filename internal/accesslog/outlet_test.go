package accesslog

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/engine"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// eventually waits for the condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waiting for %s: it did not happen within %v", what, patience)
		}
	}
}

// udpTarget returns a "log" line to a UDP socket of the test, and that socket.
func udpTarget(t *testing.T, format config.LogFormat) (config.LogTarget, *net.UDPConn) {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	at := c.LocalAddr().(*net.UDPAddr).AddrPort()
	return config.LogTarget{
		Kind: config.LogUDP, Format: format, Facility: 16, MaxLevel: int(Debug), MaxLen: defaultMaxLen,
		Address: config.Address{Kind: config.AddressIP, IP: at.Addr().Unmap(), Port: int(at.Port())},
	}, c
}

// receive returns the next datagram.
func receive(t *testing.T, c net.PacketConn) string {
	t.Helper()
	buffer := make([]byte, 1<<16)
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	n, _, err := c.ReadFrom(buffer)
	if err != nil {
		t.Fatalf("waiting for a log line: %v", err)
	}
	return string(buffer[:n])
}

// open returns a logger with these targets for the process and for the proxy of r.
func open(t *testing.T, r *engine.Record, targets ...config.LogTarget) *Logger {
	t.Helper()
	r.Frontend.Logs = targets
	c := &config.Config{Proxies: []*config.Proxy{r.Frontend}}
	c.Global.Logs, c.Global.LogTag = targets, "whyspin"
	l, err := New(Options{Config: c, PID: 42})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

func orderly(*engine.Record) {}

func TestLevelsOfATarget(t *testing.T) {
	atMostNotice, c1 := udpTarget(t, config.LogShort)
	atMostNotice.MaxLevel = int(Notice)
	atLeastNotice, c2 := udpTarget(t, config.LogShort)
	atLeastNotice.MinLevel = int(Notice)
	r := record(orderly)
	l := open(t, r, atMostNotice, atLeastNotice)
	l.Log(r)
	l.Message(Alert, "limit of %d reached", 3)
	l.ProxyMessage(r.Frontend, Warning, "stopped")

	if got, want := receive(t, c1), "<1>limit of 3 reached\n"; got != want {
		t.Errorf("the target that ends at notice got %q first, want %q", got, want)
	}
	for _, want := range []string{"<6>10.0.1.2", "<5>limit of 3 reached\n", "<5>stopped\n"} {
		if got := receive(t, c2); !strings.HasPrefix(got, want) {
			t.Errorf("the target that begins at notice got %q, want %q", got, want)
		}
	}
}

func TestProxyTagGoesBeforeTheGlobalOne(t *testing.T) {
	to, c := udpTarget(t, config.LogLocal)
	r := record(orderly)
	r.Frontend.LogTag = "mail"
	l := open(t, r, to)
	l.Log(r)
	if got := receive(t, c); !strings.Contains(got, " mail[42]: 10.0.1.2:33313 ") {
		t.Errorf("the line of the proxy is %q, its tag should be mail", got)
	}
	l.Message(Info, "text")
	if got := receive(t, c); !strings.Contains(got, " whyspin[42]: text\n") {
		t.Errorf("the line of the process is %q, its tag should be whyspin", got)
	}
}

func TestTheHostNameIsSentWhenAskedFor(t *testing.T) {
	for _, test := range []struct{ name, configured, want string }{
		{"a name", "mx", " mx whyspin[42]: text\n"},
		{"the machine's own", "", " machine whyspin[42]: text\n"},
	} {
		to, received := udpTarget(t, config.LogRFC3164)
		c := &config.Config{}
		c.Global.Logs, c.Global.LogTag = []config.LogTarget{to}, "whyspin"
		c.Global.LogHostnameSet, c.Global.LogSendHostname = true, test.configured
		l, err := New(Options{Config: c, PID: 42, Hostname: "machine"})
		if err != nil {
			t.Fatal(err)
		}
		l.Message(Info, "text")
		if got := receive(t, received); !strings.HasSuffix(got, test.want) {
			t.Errorf("%s: got %q, want the end %q", test.name, got, test.want)
		}
		l.Close()
	}
}

func TestAPipeThatNobodyReadsStopsNobodyElse(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	stuck := config.LogTarget{
		Kind: config.LogFD, Format: config.LogRaw, MaxLevel: int(Debug), MaxLen: defaultMaxLen,
		Address: config.Address{Kind: config.AddressFD, FD: int(writer.Fd())}, // Fd makes it block
	}
	to, c := udpTarget(t, config.LogRaw)
	r := record(orderly)
	l := open(t, r, stuck, to)

	text := strings.Repeat("x", 1000)
	for n := 0; l.Dropped() == 0; n++ {
		l.Message(Info, "%04d%s", n, text)
		if got, want := receive(t, c)[:4], fmt.Sprintf("%04d", n); got != want {
			t.Fatalf("the other target got line %s, want %s", got, want)
		}
		if n > 2*descriptorQueue {
			t.Fatalf("%d lines of 1 kB to a pipe that nobody reads, and none was dropped", n)
		}
	}

	closed := make(chan struct{})
	go func() {
		l.Close() // does not wait for the stuck target
		close(closed)
	}()
	eventually(t, "the log to be closed with a stuck target", func() bool {
		select {
		case <-closed:
			return true
		default:
			return false
		}
	})
	reader.Close() // ends the write that is stuck
	eventually(t, "the writer to end", func() bool {
		for _, o := range l.outlets {
			if d, ok := o.(*descriptorOutlet); ok {
				select {
				case <-d.done:
					return true
				default:
					return false
				}
			}
		}
		return false
	})
	writer.Close()
}

func TestCloseFlushesADescriptor(t *testing.T) {
	name := filepath.Join(t.TempDir(), "log")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r := record(orderly)
	l := open(t, r, config.LogTarget{
		Kind: config.LogFD, Format: config.LogRaw, MaxLevel: int(Debug), MaxLen: defaultMaxLen,
		Address: config.Address{Kind: config.AddressFD, FD: int(file.Fd())},
	})
	const lines = 500
	for range lines {
		l.Log(r)
	}
	l.Close()
	written, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(string(written), "\n"); got != lines || l.Dropped() != 0 {
		t.Errorf("%d lines were written and %d dropped, want %d and none", got, l.Dropped(), lines)
	}
	l.Log(r) // after Close: dropped or not, it must not block or panic
}

func TestAFullQueueIsCounted(t *testing.T) {
	l := &Logger{entries: make(chan entry, 2)}
	for range 5 {
		l.Message(Info, "text")
	}
	if l.Dropped() != 3 {
		t.Errorf("%d lines are counted as dropped, want 3", l.Dropped())
	}
}

func TestTheSyslogDaemonMayRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	listen := func() *net.UnixConn {
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	r := record(orderly)
	l := open(t, r, config.LogTarget{
		Kind: config.LogUnix, Format: config.LogRaw, MaxLevel: int(Debug), MaxLen: defaultMaxLen,
		Address: config.Address{Kind: config.AddressUnix, Path: path},
	})
	w := l.Warnings()
	if len(w) != 1 || !strings.Contains(w[0], path) || !strings.Contains(w[0], "no such file") {
		t.Errorf("the warnings are %q, want one about %s", w, path)
	}
	l.Message(Info, "nobody listens")
	eventually(t, "the line to be dropped", func() bool { return l.Dropped() == 1 })

	for _, life := range []string{"first", "second"} {
		daemon := listen()
		arrived := make(chan struct{})
		go func() {
			buffer := make([]byte, 1024)
			for text := ""; text != life+"\n"; { // lines that wait in the queue may come before
				n, err := daemon.Read(buffer)
				if err != nil {
					return
				}
				text = string(buffer[:n])
			}
			close(arrived)
		}()
		eventually(t, "a line to reach the "+life+" daemon", func() bool {
			l.Message(Info, "%s", life)
			select {
			case <-arrived:
				return true
			default:
				return false
			}
		})
		daemon.Close()
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTargetsThatCannotBeUsedAreReportedTogether(t *testing.T) {
	bad := func(line int, name string) config.LogTarget {
		return config.LogTarget{
			Position: config.Position{File: "x.cfg", Line: line}, Kind: config.LogUDP,
			Address: config.Address{Kind: config.AddressName, Name: name, Port: 514},
		}
	}
	r := record(orderly)
	r.Frontend.Logs = []config.LogTarget{bad(3, "one"), bad(9, "two")}
	c := &config.Config{Proxies: []*config.Proxy{r.Frontend}}
	c.Global.Logs = []config.LogTarget{bad(3, "one")}
	_, err := New(Options{Config: c})
	if err == nil {
		t.Fatal("two names that nobody resolves were accepted")
	}
	const want = `x.cfg:3: log: the address "one" cannot be used
x.cfg:9: log: the address "two" cannot be used`
	if err.Error() != want {
		t.Errorf("got\n%v\nwant\n%v", err, want)
	}
}

func TestLinesWithOneAddressShareASocket(t *testing.T) {
	one, _ := udpTarget(t, config.LogRaw)
	two := one
	two.Format = config.LogShort
	other, _ := udpTarget(t, config.LogRaw)
	other.Address.IP = netip.MustParseAddr("127.0.0.1")
	l := open(t, record(orderly), one, two, other)
	if len(l.outlets) != 2 {
		t.Errorf("three lines with two addresses opened %d outlets", len(l.outlets))
	}
}
