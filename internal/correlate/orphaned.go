package correlate

import (
	"fmt"

	"github.com/whyspin/whyspin/internal/evidence"
)

// orphaned is the rule for T3 and T3i: a stream that is a half-state which no branch of its program
// handles. One side is closed, the other established or still connecting, and both channels are shut, so
// nothing will ever move it. The deciding fact between the two is a timer: armed and overdue it is woken
// for ever (T3), without any it is immortal and costs nothing (T3i).
func orphaned(in *input) []Finding {
	if in.After == nil {
		return nil
	}
	var found []Finding
	for i := range in.After.Streams {
		s := &in.After.Streams[i]
		if !isOrphan(s) {
			continue
		}
		if f, ok := in.orphan(s); ok {
			found = append(found, f)
		}
	}
	return found
}

// orphan tells the spinning from the idle.
func (in *input) orphan(s *evidence.Stream) (Finding, bool) {
	climbed, known := in.climbed(s)
	timer, overdue := s.Overdue(in.After.At)
	class := T3
	if !s.Armed() && (!s.TimersUnknown || known && climbed == 0) {
		class = T3i
	}
	f := in.finding(class, s)
	f.add(orphanFact(s))
	switch {
	case overdue && (!known || climbed > 0):
		in.addOverdue(&f, &timer)
		in.addClimb(&f, s)
		in.addWaits(&f)
	case s.TimersUnknown && !s.Armed():
		if !known {
			return Finding{}, false // it may spin, and it may be idle
		}
		f.Idle = climbed == 0
		f.Unknown = append(f.Unknown, "its timers: the process does not say whether any is armed")
		in.addClimb(&f, s)
		if climbed > 0 {
			in.addWaits(&f)
		}
	case !s.Armed() && (!known || climbed < in.leastClimb()):
		f.Idle = true
		f.add(Fact{
			Text: "no timer of the stream is armed: nothing will ever wake it", Source: sourceState,
			Weight: 0.7,
		})
		in.addClimb(&f, s)
	case !overdue && s.Armed() && (!known || climbed < in.leastClimb()):
		f.Idle = true
		next := s.Next()
		f.add(Fact{
			Text: fmt.Sprintf("the %s timer passes in %s; from then on the stream will be woken for ever",
				next.Name,
				seconds(next.Deadline.Sub(in.After.At))),
			Source: sourceState, Weight: 0.7,
		})
		in.addClimb(&f, s)
	default:
		return Finding{}, false
	}
	in.addSilence(&f, s)
	return f, true
}

// isOrphan is the deciding fact of the rule.
func isOrphan(s *evidence.Stream) bool {
	clientClosed, serverClosed := s.ClientState == "CLO", s.ServerState == "CLO"
	if clientClosed == serverClosed {
		return false
	}
	open := s.ServerState
	if serverClosed {
		open = s.ClientState
	}
	if open != "EST" && open != "CON" {
		return false
	}
	return s.Request.InShut && s.Request.OutShut && s.Response.InShut && s.Response.OutShut
}

func orphanFact(s *evidence.Stream) Fact {
	return Fact{
		Text: fmt.Sprintf("client side %s, server side %s, both channels shut both ways",
			s.ClientState, s.ServerState),
		Source: sourceState, Weight: 0.6,
	}
}

// addOverdue enters the timer that has passed.
func (in *input) addOverdue(f *Finding, timer *evidence.Timer) {
	f.Timer = &Timer{Name: timer.Name, Overdue: timer.OverdueBy(in.After.At)}
	text := fmt.Sprintf("the %s timer has passed and is still armed", timer.Name)
	if by, ok := f.Timer.Overdue.Get(); ok {
		text = fmt.Sprintf("the %s timer is overdue by %s and still armed", timer.Name, seconds(by))
	} else {
		f.Unknown = append(f.Unknown, fmt.Sprintf("by how much the %s timer is overdue", timer.Name))
	}
	f.add(Fact{Text: text, Source: sourceState, Weight: 0.6})
}
