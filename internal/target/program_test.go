package target

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/evidence"
)

const nginxText = `daemon off; error_log stderr; pid %[1]s/pid;
events { worker_connections 64; }
http {
	access_log off; client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c;
	uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
	server { listen unix:%[1]s/socket; location / { return 204; } }
}`

const (
	asyncioText = `import asyncio, sys
async def main():
	await (await asyncio.start_unix_server(lambda r, w: None, sys.argv[1])).serve_forever()
asyncio.run(main())`
	// Without asyncio, and the module for sockets only.
	pythonText = `import socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
s.accept()
sys.stdin.read()`
)

// TestRealProgramsAreRecognised starts each of them on a unix socket DIR/socket.
func TestRealProgramsAreRecognised(t *testing.T) {
	node, redis := evidence.Program{Name: "Node.js", EventLoop: "libuv"}, evidence.Program{Name: "Redis"}
	for _, c := range []struct {
		name, command string
		want          *evidence.Program
	}{
		{"nginx", "nginx -p DIR -c DIR/nginx.conf -e stderr",
			&evidence.Program{Name: "nginx", Role: evidence.RoleMaster}},
		{"redis", "redis-server --port 0 --unixsocket DIR/socket --save  --dir DIR", &redis},
		{"node", "/usr/bin/node -e require('net').createServer().listen(process.argv[1]) DIR/socket", &node},
		{"asyncio", "/usr/bin/python3 DIR/server.py DIR/socket",
			&evidence.Program{Name: "Python", EventLoop: "asyncio"}},
		{"python", "/usr/bin/python3 DIR/python.py DIR/socket", &evidence.Program{Name: "Python"}},
		{"a script of that name", "sh DIR/nginx DIR/socket", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			directory := shortDirectory(t)
			for name, text := range map[string]string{"server.py": asyncioText, "python.py": pythonText,
				"nginx.conf": fmt.Sprintf(nginxText, directory), "nginx": "echo >$1; sleep 100; exit"} {
				if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			words := strings.Split(strings.ReplaceAll(c.command, "DIR", directory), " ")
			pid := run(t, words...)
			eventually(t, "the program to be ready", func() bool {
				_, err := os.Stat(filepath.Join(directory, "socket"))
				return err == nil
			})
			got := Recognise(pid)
			if c.want != nil && (c.want.Name == "nginx" || c.want.Name == "Python") {
				if got == nil || got.Version == "" {
					t.Fatalf("no version in %+v", got)
				}
				got.Version = ""
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if c.name == "nginx" {
				requireWorker(t, pid)
			}
		})
	}
}

func requireWorker(t *testing.T, master int) {
	t.Helper()
	worker := 0
	eventually(t, "the worker to have its title", func() bool {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", master))
		worker, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		title := strings.Join(commandLine(fmt.Sprintf("/proc/%d", worker)), " ")
		return err == nil && strings.Contains(title, "worker")
	})
	got := Recognise(worker)
	if got == nil || got.Role != evidence.RoleWorker || !strings.HasSuffix(got.String(), ", worker process") {
		t.Errorf("the worker is %v", got)
	}
}

// TestAGoProgramIsRecognised takes this one.
func TestAGoProgramIsRecognised(t *testing.T) {
	want := &evidence.Program{Name: "Go", Version: strings.TrimPrefix(runtime.Version(), "go"),
		EventLoop: evidence.LoopNetpoll}
	if diff := cmp.Diff(want, Recognise(os.Getpid())); diff != "" {
		t.Error(diff)
	}
	if got := want.String(); got != "Go program (netpoll)" {
		t.Errorf("it prints as %q", got)
	}
}

func TestEventLoopsByTheirLibraries(t *testing.T) {
	for file, want := range map[string]string{
		"/usr/lib/x86_64-linux-gnu/libuv.so.1.0.0":                                     "libuv",
		"/usr/lib/x86_64-linux-gnu/libevent-2.1.so.7.0.1":                              "libevent",
		"/usr/lib/x86_64-linux-gnu/libevent_core-2.1.so.7":                             "libevent",
		"/usr/lib/x86_64-linux-gnu/libev.so.4.0.0":                                     "libev",
		"/usr/lib/x86_64-linux-gnu/libevdev.so.2":                                      "",
		"/usr/lib/python3.11/lib-dynload/_asyncio.cpython-311-x86_64-linux-gnu.so":     "asyncio",
		"/usr/lib/python3.11/lib-dynload/_contextvars.cpython-311-x86_64-linux-gnu.so": "",
	} {
		if got := eventLoop(nil, []string{"/lib/libc.so.6", file}); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
}

// run starts a program until the test ends.
func run(t *testing.T, words ...string) int {
	t.Helper()
	c := exec.Command(words[0], words[1:]...)
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = c.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(5*time.Second, func() { _ = c.Process.Kill() })
		_ = c.Wait()
		timer.Stop()
	})
	return c.Process.Pid
}

// shortDirectory makes a directory whose name leaves room for that of a socket (108 bytes in all).
func shortDirectory(t *testing.T) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "program-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	return directory
}
