package diagnose

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/probe"
	"github.com/whyspin/whyspin/internal/sys"
)

// busy is a supervised proxy of two workers between clients and a server that sends back what it gets.
func busy(t *testing.T) (*Supervisor, string) {
	t.Helper()
	server := traffic(t, "serve")
	fd, err := sys.Listen(sys.Address{IP: netip.MustParseAddrPort("127.0.0.1:0")},
		sys.ListenOptions{Backlog: 16, UID: -1, GID: -1})
	if err != nil {
		t.Fatal(err)
	}
	front := &config.Proxy{
		Name: "mail", ID: 2, IsFrontend: true, IsBackend: true, Binds: []*config.Bind{{ID: 1}},
		Servers:  []*config.Server{{Name: "echo", ID: 1, Weight: 1}},
		Timeouts: config.Timeouts{Connect: time.Minute, Client: time.Minute, Server: time.Minute},
	}
	front.DefaultBackend = front
	c := &config.Config{Proxies: []*config.Proxy{front}}
	c.Global.BufferSize, c.Global.MaxAccept = 16384, 4
	e, err := engine.New(engine.Options{
		Config: c, Kernel: sys.Linux{}, Workers: 2, MaxConn: 1000, MaxPipes: 8,
		Listeners: []engine.Listener{{FD: fd, Proxy: front, Bind: front.Binds[0]}},
		Resolve: func(*config.Server) (sys.Address, error) {
			return sys.Address{IP: netip.MustParseAddrPort(server)}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	e.Start()
	t.Cleanup(e.Stop)
	var sets []int
	for _, w := range e.Workers() {
		sets = append(sets, w.EpollFD)
	}
	p, err := probe.Load(probe.Options{PID: os.Getpid(), DirectSets: sets})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return &Supervisor{Engine: e, Probe: p, Log: func(string) {}}, sys.Linux{}.LocalAddress(fd).String()
}

// trafficVariable asks this program to be the clients and the server, in a process of its own: what they do
// is none of the proxy's calls. It is the address of the server, or of the proxy.
const trafficVariable = "WHYSPIN_TEST_TRAFFIC"

func TestMain(m *testing.M) {
	switch what, address, _ := strings.Cut(os.Getenv(trafficVariable), " "); what {
	case "":
		os.Exit(m.Run())
	case "serve":
		serve()
	case "talk":
		for range 8 {
			go func() {
				for {
					talk(address)
				}
			}()
		}
		_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends
	}
}

// traffic starts this program as something else, and returns the first line that it prints.
func traffic(t *testing.T, what string) string {
	t.Helper()
	c := exec.Command("/proc/self/exe")
	c.Env, c.Stderr = append(os.Environ(), trafficVariable+"="+what), os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := c.Wait(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	})
	if what != "serve" {
		return ""
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// serve sends back what it gets, until its input ends.
func serve() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// bulk is what is said at the end, enough to go through pipes.
const bulk = 4 << 20

// talk comes, says a few things and goes. When the proxy is being stopped that fails, and does no harm.
func talk(address string) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		time.Sleep(time.Millisecond)
		return
	}
	defer c.Close()
	said := make([]byte, 1000)
	for range 20 {
		if _, err := c.Write(said); err != nil {
			return
		}
		if _, err := io.ReadFull(c, said); err != nil {
			return
		}
	}
	go func() { _, _ = c.Write(make([]byte, bulk)) }()
	_, _ = io.CopyN(io.Discard, c, bulk)
}

// TestTheTwoWitnessesAgree: the kernel's counts lie between what the workers counted within the window and
// around it.
func TestTheTwoWitnessesAgree(t *testing.T) {
	s, address := busy(t)
	traffic(t, "talk "+address)
	// Of each worker two waits may end while the window begins, and two while it ends.
	const edge = 8
	for range 3 {
		_, rows, w := s.recordDuty(t.Context(), 200*time.Millisecond)
		if w == nil || w.Losses.Any() {
			t.Fatalf("the window is %+v", w)
		}
		for i := range rows {
			r := &rows[i]
			t.Logf("%-27s kernel %7d, ledger %v to %v", r.What, r.Kernel, r.AtLeast, r.AtMost)
			if text := r.Disagreement(); text != "" {
				t.Error(text)
			}
			if r.Kernel+edge < r.AtLeast.Or(0) {
				t.Errorf("%s: the kernel counted %d, the ledger at least %v", r.What, r.Kernel, r.AtLeast)
			}
			if !r.AtLeast.IsKnown() || !r.AtMost.IsKnown() {
				t.Errorf("%s: the ledger's count is not known", r.What)
			}
		}
		for _, what := range []string{"reads", "bytes read", "writes", "bytes written",
			"accepted connections"} {
			if !counts(rows, what) {
				t.Errorf("no %s were counted by both", what)
			}
		}
		s.last, s.compared = w, rows
	}
	if s.Engine.Workers()[0].Spliced == 0 {
		t.Error("nothing went through a pipe")
	}
	var text strings.Builder
	s.ShowSpin(&text)
	for _, want := range []string{"  reads ", "  accepted connections ", " ledger "} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("show spin does not show %q:\n%s", want, text.String())
		}
	}
	d, err := s.Diagnose(t.Context(), 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if said := strings.Join(d.Unknown, "; "); strings.Contains(said, "disagree") {
		t.Errorf("a diagnosis says that they do not: %s", said)
	}
}

func counts(rows []correlate.Witnessed, what string) bool {
	for _, r := range rows {
		if r.What == what {
			return r.Kernel > 0 && r.AtLeast.Or(0) > 0
		}
	}
	return false
}

// TestADisagreementIsShown in "show spin".
func TestADisagreementIsShown(t *testing.T) {
	s := &Supervisor{last: &evidence.Window{End: 1e9}}
	s.last.Hooks.Syscall = evidence.Know("tp_btf")
	most := correlate.Ledger{Accepted: 1000}
	s.compared = correlate.Witnesses(s.last, &correlate.Owned{Sets: []int{5}}, &most, &most)
	var text strings.Builder
	s.ShowSpin(&text)
	const want = "the two witnesses disagree: the kernel counted 0 accepted connections"
	if !strings.Contains(text.String(), want) {
		t.Errorf("show spin does not say %q:\n%s", want, text.String())
	}
}
