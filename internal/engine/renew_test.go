package engine

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/sys"
)

// registering is a kernel that tells a test of every registration.
type registering struct {
	sys.Linux
	atAdd atomic.Pointer[func()]
}

func (k *registering) EpollAdd(set, fd int, events uint32, data uint64) sys.Errno {
	if f := k.atAdd.Load(); f != nil {
		(*f)()
	}
	return k.Linux.EpollAdd(set, fd, events, data)
}

// TestANewSetHoldsUpNobody: whoever of the control plane waits is let in between two registrations, of which
// there may be a hundred thousand.
func TestANewSetHoldsUpNobody(t *testing.T) {
	k := &registering{}
	p := start(t, settings{kernel: k}, serve(t, echo))
	roundTrip(t, p.dial(), 1)
	w := p.engine.workers[0]
	added, visitedAfter := 0, make(chan int, 1)
	atAdd := func() {
		if added++; added == 1 {
			w.visit.Store(&visit{look: func() { visitedAfter <- added }, done: make(chan struct{})})
		}
	}
	k.atAdd.Store(&atAdd)
	p.engine.RenewSets()
	select {
	case n := <-visitedAfter:
		if n != 1 {
			t.Errorf("the visit was made after %d registrations, should be after the first", n)
		}
	case <-time.After(patience):
		t.Errorf("waited %v in vain for the visit", patience)
	}
}
