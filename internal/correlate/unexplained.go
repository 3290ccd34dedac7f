package correlate

import (
	"slices"

	"github.com/whyspin/whyspin/internal/evidence"
)

// unexplained is the rule for spins that no other rule recognises: a thread is awake all the time without
// progress, or a stream is woken for ever, and nothing says why. It never guesses a class.
func unexplained(in *input) []Finding {
	if in.busyPolling() {
		return nil
	}
	var found []Finding
	blamed := map[int]bool{}
	for _, s := range in.restless() {
		f := in.finding(Unknown, s)
		if in.about(s) || slices.ContainsFunc(f.threads, in.explained) {
			continue
		}
		for _, tid := range f.threads {
			blamed[tid] = true
		}
		in.addClimb(&f, s)
		in.addWaits(&f)
		in.addSilence(&f, s)
		in.addFunctions(&f)
		found = append(found, f)
	}
	for i := range in.loops {
		l := &in.loops[i]
		if !l.gated || in.explained(l.tid) || blamed[l.tid] || len(blamed) == 0 && len(found) > 0 {
			continue
		}
		blamed[l.tid] = true
		found = append(found, in.nameless(l.tid))
	}
	return found
}

// nameless is the finding about a thread of which nothing but its spinning is known.
func (in *input) nameless(tid int) Finding {
	f := Finding{Remedy: in.remedy(Unknown, nil), threads: []int{tid}}
	if in.asksNotToSleep(tid) {
		f.add(Fact{
			Text:   "the process asks not to sleep: its waits have a timeout of zero and return nothing",
			Source: sourceSyscalls,
		})
	}
	in.addWaits(&f)
	in.addFunctions(&f)
	if in.After == nil {
		f.Unknown = append(f.Unknown,
			"the state of its streams: without it T1, T3, T4, T5 and T7 look the same from the kernel")
	} else {
		f.Unknown = append(f.Unknown,
			"the stream to blame: none of those it reports is in a state that would explain it")
	}
	return f
}

// asksNotToSleep reports whether nearly all waits of a thread have a timeout of zero and return nothing: what
// all classes of the T family look like from the kernel.
func (in *input) asksNotToSleep(tid int) bool {
	for i := range in.loops {
		l := &in.loops[i]
		empty := l.waits[evidence.TimeoutZero][evidence.ResultNone]
		if l.tid == tid && l.gated && share(empty, l.waits.Total()) > 0.9 {
			return true
		}
	}
	return false
}

// about reports whether a finding is about the stream or one of its descriptors already.
func (in *input) about(s *evidence.Stream) bool {
	return slices.ContainsFunc(in.found, func(f Finding) bool {
		return f.Stream != nil && f.Stream.ID == s.ID
	})
}

// restless returns the streams that were woken all through the window without progress.
func (in *input) restless() []*evidence.Stream {
	if in.After == nil {
		return nil
	}
	var found []*evidence.Stream
	for i := range in.After.Streams {
		s := &in.After.Streams[i]
		climbed, known := in.climbed(s)
		if known && climbed >= in.leastClimb() && in.chargedAlways(s, climbed) {
			found = append(found, s)
		}
	}
	return found
}
