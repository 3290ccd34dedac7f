package correlate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/whyspin/whyspin/internal/evidence"
)

const (
	// leastTiny is how many tiny reads per second of one descriptor are worth a word.
	leastTiny = 1000
	// tinyPerEvent is how many tiny reads go with one delivery, at least, when the peer had sent more at once
	// and it is read in pieces. A peer that sends a few bytes at a time, and waits for an answer, is read
	// once for each delivery (look-alike L6).
	tinyPerEvent = 4
	// tinyShare is which part of the reads that moved bytes is tiny, at least. Where a short header tells how
	// much is to come, as in TLS, it is half (look-alike L7).
	tinyShare = 0.9
	// material is the share of a CPU from which on an inefficiency is the verdict when there is nothing
	// worse.
	material = 0.05
	// materialCalls is how many calls per second are taken for material when their share of the CPU is not
	// known: a call takes a microsecond at least.
	materialCalls = material * 1e6
	// maxStreams is how many streams an inefficiency names, those with the most calls first.
	maxStreams = 8
)

// Inefficiency is what costs CPU while the work gets done.
type Inefficiency struct {
	Class Class
	// CPU is the share of one CPU that it costs, not observed when the CPU time of the thread is not. By says
	// from what that was reckoned: "samples" or "call counts".
	CPU evidence.Observed[float64]
	By  string
	// TID is the thread that pays, 0 when it is not known.
	TID int
	// Calls is the tiny reads and writes concerned, Bytes what they moved.
	Calls, Bytes uint64
	// Descriptors are those concerned, Streams the streams that they belong to as far as the process says so;
	// the ones with the most calls first, and at most eight.
	Descriptors []int
	Streams     []*evidence.Stream
	Evidence    []Fact
	Unknown     []string
}

// tinyIO is the rule for B4: bytes do flow, 1 to 16 per call. The deciding fact is several tiny reads of one
// descriptor for one event: there was more to be read at once.
func tinyIO(in *input) []Inefficiency {
	if in.Window == nil || !in.Window.Hooks.Syscall.IsKnown() || lostCalls(&in.Window.Losses) > 0 ||
		in.Window.Losses.UnattributedEvents > 0 {
		return in.morsels()
	}
	bySet := map[int][]*evidence.Descriptor{}
	for i := range in.Window.Descriptors {
		if d := &in.Window.Descriptors[i]; in.readInPieces(d) {
			bySet[d.EpollFD] = append(bySet[d.EpollFD], d)
		}
	}
	var found []Inefficiency
	for _, set := range slices.Sorted(maps.Keys(bySet)) {
		found = append(found, in.inefficiency(set, bySet[set]))
	}
	return found
}

// readInPieces is the deciding fact. Pipes are left out: what is written to them are wakeups and tokens, a
// byte each (look-alike L13).
func (in *input) readInPieces(d *evidence.Descriptor) bool {
	s, known := d.Socket.Get()
	tiny := d.Read.Tiny
	return known && (s.Kind == "tcp" || s.Kind == "unix") &&
		float64(tiny) >= leastTiny*in.Window.Length().Seconds() &&
		tiny >= tinyPerEvent*max(1, d.Delivered()) && float64(tiny) >= tinyShare*float64(moved(&d.Read))
}

// inefficiency sums up what the descriptors of one epoll set cost.
func (in *input) inefficiency(set int, of []*evidence.Descriptor) Inefficiency {
	slices.SortFunc(of, func(a, b *evidence.Descriptor) int {
		return cmp.Or(cmp.Compare(b.Read.Tiny, a.Read.Tiny), cmp.Compare(a.FD, b.FD))
	})
	e := Inefficiency{Class: B4}
	var reads, events uint64
	for _, d := range of {
		reads, events = reads+d.Read.Tiny, events+d.Delivered()
		e.Calls, e.Bytes = e.Calls+d.Read.Tiny+d.Write.Tiny, e.Bytes+d.Read.Bytes
		if len(e.Descriptors) < maxStreams {
			e.Descriptors = append(e.Descriptors, d.FD)
		}
		s := in.streamOf(d.FD)
		if s == nil {
			continue
		}
		if len(e.Streams) < maxStreams && !slices.Contains(e.Streams, s) {
			e.Streams = append(e.Streams, s)
		}
		if peer := in.descriptor(s.ClientFD + s.ServerFD - d.FD); peer != nil {
			e.Calls += peer.Write.Tiny // what is read in pieces may be written in pieces
		}
	}
	e.add(Fact{Text: "reads that moved 1 to 16 bytes", Count: evidence.Know(reads), Source: sourceSyscalls})
	e.add(Fact{Text: "events for the descriptors concerned: the peers had sent more at once",
		Count: evidence.Know(events), Source: sourceSyscalls})
	if len(e.Streams) == 0 {
		e.Unknown = append(e.Unknown, "the streams that the descriptors belong to")
	}
	in.addCost(&e, set)
	return e
}

// material reports whether it is the verdict when there is nothing worse.
func (e *Inefficiency) material(seconds float64) bool {
	if cpu, ok := e.CPU.Get(); ok {
		return cpu >= material
	}
	return float64(e.Calls) >= materialCalls*seconds
}

func (e *Inefficiency) add(f Fact) { e.Evidence = append(e.Evidence, f) }

// addCost reckons the share of a CPU that the calls cost the thread that waits on the set: by the samples in
// which it was in a call that reads or writes, or, without samples, as if all its calls cost the same.
func (in *input) addCost(e *Inefficiency, set int) {
	t := in.threadOn(set)
	if t == nil {
		e.Unknown = append(e.Unknown, "the share of a CPU that they cost: the thread is not known")
		return
	}
	e.TID = t.TID
	cpu, ok := t.CPU(in.Window.Length()).Get()
	calls, counted := t.Calls.Get()
	if !ok || !counted || calls == 0 {
		e.Unknown = append(e.Unknown, "the share of a CPU that they cost")
		return
	}
	if part, ok := in.inTransfers(t.TID); ok {
		e.CPU = evidence.Know(cpu * part * min(1, share(e.Calls, in.transfers(set))))
		e.By = sourceSamples
		return
	}
	e.CPU, e.By = evidence.Know(cpu*min(1, share(e.Calls, calls+waitsOf(t)))), "call counts"
}

// threadOn returns the thread that waited on a set, nil when there was none or several.
func (in *input) threadOn(set int) *evidence.Thread {
	var found *evidence.Thread
	for i := range in.Window.Threads {
		t := &in.Window.Threads[i]
		for j := range t.Sets {
			if t.Sets[j].FD != set || t.Sets[j].Waits.Total() == 0 {
				continue
			}
			if found != nil {
				return nil
			}
			found = t
		}
	}
	return found
}

// transfers is how many calls read or wrote the descriptors of a set.
func (in *input) transfers(set int) uint64 {
	var n uint64
	for i := range in.Window.Descriptors {
		if d := &in.Window.Descriptors[i]; d.EpollFD == set || d.EpollFD < 0 {
			n += d.Read.Calls + d.Write.Calls
		}
	}
	return max(n, 1)
}

// inTransfers is the part of a thread's samples in which it was in a call that reads or writes; false without
// samples of the kernel's side.
func (in *input) inTransfers(tid int) (float64, bool) {
	if in.Window.Samples == nil {
		return 0, false
	}
	var all, inside uint64
	for i := range in.Window.Samples.Stacks {
		s := &in.Window.Samples.Stacks[i]
		if s.TID != tid {
			continue
		}
		all += s.Count
		if slices.ContainsFunc(s.Kernel, transfersBytes) {
			inside += s.Count
		}
	}
	if all == 0 || inside == 0 {
		return 0, false
	}
	return share(inside, all), true
}

// transfersBytes reports whether a function of the kernel is the entry of a call that reads or writes.
func transfersBytes(f evidence.Frame) bool {
	_, name, found := strings.Cut(f.Function, "sys_")
	return found && (strings.HasPrefix(name, "read") || strings.HasPrefix(name, "write") ||
		strings.HasPrefix(name, "recv") || strings.HasPrefix(name, "send"))
}

// morsels is the rule for B4 when only the process itself counts: streams that read a few bytes at a time,
// many times for one event.
func (in *input) morsels() []Inefficiency {
	if in.Before == nil || in.After == nil {
		return nil
	}
	e := Inefficiency{Class: B4, Unknown: []string{"the share of a CPU that they cost"}}
	for i := range in.After.Streams {
		s := &in.After.Streams[i]
		before := in.listedBefore(s.ID)
		if before == nil {
			continue
		}
		now := [...]evidence.Observed[evidence.Side]{s.ClientSide, s.ServerSide}
		then := [...]evidence.Observed[evidence.Side]{before.ClientSide, before.ServerSide}
		bytes := [...]uint64{s.Request.Total - before.Request.Total, s.Response.Total - before.Response.Total}
		for side, fd := range [...]int{s.ClientFD, s.ServerFD} {
			n, ok1 := now[side].Get()
			b, ok2 := then[side].Get()
			if !ok1 || !ok2 || n.Reads < b.Reads || n.Events < b.Events {
				continue
			}
			reads := n.Reads - b.Reads - min(n.Reads-b.Reads, n.ReadsAgain-b.ReadsAgain)
			if float64(reads) < leastTiny*in.seconds() || reads < tinyPerEvent*max(1, n.Events-b.Events) ||
				bytes[side] > reads*16 || bytes[side] == 0 || len(e.Descriptors) == maxStreams {
				continue
			}
			e.Calls, e.Bytes = e.Calls+reads, e.Bytes+bytes[side]
			e.Descriptors, e.Streams = append(e.Descriptors, fd), append(e.Streams, s)
		}
	}
	if e.Calls == 0 {
		return nil
	}
	e.add(Fact{
		Text:  fmt.Sprintf("reads that moved %.1f bytes each, many for each event", share(e.Bytes, e.Calls)),
		Count: evidence.Know(e.Calls), Source: sourceLedger,
	})
	return []Inefficiency{e}
}
