package correlate

import (
	"strings"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// TestWitnesses: what the kernel and the workers counted, in a window within which the process was asked.
func TestWitnesses(t *testing.T) {
	tests := []struct {
		name   string
		change func(*evidence.Case)
		want   string // a part of what is said, "" for agreement
	}{
		{"they agree", func(*evidence.Case) {}, ""},
		{"a wait ends while the window begins", func(c *evidence.Case) {
			c.Window.Threads[0].Sets[0].Waits[evidence.TimeoutZero][evidence.ResultNone]--
		}, ""},
		{"the kernel missed reads", func(c *evidence.Case) { c.Window.Descriptors[1].Read.Calls -= 100 },
			"counted 900 reads, the workers' own ledger at least 1000"},
		{"the kernel missed reads and knows of it", func(c *evidence.Case) {
			c.Window.Descriptors[1].Read.Calls -= 100
			c.Window.Losses.FullMaps = 100
		}, ""},
		{"they may be on a descriptor that nobody delivered", func(c *evidence.Case) {
			c.Window.Descriptors[1].Read.Calls -= 100
			c.Window.Descriptors[0].EpollFD, c.Window.Descriptors[0].Read.Calls = -1, 100
		}, ""},
		{"what a pipe was read is no excuse", func(c *evidence.Case) {
			c.Window.Descriptors[1].Read.Calls -= 100
			c.Window.Descriptors[0].EpollFD, c.Window.Descriptors[0].Read.Calls = -1, 100
			c.Window.Descriptors[0].Socket = evidence.Know(evidence.Socket{Kind: "pipe"})
		}, "counted 900 reads, the workers' own ledger at least 1000"},
		{"the kernel missed waits",
			func(c *evidence.Case) { c.Window.Threads[0].Sets[0].Waits = evidence.Waits{} },
			"counted 0 waits with timeout zero"},
		{"the summary of a busy worker is of another time", func(c *evidence.Case) {
			c.Window.Descriptors[1].Read.Calls -= 100
			c.Before.Workers[0].CountedAt = evidence.Know(began - 1)
		}, ""},
		{"asked before and after: the process keeps no account", func(c *evidence.Case) {
			outside(c)
			c.Window.Descriptors[1].Write.Calls += 100
		}, "counted 1100 writes, the workers' own ledger at most 1000"},
		{"asked before and after: the kernel sees less", func(c *evidence.Case) {
			outside(c)
			c.Window.Descriptors[1].Write.Calls -= 100
		}, ""},
		{"asked before and after: a number was somebody else's, too", func(c *evidence.Case) {
			outside(c)
			c.Window.Descriptors[1].Write.Calls += 100
			c.Window.Descriptors[1].Closes = 1
		}, ""},
		{"accepted and not accounted for", func(c *evidence.Case) {
			outside(c)
			c.Window.Descriptors = append(c.Window.Descriptors,
				evidence.Descriptor{FD: 6, EpollFD: 5, Accepts: 50})
		}, "counted 50 accepted connections, the workers' own ledger at most 10"},
		{"the probes see no calls", func(c *evidence.Case) {
			c.Window.Hooks.Syscall = evidence.Observed[string]{}
			c.Window.Threads[0].Sets = nil
		}, ""},
		{"another program keeps no ledger", func(c *evidence.Case) {
			c.Before.Workers[0].Accepted = evidence.Observed[uint64]{}
			c.After.Workers[0].Accepted = evidence.Observed[uint64]{}
			c.Window.Descriptors[1].Read.Calls = 0
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := witnessed()
			tt.change(c)
			said := strings.Join(Correlate(c).Unknown, "; ")
			if strings.Contains(said, "disagree") != (tt.want != "") || !strings.Contains(said, tt.want) {
				t.Errorf("said is %q, should be %q", said, tt.want)
			}
		})
	}
}

// witnessed is our proxy, asked within the window, with a thousand reads and writes, ten accepted connections
// and as many waits as both count.
func witnessed() *evidence.Case {
	c := ours()
	c.Before.At, c.After.At = began.Add(time.Millisecond), ended.Add(-time.Millisecond)
	for i, s := range []*evidence.Snapshot{c.Before, c.After} {
		n := uint64(i)
		w := &s.Workers[0]
		w.CountedAt, w.WakerFD = evidence.Know(s.At), 4
		w.Accepted = evidence.Know(10 * n)
		w.Read, w.Write = evidence.IO{Calls: 1000 * n, Bytes: 64_000 * n}, evidence.IO{Calls: 1000 * n}
	}
	c.Window.Threads[0].Sets[0].Waits[evidence.TimeoutZero][evidence.ResultEvents] = 0
	c.Window.Descriptors[1].Read = evidence.IO{Calls: 1000, Bytes: 64_000}
	c.Window.Descriptors[1].Write = evidence.IO{Calls: 1000}
	c.Window.Descriptors = append(c.Window.Descriptors,
		evidence.Descriptor{FD: 4, EpollFD: 5, Read: evidence.IO{Calls: 300, Bytes: 2400}},
		evidence.Descriptor{FD: 6, EpollFD: 5, Accepts: 10})
	return c
}

// outside has the process asked before and after the window.
func outside(c *evidence.Case) {
	c.Window.Descriptors = c.Window.Descriptors[:3]
	c.Before.At, c.After.At = began.Add(-time.Millisecond), ended.Add(time.Millisecond)
	for _, s := range []*evidence.Snapshot{c.Before, c.After} {
		s.Workers[0].CountedAt = evidence.Know(s.At)
	}
}
