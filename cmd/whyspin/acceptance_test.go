package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/lab"
)

// sample is the configuration that the README shows.
const sample = "../../testdata/config/smtp.cfg"

// site is the sample configuration in front of a mail server, a Redis and a server that sends back what it
// gets.
type site struct {
	*proxy
	mail                   *lab.MailServer
	smtp, redis, web, sock string // where clients connect
	admin                  string // address of the HTTP endpoints
}

func startSite(t *testing.T) *site {
	t.Helper()
	s := &site{sock: filepath.Join(t.TempDir(), "stats.sock")}
	var err error
	if s.mail, err = lab.StartMailServer(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.mail.Close)
	mx := portOf(t, s.mail.Address())
	s.smtp, s.redis, s.web = freePort(t), freePort(t), freePort(t)
	s.admin = "127.0.0.1:" + freePort(t)
	admin := write(t, "admin.cfg", "global\n    whyspin.admin "+s.admin+"\n")
	s.proxy = startProxy(t, s.sock, sample, []string{
		"WHYSPIN_SOCKET=" + s.sock, "SMTP_PORT=" + s.smtp, "MX1_PORT=" + mx, "MX2_PORT=" + mx,
		"REDIS_PORT=" + s.redis, "REDIS_SERVER_PORT=" + startRedis(t),
		"WEB_PORT=" + s.web, "WEB_SERVER_PORT=" + startEcho(t),
	}, func(c *exec.Cmd) { c.Args = append(c.Args, "-f", admin) })
	return s
}

// startRedis runs a Redis that keeps nothing.
func startRedis(t *testing.T) string {
	t.Helper()
	port := freePort(t)
	start(t, exec.Command(need(t, "redis-server"), "--port", port, "--bind", "127.0.0.1", "--save", "",
		"--appendonly", "no"))
	client := need(t, "redis-cli")
	eventually(t, "Redis to answer", func() bool {
		out, err := exec.Command(client, "-p", port, "ping").Output()
		return err == nil && strings.TrimSpace(string(out)) == "PONG"
	})
	return port
}

// startEcho runs a server that sends back what it gets, and its end when it gets the end.
func startEcho(t *testing.T) string {
	t.Helper()
	return portOf(t, serve(t, func(c net.Conn) { _, _ = io.Copy(c, c) }))
}

// TestAGigabyteInEachDirection sends 1 GB up and the same back down through one stream.
func TestAGigabyteInEachDirection(t *testing.T) {
	size := int64(1_000_000_000)
	if testing.Short() {
		size /= 20
	}
	s := startSite(t)
	c, err := net.Dial("tcp", "127.0.0.1:"+s.web)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent, got := sha256.New(), sha256.New()
	var sending sync.WaitGroup
	sending.Go(func() {
		source := rand.NewChaCha8([32]byte{1})
		if _, err := io.CopyN(io.MultiWriter(c, sent), source, size); err != nil {
			t.Error(err)
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Error(err)
		}
	})
	n, err := io.Copy(got, c)
	sending.Wait()
	if err != nil || n != size {
		t.Errorf("%d bytes of %d came back: %v", n, size, err)
	}
	if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
		t.Error("other bytes came back than were sent")
	}
}

// leakLimit is how many bytes a connection may leave behind in the live heap. The smallest leak worth the
// name, a forgotten conn or its entry in a map, is several times that; what is kept for later use
// comes to a few dozen at the numbers of this test, and does not grow with them.
const leakLimit = 100

// TestStormOfResetsLeavesNothing opens connections and breaks them at random points, urgent data among what
// they send, several times over. The live heap after the last storm is compared with that after the second:
// what is kept for later use is there by then.
func TestStormOfResetsLeavesNothing(t *testing.T) {
	connections := 10_000
	if testing.Short() {
		connections = 4000
	}
	const storms = 4
	s := startSite(t)
	before := s.descriptors()
	var heap [storms]int
	for i := range heap {
		s.storm(connections / storms)
		eventually(t, "all streams to end", func() bool { return s.info("CurrConns") == 0 })
		eventually(t, "all descriptors to be closed", func() bool { return s.descriptors() <= before })
		heap[i] = s.liveBytes()
	}
	since := connections / storms * 2
	if grown := heap[3] - heap[1]; grown > leakLimit*since {
		t.Errorf("the live heap grew by %d bytes, more than %d for each of %d connections: %v", grown,
			leakLimit, since, heap)
	}
	t.Logf("live heap after each of %d storms of %d connections: %v", storms, connections/storms, heap)
	if sess := s.order("show sess"); strings.Contains(sess, "fe=web") {
		t.Errorf("a stream is left:\n%s", sess)
	}
	if n := s.info("WakeupsLate"); n != 0 {
		t.Errorf("%d wakeups left a deadline in the past", n)
	}
}

// liveBytes is the memory of the proxy's heap and stacks that is in use after a garbage collection.
func (s *site) liveBytes() int {
	s.t.Helper()
	var text string
	// What a pool keeps survives one collection, and a finalizer runs after one.
	for range 3 {
		_, text = get(s.t, "http://"+s.admin+"/debug/pprof/heap?gc=1&debug=1", "", "")
	}
	var sum, found int
	for line := range strings.SplitSeq(text, "\n") {
		var n int
		for _, form := range []string{"# HeapAlloc = %d", "# Stack = %d /"} {
			if _, err := fmt.Sscanf(line, form, &n); err == nil {
				sum += n
				found++
			}
		}
	}
	if found != 2 {
		s.t.Fatalf("the heap profile has %d of 2 sums:\n%.4000s", found, text)
	}
	return sum
}

// storm makes connections and breaks them.
func (s *site) storm(connections int) {
	const together = 50
	var clients sync.WaitGroup
	for range together {
		clients.Go(func() {
			for range connections / together {
				if err := s.stormOne(); err != nil {
					s.t.Error(err)
					return
				}
			}
		})
	}
	clients.Wait()
}

// stormOne is one connection of a storm. Errors after it is connected are what it is about.
func (s *site) stormOne() error {
	c, err := net.Dial("tcp", "127.0.0.1:"+s.web)
	if err != nil {
		return err
	}
	defer c.Close()
	tcp := c.(*net.TCPConn)
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	for range rand.IntN(4) {
		if rand.IntN(3) == 0 {
			_ = raw.Control(func(fd uintptr) { _ = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) })
			continue
		}
		n, _ := c.Write(make([]byte, 1+rand.IntN(50_000)))
		if rand.IntN(2) == 0 && n > 0 {
			_, _ = io.ReadFull(c, make([]byte, rand.IntN(n)))
		}
	}
	if rand.IntN(2) == 0 {
		_ = tcp.SetLinger(0)
	}
	return nil
}

func TestSocatReadsTheRuntimeAPI(t *testing.T) {
	s := startSite(t)
	c, err := net.Dial("tcp", "127.0.0.1:"+s.smtp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	shell := exec.Command("sh", "-c", fmt.Sprintf(`echo "show info; show sess all" | %s - %s`,
		need(t, "socat"), s.sock))
	o := executeCommand(t, shell)
	for _, part := range []string{
		"Name: whyspin\n", "\nVersion: " + config.CompatibleVersion + "-", "\nCurrConns: 1\n",
		"frontend=smtp (id=2 mode=tcp)",
		"server=mx",
		"scf=0x", "state=EST",
	} {
		if !strings.Contains(o.out, part) {
			t.Errorf("the answer has no %q:\n%s", part, o.out)
		}
	}
}

func TestDiagnoseALoadedHealthyProxy(t *testing.T) {
	s := startSite(t)
	ctx, stop := context.WithCancel(context.Background())
	load := exec.CommandContext(ctx, need(t, "redis-benchmark"), "-p", s.redis, "-l", "-q", "-t", "get")
	start(t, load)
	defer stop()
	eventually(t, "the load to run", func() bool { return s.info("CurrConns") >= 50 })
	d := s.diagnose(exitOK, "--for", "1s")
	if d.Verdict == nil || *d.Verdict != "healthy" || d.Target.Kind != "whyspin" || len(d.Findings) != 0 {
		t.Errorf("the verdict is %+v", d)
	}
}

func TestDiagnoseAStoppedProxySaysSo(t *testing.T) {
	s := startSite(t)
	if err := s.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer s.Process.Signal(syscall.SIGCONT)
	eventually(t, "the proxy to be stopped", func() bool { return s.processState() == 'T' })
	o := execute(t, program, "diagnose", "--pid", fmt.Sprint(s.Process.Pid))
	if o.code != exitFailed || !strings.Contains(o.errors, "stopped") || !strings.Contains(o.errors,
		"kill -CONT") {
		t.Errorf("diagnose exits with %d and says:\n%s%s", o.code, o.out, o.errors)
	}
}

// processState is the letter of the process's state.
func (s *site) processState() byte {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	return text[bytes.LastIndexByte(text, ')')+2]
}

// TestDiagnoseWithoutATargetTakesTheOnlyProxy: with several on the machine, as while the tests of other
// packages run, it takes none of them and lists them all.
func TestDiagnoseWithoutATargetTakesTheOnlyProxy(t *testing.T) {
	s := startSite(t)
	pid := fmt.Sprint(s.Process.Pid)
	o := execute(t, program, "diagnose", "--for", "100ms")
	only := o.code == exitOK && strings.Contains(o.out, "pid "+pid)
	several := o.code == exitFailed && strings.Contains(o.errors, "choose one with --pid: ") &&
		strings.Contains(o.errors, pid)
	if !only && !several {
		t.Errorf("diagnose exits with %d and says:\n%s%s", o.code, o.out, o.errors)
	}
}

// TestDemo runs the founding case as its users do, as root and as nobody.
func TestDemo(t *testing.T) {
	o := execute(t, program, "demo")
	if o.code != 0 || !strings.Contains(o.out, "T3 orphaned half-state") {
		t.Fatalf("demo exits with %d and says:\n%s%s", o.code, o.out, o.errors)
	}
	if !strings.Contains(o.out, "[syscall probe]") {
		t.Errorf("as root there is no kernel evidence:\n%s", o.out)
	}
}

// nobody is a user without any right.
const nobody = 65534

func TestDemoWithoutRoot(t *testing.T) {
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	c := exec.CommandContext(ctx, program, "demo")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	c.Dir = "/"
	c.Env = append(os.Environ(), "TMPDIR="+os.TempDir())
	o := executeCommand(t, c)
	if o.code != 0 || !strings.Contains(o.out, "T3 orphaned half-state") {
		t.Fatalf("demo exits with %d and says:\n%s%s", o.code, o.out, o.errors)
	}
	for _, part := range []string{"no probes", "[ledger]", "not observed", "CAP_BPF"} {
		if !strings.Contains(o.out, part) {
			t.Errorf("without root the verdict does not say %q:\n%s", part, o.out)
		}
	}
}

// TestWithoutProbesTheProxyRunsAndSaysSoOnce: a missing capability gives a running proxy and one clear
// sentence.
func TestWithoutProbesTheProxyRunsAndSaysSoOnce(t *testing.T) {
	socket := filepath.Join(openDirectory(t), "stats.sock")
	file := write(t, "proxy.cfg", fmt.Sprintf(`
global
    stats socket %s level admin
defaults
    mode tcp
    timeout connect 1s
    timeout client 1m
    timeout server 1m
listen echo
    bind 127.0.0.1:%s
    server s1 127.0.0.1:%s
`, socket, freePort(t), startEcho(t)))
	p := startProxy(t, socket, file, nil, func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	})
	info := p.order("show info")
	p.stop(t)
	said := strings.Split(strings.TrimSpace(p.said()), "\n")
	if len(said) != 1 || !strings.Contains(said[0], "fewer eyes") || !strings.Contains(said[0], "CAP_BPF") {
		t.Errorf("the proxy says %d lines:\n%s", len(said), strings.Join(said, "\n"))
	}
	if !strings.Contains(info, "\nProbes: ") {
		t.Errorf("show info does not say what watches:\n%s", info)
	}
}
