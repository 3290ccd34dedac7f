package correlate

import (
	"fmt"

	"github.com/whyspin/whyspin/internal/evidence"
)

// acceptStall is the rule for F5: connections wait on a listener that stays armed, and none is accepted. The
// deciding fact is accept failing, or not being called at all.
func acceptStall(r *repeat) (Fact, bool) {
	// A call of accept tells a listener, too: of a unix socket, or when nothing is known of the descriptor.
	if r.socket.State != listening && (r.AcceptErrors == 0 || r.known && r.socket.Kind != "unix") {
		return Fact{}, false
	}
	fact := Fact{
		Text:  "calls of accept on the listener that failed",
		Count: evidence.Know(r.AcceptErrors), Source: sourceSyscalls, Weight: 0.8,
	}
	if r.AcceptErrors == 0 {
		fact.Text = "calls of accept on the listener, though connections wait"
	}
	return fact, true
}

// addListener enters the listener concerned, and what of it is not seen.
func (in *input) addListener(f *Finding, fd int, socket evidence.Observed[evidence.Socket]) {
	f.Listener = in.listenerOf(fd, socket)
	if !f.Listener.Waiting.IsKnown() {
		f.Unknown = append(f.Unknown, "how many connections wait on the listener")
	}
}

// listenerOf describes a listening socket.
func (in *input) listenerOf(fd int, socket evidence.Observed[evidence.Socket]) *Listener {
	l := &Listener{Number: fd}
	if s, known := socket.Get(); known && s.State == listening { // of unix sockets the queue is not seen
		l.Address, l.Waiting = s.Local, evidence.Know(s.ReceiveQueue)
		if s.Backlog > 0 {
			l.Backlog = evidence.Know(s.Backlog)
		}
	}
	if s := listenerIn(in.After, fd); s != nil {
		l.Address, l.Frontend, l.Limit, l.Error = s.Address, s.Frontend, s.Limit, s.Error
	}
	return l
}

func listenerIn(s *evidence.Snapshot, fd int) *evidence.Listener {
	if s == nil {
		return nil
	}
	for i := range s.Listeners {
		if s.Listeners[i].FD == fd {
			return &s.Listeners[i]
		}
	}
	return nil
}

// addLimit adds what the process says of its listener: the limit that is reached, and who has it armed.
func (in *input) addLimit(f *Finding) {
	s := listenerIn(in.After, f.Listener.Number)
	if s == nil {
		return
	}
	if s.Limit != "" {
		f.add(Fact{Text: s.Limit + " is reached", Source: sourceState, Weight: 0.4})
	}
	if s.Error != "" {
		f.add(Fact{Text: "the latest error of accept: " + s.Error, Source: sourceState, Weight: 0.2})
	}
	f.add(Fact{
		Text:   fmt.Sprintf("workers that have the listener armed; %d let it rest", s.Paused),
		Count:  evidence.Know(uint64(max(0, s.Armed))),
		Source: sourceState,
	})
}
