package process

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// outcomeVariable is how the background process of the role "daemon" ends up.
const outcomeVariable = "WHYSPIN_TEST_OUTCOME"

// playDaemon goes to the background, and there does as it is told.
func playDaemon() {
	startup, err := BeginStartup()
	if err != nil {
		panic(err)
	}
	if !startup.InBackground() {
		if err := RunInBackground([]byte("what was read")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(ExitFailure)
		}
		os.Exit(ExitOK)
	}
	switch os.Getenv(outcomeVariable) {
	case "ready":
		c := settings()
		if err := (&Prepared{config: c}).WritePIDFile(); err != nil {
			panic(err)
		}
		handed, err := startup.Handed()
		if err != nil {
			panic(err)
		}
		fmt.Println("a word before,", string(handed)) // still seen by the foreground
		if err := startup.Ready(); err != nil {
			panic(err)
		}
		fmt.Println("a word after")
		select {}
	case "failed":
		startup.Failed(errors.New("x.cfg:1: nothing is right"))
		os.Exit(ExitFailure)
	case "silent":
		os.Exit(7)
	}
}

func TestDaemon(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	settings := settingsVariable + `={"UID":-1,"GID":-1,"PIDFile":` + strconv.Quote(pidFile) + `}`
	a := act(t, "daemon", outcomeVariable+"=ready", settings)
	word := a.line()
	if code := a.exit(); code != ExitOK || a.errors.String() != "" {
		t.Fatalf("the foreground process ended with code %d and said %q", code, a.errors.String())
	}
	text, err := os.ReadFile(pidFile)
	must(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(t, err)
	defer func() {
		must(t, syscall.Kill(pid, syscall.SIGKILL))
		// It was handed to another parent; wait until it is gone or waits for that one.
		eventually(t, "the daemon to end", func() bool {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return err != nil || strings.Contains(string(status), ") Z ")
		})
	}()
	if word != "a word before, what was read" {
		t.Errorf("the background process said %q", word)
	}
	// It may still be on its way between saying that it is ready and letting go of its streams.
	eventually(t, "the standard streams to lead nowhere", func() bool {
		for fd := range 3 {
			to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
			if err != nil || to != os.DevNull {
				return false
			}
		}
		return true
	})
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	must(t, err)
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))
	if session := fields[3]; session != strconv.Itoa(pid) {
		t.Errorf("the daemon is in session %s, want one of its own, %d", session, pid)
	}
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	must(t, err)
	if own, _ := os.ReadFile("/proc/self/comm"); string(name) != string(own) {
		t.Errorf("the daemon is called %q, want %q", name, own)
	}
	// What the test was given by whoever runs it, it passes on.
	given := pipes(t, os.Getpid())
	for pipe := range pipes(t, pid) {
		if !given[pipe] {
			t.Errorf("the daemon still has %s, which was for its start", pipe)
		}
	}
}

// pipes returns the pipes that a process has open.
func pipes(t *testing.T, pid int) map[string]bool {
	t.Helper()
	open, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	must(t, err)
	seen := map[string]bool{}
	for _, f := range open {
		if to, err := os.Readlink(f); err == nil && strings.HasPrefix(to, "pipe:") {
			seen[to] = true
		}
	}
	return seen
}

func TestADaemonThatFails(t *testing.T) {
	for _, test := range []struct{ outcome, want string }{
		{"failed", "x.cfg:1: nothing is right\n"},
		{"silent", "the background process ended before it was ready: exit status 7\n"},
	} {
		a := act(t, "daemon", outcomeVariable+"="+test.outcome)
		if code := a.exit(); code != ExitFailure {
			t.Errorf("%s: the foreground process ended with code %d, want %d", test.outcome, code,
				ExitFailure)
		}
		if got := a.errors.String(); got != test.want {
			t.Errorf("%s: it said %q, want %q", test.outcome, got, test.want)
		}
	}
}

func TestSystemdIsTold(t *testing.T) {
	abstract := fmt.Sprintf("@whyspin-notify-%d", os.Getpid())
	for _, name := range []string{filepath.Join(t.TempDir(), "notify"), abstract} {
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
		must(t, err)
		defer c.Close()
		t.Setenv(notifyVariable, name)
		s, err := BeginStartup()
		must(t, err)
		if s.InBackground() || s.Failed(errors.New("nobody waits for this")) {
			t.Error("a process without a foreground process believes to have one")
		}
		must(t, s.Ready())
		s.Stopping()
		must(t, c.SetReadDeadline(time.Now().Add(patience)))
		for _, want := range []string{"READY=1", "STOPPING=1"} {
			buffer := make([]byte, 100)
			n, err := c.Read(buffer)
			must(t, err)
			if got := string(buffer[:n]); got != want {
				t.Errorf("systemd was told %q, want %q", got, want)
			}
		}
	}
	t.Setenv(notifyVariable, "/no/such/socket")
	unreachable, err := BeginStartup()
	must(t, err)
	if !strings.HasPrefix(unreachable.Warning(), notifyVariable+": ") {
		t.Errorf("a socket of systemd that is not there: the warning is %q", unreachable.Warning())
	}
	must(t, unreachable.Ready())
	t.Setenv(notifyVariable, "")
	s, err := BeginStartup()
	must(t, err)
	if s.Warning() != "" {
		t.Errorf("a warning though nobody waits: %s", s.Warning())
	}
	must(t, s.Ready()) // nobody waits
	s.Stopping()
}
