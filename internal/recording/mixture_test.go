package recording

import (
	"slices"
	"time"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/evidence"
)

// apart is by how much the numbers of what is mixed in differ from those that are there.
const apart = 10_000

// mixed adds what another process, one that is in order, does: its threads, descriptors, destinations and
// streams.
func mixed(m *mutant) {
	if m.Window == nil {
		return
	}
	other := clone(m.healthy[m.IntN(len(m.healthy))])
	if other.Window == nil || slices.ContainsFunc(m.Window.Threads, func(t evidence.Thread) bool {
		return t.TID >= apart*100
	}) {
		return // there is nothing, or others have been mixed in
	}
	numberAll(other, func(fd int) int {
		if fd < 0 {
			return fd
		}
		return fd + apart
	})
	w := other.Window
	// It went on for as long as the window is, at its own speed.
	factor := float64(m.Window.Length()) / float64(w.Length())
	m.lengths(w, factor)
	(&mutant{Case: other}).counts(times(factor))
	for i := range w.Threads {
		w.Threads[i].TID += apart * 100
	}
	for i := range w.Descriptors {
		for j := range w.Descriptors[i].Deliverers {
			w.Descriptors[i].Deliverers[j].TID += apart * 100
		}
	}
	m.Window.Threads = append(m.Window.Threads, w.Threads...)
	m.Window.Descriptors = append(m.Window.Descriptors, w.Descriptors...)
	m.Window.Destinations = append(m.Window.Destinations, w.Destinations...)
	m.Window.Resets = append(m.Window.Resets, w.Resets...)
	if m.Window.Samples != nil && w.Samples != nil {
		for _, s := range w.Samples.Stacks {
			s.TID += apart * 100
			m.Window.Samples.Stacks = append(m.Window.Samples.Stacks, s)
		}
	}
	join(m.Before, other.Before)
	join(m.After, other.After)
}

// times returns a change of counts.
func times(factor float64) func(uint64) uint64 {
	return func(n uint64) uint64 { return uint64(float64(n) * factor) }
}

// served adds what another process, one that is in order, does, to what the busiest loop does: so much that
// it would be noticed by its clients, and so little that the loop could do a hundred times as much.
func served(m *mutant) {
	into, set := busiestLoop(m.Window)
	other := clone(m.healthy[m.IntN(len(m.healthy))])
	from, otherSet := busiestLoop(other.Window)
	if into == nil || from == nil || from.Progress.Or(0) == 0 {
		return
	}
	taken := map[int]bool{}
	for i := range m.Window.Descriptors {
		taken[m.Window.Descriptors[i].FD] = true
	}
	factor := (0.001 + 0.01*m.Float64()) * float64(set.Waits.Total()) / float64(from.Progress.Or(0))
	(&mutant{Case: other}).counts(times(factor))
	set.Waits.Add(&otherSet.Waits)
	set.Events += otherSet.Events
	into.Calls, into.Progress = sum(into.Calls, from.Calls), sum(into.Progress, from.Progress)
	for _, d := range other.Window.Descriptors {
		if d.EpollFD != otherSet.FD || taken[d.FD+2*apart] {
			continue
		}
		d.FD, d.EpollFD, d.Deliverers = d.FD+2*apart, set.FD, nil
		m.Window.Descriptors = append(m.Window.Descriptors, d)
	}
}

// busiestLoop returns the thread and the set with the most waits, nil for none.
func busiestLoop(w *evidence.Window) (thread *evidence.Thread, set *evidence.EpollSet) {
	if w == nil {
		return nil, nil
	}
	for i := range w.Threads {
		for j := range w.Threads[i].Sets {
			s := &w.Threads[i].Sets[j]
			if s.Owner != evidence.OwnerRuntime && (set == nil || s.Waits.Total() > set.Waits.Total()) {
				thread, set = &w.Threads[i], s
			}
		}
	}
	return thread, set
}

// join adds the workers and streams of a snapshot to another.
func join(s, other *evidence.Snapshot) {
	if s == nil || other == nil {
		return
	}
	for _, w := range other.Workers {
		w.TID, w.Index = w.TID+apart*100, w.Index+apart
		s.Workers = append(s.Workers, w)
	}
	for _, v := range other.Streams {
		v.ID, v.Worker = "other-"+v.ID, v.Worker+apart
		s.Streams = append(s.Streams, v)
	}
	s.StreamCount += other.StreamCount
}

// merged has two threads counted as one.
func merged(m *mutant) {
	if m.Window == nil || len(m.Window.Threads) < 2 {
		return
	}
	m.lost = true
	order := m.Perm(len(m.Window.Threads))
	a, b := &m.Window.Threads[order[0]], m.Window.Threads[order[1]]
	for _, o := range []struct {
		a, b *evidence.Observed[time.Duration]
	}{
		{&a.Run, &b.Run}, {&a.Queued, &b.Queued}, {&a.User, &b.User}, {&a.System, &b.System},
	} {
		*o.a = sum(*o.a, *o.b)
	}
	for _, o := range []struct{ a, b *evidence.Observed[uint64] }{
		{&a.VoluntarySwitches, &b.VoluntarySwitches}, {&a.InvoluntarySwitches, &b.InvoluntarySwitches},
		{&a.Calls, &b.Calls}, {&a.Yields, &b.Yields}, {&a.Futexes, &b.Futexes}, {&a.Progress, &b.Progress},
	} {
		*o.a = sum(*o.a, *o.b)
	}
	a.Runnable = a.Runnable || b.Runnable
	for _, s := range b.Sets {
		at := slices.IndexFunc(a.Sets, func(v evidence.EpollSet) bool { return v.FD == s.FD })
		if at < 0 {
			a.Sets = append(a.Sets, s)
			continue
		}
		into := &a.Sets[at]
		into.Waits.Add(&s.Waits)
		into.Events += s.Events
		into.Slept = sum(into.Slept, s.Slept)
	}
	into := a.TID
	m.Window.Threads = slices.Delete(m.Window.Threads, order[1], order[1]+1)
	for i := range m.Window.Descriptors {
		for j := range m.Window.Descriptors[i].Deliverers {
			if v := &m.Window.Descriptors[i].Deliverers[j]; v.TID == b.TID {
				v.TID = into
			}
		}
	}
	if m.Window.Samples != nil {
		for i := range m.Window.Samples.Stacks {
			if s := &m.Window.Samples.Stacks[i]; s.TID == b.TID {
				s.TID = into
			}
		}
	}
}

// sum adds two values, of which both must be known.
func sum[T uint64 | time.Duration](a, b evidence.Observed[T]) evidence.Observed[T] {
	x, ok1 := a.Get()
	y, ok2 := b.Get()
	if !ok1 || !ok2 {
		return evidence.Observed[T]{}
	}
	return evidence.Know(x + y)
}

// field is something that may not have been observed.
type field struct {
	name string
	// lose takes it away.
	lose func(m *mutant)
	// decides reports whether a class cannot be told, or its culprit, without it.
	decides func(class correlate.Class) bool
}

func always(correlate.Class) bool { return true }
func never(correlate.Class) bool  { return false }

// decisive decides for some classes.
func decisive(classes ...correlate.Class) func(correlate.Class) bool {
	return func(class correlate.Class) bool { return slices.Contains(classes, class) }
}

// thread takes something of one thread away.
func thread(lose func(*evidence.Thread)) func(*mutant) {
	return func(m *mutant) {
		if m.Window != nil && len(m.Window.Threads) > 0 {
			lose(&m.Window.Threads[m.IntN(len(m.Window.Threads))])
		}
	}
}

// window takes something of the window away.
func window(lose func(*evidence.Window)) func(*mutant) {
	return func(m *mutant) {
		if m.Window != nil {
			lose(m.Window)
		}
	}
}

type (
	number = evidence.Observed[uint64]
	length = evidence.Observed[time.Duration]
)

var fields = []field{
	{"the kernel's view", func(m *mutant) { m.Window = nil }, always},
	{"the state before", func(m *mutant) { m.Before = nil }, always},
	{"the state after", func(m *mutant) { m.After = nil }, always},
	{"the state", func(m *mutant) { m.Before, m.After = nil, nil }, always},
	{"run", thread(func(t *evidence.Thread) { t.Run = length{} }), always},
	{"queued", thread(func(t *evidence.Thread) { t.Queued = length{} }), always},
	{"user", thread(func(t *evidence.Thread) { t.User = length{} }), decisive("B1", "B3")},
	{"system", thread(func(t *evidence.Thread) { t.System = length{} }), decisive("B1", "B3")},
	{"voluntary switches", thread(func(t *evidence.Thread) { t.VoluntarySwitches = number{} }), always},
	{"involuntary switches", thread(func(t *evidence.Thread) { t.InvoluntarySwitches = number{} }), never},
	{"calls", thread(func(t *evidence.Thread) { t.Calls = number{} }), decisive("B1", "B2", "B3")},
	{"yields", thread(func(t *evidence.Thread) { t.Yields = number{} }), decisive("B2")},
	{"futexes", thread(func(t *evidence.Thread) { t.Futexes = number{} }), decisive("B2")},
	{"progress", thread(func(t *evidence.Thread) { t.Progress = number{} }), always},
	{"waits on", thread(func(t *evidence.Thread) { t.WaitsOn = evidence.Observed[int]{} }), decisive("B1")},
	{"slept", thread(func(t *evidence.Thread) {
		for i := range t.Sets {
			t.Sets[i].Slept = number{}
		}
	}), always},
	{"name", thread(func(t *evidence.Thread) { t.Name = "" }), never},
	{"one socket", func(m *mutant) {
		if m.Window != nil && len(m.Window.Descriptors) > 0 {
			d := &m.Window.Descriptors[m.IntN(len(m.Window.Descriptors))]
			d.Socket, d.Before = evidence.Observed[evidence.Socket]{}, evidence.Observed[evidence.Socket]{}
		}
	}, always},
	{"all sockets", window(func(w *evidence.Window) {
		for i := range w.Descriptors {
			w.Descriptors[i].Socket = evidence.Observed[evidence.Socket]{}
			w.Descriptors[i].Before = evidence.Observed[evidence.Socket]{}
		}
		w.Hooks.Files = evidence.Observed[string]{}
	}), always},
	{"system calls", window(func(w *evidence.Window) {
		w.Hooks.Syscall, w.Destinations = evidence.Observed[string]{}, nil
		for i := range w.Threads {
			t := &w.Threads[i]
			t.Calls, t.Yields, t.Futexes, t.Progress = number{}, number{}, number{}, number{}
			t.Rings, t.Forks, t.Polls, t.Sets = number{}, number{}, evidence.Observed[evidence.Waits]{}, nil
		}
		for i := range w.Descriptors {
			d := &w.Descriptors[i]
			*d = evidence.Descriptor{FD: d.FD, EpollFD: -1, Socket: d.Socket, Before: d.Before}
		}
	}), always},
	{"samples", window(func(w *evidence.Window) { w.Samples = nil }), decisive("B1", "B2", "B3")},
	{"resets", window(func(w *evidence.Window) { w.Resets = nil }), never},
	{"traffic", window(func(w *evidence.Window) {
		w.Traffic = evidence.Observed[evidence.Traffic]{}
	}), never},
	{"the row", window(func(w *evidence.Window) {
		for i := range w.Descriptors {
			w.Descriptors[i].Row = 0
		}
	}), always},
	{"established", window(func(w *evidence.Window) {
		for i := range w.Destinations {
			w.Destinations[i].Established = number{}
		}
	}), decisive("C1")},
	{"progress of streams", func(m *mutant) {
		for _, s := range m.snapshots() {
			for i := range s.Streams {
				s.Streams[i].NoProgress = number{}
			}
		}
	}, always},
	{"timers", func(m *mutant) {
		for _, s := range m.snapshots() {
			for i := range s.Streams {
				s.Streams[i].Timers, s.Streams[i].TimersUnknown = nil, true
			}
		}
	}, always},
}

// unobserved takes one field away.
func unobserved(m *mutant) {
	f := fields[m.IntN(len(fields))]
	f.lose(m)
	m.lost = m.lost || f.decides(m.class)
}
