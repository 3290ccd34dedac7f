package engine

import (
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
)

// tlsStats are a worker's counters of TLS. Arrays are by the side of the connection.
type tlsStats struct {
	current    [2]int // connections with TLS, those in their handshake included
	cumulated  [2]uint64
	handshakes [2]uint64 // complete ones
	resumed    [2]uint64 // of these, those that took up a session
	failed     uint64
	// rate counts the connections of clients, keys the full handshakes: those in which keys were agreed upon.
	rate Rate
	keys [2]Rate
	// reused counts the handshakes of clients that took up a session.
	reused Rate
}

// TLSTotals are the counters of TLS of all workers. Arrays are by the side of the connection, stream.Client
// and stream.Server; rates are per second.
type TLSTotals struct {
	// Current is the connections with TLS now, those in their handshake included; Cumulated all that there
	// were.
	Current   [2]int
	Cumulated [2]uint64
	// Handshakes is the complete ones; Resumed those of them that took up a session, the others agreed upon
	// keys. Failed is those that failed, of both sides.
	Handshakes, Resumed [2]uint64
	Failed              uint64
	// Rate is the handshakes of clients, KeyRate the full ones of each side, ReuseRate those of clients that
	// took up a session. The highest are the sums of those of the workers, so at most a little too high.
	Rate, ReuseRate float64
	KeyRate         [2]float64
	HighestRate     uint64
	HighestKeyRate  [2]uint64
	Lent            int // buffers of connections that wait within a record
}

// TLS returns the counters of TLS.
func (e *Engine) TLS() TLSTotals {
	var sum TLSTotals
	for _, w := range e.workers {
		var t tlsStats
		if !w.locked(func() { t, sum.Lent = w.stats.tls, sum.Lent+w.lent.Lent() }) {
			t = w.published.Load().stats.tls
		}
		now := w.kernel.Now()
		sum.Rate += t.rate.PerSecond(now)
		sum.ReuseRate += t.reused.PerSecond(now)
		sum.HighestRate += t.rate.Highest()
		sum.Failed += t.failed
		for side := range t.current {
			sum.Current[side] += t.current[side]
			sum.Cumulated[side] += t.cumulated[side]
			sum.Handshakes[side] += t.handshakes[side]
			sum.Resumed[side] += t.resumed[side]
			sum.KeyRate[side] += t.keys[side].PerSecond(now)
			sum.HighestKeyRate[side] += t.keys[side].Highest()
		}
	}
	return sum
}

// begin counts a connection that begins its handshake.
func (t *tlsStats) begin(side stream.Side) {
	t.current[side]++
	t.cumulated[side]++
}

// complete counts a handshake.
func (t *tlsStats) complete(side stream.Side, resumed bool, now ktime.Time) {
	t.handshakes[side]++
	if side == stream.Client {
		t.rate.Add(now, 1)
	}
	if resumed {
		t.resumed[side]++
		if side == stream.Client {
			t.reused.Add(now, 1)
		}
		return
	}
	t.keys[side].Add(now, 1)
}

// end counts a connection that is closed.
func (t *tlsStats) end(side stream.Side) { t.current[side]-- }
