package correlate

import (
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

const tinyReads = 400_000

// pieces is a process of its own whose suspect is read a byte at a time, and otherwise busy and healthy:
// half of its calls are these, and it is on a CPU for half of the time.
func pieces() *evidence.Case {
	c := foreign()
	sleeps(&c.Window.Threads[0])
	t := &c.Window.Threads[0]
	t.Run, t.Calls, t.Progress = evidence.Know(time.Second), evidence.Know[uint64](700_000),
		evidence.Know[uint64](500_000)
	set := &t.Sets[0]
	set.Waits = evidence.Waits{}
	set.Waits[evidence.TimeoutPositive][evidence.ResultEvents] = 100_000
	d := suspect(c)
	d.Read, d.Row = evidence.IO{Calls: tinyReads, Bytes: tinyReads, Tiny: tinyReads}, 1
	d.Deliveries = []evidence.Delivery{{Mask: evidence.EventIn, Count: 1000}}
	return c
}

// sampled has a quarter of the samples be in reads.
func sampled(c *evidence.Case) {
	c.Window.Samples = &evidence.Samples{Stacks: []evidence.Stack{
		{TID: foreignTID, Count: 25, User: []evidence.Frame{{Function: "fill"}},
			Kernel: []evidence.Frame{{Function: "tcp_recvmsg"}, {Function: "__x64_sys_recvfrom"}}},
		{TID: foreignTID, Count: 75, User: []evidence.Frame{{Function: "parse"}}},
		{TID: 4713, Count: 900, Kernel: []evidence.Frame{{Function: "__x64_sys_read"}}},
	}}
}

func TestTinyIO(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*evidence.Case)
		verdict Verdict
		cpu     float64
		by      string
	}{
		{"a byte at a time though there was more", func(*evidence.Case) {}, Inefficient, 0.25, "call counts"},
		{"the same with samples", sampled, Inefficient, 0.125 * tinyReads / (tinyReads + 80), "samples"},
		{"a share that is not worth the verdict", func(c *evidence.Case) {
			c.Window.Threads[0].Calls = evidence.Know[uint64](9_900_000)
		}, Healthy, 0.02, "call counts"},
		{"one tiny read for each event: four-byte messages (L6)", func(c *evidence.Case) {
			suspect(c).Deliveries[0].Count = tinyReads
		}, Healthy, 0, ""},
		{"short headers before records (L7)", func(c *evidence.Case) {
			suspect(c).Read.Calls, suspect(c).Read.Bytes = 2*tinyReads, 4000*tinyReads
		}, Healthy, 0, ""},
		{"tokens in a pipe (L13)", func(c *evidence.Case) {
			socketOf(c, func(s *evidence.Socket) { *s = evidence.Socket{Kind: "pipe"} })
		}, Healthy, 0, ""},
		{"a few of them", func(c *evidence.Case) {
			suspect(c).Read = evidence.IO{Calls: 1000, Bytes: 1000, Tiny: 1000}
			suspect(c).Deliveries[0].Count = 1
		}, Healthy, 0, ""},
		{"events of which it is not known whose they are", func(c *evidence.Case) {
			c.Window.Losses.UnattributedEvents = 1
		}, Healthy, 0, ""},
		{"calls were lost", func(c *evidence.Case) { c.Window.Losses.BeyondTable = 1 }, Healthy, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := pieces()
			tt.change(c)
			d := Correlate(c)
			if d.Verdict != tt.verdict || len(d.Findings) != 0 {
				t.Fatalf("verdict %q with classes %q, should be %q", d.Verdict, classesOf(d), tt.verdict)
			}
			if len(d.Inefficiencies) != 0 != (tt.by != "") {
				t.Fatalf("inefficiencies %+v", d.Inefficiencies)
			}
			if tt.by == "" {
				return
			}
			e := d.Inefficiencies[0]
			if cpu := e.CPU.Or(-1); cpu < tt.cpu-1e-9 || cpu > tt.cpu+1e-9 || e.By != tt.by {
				t.Errorf("costs %v by %q, should be %v by %q", cpu, e.By, tt.cpu, tt.by)
			}
			if e.Calls != tinyReads || e.Bytes != tinyReads || e.Descriptors[0] != suspectFD ||
				e.TID != foreignTID {
				t.Errorf("inefficiency %+v", e)
			}
		})
	}
}

// TestTinyIOOfAStream: the state names the stream, and tells of it without the kernel's view.
func TestTinyIOOfAStream(t *testing.T) {
	inPieces := func(c *evidence.Case) {
		quiet(c)
		both(c, func(s *evidence.Stream) { s.Calls, s.Fruitless = 10, evidence.Know[uint64](0) })
		after(c).Request.Total += tinyReads
		clientSide(c, func(e *evidence.Side) { e.Reads, e.Events = e.Reads+tinyReads, 1000 })
		w := &c.After.Workers[0]
		w.Waits, w.Read.Calls = evidence.Waits{}, tinyReads
		w.Waits[evidence.TimeoutPositive][evidence.ResultEvents] = 1000
	}
	c := ours()
	inPieces(c)
	d := &c.Window.Descriptors[0]
	d.Read = evidence.IO{Calls: tinyReads, Bytes: tinyReads, Tiny: tinyReads}
	d.Deliveries = []evidence.Delivery{{Mask: evidence.EventIn, Count: 1000}}
	c.Window.Descriptors[1].Write = d.Read
	c.Window.Threads[0].Calls = evidence.Know[uint64](3 * tinyReads)
	got := Correlate(c).Inefficiencies
	if len(got) != 1 || len(got[0].Streams) != 1 || got[0].Streams[0].ID != "0x2a00000003" ||
		got[0].Calls != 2*tinyReads {
		t.Errorf("with the kernel's view: %+v", got)
	}
	c = ours()
	inPieces(c)
	c.Window = nil
	diagnosis := Correlate(c)
	got = diagnosis.Inefficiencies
	if len(got) != 1 || len(got[0].Streams) != 1 || got[0].Calls != tinyReads || got[0].CPU.IsKnown() ||
		diagnosis.Verdict != Inefficient {
		t.Errorf("verdict %q without the kernel's view: %+v", diagnosis.Verdict, got)
	}
	clientSide(c, func(e *evidence.Side) { e.Events = tinyReads })
	if d := Correlate(c); len(d.Inefficiencies) != 0 || d.Verdict != Healthy {
		t.Errorf("one read for each event: verdict %q, %+v", d.Verdict, d.Inefficiencies)
	}
}
