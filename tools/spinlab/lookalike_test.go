package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whyspin/whyspin/internal/freeport"
)

// The tests of this file start programs that only look like spinning, and require that nothing is said
// against them.

// busyTicks is how much of a CPU a program has used, in ticks of 10 ms, when it counts as loaded.
const busyTicks = 20

// lookalike is a program in a situation that resembles a spin. Its start returns the process to diagnose.
type lookalike struct {
	name, verdict string
	start         func(t *testing.T) int
}

const (
	healthy    = "healthy"
	configured = "configured"
)

var lookalikes = []lookalike{
	{"haproxy saturated on one core", healthy, haproxySaturated("")},
	{"haproxy busy polling, idle", configured, haproxyIdle("busy-polling", "")},
	{"haproxy busy polling, loaded", configured, haproxySaturated("busy-polling")},
	{"haproxy with dead servers checked every 100 ms", healthy, haproxyChecks},
	{"haproxy under a storm of resetting clients", healthy, haproxyStorm},
	{"haproxy with a chat of 4 bytes on 200 connections", healthy, haproxyChat},
	{"haproxy with slow readers", healthy, haproxySlowReaders},
	{"nginx saturated", healthy, nginxSaturated},
	{"redis under redis-benchmark", healthy, redisLoaded("1")},
	{"redis under redis-benchmark with pipelining", healthy, redisLoaded("16")},
	{"whyspin idle", healthy, func(t *testing.T) int { p, _ := startWhyspin(t); return p }},
	{"whyspin loaded", healthy, whyspinLoaded},
}

func TestLookAlikesAreNotAccused(t *testing.T) {
	all := lookalikes
	for i := range programs {
		p := &programs[i]
		all = append(all,
			lookalike{p.name + " idle", healthy, func(t *testing.T) int { return echoServer(t, p).pid() }},
			lookalike{p.name + " loaded", healthy, func(t *testing.T) int { return echoLoaded(t, p) }})
	}
	const runs = 3
	for _, l := range all {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			pid := l.start(t)
			for range runs {
				d := diagnose(t, pid, window)
				if d.verdict() != l.verdict || len(d.Findings) > 0 && d.Findings[0].Class != nil {
					t.Errorf("the verdict is %q, should be %q:\n%s", d.verdict(), l.verdict, d.text)
				}
			}
		})
	}
}

// background runs a program until the test ends.
func background(t *testing.T, name string, arguments ...string) int {
	t.Helper()
	c := exec.Command(need(t, name), arguments...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if said, _ := os.ReadFile(log.Name()); t.Failed() && len(said) > 0 {
			t.Logf("%s said:\n%s", c, said)
		}
	})
	return c.Process.Pid
}

// onOneCore runs a program on one CPU until the test ends.
func onOneCore(t *testing.T, name string, arguments ...string) int {
	t.Helper()
	return background(t, "taskset", append([]string{"--cpu-list", "0", need(t, name)}, arguments...)...)
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// listens waits until somebody accepts connections.
func listens(t *testing.T, address string) {
	t.Helper()
	eventually(t, "somebody to listen on "+address, func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// loaded waits until a process has worked for a while.
func loaded(t *testing.T, pid int) {
	t.Helper()
	used := func() (sum int) {
		for _, v := range account(t, pid) {
			sum += v.user + v.system
		}
		return sum
	}
	before := used()
	eventually(t, "the process to work", func() bool { return used() >= before+busyTicks })
}

// freePort returns a port of loopback that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := freeport.Get()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// shortDirectory makes a directory whose name leaves room for that of a socket (108 bytes in all).
func shortDirectory(t *testing.T) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "spinlab-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	return directory
}

// haproxyConfig has one thread, as a process that is saturated on one core has.
const haproxyConfig = `
global
    nbthread 1
    stats socket %s level admin
    %s
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen main
    bind 127.0.0.1:%s
    %s
`

// startHAProxy runs a HAProxy with a line in "global" and lines in its only section, and returns its process
// and address.
func startHAProxy(t *testing.T, global string, lines ...string) (pid int, address string) {
	t.Helper()
	directory, port := shortDirectory(t), freePort(t)
	file := filepath.Join(directory, "haproxy.cfg")
	text := fmt.Sprintf(haproxyConfig, filepath.Join(directory, "stats.sock"), global, port,
		strings.Join(lines, "\n    "))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	address = "127.0.0.1:" + port
	pid = onOneCore(t, "haproxy", "-db", "-f", file)
	listens(t, address)
	return pid, address
}

func haproxyIdle(global, line string) func(*testing.T) int {
	return func(t *testing.T) int {
		pid, _ := startHAProxy(t, global, line)
		return pid
	}
}

func haproxySaturated(global string) func(*testing.T) int {
	return func(t *testing.T) int {
		pid, address := startHAProxy(t, global, "mode http", "http-request return status 200")
		httpLoad(t, address)
		loaded(t, pid)
		return pid
	}
}

// httpLoad keeps an HTTP server as busy as one client can.
func httpLoad(t *testing.T, address string) {
	t.Helper()
	background(t, "wrk", "-t", "1", "-c", "50", "-d", "120", "http://"+address+"/")
}

func haproxyChecks(t *testing.T) int {
	var lines []string
	for i := range 5 {
		fd, port, err := reserve()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		lines = append(lines, fmt.Sprintf("server dead%d 127.0.0.1:%s check inter 100ms", i, port))
	}
	pid, _ := startHAProxy(t, "", lines...)
	return pid
}

// haproxyEcho is a HAProxy in front of an echo server.
func haproxyEcho(t *testing.T) (pid int, address string) {
	p, err := find("netpoll-go")
	if err != nil {
		t.Fatal(err)
	}
	return startHAProxy(t, "", "server echo "+echoServer(t, p).listener)
}

func haproxyStorm(t *testing.T) int {
	const together = 20
	pid, address := haproxyEcho(t)
	for range together {
		go func() {
			for t.Context().Err() == nil {
				c, err := net.Dial("tcp", address)
				if err != nil {
					time.Sleep(time.Millisecond) // no ports for the moment
					continue
				}
				_, _ = c.Write([]byte("a client that breaks off"))
				_ = c.(*net.TCPConn).SetLinger(0)
				c.Close()
			}
		}()
	}
	loaded(t, pid)
	return pid
}

// talk opens conversations until the test ends and waits until the process has worked.
func talk(t *testing.T, pid int, address string, connections int, message string, rest time.Duration) {
	t.Helper()
	var served atomic.Int64
	for range connections {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		go converse(c, message, rest, &served)
	}
	loaded(t, pid)
	if served.Load() == 0 {
		t.Error("nobody was served")
	}
}

func haproxyChat(t *testing.T) int {
	pid, address := haproxyEcho(t)
	talk(t, pid, address, 200, "tick", rest)
	return pid
}

func haproxySlowReaders(t *testing.T) int {
	const readers, piece = 20, 4 << 10
	source, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Close() })
	go func() {
		for {
			c, err := source.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for err == nil {
					_, err = c.Write(make([]byte, 64<<10))
				}
			}()
		}
	}()
	pid, address := startHAProxy(t, "", "server source "+source.Addr().String())
	var read atomic.Int64
	for range readers {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).SetReadBuffer(piece)
		t.Cleanup(func() { c.Close() })
		go func() {
			for buffer := make([]byte, piece); ; time.Sleep(rest) {
				n, err := c.Read(buffer)
				if err != nil {
					return
				}
				read.Add(int64(n))
			}
		}()
	}
	// More than what lies in the buffers of the first moment: the proxy has waited for its readers.
	eventually(t, "the readers to read", func() bool { return read.Load() > 4<<20 })
	return pid
}

// nginxSaturated returns the worker, which is the child of the process that is started.
func nginxSaturated(t *testing.T) int {
	directory, port := shortDirectory(t), freePort(t)
	file := filepath.Join(directory, "nginx.conf")
	text := fmt.Sprintf(`
daemon off;
worker_processes 1;
pid %[1]s/pid;
error_log stderr;
events { worker_connections 512; }
http {
    access_log off;
    server { listen 127.0.0.1:%[2]s; location / { return 200 "ok"; } }
}
`, directory, port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	master := onOneCore(t, "nginx", "-e", "stderr", "-p", directory, "-c", file)
	listens(t, "127.0.0.1:"+port)
	worker := 0
	eventually(t, "the worker to run", func() bool {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", master, master))
		_, err := fmt.Sscan(string(text), &worker)
		return err == nil
	})
	// The master is killed in the end, and a worker outlives that.
	t.Cleanup(func() { _ = syscall.Kill(worker, syscall.SIGKILL) })
	httpLoad(t, "127.0.0.1:"+port)
	loaded(t, worker)
	return worker
}

func redisLoaded(pipeline string) func(*testing.T) int {
	return func(t *testing.T) int {
		port := freePort(t)
		pid := onOneCore(t, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "",
			"--appendonly", "no")
		listens(t, "127.0.0.1:"+port)
		background(t, "redis-benchmark", "-p", port, "-P", pipeline, "-l", "-q", "-t", "set,get")
		loaded(t, pid)
		return pid
	}
}

// startWhyspin runs the proxy in front of an echo server.
func startWhyspin(t *testing.T) (pid int, address string) {
	t.Helper()
	p, err := find("netpoll-go")
	if err != nil {
		t.Fatal(err)
	}
	directory, port := shortDirectory(t), freePort(t)
	file := filepath.Join(directory, "whyspin.cfg")
	text := fmt.Sprintf(haproxyConfig, filepath.Join(directory, "stats.sock"), "", port,
		"server echo "+echoServer(t, p).listener)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	pid = background(t, whyspin, "run", "-f", file)
	listens(t, "127.0.0.1:"+port)
	return pid, "127.0.0.1:" + port
}

func whyspinLoaded(t *testing.T) int {
	pid, address := startWhyspin(t)
	talk(t, pid, address, manyTalkers, "a message of some length", 0)
	return pid
}

// manyTalkers is how many connections keep a small server busy.
const manyTalkers = 20

// echoServer runs a program without a defect.
func echoServer(t *testing.T, p *program) *spinner {
	t.Helper()
	s, err := launch(t.Context(), commands[p.name], none)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	return s
}

func echoLoaded(t *testing.T, p *program) int {
	s := echoServer(t, p)
	talk(t, s.pid(), s.listener, manyTalkers, "a message of some length", 0)
	return s.pid()
}
