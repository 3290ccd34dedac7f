package correlate

// pastDue is the rule for T1: a stream whose timer has passed and that runs again and again without
// disarming it or moving it on. The deciding fact is a deadline in the past on a stream whose wakeups
// climb. A half-state that explains it is class T3.
func pastDue(in *input) []Finding {
	if in.After == nil {
		return nil
	}
	var found []Finding
	for i := range in.After.Streams {
		s := &in.After.Streams[i]
		timer, overdue := s.Overdue(in.After.At)
		climbed, known := in.climbed(s)
		// A stream that is merely late, on a worker that is busy with others, runs once and is in order
		// again.
		if !overdue || isOrphan(s) || !known || climbed < in.leastClimb() || !in.chargedAlways(s, climbed) {
			continue
		}
		f := in.finding(T1, s)
		in.addOverdue(&f, &timer)
		in.addClimb(&f, s)
		in.addWaits(&f)
		in.addSilence(&f, s)
		found = append(found, f)
	}
	return found
}
