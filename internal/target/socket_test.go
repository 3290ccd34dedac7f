package target

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/evidence"
)

// proxyEnvironment makes the test binary pretend to be a proxy with a configuration: it waits for the end
// of its input.
const proxyEnvironment = "WHYSPIN_TEST_PROXY"

func TestMain(m *testing.M) {
	if os.Getenv(proxyEnvironment) != "" {
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// pretend starts a process whose command line names a configuration, in a working directory.
func pretend(t *testing.T, directory string, arguments ...string) int {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, arguments...)
	c.Dir = directory
	c.Env = append(os.Environ(), proxyEnvironment+"=1", "STATS=stats.sock")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("got %q: %v", line, err)
	}
	return c.Process.Pid
}

// answer runs a socket that answers every line alike.
func answer(t *testing.T, path, text string) {
	t.Helper()
	l, err := net.Listen("unix", path)
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
			if _, err := bufio.NewReader(c).ReadString('\n'); err == nil {
				_, _ = io.WriteString(c, text)
			}
			c.Close()
		}
	}()
}

func TestFindAPIReadsTheConfigurationOfTheProcess(t *testing.T) {
	directory := t.TempDir()
	text := fmt.Sprintf("global\n  stats socket \"%s/$STATS\" level admin\n", directory)
	if err := os.WriteFile(filepath.Join(directory, "proxy.cfg"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	pid := pretend(t, directory, "run", "-f", "proxy.cfg")
	socket := filepath.Join(directory, "stats.sock")

	if _, _, err := FindAPI(context.Background(), pid); !errors.Is(err, ErrNoAPI) {
		t.Errorf("nobody listens, and the error is %v", err)
	}
	answer(t, socket, fmt.Sprintf("Name: whyspin\nVersion: 2.6.0-whyspin-1\nPid: %d\n\n", pid))
	a, info, err := FindAPI(context.Background(), pid)
	if err != nil {
		t.Fatal(err)
	}
	want := Info{Kind: evidence.KindWhyspin, Version: "2.6.0-whyspin-1", PID: pid}
	if diff := cmp.Diff(want, info); diff != "" || a.Address != socket {
		t.Errorf("found %s: %s", a.Address, diff)
	}
}

func TestFindAPIDoesNotTakeAnotherProcessForTheTarget(t *testing.T) {
	directory := t.TempDir()
	socket := filepath.Join(directory, "stats.sock")
	text := fmt.Sprintf("global\n  stats socket %s\n", socket)
	if err := os.WriteFile(filepath.Join(directory, "proxy.cfg"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	pid := pretend(t, directory, "run", "-f", "proxy.cfg")
	answer(t, socket, "Name: HAProxy\nVersion: 2.6.12\nPid: 1\n\n")
	if _, _, err := FindAPI(context.Background(), pid); err == nil || !strings.Contains(err.Error(),
		"process 1 answers") {
		t.Errorf("error %v", err)
	}
}

func TestSocketsAreFoundInAForeignConfiguration(t *testing.T) {
	files := []config.File{{Text: []byte(`
global
    lua-load /etc/x.lua
    stats socket /run/haproxy/admin.sock mode 660 level admin
    stats socket unix@"/run/two.sock"
    stats socket ipv4@127.0.0.1:9999
    stats timeout 30s
`)}}
	want := []string{"/run/haproxy/admin.sock", "/run/two.sock"}
	if diff := cmp.Diff(want, scanSockets(files)); diff != "" {
		t.Error(diff)
	}
}
