package engine

import (
	"net/netip"
	"testing"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/sys"
)

// forbidding is a kernel whose security module forbids to accept. The connection stays in the backlog.
type forbidding struct{ sys.Linux }

func (forbidding) Accept(int) (int, sys.Address, sys.Errno) { return -1, sys.Address{}, sys.EPERM }

// TestAListenerThatMayNotAcceptRests: level-triggered, it would keep every worker awake.
func TestAListenerThatMayNotAcceptRests(t *testing.T) {
	p := start(t, settings{kernel: forbidding{}, workers: 2}, serve(t, echo))
	p.dial()
	refused := func() uint64 { return p.engine.listeners[0].refused.Load() }
	eventually(t, "some calls of accept to be refused", func() bool { return refused() >= 10 })
	if n, most := refused(), p.engine.kernel.Now().Sub(p.engine.started)/acceptPause; n > uint64(2+2*most) {
		t.Errorf("%d calls of accept were refused, should be one per worker and %v", n, acceptPause)
	}
}

// contended is a kernel in which accept finds that another worker has taken the connection, after it has
// let that other worker do something.
type contended struct {
	sys.Linux
	meanwhile func()
}

func (k *contended) Accept(int) (int, sys.Address, sys.Errno) {
	k.meanwhile()
	return -1, sys.Address{}, sys.EAGAIN
}

// TestAPlaceHeldForAMomentDoesNotPauseAnotherWorkerForEver: a worker takes a place under the limits before
// it accepts. Another that finds no place because of that pauses its listener, and must hear of the place
// when it is given back.
func TestAPlaceHeldForAMomentDoesNotPauseAnotherWorkerForEver(t *testing.T) {
	front := &config.Proxy{Name: "mail", IsFrontend: true, Binds: []*config.Bind{{ID: 1}}}
	c := &config.Config{Proxies: []*config.Proxy{front}}
	c.Global.BufferSize, c.Global.MaxAccept = 16384, 4
	fd, err := sys.Listen(sys.Address{IP: netip.MustParseAddrPort("127.0.0.1:0")},
		sys.ListenOptions{Backlog: 1, UID: -1, GID: -1})
	if err != nil {
		t.Fatal(err)
	}
	k := &contended{}
	e, err := New(Options{Config: c, Kernel: k, Workers: 2, MaxConn: 1,
		Listeners: []Listener{{FD: fd, Proxy: front, Bind: front.Binds[0]}}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Stop()
	l := e.listeners[0]
	k.meanwhile = func() {
		k.meanwhile = func() {}
		e.workers[1].accept(l)
		e.workers[1].resumeListeners() // as later in that turn
	}
	e.workers[0].accept(l)
	if len(e.workers[1].pausedAt) != 1 {
		t.Fatal("the other worker found a place, so this test shows nothing")
	}
	if !e.workers[1].inbox.resume {
		t.Error("the other worker is not told that the place is free again")
	}
	e.Step(1)
	if len(e.workers[1].pausedAt) != 0 {
		t.Error("the other worker does not accept any more though nobody has a place")
	}
}
