package engine

import (
	"crypto/tls"
	"testing"

	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/tlsconn"
)

// recorded is a recorder with room for so few moments, and a stream in it.
func recorded(t *testing.T, room int) (*worker, *conn) {
	t.Helper()
	w := &worker{flight: flightRecorder{ring: make([]moment, room), next: 1}}
	return w, newcomer(w, 1)
}

func newcomer(w *worker, id uint64) *conn {
	policy := &stream.Policy{Retries: 3}
	return &conn{id: id, worker: w, stream: stream.New(policy, 0, 0), cause: stream.CauseAccepted}
}

// reach takes a stream to the connecting state.
func reach(c *conn) {
	c.stream.Begin(stream.CauseAccepted, 0)
	c.stream.Advance(0)
	c.stream.Assigned(true, false)
	c.stream.Advance(0)
}

func TestFlightRecorderMergesWhatChangesNothing(t *testing.T) {
	w, c := recorded(t, 8)
	w.flight.record(c, 1, false)
	reach(c)
	for at := ktime.Time(2); at < 1000; at++ {
		// Events of both sides that move bytes are one row, whatever woke it.
		c.cause = stream.CauseClientEvent + stream.Cause(at%2)
		w.flight.record(c, at, false)
	}
	c.cause = stream.CauseTimerTunnel
	for at := ktime.Time(1000); at < 5000; at++ {
		w.flight.record(c, at, true)
	}
	got := w.historyOf(c)
	if len(got) != 3 {
		t.Fatalf("%d moments, should be 3: %+v", len(got), got)
	}
	if got[0].ServerState != "INI" || got[1].ServerState != "CON" {
		t.Errorf("the server's states are %s and %s", got[0].ServerState, got[1].ServerState)
	}
	if m := got[1]; m.At != 2 || m.Until != 999 || m.Count != 998 || m.NoProgress {
		t.Errorf("the busy row is %+v", m)
	}
	if m := got[2]; m.At != 1000 || m.Until != 4999 || m.Count != 4000 || !m.NoProgress ||
		m.Cause != "timer tunnel" {
		t.Errorf("the row without progress is %+v", m)
	}
}

// TestFlightRecorderHasWhatTLSWaitedFor: after the latest wakeup of a row.
func TestFlightRecorderHasWhatTLSWaitedFor(t *testing.T) {
	w, c := recorded(t, 8)
	s := &secured{owner: c, side: stream.Server, shaking: true, arrived: true}
	s.conn = tlsconn.Client(&tls.Config{ServerName: "server.test"}, s, &w.lent)
	c.ends[stream.Server].tls = s
	for at, want := range []string{"handshake", "handshake, want-read", "handshake, want-read, want-write"} {
		s.arrived = at == 0
		if at == 2 {
			s.sealed = &buffer{}
		}
		w.flight.record(c, ktime.Time(at), true)
		got := w.historyOf(c)
		if len(got) != 1 || got[0].ServerTLS != want || got[0].ClientTLS != "" {
			t.Errorf("the history is %+v, TLS should be %q", got, want)
		}
	}
}

// TestFlightRecorderKeepsWhatWasPinned: others overwrite the ring, but not what a suspect was before, and
// what becomes of it is told once.
func TestFlightRecorderKeepsWhatWasPinned(t *testing.T) {
	const room = 4
	w, c := recorded(t, room)
	w.flight.record(c, 1, false)
	reach(c)
	w.flight.record(c, 2, false)
	c.cause = stream.CauseTimerTunnel
	w.flight.record(c, 3, true)
	w.pin(c)
	w.flight.record(c, 4, true)
	requireTold := func(until ktime.Time, count uint64) {
		t.Helper()
		got := w.historyOf(c)
		if len(got) != 3 || got[0].At != 1 || got[1].At != 2 || got[2].At != 3 || got[2].Until != until ||
			got[2].Count != count {
			t.Errorf("the history is %+v", got)
		}
	}
	requireTold(4, 2)
	w.flight.record(newcomer(w, 2), 5, false)
	w.flight.record(newcomer(w, 3), 5, false)
	requireTold(4, 2) // the first moment is overwritten
	for id := range uint64(2 * room) {
		w.flight.record(newcomer(w, 4+id), 6, false)
	}
	requireTold(3, 1) // all of it: what remains is as of the suspicion
	w.flight.record(c, 7, true)
	if got := w.historyOf(c); len(got) != 4 || got[3].At != 7 {
		t.Errorf("the history with a new moment is %+v", got)
	}
}

func TestFlightRecorderForgetsWithoutAPin(t *testing.T) {
	const room = 4
	w, c := recorded(t, room)
	w.flight.record(c, 1, false)
	for id := range uint64(room + 1) {
		w.flight.record(newcomer(w, 2+id), 2, false)
	}
	if got := w.historyOf(c); len(got) != 0 {
		t.Errorf("the history of another is told: %+v", got)
	}
	w.flight.record(c, 3, false)
	if got := w.historyOf(c); len(got) != 1 || got[0].At != 3 {
		t.Errorf("the history is %+v", got)
	}
}
