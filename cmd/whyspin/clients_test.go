package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/whyspin/whyspin/internal/lab"
)

// The tests of this file run programs that others use every day through the proxy, over IPv4 and IPv6 on both
// sides, with two workers. Each program's own report must be without an error, and nothing may be left of it
// in the proxy.

// crossing is a proxy with a listener of each family and a server of the same family behind it.
type crossing struct {
	*proxy
	t      *testing.T
	routes [2]route
	rests  int // how many descriptors it has when nobody is connected
}

// route is one way through the proxy.
type route struct {
	family, host string // "IPv4", "127.0.0.1"
	port         string // of the proxy
	server       string // port of the server
}

const crossingConfig = `
global
    nbthread 2
    stats socket %s mode 600 level admin
    log stdout format raw daemon
defaults
    mode tcp
    log global
    option tcplog
    timeout connect 10s
    timeout client 1m
    timeout server 1m
`

// startCrossing runs the proxy. The servers' ports are chosen here, or taken from addresses of running ones.
func startCrossing(t *testing.T, servers ...string) *crossing {
	t.Helper()
	return startCrossingWith(t, "", servers...)
}

// startCrossingWith runs the proxy with options on its binds.
func startCrossingWith(t *testing.T, options string, servers ...string) *crossing {
	t.Helper()
	x := &crossing{t: t, routes: [2]route{{family: "IPv4", host: "127.0.0.1"}, {family: "IPv6", host: "::1"}}}
	socket := filepath.Join(openDirectory(t), "stats.sock")
	text := fmt.Sprintf(crossingConfig, socket)
	for i := range x.routes {
		r := &x.routes[i]
		r.port, r.server = freePort(t), freePort(t)
		if len(servers) > 0 {
			r.server = portOf(t, servers[i])
		}
		text += fmt.Sprintf("listen %s\n    bind %s %s\n    server s1 %s\n", r.family,
			net.JoinHostPort(r.host, r.port), options, net.JoinHostPort(r.host, r.server))
	}
	x.proxy = startProxy(t, socket, write(t, "proxy.cfg", text), nil, nil)
	x.rests = x.descriptors()
	return x
}

// each runs a test over each family, and then sees that the proxy is as it was.
func (x *crossing) each(test func(t *testing.T, r *route)) {
	x.t.Helper()
	for i := range x.routes {
		x.t.Run(x.routes[i].family, func(t *testing.T) { test(t, &x.routes[i]) })
	}
	x.leftAsItWas()
}

// leftAsItWas requires that no stream and no descriptor is left, and that nothing was found wrong.
func (x *crossing) leftAsItWas() {
	x.t.Helper()
	eventually(x.t, "all streams to end", func() bool { return x.info("CurrConns") == 0 })
	// Pipes are kept for the next streams, up to a bound.
	eventually(x.t, "all descriptors to be closed", func() bool {
		return x.descriptors() <= x.rests+2*x.info("PipesFree")
	})
	for _, field := range []string{"WakeupsLate", "StuckWorkers"} {
		if n := x.info(field); n != 0 {
			x.t.Errorf("%s is %d, should be 0", field, n)
		}
	}
	spin := x.order("show spin")
	for _, line := range []string{"suspects: 0\n", "findings: 0\n"} {
		if !strings.Contains(spin+"\n", line) {
			x.t.Errorf("show spin has no line %q:\n%s", line, spin)
		}
	}
}

// ended returns how many streams were logged with one of these codes, after the proxy has stopped.
func (x *crossing) ended(t *testing.T, codes ...string) (n int) {
	x.stop(t)
	for line := range strings.SplitSeq(x.said(), "\n") {
		with := func(code string) bool { return strings.Contains(line, " "+code+" ") }
		if strings.Contains(line, "/s1 ") && slices.ContainsFunc(codes, with) {
			n++
		}
	}
	return n
}

// listens waits until somebody listens on each server's port, without connecting: some would take that for a
// client.
func (x *crossing) listens() {
	x.t.Helper()
	for _, r := range x.routes {
		port, err := strconv.Atoi(r.server)
		if err != nil {
			x.t.Fatal(err)
		}
		listener := regexp.MustCompile(fmt.Sprintf(`:%04X 0+:0000 0A `, port))
		eventually(x.t, "a server to listen on port "+r.server, func() bool {
			four, err4 := os.ReadFile("/proc/net/tcp")
			six, err6 := os.ReadFile("/proc/net/tcp6")
			return err4 == nil && err6 == nil && (listener.Match(four) || listener.Match(six))
		})
	}
}

// full returns the number for a whole run, or that for a short one.
func full(whole, short int) int {
	if testing.Short() {
		return short
	}
	return whole
}

func TestRedisBenchmarkRunsWithoutAnError(t *testing.T) {
	benchmark, server := need(t, "redis-benchmark"), need(t, "redis-server")
	x := startCrossing(t)
	for _, r := range x.routes {
		start(t, exec.Command(server, "--port", r.server, "--bind", r.host, "--save", "", "--appendonly",
			"no"))
	}
	x.listens()
	x.each(func(t *testing.T, r *route) {
		tests := []string{"PING_INLINE", "SET", "GET", "MSET (10 keys)"}
		o := execute(t, benchmark, "-h", r.host, "-p", r.port, "-P", "16", "-n",
			fmt.Sprint(full(100_000, 10_000)), "--csv", "-t", "ping_inline,set,get,mset")
		rows, err := csv.NewReader(strings.NewReader(o.out)).ReadAll()
		if err != nil || o.code != 0 || o.errors != "" || len(rows) != 1+len(tests) {
			t.Fatalf("redis-benchmark exits with %d (%v) and says:\n%s%s", o.code, err, o.out, o.errors)
		}
		for i, name := range tests {
			if rate, err := strconv.ParseFloat(rows[i+1][1], 64); rows[i+1][0] != name || err != nil ||
				rate <= 0 {
				t.Errorf("the row of %s is %v", name, rows[i+1])
			}
		}
	})
}

// databaseUser is whom the database server runs as: it refuses to be root. The package brings the account.
const databaseUser = "postgres"

// asDatabaseUser makes a command run as that user when the tests are run by root.
func asDatabaseUser(t *testing.T, c *exec.Cmd, directory string) *exec.Cmd {
	t.Helper()
	c.Dir = directory
	if os.Geteuid() != 0 {
		return c
	}
	account, err := user.Lookup(databaseUser)
	if err != nil {
		t.Fatalf("make deps installs what the tests need: %v", err)
	}
	uid, err1 := strconv.Atoi(account.Uid)
	gid, err2 := strconv.Atoi(account.Gid)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	return c
}

// databaseProgram finds one of the server's programs, which Debian keeps out of the way, by version.
func databaseProgram(t *testing.T, name string) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(found) == 0 {
		t.Fatalf("PostgreSQL's %s is missing: make deps installs what the tests need", name)
	}
	return found[len(found)-1]
}

// startDatabase runs the server of a private database on a port of both addresses.
func startDatabase(t *testing.T, port string) {
	t.Helper()
	initdb, postgres := databaseProgram(t, "initdb"), databaseProgram(t, "postgres")
	directory := openDirectory(t)
	data := filepath.Join(directory, "data")
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	o := executeCommand(t, asDatabaseUser(t, exec.CommandContext(ctx, initdb, "--pgdata", data, "--no-sync",
		"--auth", "trust", "--username", databaseUser, "--encoding", "UTF8", "--locale", "C"), directory))
	if o.code != 0 {
		t.Fatalf("initdb exits with %d and says:\n%s%s", o.code, o.out, o.errors)
	}
	server := start(t, asDatabaseUser(t, exec.Command(postgres, "-D", data, "-h", "127.0.0.1,::1", "-p", port,
		"-k", "", "-c", "fsync=off", "-c", "shared_buffers=16MB"), directory))
	t.Cleanup(func() {
		if t.Failed() {
			server.stop(t)
			t.Logf("the database says:\n%s", server.said())
		}
	})
	eventually(t, "the database to take connections", func() bool {
		// Its last line is the server's state.
		pid, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
		return err == nil && strings.HasSuffix(strings.TrimSpace(string(pid)), "\nready")
	})
}

func TestPgbenchRunsWithoutAnError(t *testing.T) {
	pgbench, port := databaseProgram(t, "pgbench"), freePort(t)
	startDatabase(t, port)
	x := startCrossing(t, net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port))
	x.each(func(t *testing.T, r *route) {
		reach := []string{"-h", r.host, "-p", r.port, "-U", databaseUser}
		o := execute(t, pgbench, append(reach, "-i", "-q", "-s", "1", databaseUser)...)
		if o.code != 0 || strings.Contains(strings.ToLower(o.errors), "error") {
			t.Fatalf("filling the database exits with %d and says:\n%s%s", o.code, o.out, o.errors)
		}
		const clients = 8
		transactions := full(200, 50)
		for _, kind := range [][]string{
			{"-M", "prepared"}, // updates
			{"-S"},             // one SELECT each
			{"-S", "-C"},       // a connection for each of them
		} {
			o := execute(t, pgbench, append(append(reach, kind...), "-n", "-c", fmt.Sprint(clients), "-j",
				"2", "-t", fmt.Sprint(transactions/clients), databaseUser)...)
			n := transactions / clients * clients
			for _, line := range []string{
				fmt.Sprintf("number of transactions actually processed: %d/%d\n", n, n),
				"number of failed transactions: 0 (0.000%)\n",
			} {
				if o.code != 0 || o.errors != "" || !strings.Contains(o.out, line) {
					t.Errorf("pgbench %v exits with %d and does not report %q:\n%s%s", kind, o.code, line,
						o.out, o.errors)
				}
			}
		}
	})
}

// startMail runs a mail server at each address and returns where they listen.
func startMail(t *testing.T) (servers [2]*lab.MailServer, addresses []string) {
	t.Helper()
	for i, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		var err error
		if servers[i], err = lab.StartMailServerAt(at); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(servers[i].Close)
		addresses = append(addresses, servers[i].Address())
	}
	return servers, addresses
}

func TestSwaksDeliversEveryMail(t *testing.T) {
	swaks := need(t, "swaks")
	const each, senders = 50, 4
	servers, addresses := startMail(t)
	x := startCrossing(t, addresses...)
	x.each(func(t *testing.T, r *route) {
		var running sync.WaitGroup
		next := make(chan int, each)
		for i := range each {
			next <- i
		}
		close(next)
		for range senders {
			running.Go(func() {
				for i := range next {
					o, err := exec.Command(swaks, "--server", r.host, "--port", r.port, "--from",
						"a@client.example", "--to", "b@mx.example", "--h-Subject",
						fmt.Sprintf("mail %d over %s", i, r.family), "--timeout", "30").CombinedOutput()
					// swaks marks what it did not expect with stars.
					if err != nil || strings.Contains(string(o), "*** ") {
						t.Errorf("swaks: %v:\n%s", err, o)
					}
				}
			})
		}
		running.Wait()
	})
	for i, s := range servers {
		if n := s.Mails(); n != each {
			t.Errorf("%d mails arrived over %s, should be %d", n, x.routes[i].family, each)
		}
	}
	// Each session is one line of the access log, ended without an error.
	if n := x.ended(t, "--"); n != 2*each {
		t.Errorf("%d sessions were logged as ended without an error, should be %d", n, 2*each)
	}
}

const webConfig = `
daemon off;
master_process off;
pid %[1]s/pid;
error_log stderr error;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path %[1]s/body;
    proxy_temp_path %[1]s/proxy;
    fastcgi_temp_path %[1]s/fastcgi;
    uwsgi_temp_path %[1]s/uwsgi;
    scgi_temp_path %[1]s/scgi;
    server {
        listen %[2]s;
        listen %[3]s;
        location = / { return 200 "It works\n"; }
        location = /large { root %[1]s; }
    }
}
`

// servesWeb runs a web server behind the proxy.
func (x *crossing) servesWeb() {
	x.t.Helper()
	directory := openDirectory(x.t)
	if err := os.WriteFile(filepath.Join(directory, "large"), make([]byte, 1<<20), 0o644); err != nil {
		x.t.Fatal(err)
	}
	text := fmt.Sprintf(webConfig, directory, net.JoinHostPort(x.routes[0].host, x.routes[0].server),
		net.JoinHostPort(x.routes[1].host, x.routes[1].server))
	start(x.t, exec.Command(need(x.t, "nginx"), "-e", "stderr", "-c", write(x.t, "nginx.conf", text)))
	x.listens()
}

func TestWrkRunsWithoutAnError(t *testing.T) {
	x := startCrossing(t)
	x.servesWeb()
	x.each(func(t *testing.T, r *route) { r.wrk(t, "http") })
}

// wrk loads the web server behind the proxy, for a second with each kind of request.
func (r *route) wrk(t *testing.T, scheme string) {
	t.Helper()
	answered := regexp.MustCompile(`(?m)^\s+(\d+) requests in `)
	for _, request := range [][]string{{"/"}, {"/large"}, {"/", "-H", "Connection: close"}} {
		o := execute(t, need(t, "wrk"), append(request[1:], "-t", "2", "-c", "50", "-d", "1",
			"--timeout", "30", scheme+"://"+net.JoinHostPort(r.host, r.port)+request[0])...)
		m := answered.FindStringSubmatch(o.out)
		if o.code != 0 || m == nil || m[1] == "0" || strings.Contains(o.out, "Socket errors") ||
			strings.Contains(o.out, "Non-2xx") {
			t.Errorf("wrk for %v exits with %d and says:\n%s%s", request, o.code, o.out, o.errors)
		}
	}
}

func TestIperf3RunsWithoutAnError(t *testing.T) {
	iperf3 := need(t, "iperf3")
	x := startCrossing(t)
	for _, r := range x.routes {
		start(t, exec.Command(iperf3, "-s", "-B", r.host, "-p", r.server))
	}
	x.listens()
	size := uint64(full(200<<20, 20<<20))
	x.each(func(t *testing.T, r *route) {
		for _, way := range [][]string{{}, {"-R"}, {"-P", "4"}, {"-P", "4", "-R"}} {
			o := execute(t, iperf3, append([]string{"-c", r.host, "-p", r.port, "-J", "-n",
				fmt.Sprint(size)}, way...)...)
			var said struct {
				Error string
				End   struct {
					Sent     struct{ Bytes uint64 } `json:"sum_sent"`
					Received struct{ Bytes uint64 } `json:"sum_received"`
				}
			}
			if err := json.Unmarshal([]byte(o.out), &said); err != nil || o.code != 0 || said.Error != "" ||
				said.End.Sent.Bytes < size || said.End.Received.Bytes == 0 {
				t.Errorf("iperf3 %v exits with %d (%v) and says %q: %+v\n%.2000s", way, o.code, err, o.errors,
					said, o.out)
			}
		}
	})
}
