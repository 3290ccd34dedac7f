package engine

import (
	"io"
	"net"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// holding is a kernel in which a read does not return until the test lets it, as if the worker were in a
// long turn.
type holding struct {
	sys.Linux
	hold    atomic.Bool
	reached chan struct{}
	release chan struct{}
}

func newHolding() *holding {
	return &holding{reached: make(chan struct{}), release: make(chan struct{})}
}

func (k *holding) Read(fd int, b []byte) (int, sys.Errno) {
	if k.hold.CompareAndSwap(true, false) {
		close(k.reached)
		<-k.release
	}
	return k.Linux.Read(fd, b)
}

// inALongTurn starts a proxy and holds its only worker in the middle of a turn.
func inALongTurn(t *testing.T) (*proxy, *holding) {
	t.Helper()
	k := newHolding()
	p := start(t, settings{kernel: k}, serve(t, echo))
	c := p.dial()
	eventually(t, "the stream to be established", func() bool { return p.inState(stream.Established) == 1 })
	k.hold.Store(true)
	if _, err := io.WriteString(c, "x"); err != nil {
		t.Fatal(err)
	}
	<-k.reached
	return p, k
}

// TestListenersAreClosedAfterTheLastWorkerHasLetGo: another process that has the listener open, as the one
// that takes over in a reload has, keeps the registration alive; closed before it was removed, it would
// wake the worker for ever with a descriptor that it cannot remove any more (class F6).
func TestListenersAreClosedAfterTheLastWorkerHasLetGo(t *testing.T) {
	p, k := inALongTurn(t)
	listener := p.engine.listeners[0].fd
	other, err := unix.Dup(listener)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(other)
	p.engine.StopListening()
	if _, err := unix.FcntlInt(uintptr(listener), unix.F_GETFD, 0); err != nil {
		t.Errorf("the listener is closed while the worker has it in its epoll set: %v", err)
	}
	close(k.release)
	var socket unix.Stat_t
	if err := unix.Fstat(other, &socket); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the listener to be closed", func() bool {
		var now unix.Stat_t // of another file, if the number has been given away again
		return unix.Fstat(listener, &now) == unix.EBADF || now.Ino != socket.Ino
	})
	late, err := net.Dial("tcp", p.address) // it is the other process's now
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	c := p.engine.workers[0]
	eventually(t, "the worker to sleep", func() bool { return c.waitBegan.Load() != 0 })
	if w := p.engine.Workers()[0]; w.Stale > 0 {
		t.Errorf("%d events of a listener that was let go", w.Stale)
	}
}

// TestAKillOrderToABusyWorkerStands: the order waits in the worker's inbox, whatever the worker is doing.
func TestAKillOrderToABusyWorkerStands(t *testing.T) {
	p, k := inALongTurn(t)
	// Any other look at the worker would wait for it, so the id is taken from its structures while it is
	// held.
	id := idString(p.engine.workers[0].slots[0].id)
	if got := p.engine.Kill(id, stream.KillAdmin); got != KillOrdered {
		t.Errorf("the order came to %d while the worker was busy, should be %d", got, KillOrdered)
	}
	close(k.release)
	if r := p.ended(1)[0]; r.Ending.String() != "K-" {
		t.Errorf("the stream ended with %s, should be K-", r.Ending)
	}
	if got := p.engine.Kill(id, stream.KillAdmin); got != KillUnknown {
		t.Errorf("the order came to %d after the end, should be %d", got, KillUnknown)
	}
}
