package control

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// failing is a listener that has no descriptor for another connection.
type failing struct {
	net.Listener
	calls atomic.Int64
}

// Accept fails as that of a unix socket that was bound under another name and then renamed.
func (f *failing) Accept() (net.Conn, error) {
	f.calls.Add(1)
	return nil, &net.OpError{
		Op: "accept", Net: "unix", Addr: &net.UnixAddr{Name: "/run/api.4711.tmp", Net: "unix"},
		Err: os.NewSyscallError("accept4", syscall.EMFILE),
	}
}

func (f *failing) Close() error { return nil }

func TestAnErrorOfAcceptThatLasts(t *testing.T) {
	alerts := make(chan string, 100)
	f := &failing{}
	l := limit(f, "stats socket /run/api", 10, func(m string) { alerts <- m })
	ended := make(chan error)
	began := time.Now()
	go func() {
		_, err := l.take()
		ended <- err
	}()
	eventually(t, "it to be tried again", func() bool { return f.calls.Load() >= 3 })
	if took := time.Since(began); took < 2*acceptPause {
		t.Errorf("two more attempts came within %v, there should be %v between them", took, acceptPause)
	}
	must(t, l.Close())
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the closed listener returns %v", err)
	}
	const want = "stats socket /run/api: cannot accept, tries again every 100ms: accept4: too many open files"
	if alert := <-alerts; alert != want || len(alerts) > 0 {
		t.Errorf("the operator was told %q and %d times more, want %q once", alert, len(alerts), want)
	}
	if n := len(l.places); n != 0 {
		t.Errorf("%d places are taken for ever", n)
	}
}
