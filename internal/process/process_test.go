package process

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
)

// patience bounds every wait for a condition. A test that reaches it has hung.
const patience = 20 * time.Second

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// roleVariable makes the test binary play a process instead of running tests.
const roleVariable = "WHYSPIN_TEST_ROLE"

// unprivilegedVariable, set to 1, lets the tests that need root be skipped. In CI they run as root.
const unprivilegedVariable = "WHYSPIN_TEST_UNPRIVILEGED"

// roles are the processes that the test binary can play. They get their configuration from the environment
// and say on standard output what became of it.
var roles = map[string]func(){
	"drop": playDrop, "limit": playLimit, "daemon": playDaemon, "signals": playSignals,
	"sigpipe": playSigpipe,
}

func TestMain(m *testing.M) {
	if play := roles[os.Getenv(roleVariable)]; play != nil {
		play()
		return
	}
	os.Exit(m.Run())
}

// needRoot ends a test that cannot run here.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv(unprivilegedVariable) == "1" {
		t.Skipf("not root, and %s=1 says that this is known", unprivilegedVariable)
	}
	t.Fatalf("this test drops the privileges of root, and the tests do not run as root; %s=1 skips it",
		unprivilegedVariable)
}

// actor is a process that the test binary plays.
type actor struct {
	t       *testing.T
	command *exec.Cmd
	input   io.WriteCloser
	output  *bufio.Reader
	errors  strings.Builder
}

// act starts a role.
func act(t *testing.T, role string, environment ...string) *actor {
	t.Helper()
	program, err := os.Executable()
	must(t, err)
	return actWith(t, exec.Command(program), role, environment...)
}

func actWith(t *testing.T, command *exec.Cmd, role string, environment ...string) *actor {
	t.Helper()
	a := &actor{t: t, command: command}
	command.Env = append(append(os.Environ(), roleVariable+"="+role), environment...)
	command.Stderr = &a.errors
	var err error
	a.input, err = command.StdinPipe()
	must(t, err)
	if command.Stdout == nil {
		output, err := command.StdoutPipe()
		must(t, err)
		a.output = bufio.NewReader(output)
	}
	must(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			t.Logf("the process said:\n%s", a.errors.String())
		}
	})
	return a
}

// line returns the next line that the process says.
func (a *actor) line() string {
	a.t.Helper()
	line, err := a.output.ReadString('\n')
	if err != nil {
		a.t.Fatalf("the process ended after %q: %v; %s", line, err, a.errors.String())
	}
	return strings.TrimSuffix(line, "\n")
}

func (a *actor) signal(s syscall.Signal) {
	a.t.Helper()
	must(a.t, a.command.Process.Signal(s))
}

// exit returns the exit code of the process.
func (a *actor) exit() int {
	a.t.Helper()
	err := a.command.Wait()
	if failed, ok := err.(*exec.ExitError); ok {
		return failed.ExitCode()
	}
	must(a.t, err)
	return 0
}

// The roles' side.

func say(value any) {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

// settings is what a role needs of the configuration, from the environment variable of that name.
const settingsVariable = "WHYSPIN_TEST_SETTINGS"

func settings() *config.Config {
	c := newConfig()
	if text := os.Getenv(settingsVariable); text != "" {
		if err := json.Unmarshal([]byte(text), &c.Global); err != nil {
			panic(err)
		}
	}
	return c
}

func withSettings(t *testing.T, edit func(*config.Global)) string {
	t.Helper()
	c := newConfig()
	edit(&c.Global)
	text, err := json.Marshal(c.Global)
	must(t, err)
	return settingsVariable + "=" + string(text)
}

// newConfig returns a configuration with the defaults that a parsed one has.
func newConfig() *config.Config {
	c := &config.Config{}
	c.Global.UID, c.Global.GID = -1, -1
	c.Global.BufferSize, c.Global.StatsMaxConn = 16384, 10
	return c
}
