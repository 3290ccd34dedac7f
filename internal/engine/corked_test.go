package engine

import (
	"io"
	"net"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whyspin/whyspin/internal/sys"
)

// breaking is the real kernel, in which the second write to a server finds that the connection has broken,
// and more of the client's has arrived meanwhile.
type breaking struct {
	*clock
	mu             sync.Mutex
	client, server int
	writes         int
	meanwhile      func()
}

func (k *breaking) Accept(listener int) (int, sys.Address, sys.Errno) {
	fd, peer, errno := k.clock.Accept(listener)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.client = fd
	return fd, peer, errno
}

func (k *breaking) Connect(to sys.Address, keepAlive bool) (int, sys.Errno) {
	fd, errno := k.clock.Connect(to, keepAlive)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.server = fd
	return fd, errno
}

func (k *breaking) Write(fd int, p []byte, last bool) (int, sys.Errno) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if fd == k.server {
		if k.writes++; k.writes == 2 {
			k.meanwhile()
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(k.client), Events: unix.POLLIN}}, -1)
			return -1, sys.EPIPE
		}
	}
	return k.clock.Write(fd, p, last)
}

// TestTheLastBytesLeaveBeforeAReset: a server answers and ends in the midst of an upload, and the write that
// finds out is made in the pass that reads the answer. Then the client's connection is closed while bytes of
// the upload are unread, which makes it a reset; the answer must have left by then, though it waited for the
// end.
func TestTheLastBytesLeaveBeforeAReset(t *testing.T) {
	k := &breaking{clock: newClock()}
	started, clients := make(chan *Engine, 1), make(chan *net.TCPConn, 1)
	p := start(t, settings{kernel: k}, serve(t, func(c *net.TCPConn) {
		b := make([]byte, 6)
		_, _ = io.ReadFull(c, b)
		client := <-clients
		k.mu.Lock()
		k.meanwhile = func() { _, _ = io.WriteString(client, "unread") }
		k.mu.Unlock()
		k.inOneBatch(t, <-started, func() {
			_, _ = io.WriteString(client, "second")
			_, _ = io.WriteString(c, "too large")
			_ = c.CloseWrite()
		})
		_, _ = io.Copy(io.Discard, c)
	}))
	started <- p.engine
	c := p.dial()
	clients <- c
	if _, err := io.WriteString(c, "upload"); err != nil {
		t.Fatal(err)
	}
	p.ended(1)
	answer := make([]byte, len("too large"))
	if n, err := io.ReadFull(c, answer); err != nil {
		t.Errorf("the client gets %q, %v, should get the answer", answer[:n], err)
	}
}
