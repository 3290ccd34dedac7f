package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
		{"version", 0, "whyspin " + version},
		{"-v", 0, "whyspin " + version},
		{"-vv", 0, "github.com/cilium/ebpf"},
		{"check -f " + valid, 0, "the configuration is valid"},
		{"check " + valid, 0, "the configuration is valid"},
		{"check -f " + wrong, 1, wrong + ":2: "},
		{"check -f " + fault, 1, "--allow-faults"},
		{"check --allow-faults -f " + fault, 0, "valid"},
		{"check", 2, "no configuration file"},
		{"check -f /nonexistent.cfg", 1, "no such file"},
		{"check -f " + filepath.Dir(valid), 0, "valid.cfg"},
		{"-c -f " + valid, 0, "Configuration file is valid"},
		{"-c -f " + wrong, 1, "[ALERT]"},
		{"-c -q -f " + valid, 0, ""},
		{"-f", 1, "needs a value"},
		{"-W -f " + valid, 1, "not supported in this version"},
		{"--nonsense", 1, "unknown flag"},
		{"run", 2, "no configuration file"},
		{"run -f " + wrong, 1, wrong + ":2: "},
		{"diagnose --for 1ns", 2, "must be from"},
		{"diagnose --pid 1 haproxy", 2, "exclude each other"},
		{"diagnose a b", 2, "one name at most"},
		{"diagnose no-such-process-here", 1, "no such process is running"},
		{fmt.Sprintf("diagnose --pid %d", 1<<22+1), 1, "no such process"},
		{"diagnose --socket /nonexistent.sock", 1, "no such file"},
		{"profile --for 1ns", 2, "must be from"},
		{"profile --pid 1 haproxy", 2, "exclude each other"},
		{"profile no-such-process-here", 1, "no such process is running"},
		{"profile -h", 0, "default whyspin-PID.pb.gz"},
		{"diagnose --nonsense", 2, "not defined: -nonsense"},
		{"probes extra", 2, "no arguments"},
		{"probes", 0, "syscall"},
		{"probes --json", 0, `"name": "syscall"`},
		{"demo extra", 2, "no arguments"},
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
