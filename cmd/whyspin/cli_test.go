package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/whyspin/whyspin/internal/config"
)

func TestCommandLine(t *testing.T) {
	valid := write(t, "valid.cfg", `
defaults
    mode tcp
    timeout connect 1s
    timeout client 1m
    timeout server 1m
listen echo
    bind 127.0.0.1:1
    server s1 127.0.0.1:2
`)
	wrong := write(t, "wrong.cfg", "global\n    nbtread 2\n")
	fault := write(t, "fault.cfg", `
global
    whyspin.fault redispatch-after-abort
listen echo
    mode tcp
    bind 127.0.0.1:1
    server s1 127.0.0.1:2
`)
	tests := []struct {
		line string
		code int
		says string
	}{
		{"", 2, "whyspin is a TCP proxy"},
		{"help", 0, "diagnose"},
		{"nonsense", 2, `no command "nonsense"`},
		{"help", 0, " -D "},
		{"version", 0, "whyspin " + version},
		{"version", 0, "of HAProxy " + config.CompatibleVersion},
		{"version extra", 2, "no arguments"},
		{"-v", 0, "whyspin " + version},
		{"-vv", 0, "github.com/cilium/ebpf"},
		{"check -f " + valid, 0, "the configuration is valid"},
		{"check " + valid, 0, "the configuration is valid"},
		{"check -f " + wrong, 1, wrong + ":2: "},
		{"check -f " + fault, 1, "--allow-faults"},
		{"check --allow-faults -f " + fault, 0, "valid"},
		{"check", 2, "no configuration file"},
		{"check -f /nonexistent.cfg -f /nowhere.cfg", 1, "/nonexistent.cfg: no such file"},
		{"check -f /nonexistent.cfg -f /nowhere.cfg", 1, "/nowhere.cfg: no such file"},
		{"check -f " + filepath.Dir(valid), 0, "valid.cfg"},
		{"-c -f " + valid, 0, "Configuration file is valid"},
		{"-c -f " + wrong, 1, "[ALERT]"},
		{"-f", 1, "needs a value"},
		{"-W -f " + valid, 1, "(master-worker mode) is not supported yet"},
		{"--nonsense", 1, "unknown flag"},
		{"run", 2, "no configuration file"},
		{"run -f " + wrong, 1, wrong + ":2: "},
		{"diagnose --for 1ns", 2, "must be from"},
		{"diagnose --pid 1 haproxy", 2, "exclude each other"},
		{"diagnose a b", 2, "one name at most"},
		{"diagnose --without luck", 2, "must be probes or state"},
		{fmt.Sprintf("diagnose --without probes --pid %d", os.Getpid()), 1, "nothing is left to go by"},
		{"diagnose no-such-process-here", 1, "no such process is running"},
		{fmt.Sprintf("diagnose --pid %d", 1<<22+1), 1, "no such process"},
		{"diagnose --socket /nonexistent.sock", 1, "no such file"},
		{"diagnose --replay x --record y", 2, "exclude each other"},
		{"diagnose --replay x haproxy", 2, "takes no process"},
		{"diagnose --replay x --pid 1", 2, "takes no process"},
		{"diagnose --replay x --socket /y", 2, "takes no process"},
		{"diagnose --replay x --for 1s", 2, "takes no --for"},
		{"diagnose --replay= haproxy", 2, "take the name of a file"},
		{"diagnose --record=", 2, "take the name of a file"},
		{"diagnose --replay /nonexistent", 1, "/nonexistent: no such file"},
		{"diagnose --replay " + valid, 1, "is no recording of whyspin"},
		{"diagnose -h", 0, "[--record FILE]"},
		{"profile --for 1ns", 2, "must be from"},
		{"profile --pid 1 haproxy", 2, "exclude each other"},
		{"profile no-such-process-here", 1, "no such process is running"},
		{"profile -h", 0, "default whyspin-PID.pb.gz"},
		{"diagnose --nonsense", 2, "not defined: -nonsense"},
		{"probes extra", 2, "no arguments"},
		{"probes", 0, "syscall"},
		{"probes --json", 0, `"name": "syscall"`},
		{"demo extra", 2, "no arguments"},
		{"lab", 0, "redispatch-after-abort"},
		{"lab list", 0, "needs haproxy"},
		{"lab nonsense", 2, `no case "nonsense"`},
		{"lab T3 L1", 2, "one case at a time"},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			o := execute(t, program, strings.Fields(tt.line)...)
			if o.code != tt.code || !strings.Contains(o.out+o.errors, tt.says) {
				t.Errorf("exits with %d, should exit with %d and say %q:\n%s%s", o.code, tt.code, tt.says,
					o.out,
					o.errors)
			}
		})
	}
}

// TestCompatibleCheck: what "haproxy -c" of 2.6.12 prints on its standard output, with which exit code, and
// what the first message is about. Its own words for the messages differ.
func TestCompatibleCheck(t *testing.T) {
	const proxy = "listen echo\n mode tcp\n bind 127.0.0.1:1\n"
	const timeouts = " timeout connect 1s\n timeout client 1m\n timeout server 1m\n"
	const server = " server s1 127.0.0.1:2\n"
	valid := write(t, "valid.cfg", proxy+timeouts+server)
	warned := write(t, "warned.cfg", proxy+server)
	idle := write(t, "idle.cfg", "global\n maxconn 10\n")
	user := write(t, "user.cfg", "global\n user no-such-user\n"+proxy+timeouts+server)
	group := write(t, "group.cfg", "global\n group 65534\n"+proxy+timeouts+server)
	name := write(t, "name.cfg", proxy+timeouts+" server s2 nosuch.invalid:80\n")
	log := write(t, "log.cfg", "global\n log nosuch.invalid local0\n"+proxy+timeouts+server)
	const isValid = "Configuration file is valid\n"
	const withWarnings = "Warnings were found.\n" + isValid
	tests := []struct {
		line     string
		code     int
		out      string
		mentions string // "" for silence
	}{
		{"-c -f " + valid, 0, isValid, ""},
		{"-c -V -f " + valid, 0, isValid, ""},
		{"-c -q -f " + valid, 0, "", ""},
		{"-c -q -V -f " + valid, 0, isValid, ""},
		{"-c -f " + warned, 0, withWarnings, "[WARNING]"},
		{"-c -q -f " + warned, 0, "", ""},
		{"-c -dW -f " + valid, 0, isValid, ""},
		{"-c -dW -f " + warned, 1, "", "Some warnings were found and 'zero-warning' is set. Aborting."},
		{"-c -q -dW -f " + warned, 1, "", ""},
		{"-dW -f " + warned, 1, "", "Some warnings were found and 'zero-warning' is set. Aborting."},
		{"-c -f " + idle, 2, "Configuration file has no error but will not start (no listener) => exit(2).\n",
			""},
		{"-c -f " + user, 1, "", user + ":2: user \"no-such-user\""},
		{"-c -q -f " + user, 1, "", ""},
		{"-f " + user, 1, "", "[ALERT]"},
		{"-f " + user, 1, "", user + ":2: user \"no-such-user\""},
		{"-c -f " + group, 1, "", group + ":2: group \"65534\""},
		{"-c -f " + log, 1, "", log + ":2: log: "},
		{"-c -f " + name, 1, "", name + ":7: server \"s2\""},
		{"-c -dr -f " + name, 0, withWarnings, "the server is disabled"},
		{"-c -dr -dW -f " + name, 1, "", "Aborting"},
		{"-c -dR -dM0x50 -dKall -dp -m 100 -n 0 -N 5 -L me -f " + valid, 0, isValid,
			"the flag -dM0x50 has no effect"},
		{"-c -C " + filepath.Dir(valid) + " -f valid.cfg", 0, isValid, ""},
		{"-c -C /nonexistent -f valid.cfg", 1, "", "no such file"},
		{"-c -f " + valid + " -sf", 0, isValid, ""},
		{"-c -f " + valid + " -sf 1 22 -x /run/old.sock", 0, isValid, ""},
		{"-c -f " + valid + " -sf x", 1, "", `-sf needs the numbers of processes, not "x"`},
		{"-c -f " + valid + " -st 0", 1, "", `-st needs the numbers of processes, not "0"`},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			o := execute(t, program, strings.Fields(tt.line)...)
			if o.code != tt.code || o.out != tt.out || !strings.Contains(o.errors, tt.mentions) ||
				tt.mentions == "" && o.errors != "" {
				t.Errorf("exits with %d, should exit with %d, print %q and mention %q; it prints %q and:\n%s",
					o.code, tt.code, tt.out, tt.mentions, o.out, o.errors)
			}
		})
	}
}

// TestCheckAsNobody: a check needs no rights.
func TestCheckAsNobody(t *testing.T) {
	file := write(t, "user.cfg", "global\n user daemon\n group daemon\n chroot /root/x\n"+
		"listen a\n mode tcp\n bind 127.0.0.1:1\n timeout client 1m\n")
	c := exec.Command(program, "check", file)
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	c.Dir = "/"
	if o := executeCommand(t, c); o.code != 0 || strings.Contains(o.errors, "chroot") {
		t.Errorf("exits with %d and says:\n%s%s", o.code, o.out, o.errors)
	}
}

// TestADeviceIsNoConfiguration: what never ends is not read to its end. The limit makes it fail instead of
// the machine.
func TestADeviceIsNoConfiguration(t *testing.T) {
	o := execute(t, "/bin/sh", "-c", `ulimit -v 4000000; exec "$0" check /dev/zero`, program)
	if o.code != exitFailed || !strings.Contains(o.errors, "/dev/zero has more than") {
		t.Errorf("exits with %d and says:\n%.2000s", o.code, o.errors)
	}
}

// TestAnAnswerThatCannotBePrintedIsAFailure: on a full disk an empty answer must not look like one.
func TestAnAnswerThatCannotBePrintedIsAFailure(t *testing.T) {
	valid := write(t, "valid.cfg", "listen a\n mode tcp\n bind 127.0.0.1:1\n")
	for _, line := range []string{"version", "-vv", "help", "probes", "check " + valid, "-c -f " + valid,
		"check -h"} {
		o := execute(t, "/bin/sh", append([]string{"-c", `exec "$0" "$@" >/dev/full`, program},
			strings.Fields(line)...)...)
		if o.code != exitFailed || !strings.Contains(o.errors, "no space left on device") {
			t.Errorf("%s exits with %d and says:\n%s", line, o.code, o.errors)
		}
	}
}

// TestTenMistakesGiveTenMessages: all at once, each with its line.
func TestTenMistakesGiveTenMessages(t *testing.T) {
	const file = "../../testdata/config/mistakes.cfg"
	o := execute(t, program, "check", "-f", file)
	lines := strings.Split(strings.TrimSpace(o.errors), "\n")
	if o.code != exitFailed || len(lines) != 10 {
		t.Fatalf("exits with %d and %d messages, should be 10:\n%s", o.code, len(lines), o.errors)
	}
	for _, line := range lines {
		var n int
		if _, err := fmt.Sscanf(strings.TrimPrefix(line, file), ":%d: ", &n); err != nil {
			t.Errorf("%q does not begin with file and line", line)
		}
	}
}

// TestABusyPortIsNamedWithItsLine: everything that is wrong at the start is said at once.
func TestABusyPortIsNamedWithItsLine(t *testing.T) {
	port := startEcho(t)
	file := write(t, "busy.cfg", fmt.Sprintf(`
global
    user no-such-user-here
listen a
    mode tcp
    bind 127.0.0.1:%s
    server s1 no-such-host.invalid:25
`, port))
	o := execute(t, program, "run", "-f", file)
	if o.code != exitFailed {
		t.Errorf("exits with %d", o.code)
	}
	for _, part := range []string{file + ":6: ", "address already in use", "no-such-user-here",
		"no-such-host.invalid"} {
		if !strings.Contains(o.errors, part) {
			t.Errorf("the message has no %q:\n%s", part, o.errors)
		}
	}
}

func TestPIDFile(t *testing.T) {
	directory := t.TempDir()
	socket, pidFile := filepath.Join(directory, "s.sock"), filepath.Join(directory, "pid")
	file := write(t, "pid.cfg", fmt.Sprintf(`
global
    stats socket %s
    pidfile %s
listen a
    mode tcp
    bind 127.0.0.1:%s
    server s1 127.0.0.1:1
`, socket, pidFile, freePort(t)))
	p := startProxy(t, socket, file, nil, nil)
	text, err := os.ReadFile(pidFile)
	if err != nil || strings.TrimSpace(string(text)) != fmt.Sprint(p.Process.Pid) {
		t.Errorf("the pid file has %q: %v", text, err)
	}
	if code := p.stop(t); code != 0 {
		t.Errorf("ends with %d on SIGTERM:\n%s", code, p.said())
	}
}

// TestDaemonGetsWhatWasRead: the background process has the configuration that the foreground process has
// read, also from a name that leads nowhere for it: relative to a directory, or the standard input.
func TestDaemonGetsWhatWasRead(t *testing.T) {
	for _, from := range []string{"a directory", "the standard input"} {
		t.Run(from, func(t *testing.T) {
			directory := openDirectory(t)
			if err := os.Mkdir(filepath.Join(directory, "sub"), 0o755); err != nil {
				t.Fatal(err)
			}
			pidFile := filepath.Join(directory, "pid")
			text := fmt.Sprintf("listen a\n mode tcp\n bind 127.0.0.1:%s\n server s1 127.0.0.1:1\n",
				freePort(t))
			c := exec.Command(program, "-D", "-q", "-p", pidFile, "-f", "/dev/stdin")
			c.Stdin = strings.NewReader(text)
			if from == "a directory" {
				c = exec.Command(program, "-D", "-q", "-p", pidFile, "-C", "sub", "-f", "x.cfg")
				file := filepath.Join(directory, "sub", "x.cfg")
				if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			c.Dir = directory
			o := executeCommand(t, c)
			if o.code != 0 {
				t.Fatalf("exits with %d and says:\n%s%s", o.code, o.out, o.errors)
			}
			said, err := os.ReadFile(pidFile)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(said)))
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the daemon to end", func() bool {
				status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
				return err != nil || strings.Contains(string(status), ") Z ")
			})
		})
	}
}

// TestDebugModeStaysInTheForeground, as haproxy's does, whatever the configuration says.
func TestDebugModeStaysInTheForeground(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	file := write(t, "daemon.cfg", fmt.Sprintf("global\n daemon\n stats socket %s\nlisten a\n mode tcp\n"+
		" bind 127.0.0.1:%s\n", socket, freePort(t)))
	p := startProxy(t, socket, file, nil, func(c *exec.Cmd) { c.Args = []string{program, "-d", "-f", file} })
	if pid := p.info("Pid"); pid != p.Process.Pid {
		t.Errorf("process %d answers, should be %d", pid, p.Process.Pid)
	}
}

// TestAnUnreachableNotifySocketIsNoReasonNotToServe.
func TestAnUnreachableNotifySocketIsNoReasonNotToServe(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s.sock")
	file := write(t, "notify.cfg", fmt.Sprintf("global\n stats socket %s\nlisten a\n mode tcp\n"+
		" bind 127.0.0.1:%s\n", socket, freePort(t)))
	p := startProxy(t, socket, file, []string{"NOTIFY_SOCKET=/nonexistent/notify"}, nil)
	p.stop(t)
	if !strings.Contains(p.said(), "NOTIFY_SOCKET: ") {
		t.Errorf("it does not say that nobody is told:\n%s", p.said())
	}
}

// TestInterruptedDiagnosis ends like an interrupted demonstration, in the same words.
func TestInterruptedDiagnosis(t *testing.T) {
	sleeper := start(t, exec.Command(need(t, "sleep"), "1000"))
	d := start(t, exec.Command(program, "diagnose", "--for", "50s", "--pid", fmt.Sprint(sleeper.Process.Pid)))
	eventually(t, "the diagnosis to have its probes", func() bool {
		open, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", d.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range open {
			if to, err := os.Readlink(fd); err == nil && strings.Contains(to, "bpf") {
				return true
			}
		}
		return false
	})
	if err := d.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	said, code := d.said(), d.ProcessState.ExitCode()
	if said != "whyspin diagnose: interrupted\n" || code != exitFailed {
		t.Errorf("exits with %d and says %q", code, said)
	}
}
