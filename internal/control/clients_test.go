package control

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/stream"
)

// The tests in this file talk to the runtime API with the programs that people use for it.

// program returns the path of a program, which must be there.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("this test needs the program %s, from the package of that name: %v", name, err)
	}
	return path
}

func TestSocat(t *testing.T) {
	socat := program(t, "socat")
	p := start(t, setup{}, section{proxy: config.Proxy{Name: "smtp"}, servers: []string{greets(t)}})
	p.established("smtp")
	v := p.await("smtp", stream.Established)
	for _, test := range []struct {
		name, address, send, want string
	}{
		{"a unix socket", "unix-connect:" + p.sockets[config.LevelAdmin], "show info\n", "\nPid: "},
		{"a TCP socket", "tcp:" + p.tcp, "show sess\n", v.ID + ": proto=tcpv4 "},
		{"several commands", "unix-connect:" + p.sockets[config.LevelAdmin],
			"show version;show sess all;show fd\n",
			" backend=smtp "},
		{"a level that is too low", "unix-connect:" + p.sockets[config.LevelUser], "show sess\n",
			"Permission denied\n\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			// socat shuts its write side when its input ends and waits half a second for the rest.
			command := exec.Command(socat, "stdio", test.address)
			command.Stdin = strings.NewReader(test.send)
			command.Stderr = os.Stderr
			answer, err := command.Output()
			must(t, err)
			if !strings.Contains(string(answer), test.want) || !strings.HasSuffix(string(answer), "\n\n") {
				t.Errorf("socat got %q, which should have %q and end with an empty line", answer, test.want)
			}
		})
	}
}

// screen collects what a program writes to its terminal.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), text)
}

// TestHATop runs hatop on a terminal of script(1), until it shows the header that it makes from "show info".
func TestHATop(t *testing.T) {
	hatop, script := program(t, "hatop"), program(t, "script")
	p := start(t, setup{}, section{proxy: config.Proxy{Name: "smtp"}, servers: []string{greets(t)}})
	p.established("smtp")
	command := exec.Command(script, "--quiet", "--return", "--command",
		"stty rows 40 cols 120; exec "+hatop+" --update-interval=1"+
			" --unix-socket="+p.sockets[config.LevelAdmin],
		os.DevNull)
	command.Env = append(os.Environ(), "TERM=xterm", "SHELL=/bin/sh")
	keyboard, err := command.StdinPipe()
	must(t, err)
	shown := &screen{}
	command.Stdout, command.Stderr = shown, shown
	must(t, command.Start())
	defer func() {
		if t.Failed() {
			t.Logf("the screen:\n%q", shown.text.String())
			_ = command.Process.Kill()
			_ = command.Wait()
		}
	}()
	eventually(t, "hatop to show our version and connections", func() bool {
		return shown.has("whyspin Version: 2.6.12-whyspin-0.1 ") && shown.has("1/200]")
	})
	_, err = io.WriteString(keyboard, "q")
	must(t, err)
	must(t, command.Wait())
}
