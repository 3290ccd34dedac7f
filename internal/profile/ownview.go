package profile

import (
	"cmp"
	"slices"

	"github.com/google/pprof/profile"

	"github.com/whyspin/whyspin/internal/evidence"
)

// pair is a worker before and after the window.
type pair struct{ before, after *evidence.Worker }

// workers returns the workers of the process as it describes them itself, none when it did not both times.
func (b *builder) workers() (all []pair) {
	if b.c.Before == nil || b.c.After == nil {
		return nil
	}
	for i := range b.c.After.Workers {
		after := &b.c.After.Workers[i]
		n := slices.IndexFunc(b.c.Before.Workers,
			func(w evidence.Worker) bool { return w.Index == after.Index })
		if n >= 0 {
			all = append(all, pair{&b.c.Before.Workers[n], after})
		}
	}
	return all
}

// since is what a counter counted since it had another value. One that has gone back began anew.
func since(after, before uint64) uint64 {
	if after < before {
		return after
	}
	return after - before
}

// addStreams adds the wakeups of the streams that the process lists, and what is left of its workers' under a
// frame for all others.
func (b *builder) addStreams() {
	if b.c.Before == nil || b.c.After == nil {
		return
	}
	wakeups, noProgress := map[int]uint64{}, map[int]uint64{} // by worker
	for i := range b.c.After.Streams {
		s := &b.c.After.Streams[i]
		w, n := b.wakeups(s)
		wakeups[s.Worker] += w
		noProgress[s.Worker] += n
		l := b.ofStream(s)
		stack := b.streamFrames(s)
		if s.Cause != "" {
			stack = append([]*profile.Location{b.synthetic("cause " + s.Cause)}, stack...)
		}
		b.add(valueWakeups, w, l, stack...)
		b.add(valueNoProgress, n, l, stack...)
	}
	for _, w := range b.workers() {
		l, other, thread := b.ofThread(w.after.TID), b.synthetic(frameOther), b.thread(w.after.TID)
		rest := func(after, before, listed uint64) uint64 {
			all := since(after, before)
			return all - min(all, listed)
		}
		b.add(valueWakeups, rest(w.after.Wakeups, w.before.Wakeups, wakeups[w.after.Index]), l, other, thread)
		b.add(valueNoProgress, rest(w.after.NoProgress, w.before.NoProgress, noProgress[w.after.Index]), l,
			other, thread)
	}
}

// wakeups returns how often a stream was woken in the window, and how often without progress. The process
// lists only streams that are suspect: of one that was not listed before, and is older than that, it is only
// known that the row of wakeups without progress that it is in now is made of wakeups.
func (b *builder) wakeups(s *evidence.Stream) (all, noProgress uint64) {
	noProgress = s.NoProgress.Or(0)
	began := b.c.Before.At
	i := slices.IndexFunc(b.c.Before.Streams, func(o evidence.Stream) bool { return o.ID == s.ID })
	if i < 0 {
		if b.c.After.At.Sub(began) >= s.Age {
			return s.Calls, noProgress
		}
		return noProgress, noProgress
	}
	before := &b.c.Before.Streams[i]
	if before.NoProgressSince == s.NoProgressSince {
		noProgress = since(noProgress, before.NoProgress.Or(0))
	}
	return since(s.Calls, before.Calls), noProgress
}

// streamFrames are the frames of a stream, innermost first.
func (b *builder) streamFrames(s *evidence.Stream) []*profile.Location {
	stack := []*profile.Location{b.synthetic("stream " + s.ID)}
	for _, part := range []struct{ kind, name string }{{"server", s.Server}, {"backend", s.Backend},
		{"frontend", s.Frontend}} {
		// A stream that has no server yet has a frame for it, so that all are equally deep.
		stack = append(stack, b.synthetic(part.kind+" "+cmp.Or(part.name, "none")))
	}
	return append(stack, b.thread(b.threadOf(s)))
}

// threadOf returns the thread of a stream's worker, 0 when it is not known.
func (b *builder) threadOf(s *evidence.Stream) int {
	for _, snapshot := range []*evidence.Snapshot{b.c.After, b.c.Before} {
		if snapshot == nil {
			continue
		}
		for i := range snapshot.Workers {
			if snapshot.Workers[i].Index == s.Worker {
				return snapshot.Workers[i].TID
			}
		}
	}
	return 0
}

// ofStream returns the labels of a stream, none for nil.
func (b *builder) ofStream(s *evidence.Stream) labels {
	if s == nil {
		return labels{}
	}
	l := b.ofThread(b.threadOf(s))
	l["stream"], l["frontend"], l["backend"], l["server"] = s.ID, s.Frontend, s.Backend, s.Server
	l["destination"] = s.Upstream
	return l
}
