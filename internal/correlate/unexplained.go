package correlate

import "github.com/whyspin/whyspin/internal/evidence"

// unexplained is the rule for spins that no other rule recognises: a thread is awake all the time without
// progress, or a stream is woken for ever, and nothing says why. It never guesses a class.
func unexplained(in *input) []Finding {
	if in.explained || in.busyPolling() {
		return nil
	}
	suspects := in.restless()
	if !in.gated() && len(suspects) == 0 {
		return nil
	}
	var found []Finding
	for _, s := range suspects {
		f := in.finding(Unknown, s)
		in.addClimb(&f, s)
		in.addWaits(&f, s)
		in.addSilence(&f, s)
		found = append(found, f)
	}
	if len(found) > 0 {
		return found
	}
	f := Finding{Remedy: in.remedy(Unknown, nil)}
	in.addWaits(&f, nil)
	if in.After == nil {
		f.Unknown = append(f.Unknown,
			"the state of its streams: without it T1, T3, T4, T5 and T7 look the same from the kernel")
	} else {
		f.Unknown = append(f.Unknown,
			"the stream to blame: none of those it reports is in a state that would explain it")
	}
	return []Finding{f}
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
		if known && climbed >= leastClimb && in.chargedAlways(s, climbed) {
			found = append(found, s)
		}
	}
	return found
}
