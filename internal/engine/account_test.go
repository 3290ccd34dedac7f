package engine

import (
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
)

// The tests in this file bring the faults onto real sockets that no stream, or no stream any more, is to
// blame for. Each runs the same traffic through a healthy proxy, too.

// healthyAndFaulty runs a test without and with a fault.
func healthyAndFaulty(t *testing.T, f fault.Set, run func(*testing.T, fault.Set)) {
	t.Run("without "+f.String(), func(t *testing.T) { run(t, 0) })
	t.Run("with "+f.String(), func(t *testing.T) { run(t, f) })
}

// suspicion waits for the engine's suspicion of a spin by that cause. A healthy proxy has none, and sleeps.
func (p *proxy) suspicion(f fault.Set, cause string) Suspicion {
	p.t.Helper()
	if f == 0 {
		p.sleeps("without a fault")
		select {
		case s := <-p.engine.Suspicions():
			p.t.Errorf("suspicion of %s without a fault", s.Subject())
		default:
		}
		return Suspicion{FD: -1}
	}
	s := p.nextSuspicion()
	if s.Cause != cause {
		p.t.Errorf("suspicion of %s by %q, should be by %q", s.Subject(), s.Cause, cause)
	}
	return s
}

// suspectWithin is after how many wakeups without progress the engine must have its suspicion: a spin makes
// them in a few milliseconds, and one that is too slow for that has passed the budget after fewer, in 100 ms.
const suspectWithin = 1000

// nextSuspicion waits for a suspicion of the engine.
func (p *proxy) nextSuspicion() Suspicion {
	p.t.Helper()
	select {
	case s := <-p.engine.Suspicions():
		if s.Wakeups > suspectWithin {
			p.t.Errorf("suspicion of %s after %d wakeups, should be %d at most", s.Subject(), s.Wakeups,
				suspectWithin)
		}
		return s
	case <-time.After(patience):
		p.t.Fatalf("waited %v in vain for a suspicion", patience)
	}
	panic("BUG: Fatalf returned")
}

func TestAListenerThatIsNotPausedSpins(t *testing.T) {
	healthyAndFaulty(t, fault.AcceptNotPaused, func(t *testing.T, f fault.Set) {
		p := start(t, settings{maxConn: 2, change: withFault(f)}, serve(t, echo))
		first := p.dial()
		p.dial()
		eventually(t, "both streams to be there", func() bool { return p.engine.Streams() == 2 })
		third := p.dial()
		s := p.suspicion(f, "listener")
		if l := p.engine.listeners[0]; f != 0 && (s.FD != l.fd || s.Listener == "") {
			t.Errorf("suspicion of %s, should be of the listener, descriptor %d", s.Subject(), l.fd)
		}
		if f != 0 && !p.engine.PauseListener(s.FD, time.Second) {
			t.Error("the listener is not there to be paused")
		}
		p.sleeps("after the remedy")
		first.Close()
		if _, err := third.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(third, make([]byte, 1)); err != nil {
			t.Errorf("the one that waited is not served: %v", err)
		}
	})
}

func TestACopyOfAClosedDescriptorSpins(t *testing.T) {
	healthyAndFaulty(t, fault.ClosedWithoutRemoval, func(t *testing.T, f fault.Set) {
		// The server ends first, as after QUIT in SMTP, so the client is told the end before it is closed.
		over := make(chan struct{})
		p := start(t, settings{change: withFault(f)}, serve(t, func(*net.TCPConn) { <-over }))
		c := p.dial()
		idle(t, p, c)
		fd := p.views()[0].Ends[stream.Client].FD
		close(over)
		if _, err := io.ReadAll(c); err != nil {
			t.Fatal(err)
		}
		c.Close()
		p.ended(1)
		s := p.suspicion(f, "event for nobody")
		if f != 0 && (s.FD != fd || s.Stream != "" || s.Listener != "") {
			t.Errorf("suspicion of %s, should be of descriptor %d", s.Subject(), fd)
		}
		waiting := p.dial()
		p.engine.RenewSets()
		p.sleeps("after the remedy")
		if _, err := io.ReadAll(waiting); err != nil {
			t.Errorf("a stream of the time before the remedy: %v", err)
		}
	})
}

func TestAConnectionRegisteredTwiceSpins(t *testing.T) {
	healthyAndFaulty(t, fault.RegisteredTwice, func(t *testing.T, f fault.Set) {
		p := start(t, settings{workers: 2, change: withFault(f)}, serve(t, echo))
		// The first worker seems to have more to do than the second, so it hands over what it accepts.
		p.engine.workers[0].load.Add(1000)
		eventually(t, "a connection to be handed over", func() bool {
			p.dial()
			return p.engine.Workers()[0].Handed > 0
		})
		s := p.suspicion(f, "event for nobody")
		if f != 0 && s.Worker != 1 {
			t.Errorf("suspicion of %s, should be at worker 1", s.Subject())
		}
		eventually(t, "the connection to be a stream of worker 2", func() bool {
			return slices.ContainsFunc(p.views(), func(v StreamView) bool {
				return v.Worker == 2 && (f == 0 || v.Ends[stream.Client].FD == s.FD)
			})
		})
		for _, v := range p.views() {
			if p.engine.Kill(v.ID, stream.KillSpin) != KillEnded {
				t.Errorf("stream %s cannot be killed", v.ID)
			}
		}
		p.sleeps("after the remedy")
	})
}

func TestAWorkerThatNeverSleepsIsSuspectItself(t *testing.T) {
	healthyAndFaulty(t, fault.NeverSleeps, func(t *testing.T, f fault.Set) {
		p := start(t, settings{change: withFault(f)}, serve(t, echo))
		c := p.dial()
		idle(t, p, c)
		p.sleeps("before the soft stop")
		p.engine.StopListening()
		s := p.suspicion(f, "asked not to sleep")
		if f != 0 && (s.Worker != 1 || s.Stream != "" || s.FD >= 0) {
			t.Errorf("suspicion of %s, should be of worker 1", s.Subject())
		}
		c.Close()
		p.ended(1)
	})
}

// TestARowEndsWithAPause: what happens now and then is no spin, however often.
func TestARowEndsWithAPause(t *testing.T) {
	tests := []struct {
		name  string
		every time.Duration
		after int // charges until it is suspect, 0 for never
	}{
		{"a spin", time.Microsecond, 1000},
		{"a spin on a busy worker", 10 * time.Millisecond, 20},
		{"forty times a second", 25 * time.Millisecond, 0},
	}
	for _, tt := range tests {
		var a account
		now, n := ktime.Time(time.Hour), 0
		for i := 1; i <= 5000 && n == 0; i++ {
			if a.charge(now) {
				n = i
			}
			now = now.Add(tt.every)
		}
		if n != tt.after {
			t.Errorf("%s: suspect after %d wakeups, should be after %d", tt.name, n, tt.after)
		}
	}
}

// TestARenewedSetForgetsNothing: every kind of descriptor is watched on, and what came meanwhile is seen.
func TestARenewedSetForgetsNothing(t *testing.T) {
	k := newClock()
	p := start(t, settings{kernel: k, workers: 2}, serve(t, echo))
	c := p.dial()
	idle(t, p, c)
	for i := range 10 {
		k.inOneBatch(t, p.engine, func() {
			p.engine.RenewSets()
			if _, err := c.Write([]byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
		})
		got := make([]byte, 1)
		if _, err := io.ReadFull(c, got); err != nil || got[0] != byte(i) {
			t.Fatalf("round %d: got %v: %v", i, got, err)
		}
	}
	other := p.dial()
	if err := other.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(other); err != nil {
		t.Errorf("a new client after the remedy: %v", err)
	}
}
