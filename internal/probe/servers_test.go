package probe

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/whyspin/whyspin/internal/evidence"
)

func init() { children["go-server"] = runGoServer }

// socketVariable tells a server of these tests where to listen.
const socketVariable = "WHYSPIN_TEST_SOCKET"

// runGoServer echoes lines, over the runtime's epoll set.
func runGoServer() {
	l, err := net.Listen("unix", os.Getenv(socketVariable))
	if err != nil {
		panic(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go func() { _, _ = io.Copy(c, c) }()
	}
}

const unixNginx = `
daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server { listen unix:%[1]s/socket; location / { return 200 "here\n"; } }
}`

const pythonServer = `
import asyncio, sys
async def serve(reader, writer):
	while line := await reader.readline():
		writer.write(line)
	writer.close()
async def main():
	await (await asyncio.start_unix_server(serve, sys.argv[1])).serve_forever()
asyncio.run(main())`

const nodeServer = `require('net').createServer(c => c.pipe(c)).listen(process.argv[1])`

// server is a program that listens on a unix socket, how it is started there and what it answers to.
type server struct {
	name    string
	command func(t *testing.T, directory, socket string) *exec.Cmd
	request string
	// threads is true for a program one of whose threads may close a descriptor of which another is being
	// told: such an event is nobody's any more.
	threads bool
	// direct is true for a program that is known to store the descriptor in the low bits of epoll data.
	direct bool
}

var servers = []server{
	{
		name: "nginx", request: "GET / HTTP/1.1\r\nHost: here\r\n\r\n", // stores pointers
		command: func(t *testing.T, directory, _ string) *exec.Cmd {
			file := filepath.Join(directory, "nginx.conf")
			text := fmt.Sprintf(unixNginx, directory)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return exec.Command("nginx", "-p", directory, "-c", file, "-e", "stderr")
		},
	}, {
		name: "Redis", request: "PING\r\n", direct: true,
		command: func(_ *testing.T, directory, socket string) *exec.Cmd {
			return exec.Command("redis-server", "--port", "0", "--unixsocket", socket, "--save", "",
				"--dir", directory)
		},
	}, {
		name: "Python asyncio", request: "here\n", direct: true,
		command: func(_ *testing.T, _, socket string) *exec.Cmd {
			return exec.Command("python3", "-c", pythonServer, socket)
		},
	}, {
		name: "Node", request: "here\n", direct: true,
		command: func(_ *testing.T, _, socket string) *exec.Cmd {
			return exec.Command("node", "-e", nodeServer, socket)
		},
	}, {
		name: "Go", request: "here\n", threads: true, // stores pointers
		command: func(_ *testing.T, _, socket string) *exec.Cmd {
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), childVariable+"=go-server", socketVariable+"="+socket)
			return cmd
		},
	},
}

// TestServersAreAttributed has real servers under load, with connections from before the window and new
// ones: every event that they get is attributed to a descriptor.
func TestServersAreAttributed(t *testing.T) {
	for _, s := range servers {
		t.Run(s.name, func(t *testing.T) {
			directory := t.TempDir()
			socket := filepath.Join(directory, "socket")
			cmd := s.command(t, directory, socket)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			})
			early := &client{t: t, socket: socket, request: s.request}
			eventually(t, s.name+" to listen", func() bool { return early.dial() == nil })
			for range 9 {
				early.mustDial()
			}
			early.ask(1)
			p := load(t, Options{PID: cmd.Process.Pid})
			w := window(t, p, func() {
				early.ask(20)
				late := &client{t: t, socket: socket, request: s.request}
				for range 5 { // with the numbers, and for some the data, of those before
					for range 10 {
						late.mustDial()
					}
					late.ask(3)
					late.hangUp()
				}
				early.ask(1)
			})
			attributed(t, w, &s)
		})
	}
}

// attributed checks that all delivered events are found with descriptors.
func attributed(t *testing.T, w *evidence.Window, s *server) {
	t.Helper()
	var delivered, events, lost, accepts uint64
	for i := range w.Descriptors {
		delivered += w.Descriptors[i].Delivered()
		accepts += w.Descriptors[i].Accepts
	}
	for i := range w.Threads {
		for _, set := range w.Threads[i].Sets {
			events += set.Events
			lost += set.Unattributed + set.Ambiguous
		}
	}
	if events < 200 || accepts < 50 {
		t.Errorf("%d events and %d accepted connections: too few to have been under load", events, accepts)
	}
	allowed := uint64(0)
	if s.threads {
		allowed = events / 100
	}
	if delivered+lost != events || lost > allowed || w.Losses.Any() {
		t.Errorf("%d of %d events are attributed, %d said not to be; losses %+v; unknown %q", delivered,
			events, lost, w.Losses, w.Unknown)
	}
	pointers := 0
	for i := range w.Descriptors {
		d := &w.Descriptors[i]
		if data, ok := d.Data.Get(); ok && int(uint32(data)) != d.FD {
			pointers++
		}
	}
	if s.direct != (pointers == 0) {
		t.Errorf("the data of %d descriptors are not their numbers", pointers)
	}
}

// client is a number of connections that ask in turn.
type client struct {
	t               *testing.T
	socket, request string
	connections     []net.Conn
	readers         []*bufio.Reader
}

func (c *client) dial() error {
	connection, err := net.Dial("unix", c.socket)
	if err != nil {
		return err
	}
	c.t.Cleanup(func() { _ = connection.Close() })
	c.connections = append(c.connections, connection)
	c.readers = append(c.readers, bufio.NewReader(connection))
	return nil
}

func (c *client) mustDial() {
	c.t.Helper()
	if err := c.dial(); err != nil {
		c.t.Fatal(err)
	}
}

// ask asks rounds times on each connection and takes what is there of the answer.
func (c *client) ask(rounds int) {
	c.t.Helper()
	for range rounds {
		for i, connection := range c.connections {
			if _, err := io.WriteString(connection, c.request); err != nil {
				c.t.Fatal(err)
			}
			if _, err := c.readers[i].ReadString('\n'); err != nil {
				c.t.Fatal(err)
			}
			_, _ = c.readers[i].Discard(c.readers[i].Buffered())
		}
	}
}

// hangUp closes all connections.
func (c *client) hangUp() {
	for _, connection := range c.connections {
		_ = connection.Close()
	}
	c.connections, c.readers = nil, nil
}
