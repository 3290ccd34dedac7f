package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

	"github.com/whyspin/whyspin/internal/freeport"
	"github.com/whyspin/whyspin/internal/target"
)

// The tests of this package run the program as its users do: built, as a process, beside real peers. This
// file starts and watches processes.

// program is the built whyspin.
var program string

func TestMain(m *testing.M) {
	directory, err := os.MkdirTemp("", "whyspin-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// Other users run it, too.
	err = os.Chmod(directory, 0o755)
	program = filepath.Join(directory, "whyspin")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, buildErr := build.CombinedOutput(); err != nil || buildErr != nil {
		fmt.Fprintf(os.Stderr, "building whyspin: %v %v\n%s", err, buildErr, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(directory)
	os.Exit(code)
}

// patience bounds every wait for a condition. It measures nothing: a test that reaches it has hung.
const patience = time.Minute

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// need fails the test when a program is missing: make deps installs it.
func need(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: make deps installs what the tests need: %v", name, err)
	}
	return path
}

// output is the outcome of a program that has ended.
type output struct {
	code        int
	out, errors string
}

// execute runs a program to its end.
func execute(t *testing.T, name string, arguments ...string) output {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	return executeCommand(t, exec.CommandContext(ctx, name, arguments...))
}

func executeCommand(t *testing.T, c *exec.Cmd) output {
	t.Helper()
	var out, complaint bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaint
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", c, err)
	}
	return output{c.ProcessState.ExitCode(), out.String(), complaint.String()}
}

// background is a running process.
type background struct {
	*exec.Cmd
	output *bytes.Buffer
	ended  chan struct{}
}

// start runs a process until the test ends. It dies with the test, however that ends.
func start(t *testing.T, c *exec.Cmd) *background {
	t.Helper()
	b := &background{c, &bytes.Buffer{}, make(chan struct{})}
	c.Stdout, c.Stderr = b.output, b.output
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := c.Start(); err != nil {
		t.Fatalf("%s: %v", c, err)
	}
	go func() {
		_ = c.Wait()
		close(b.ended)
	}()
	t.Cleanup(func() { b.stop(t) })
	return b
}

// stop ends the process and returns its exit code.
func (b *background) stop(t *testing.T) int {
	_ = b.Process.Signal(syscall.SIGTERM)
	select {
	case <-b.ended:
	case <-time.After(patience):
		_ = b.Process.Kill()
		<-b.ended
		t.Errorf("%s did not end on SIGTERM and said:\n%s", b.Path, b.output)
	}
	return b.ProcessState.ExitCode()
}

// said returns what an ended process has printed.
func (b *background) said() string {
	<-b.ended
	return b.output.String()
}

// proxy is a running whyspin.
type proxy struct {
	*background
	t   *testing.T
	api target.API
}

// startProxy runs whyspin with a configuration file, an environment, and perhaps another user.
func startProxy(t *testing.T, socket, file string, environment []string, change func(*exec.Cmd)) *proxy {
	t.Helper()
	c := exec.Command(program, "run", "--allow-faults", "-f", file)
	c.Env = append(os.Environ(), environment...)
	if change != nil {
		change(c)
	}
	p := &proxy{start(t, c), t, target.API{Address: socket}}
	eventually(t, "the proxy to answer on its stats socket", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("the proxy has ended and said:\n%s", p.output)
		default:
		}
		_, err := p.api.Info(context.Background())
		return err == nil
	})
	return p
}

// order gives an order to the runtime API.
func (p *proxy) order(line string) string {
	p.t.Helper()
	answer, err := p.api.Order(context.Background(), line)
	if err != nil {
		p.t.Fatal(err)
	}
	return answer
}

// info returns a number of "show info".
func (p *proxy) info(field string) int {
	p.t.Helper()
	for line := range strings.SplitSeq(p.order("show info"), "\n") {
		if value, ok := strings.CutPrefix(line, field+": "); ok {
			n, err := strconv.Atoi(value)
			if err != nil {
				p.t.Fatalf("%s: %v", line, err)
			}
			return n
		}
	}
	p.t.Fatalf("show info has no %q", field)
	return 0
}

// descriptors is how many descriptors the proxy has open.
func (p *proxy) descriptors() int {
	p.t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	return len(entries)
}

// diagnosis is the part of the JSON verdict that the tests look at.
type diagnosis struct {
	Target   struct{ Kind string }
	Window   struct{ Unknown []string }
	Verdict  *string
	Findings []struct {
		Class  *string
		Stream struct{ ID string }
	}
}

// diagnose runs "whyspin diagnose --json" on the proxy and requires its exit code.
func (p *proxy) diagnose(code int, flags ...string) diagnosis {
	p.t.Helper()
	o := execute(p.t, program, append([]string{"diagnose", "--json", "--pid", fmt.Sprint(p.Process.Pid)},
		flags...)...)
	if o.code != code {
		p.t.Fatalf("diagnose exits with %d, should exit with %d:\n%s%s", o.code, code, o.out, o.errors)
	}
	var d diagnosis
	if err := json.Unmarshal([]byte(o.out), &d); err != nil {
		p.t.Fatalf("diagnose --json: %v:\n%s", err, o.out)
	}
	return d
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

// portOf returns the port of an address.
func portOf(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// openDirectory makes a directory that every user may use; those of t.TempDir are closed to others.
func openDirectory(t *testing.T) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "whyspin-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	if err := os.Chmod(directory, 0o777); err != nil {
		t.Fatal(err)
	}
	return directory
}

// write writes a file of the test.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(openDirectory(t), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// serve runs a server that does the same with every connection and then closes it.
func serve(t *testing.T, handle func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
	return l.Addr().String()
}
