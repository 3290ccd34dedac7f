package recording

import (
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/evidence"
)

// mutant is a recording that is being changed.
type mutant struct {
	*evidence.Case
	*rand.Rand
	class correlate.Class
	// healthy are the cases from which unrelated traffic is taken.
	healthy []*evidence.Case
	// numbers are those that the descriptors have now, by the ones that they had. The others are the same.
	numbers map[int]int
	// lost is true exactly when a fact may be gone without which nobody could tell.
	lost bool
}

// mutation changes a mutant in one way.
type mutation struct {
	name   string
	change func(m *mutant)
}

var mutations = []mutation{
	{"counts scaled", scaled},
	{"counts jittered", jittered},
	{"window stretched", stretched},
	{"a field not observed", unobserved},
	{"threads merged", merged},
	{"unrelated traffic added", mixed},
	{"healthy traffic in the same loop", served},
	{"descriptors renumbered", renumbered},
	{"order shuffled", shuffled},
	{"calls lost", bereft},
}

// scaled has everything counted happen so many times as often, as on a faster or slower machine.
func scaled(m *mutant) {
	factors := []float64{0.5, 0.7, 1.5, 3, 10}
	factor := factors[m.IntN(len(factors))]
	// These two stand on how long one call takes, and how many there are in a second.
	m.lost = m.lost || m.class == correlate.B3 || m.class == correlate.B2 && factor < 1 ||
		factor < 1 && m.few()
	m.counts(times(factor))
}

// few reports whether there is hardly more counted than it takes to say anything.
func (m *mutant) few() bool {
	if m.Window == nil {
		return false
	}
	for i := range m.Window.Threads {
		for j := range m.Window.Threads[i].Sets {
			if m.Window.Threads[i].Sets[j].Waits.Total() > 1000 {
				return false
			}
		}
	}
	return true
}

// jittered changes each count a little, by itself.
func jittered(m *mutant) {
	m.lost = m.lost || m.few()
	m.counts(func(n uint64) uint64 { return uint64(float64(n) * (0.9 + 0.2*m.Float64())) })
}

// stretched has the same happen for longer or shorter: lengths and counts go together.
func stretched(m *mutant) {
	factors := []float64{0.5, 0.8, 2, 5}
	factor := factors[m.IntN(len(factors))]
	m.lost = m.lost || factor < 1 && m.few()
	if m.Window != nil {
		m.Window.End = m.Window.Start.Add(time.Duration(float64(m.Window.Length()) * factor))
		m.lengths(m.Window, factor)
	}
	m.counts(times(factor))
	if m.Before != nil && m.After != nil {
		m.Before.At = m.After.At.Add(-time.Duration(float64(m.After.At.Sub(m.Before.At)) * factor))
	}
}

// lengths scales the times of the threads of a window.
func (m *mutant) lengths(w *evidence.Window, factor float64) {
	for i := range w.Threads {
		t := &w.Threads[i]
		for _, o := range []*evidence.Observed[time.Duration]{&t.Run, &t.Queued, &t.User, &t.System} {
			if v, known := o.Get(); known {
				*o = evidence.Know(time.Duration(float64(v) * factor))
			}
		}
	}
}

// counts changes everything that was counted.
func (m *mutant) counts(change func(uint64) uint64) {
	if m.Window != nil {
		for i := range m.Window.Threads {
			countsOfThread(&m.Window.Threads[i], change)
		}
		for i := range m.Window.Descriptors {
			countsOfDescriptor(&m.Window.Descriptors[i], change)
		}
		for i := range m.Window.Destinations {
			d := &m.Window.Destinations[i]
			each(change, &d.Connects, &d.Refused, &d.Failed, &d.Pending)
			ifKnown(change, &d.Established)
		}
		if s := m.Window.Samples; s != nil {
			for i := range s.Stacks {
				each(change, &s.Stacks[i].Count)
			}
		}
	}
	if m.Before != nil && m.After != nil {
		m.climbs(change)
	}
}

// climbs changes by how much the process's own counters climbed.
func (m *mutant) climbs(change func(uint64) uint64) {
	for i := range m.After.Streams {
		a := &m.After.Streams[i]
		for j := range m.Before.Streams {
			if b := &m.Before.Streams[j]; b.ID == a.ID {
				climb(change, reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem())
			}
		}
	}
	for i := range m.After.Workers {
		a := &m.After.Workers[i]
		for j := range m.Before.Workers {
			if b := &m.Before.Workers[j]; b.Index == a.Index {
				climb(change, reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem())
			}
		}
	}
}

// climb changes by how much the counters of a are above those of b.
func climb(change func(uint64) uint64, a, b reflect.Value) {
	switch into := a.Addr().Interface().(type) {
	case *evidence.Observed[uint64]:
		climbKnown(change, into, b)
		return
	case *evidence.Observed[evidence.Side]:
		climbKnown(change, into, b)
		return
	case *evidence.Observed[evidence.ZeroTimeouts]:
		climbKnown(change, into, b)
		return
	case *evidence.IO:
		from := b.Interface().(evidence.IO)
		quiet := into.Again + into.Zero + into.Reset + into.Pipe + into.Errors
		rest := into.Calls - min(into.Calls, quiet)
		quietBefore := from.Again + from.Zero + from.Reset + from.Pipe + from.Errors
		restBefore := from.Calls - min(from.Calls, quietBefore)
		climbParts(change, &rest, restBefore, &into.Again, from.Again, &into.Zero, from.Zero)
		climbParts(change, &into.Errors, from.Errors, &into.Reset, from.Reset, &into.Pipe, from.Pipe)
		into.Calls = rest + into.Again + into.Zero + into.Reset + into.Pipe + into.Errors
		return
	case *evidence.Side:
		from := b.Interface().(evidence.Side)
		reads, readsBefore := into.Reads-into.ReadsAgain, from.Reads-from.ReadsAgain
		writes, writesBefore := into.Writes-into.WritesAgain, from.Writes-from.WritesAgain
		climbParts(change, &reads, readsBefore, &into.ReadsAgain, from.ReadsAgain, &into.Events, from.Events)
		climbParts(change, &writes, writesBefore, &into.WritesAgain, from.WritesAgain, &into.Row, from.Row)
		into.Reads, into.Writes = reads+into.ReadsAgain, writes+into.WritesAgain
		return
	case *uint64:
		climbParts(change, into, b.Uint(), new(uint64), 0, new(uint64), 0)
		return
	}
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			if !a.Field(i).CanSet() {
				break // another Observed: no count
			}
			climb(change, a.Field(i), b.Field(i))
		}
	case reflect.Array:
		for i := range a.Len() {
			climb(change, a.Index(i), b.Index(i))
		}
	}
}

// climbParts changes three counters that belong together.
func climbParts(change func(uint64) uint64, a *uint64, a0 uint64, b *uint64, b0 uint64, c *uint64,
	c0 uint64) {
	for _, v := range []struct {
		now    *uint64
		before uint64
	}{{a, a0}, {b, b0}, {c, c0}} {
		if *v.now > v.before {
			*v.now = v.before + change(*v.now-v.before)
		}
	}
}

func climbKnown[T any](change func(uint64) uint64, into *evidence.Observed[T], b reflect.Value) {
	from := b.Interface().(evidence.Observed[T])
	now, ok1 := into.Get()
	before, ok2 := from.Get()
	if ok1 && ok2 {
		climb(change, reflect.ValueOf(&now).Elem(), reflect.ValueOf(&before).Elem())
		*into = evidence.Know(now)
	}
}

func each(change func(uint64) uint64, counts ...*uint64) {
	for _, n := range counts {
		*n = change(*n)
	}
}

func ifKnown(change func(uint64) uint64, counts ...*evidence.Observed[uint64]) {
	for _, o := range counts {
		if n, known := o.Get(); known {
			*o = evidence.Know(change(n))
		}
	}
}

func countsOfThread(t *evidence.Thread, change func(uint64) uint64) {
	ifKnown(change, &t.VoluntarySwitches, &t.InvoluntarySwitches, &t.Calls, &t.Yields, &t.Futexes,
		&t.Progress)
	for i := range t.Sets {
		s := &t.Sets[i]
		for timeout := range s.Waits {
			for result := range s.Waits[timeout] {
				each(change, &s.Waits[timeout][result])
			}
		}
		ifKnown(change, &s.Slept)
		each(change, &s.Events, &s.Unattributed, &s.Ambiguous)
	}
}

func countsOfDescriptor(d *evidence.Descriptor, change func(uint64) uint64) {
	for i := range d.Deliveries {
		each(change, &d.Deliveries[i].Count)
	}
	for i := range d.Deliverers {
		each(change, &d.Deliverers[i].Count, &d.Deliverers[i].Calls)
	}
	for _, io := range []*evidence.IO{&d.Read, &d.Write} {
		// The parts of the calls first, so that their sum never exceeds them.
		before := io.Calls
		parts := []*uint64{&io.Zero, &io.Again, &io.Reset, &io.Pipe, &io.Errors}
		for _, n := range parts {
			before -= min(before, *n)
		}
		moved := change(before)
		each(change, parts...)
		each(change, &io.Tiny, &io.Bytes)
		io.Calls = moved + io.Zero + io.Again + io.Reset + io.Pipe + io.Errors
		io.Tiny = min(io.Tiny, moved)
	}
	each(change, &d.OtherDeliveries, &d.Accepts, &d.AcceptErrors, &d.Connects, &d.Closes, &d.Shutdowns,
		&d.Controls, &d.Dups, &d.Passed, &d.Stale)
	if d.Row > 1 {
		d.Row = max(1, min(change(d.Row), d.Delivered()))
	}
}

// bereft has the probes lose some of the calls.
func bereft(m *mutant) {
	if m.Window == nil {
		return
	}
	m.lost = true
	n := m.Uint64N(1 << m.IntN(30))
	l := &m.Window.Losses
	losses := []*uint64{&l.BeyondTable, &l.FullMaps, &l.ProgramMisses, &l.CompatCalls, &l.UnreadEvents,
		&l.UnattributedEvents}
	*losses[m.IntN(len(losses))] = n
}

// shuffled changes the order of everything that has none.
func shuffled(m *mutant) {
	if w := m.Window; w != nil {
		shuffle(m.Rand, w.Threads)
		shuffle(m.Rand, w.Descriptors)
		shuffle(m.Rand, w.Destinations)
		shuffle(m.Rand, w.Resets)
		for i := range w.Threads {
			shuffle(m.Rand, w.Threads[i].Sets)
		}
		for i := range w.Descriptors {
			shuffle(m.Rand, w.Descriptors[i].Deliveries)
			shuffle(m.Rand, w.Descriptors[i].Deliverers)
		}
		if w.Samples != nil {
			shuffle(m.Rand, w.Samples.Stacks)
		}
	}
	for _, s := range m.snapshots() {
		shuffle(m.Rand, s.Workers)
		shuffle(m.Rand, s.Streams)
		for i := range s.Streams {
			shuffle(m.Rand, s.Streams[i].Timers)
		}
	}
}

func shuffle[T any](r *rand.Rand, list []T) {
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
}

func (m *mutant) snapshots() (all []*evidence.Snapshot) {
	for _, s := range []*evidence.Snapshot{m.Before, m.After} {
		if s != nil {
			all = append(all, s)
		}
	}
	return all
}

// renumbered gives each descriptor another number.
func renumbered(m *mutant) {
	const most = 4096
	order := m.Perm(most)
	number := func(fd int) int {
		if fd < 0 || fd >= most {
			return fd
		}
		return order[fd]
	}
	numbers := map[int]int{}
	for fd := range most {
		now, changed := m.numbers[fd]
		if !changed {
			now = fd
		}
		numbers[fd] = number(now)
	}
	m.numbers = numbers
	numberAll(m.Case, number)
}

// numberAll replaces the numbers of the descriptors of a case.
func numberAll(c *evidence.Case, number func(int) int) {
	if c.Window != nil {
		for i := range c.Window.Threads {
			t := &c.Window.Threads[i]
			if fd, known := t.WaitsOn.Get(); known {
				t.WaitsOn = evidence.Know(number(fd))
			}
			for j := range t.Sets {
				t.Sets[j].FD = number(t.Sets[j].FD)
			}
		}
		for i := range c.Window.Descriptors {
			d := &c.Window.Descriptors[i]
			d.FD, d.EpollFD = number(d.FD), number(d.EpollFD)
			if s, known := d.Socket.Get(); known && s.Copy != 0 {
				s.Copy = number(s.Copy)
				d.Socket = evidence.Know(s)
			}
		}
	}
	for _, s := range []*evidence.Snapshot{c.Before, c.After} {
		if s == nil {
			continue
		}
		for i := range s.Workers {
			s.Workers[i].EpollFD = number(s.Workers[i].EpollFD)
		}
		for i := range s.Streams {
			s.Streams[i].ClientFD = number(s.Streams[i].ClientFD)
			s.Streams[i].ServerFD = number(s.Streams[i].ServerFD)
		}
		for i := range s.Listeners {
			s.Listeners[i].FD = number(s.Listeners[i].FD)
		}
		for i := range s.Claims {
			s.Claims[i].FD = number(s.Claims[i].FD)
		}
	}
}
