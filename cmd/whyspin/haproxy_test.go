package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/diagnose"
	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/lab"
	"github.com/whyspin/whyspin/internal/target"
)

// These tests diagnose Debian's HAProxy 2.6 in the ways in which it is run.

// neighbour is a running HAProxy before a mail server.
type neighbour struct {
	t                 *testing.T
	pid               int // of the process that proxies
	directory, socket string
	smtp              string // where clients connect
}

// Lines of the section global, DIR being the directory of the test.
const (
	ownSocket   = "stats socket DIR/stats.sock mode 600 level admin\n"
	busyPolling = "nbthread 1\nbusy-polling\n"
)

// contained in place of the first argument makes HAProxy run in pid and mount namespaces of its own, with a
// directory DIR/own that nobody else sees. It ends with the test as long as it does not change its user.
const contained = "contained"

// startHAProxy runs HAProxy with arguments before "-f"; who tells which process proxies.
func startHAProxy(t *testing.T, global string, who func(n *neighbour, first int) int,
	arguments ...string) *neighbour {
	t.Helper()
	mail, err := lab.StartMailServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mail.Close)
	n := &neighbour{t: t, directory: openDirectory(t), smtp: freePort(t)}
	n.socket = filepath.Join(n.directory, "stats.sock")
	place := func(text string) string { return strings.ReplaceAll(text, "DIR", n.directory) }
	text := place("global\n"+global) + fmt.Sprintf(`defaults
	mode tcp
	timeout connect 2s
	timeout client 1m
	timeout server 1m
listen smtp
	bind 127.0.0.1:%s
	server mx1 %s
`, n.smtp, mail.Address())
	if err := os.WriteFile(filepath.Join(n.directory, "haproxy.cfg"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(place(strings.Join(arguments, " ")))
	c := exec.Command(need(t, "haproxy"), append(words, "-f", "haproxy.cfg")...)
	if words[0] == contained {
		c.Args[1] = c.Path
		c = exec.Command(need(t, "unshare"), append([]string{"--mount", "--pid", "--fork", "--mount-proc",
			"--kill-child", "sh", "-c", `mkdir own && mount -t tmpfs none own && exec "$@"`, "sh"},
			c.Args[1:]...)...)
	}
	c.Dir = n.directory
	b := start(t, c)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("HAProxy has said:\n%s", b.output)
		}
	})
	// It listens before it is ready: only a greeting shows that all its sockets have their names.
	eventually(t, "HAProxy to proxy", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+n.smtp)
		if err != nil {
			return false
		}
		defer c.Close()
		line, _ := bufio.NewReader(c).ReadString('\n')
		return strings.HasPrefix(line, "220 ")
	})
	n.pid = b.Process.Pid
	if who != nil {
		n.pid = who(n, n.pid)
	}
	if words[0] == contained {
		// unshare does not heed SIGTERM and ends with the process that it has started.
		t.Cleanup(func() { _ = syscall.Kill(n.pid, syscall.SIGKILL) })
	}
	return n
}

// talk opens sessions and leaves them open until the test ends.
func (n *neighbour) talk(sessions int) {
	n.t.Helper()
	for range sessions {
		c, err := net.Dial("tcp", "127.0.0.1:"+n.smtp)
		if err != nil {
			n.t.Fatal(err)
		}
		n.t.Cleanup(func() { c.Close() })
		if line, err := bufio.NewReader(c).ReadString('\n'); !strings.HasPrefix(line, "220 ") {
			n.t.Fatalf("the mail server greets with %q: %v", line, err)
		}
	}
}

// verdict diagnoses it and requires exit code, first word and sentences of the report.
func (n *neighbour) verdict(flags []string, code int, first string, sentences ...string) {
	n.t.Helper()
	o := execute(n.t, program, append([]string{"diagnose", "--for", "200ms"}, flags...)...)
	if o.code != code || !strings.HasPrefix(o.out, first+": ") {
		n.t.Fatalf("diagnose exits with %d, should exit with %d and say %s:\n%s%s", o.code, code, first,
			o.out, o.errors)
	}
	for _, s := range sentences {
		if !strings.Contains(o.out, s) {
			n.t.Errorf("the report does not say %q:\n%s", s, o.out)
		}
	}
}

func (n *neighbour) byPID() []string { return []string{"--pid", fmt.Sprint(n.pid)} }

// worker is the process that a master has started, when the master is ready: it starts itself anew when it
// has started its workers, and neither heeds signals nor listens meanwhile.
func worker(n *neighbour, master int) int {
	n.t.Helper()
	pid := child(n, master)
	const reload = 1 << (syscall.SIGUSR2 - 1)
	eventually(n.t, "the master to heed signals", func() bool {
		return signals(n.t, master, "SigCgt")&reload != 0 && signals(n.t, master, "SigBlk")&reload == 0
	})
	return pid
}

// child is the only process that another has started.
func child(n *neighbour, parent int) int {
	n.t.Helper()
	var pids []int
	eventually(n.t, "one process to be started", func() bool {
		pids = children(n.t, parent)
		return len(pids) == 1
	})
	return pids[0]
}

func children(t *testing.T, pid int) (pids []int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for word := range strings.FieldsSeq(string(text)) {
		child, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, child)
	}
	return pids
}

// signals is a set of signals in the status of a process.
func signals(t *testing.T, pid int, name string) uint64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n"+name+":\t")
	mask, _, _ := strings.Cut(rest, "\n")
	set, err := strconv.ParseUint(mask, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// daemon is the process whose id is in the pid file.
func daemon(n *neighbour, _ int) int {
	n.t.Helper()
	pid := 0
	eventually(n.t, "HAProxy to write its pid file", func() bool {
		text, err := os.ReadFile(filepath.Join(n.directory, "pid"))
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return err == nil && pid > 0
	})
	n.t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	return pid
}

func TestDiagnoseAHealthyHAProxy(t *testing.T) {
	for _, c := range []struct {
		name, global string
		who          func(*neighbour, int) int
		arguments    []string
	}{
		{"in the foreground", ownSocket, nil, []string{"-db"}},
		{"in the background", ownSocket, daemon, []string{"-D", "-p", "DIR/pid"}},
		{"below a master", ownSocket, worker, []string{"-W", "-db"}},
		{"below a master whose socket is the only one", "", worker, []string{"-W", "-db", "-S",
			"DIR/master.sock"}},
		{"in a chroot", "chroot /usr\nuser nobody\n" + ownSocket, nil, []string{"-db"}},
		{"in a container", "chroot /usr\nstats socket DIR/own/stats.sock level admin\n", child,
			[]string{contained, "-db"}},
		{"with a socket that may say little, and one that may say more",
			"stats socket DIR/user.sock level user\n" + ownSocket, nil, []string{"-db"}},
		{"with a socket in the abstract namespace", "stats socket abns@whyspin-DIR level admin\n", nil,
			[]string{"-db"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := startHAProxy(t, c.global, c.who, c.arguments...)
			n.talk(3)
			n.verdict(n.byPID(), exitOK, "HEALTHY", "; 3 streams\n")
			o := execute(t, program, "diagnose", "--json", "--for", "100ms", "--pid", fmt.Sprint(n.pid))
			for _, s := range []string{`"kind": "haproxy"`, `"version": "2.6.`, `"unknown": []`,
				`"findings": []`} {
				if !strings.Contains(o.out, s) {
					t.Errorf("the report does not hold %s:\n%s%s", s, o.out, o.errors)
				}
			}
		})
	}
}

// TestDiagnoseWhatAReloadLeaves: the old process keeps its sessions, and only its master reaches it.
func TestDiagnoseWhatAReloadLeaves(t *testing.T) {
	master := 0
	n := startHAProxy(t, ownSocket, func(n *neighbour, first int) int {
		master = first
		return worker(n, first)
	}, "-W", "-db", "-S", "DIR/master.sock")
	n.talk(3)
	if err := syscall.Kill(master, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new process to answer on the stats socket", func() bool {
		info, err := target.API{Address: n.socket}.Info(context.Background())
		return err == nil && info.PID != n.pid
	})
	atMaster := filepath.Join(n.directory, "master.sock")
	eventually(t, "the master, which begins anew, to reach the old process", func() bool {
		info, err := target.API{Address: atMaster, Worker: n.pid}.Info(context.Background())
		return err == nil && info.PID == n.pid
	})
	n.verdict(n.byPID(), exitOK, "HEALTHY", "; 3 streams\n")
	n.verdict(append(n.byPID(), "--socket", atMaster), exitOK, "HEALTHY",
		"; 3 streams\n")
	n.verdict([]string{"--pid", fmt.Sprint(master)}, exitOK, "HEALTHY",
		"it is a master, and does not proxy: diagnose what it has started: ", fmt.Sprint(n.pid))
	n.verdict([]string{"--socket", n.socket}, exitOK, "HEALTHY", "; 0 streams\n")
	n.verdict(append(n.byPID(), "--socket", n.socket), exitOK, "HEALTHY", "another process answers")
}

func TestDiagnoseAHAProxyThatDoesNotAnswer(t *testing.T) {
	t.Run("its socket is gone", func(t *testing.T) {
		n := startHAProxy(t, ownSocket, nil, "-db")
		n.verdict([]string{"--socket", n.socket}, exitOK, "HEALTHY", "; 0 streams\n")
		if err := os.Remove(n.socket); err != nil {
			t.Fatal(err)
		}
		n.verdict(n.byPID(), exitOK, "HEALTHY", "no such file or directory", "name the socket with --socket")
		n.verdict(append(n.byPID(), "--socket", n.socket), exitOK, "HEALTHY", "no such file or directory")
	})
	t.Run("it is busy with another", func(t *testing.T) {
		n := startHAProxy(t, ownSocket+"stats maxconn 1\nstats timeout 1m\n", nil, "-db")
		c, err := net.Dial("unix", n.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		// The answer proves that the only place is taken.
		if _, err := c.Write([]byte("prompt\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(c).ReadByte(); err != nil {
			t.Fatal(err)
		}
		n.verdict(n.byPID(), exitOK, "HEALTHY", "the state of its streams", "i/o timeout")
	})
	t.Run("it may not say", func(t *testing.T) {
		n := startHAProxy(t, "stats socket DIR/stats.sock level user\n", nil, "-db")
		n.verdict(n.byPID(), exitOK, "HEALTHY", "Permission denied")
	})
	t.Run("it has no socket", func(t *testing.T) {
		n := startHAProxy(t, "", nil, "-db")
		n.verdict(n.byPID(), exitOK, "HEALTHY", "no stats socket was found")
	})
}

// TestHAProxyIsAskedForItsOwnCounts: the counters of its loops, and what it thinks of descriptors, are those
// of the process that the kernel shows.
func TestHAProxyIsAskedForItsOwnCounts(t *testing.T) {
	n := startHAProxy(t, "nbthread 2\n"+ownSocket, nil, "-db")
	n.talk(2)
	c, err := diagnose.Collect(t.Context(), diagnose.Options{PID: n.pid, For: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Before.Activity) != 2 || len(c.After.Activity) != 2 || len(c.After.Claims) != 0 {
		t.Fatalf("before %+v, after %+v", c.Before, c.After)
	}
	var turns uint64
	for i, after := range c.After.Activity {
		grown := after.Since(c.Before.Activity[i])
		turns += grown.Loops
		for _, name := range []string{"wake_tasks", "wake_signal", "poll_exp", "empty_rq", "long_rq"} {
			if _, ok := grown.Counters[name]; !ok {
				t.Errorf("thread %d does not count %s: %v", after.Thread, name, grown.Counters)
			}
		}
	}
	if turns == 0 {
		t.Error("no loop has gone round, though it answered")
	}
	h := target.NewHAProxy(target.API{Address: n.socket}, n.pid)
	for range 2 {
		if c.After, err = h.State(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want := map[int]bool{}
	for i := range c.Window.Descriptors {
		d := &c.Window.Descriptors[i]
		s, _ := d.Socket.Get()
		if s.Kind == "tcp" {
			// As if it were delivered all the time.
			d.Deliveries = []evidence.Delivery{{Mask: evidence.EventIn, Count: 1000}}
			want[d.FD] = true
		}
	}
	h.Confirm(t.Context(), c.Window)
	for _, claim := range c.After.Claims {
		of := claim.Frontend + claim.Server
		if !want[claim.FD] || of != "smtp" && of != "smtp/mx1" || !claim.Reads || claim.Writes ||
			claim.Handler == "" || claim.Threads == "" {
			t.Errorf("claim %+v", claim)
		}
	}
	if len(want) != 5 || len(c.After.Claims) != len(want) || len(c.After.Unknown) != 0 {
		t.Errorf("claims %+v of %d descriptors, unknown %q", c.After.Claims, len(want), c.After.Unknown)
	}
}

func TestDiagnoseAHAProxyThatPollsBusily(t *testing.T) {
	for name, global := range map[string]string{
		"by its own word":       busyPolling + ownSocket,
		"by its configuration":  busyPolling,
		"and tells no sessions": busyPolling + "stats socket DIR/stats.sock mode 600 level user\n",
	} {
		t.Run(name, func(t *testing.T) {
			n := startHAProxy(t, global, nil, "-db")
			n.talk(1)
			n.verdict(n.byPID(), exitOK, "CONFIGURED")
		})
	}
}
