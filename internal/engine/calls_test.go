package engine

import (
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/whyspin/whyspin/internal/sys"
)

// listed is the real kernel with a list of the calls on connections to servers.
type listed struct {
	*clock
	mu      sync.Mutex
	servers map[int]bool
	calls   []string
}

func (l *listed) note(fd int, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	who := "client"
	if l.servers[fd] {
		who = "server"
	}
	l.calls = append(l.calls, who+" "+fmt.Sprintf(format, args...))
}

func (l *listed) Connect(to sys.Address, keepAlive bool) (int, sys.Errno) {
	fd, errno := l.clock.Connect(to, keepAlive)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.servers = map[int]bool{fd: true}
	return fd, errno
}

func (l *listed) SocketError(fd int) sys.Errno {
	l.note(fd, "error")
	return l.clock.SocketError(fd)
}

func (l *listed) Read(fd int, p []byte) (int, sys.Errno) {
	n, errno := l.clock.Read(fd, p)
	l.note(fd, "read %d", n)
	return n, errno
}

func (l *listed) Write(fd int, p []byte, last bool) (int, sys.Errno) {
	text := "write"
	if last {
		text = "write last"
	}
	l.note(fd, "%s %d", text, len(p))
	return l.clock.Write(fd, p, last)
}

func (l *listed) NoDelay(fd int) {
	l.note(fd, "no delay")
	l.clock.NoDelay(fd)
}

func (l *listed) ShutdownWrite(fd int) sys.Errno {
	l.note(fd, "shut")
	return l.clock.ShutdownWrite(fd)
}

// TestNoCallTooMany is a connection with two requests, of which the second is answered together with the end:
// Nagle's algorithm is switched off only when there is a second write, the end of file that is known to come
// is not read, and the last bytes wait for the end.
func TestNoCallTooMany(t *testing.T) {
	k := &listed{clock: newClock()}
	started := make(chan *Engine, 1)
	p := start(t, settings{kernel: k}, serve(t, func(c *net.TCPConn) {
		b := make([]byte, 3)
		_, _ = io.ReadFull(c, b)
		_, _ = io.WriteString(c, "first")
		_, _ = io.ReadFull(c, b)
		k.inOneBatch(t, <-started, func() {
			_, _ = io.WriteString(c, "second")
			_ = c.CloseWrite()
		})
		_, _ = io.Copy(io.Discard, c)
	}))
	started <- p.engine
	c := p.dial()
	for _, answer := range []string{"first", "second"} {
		if _, err := io.WriteString(c, "ask"); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(answer))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != answer {
			t.Fatalf("the answer is %q, %v, should be %q", got, err, answer)
		}
	}
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Fatalf("after the answers come %q, %v, should be the end", rest, err)
	}
	c.Close()
	p.ended(1)
	want := []string{
		"client read 3", "server write 3", "server read 5", "client write 5",
		"client read 3", "server no delay", "server write 3", "server read 6", "client write last 6",
		"client shut", "client read 0",
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.Equal(k.calls, want) {
		t.Errorf("the calls are\n%q, should be\n%q", k.calls, want)
	}
}
