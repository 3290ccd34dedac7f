package correlate

import (
	"fmt"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// leastClimb is how many wakeups in the window make a stream restless: at least the budget that the
// engine's own ledger allows in a tenth of a second.
const leastClimb = 20

// seconds prints a duration for people: "12.3 s", "2h13m".
func seconds(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

func (f *Finding) add(fact Fact) { f.Evidence = append(f.Evidence, fact) }

// finding begins a finding about a stream.
func (in *input) finding(class Class, s *evidence.Stream) Finding {
	f := Finding{Class: class, Stream: s, Remedy: in.remedy(class, s)}
	side, fd := "server", s.ServerFD
	if s.ServerState == "CLO" || fd < 0 {
		side, fd = "client", s.ClientFD
	}
	if fd < 0 {
		return f
	}
	d := &Descriptor{Number: fd, Side: side, Kind: "tcp"}
	if seen := in.descriptor(fd); seen != nil {
		if socket, ok := seen.Socket.Get(); ok {
			d.Kind, d.State = socket.Kind, socket.State
		}
		for _, v := range seen.Deliveries {
			if d.Mask != "" {
				d.Mask += " "
			}
			d.Mask += fmt.Sprintf("%v x%d", v.Mask, v.Count)
		}
	}
	if d.State == "" {
		f.Unknown = append(f.Unknown, fmt.Sprintf("the TCP state of descriptor %d", fd))
	}
	f.FD = d
	return f
}

// descriptor returns what the kernel saw of a descriptor, nil when it saw nothing.
func (in *input) descriptor(fd int) *evidence.Descriptor {
	if in.Window == nil {
		return nil
	}
	for i := range in.Window.Descriptors {
		if in.Window.Descriptors[i].FD == fd {
			return &in.Window.Descriptors[i]
		}
	}
	return nil
}

// climbed returns how often the stream was woken in the window; false when it was not seen at both ends.
func (in *input) climbed(s *evidence.Stream) (uint64, bool) {
	if in.Before == nil {
		return 0, false
	}
	for i := range in.Before.Streams {
		if b := &in.Before.Streams[i]; b.ID == s.ID {
			return s.Calls - b.Calls, true
		}
	}
	return 0, false
}

// chargedAlways reports whether every wakeup in the window went without progress, as far as the process
// counts that.
func (in *input) chargedAlways(s *evidence.Stream, climbed uint64) bool {
	row, ok := s.NoProgress.Get()
	return !ok || row >= climbed
}

// addClimb adds how often the stream was woken.
func (in *input) addClimb(f *Finding, s *evidence.Stream) {
	climbed, known := in.climbed(s)
	if !known {
		f.Unknown = append(f.Unknown,
			"how often the stream was woken in the window: it was not listed when the window began")
		return
	}
	text := "wakeups of the stream in the window"
	weight := 0.3
	if climbed > 0 {
		weight = 0.7
		if _, ok := s.NoProgress.Get(); ok && in.chargedAlways(s, climbed) {
			text += ", none with progress"
		}
		if s.Cause != "" {
			text += ", cause: " + s.Cause
		}
	}
	f.add(Fact{Text: text, Count: evidence.Know(climbed), Source: sourceState, weight: weight})
}

// addWaits adds what the worker's waits, and the scheduler, say.
func (in *input) addWaits(f *Finding, s *evidence.Stream) {
	tid := 0
	if s != nil && in.After != nil {
		if w := workerOf(in.After, s.Worker); w != nil {
			tid = w.TID
		}
	}
	for _, l := range loopsOf(in.Case) {
		if tid != 0 && l.tid != tid {
			continue
		}
		thread := in.thread(l.tid)
		if thread == nil || tid == 0 && !thread.Gated {
			continue
		}
		weight := 0.0
		switch {
		case thread.Gated && l.source == sourceSyscalls:
			weight = 0.8
		case thread.Gated:
			weight = 0.5
		}
		empty := l.waits[evidence.TimeoutZero][evidence.ResultNone]
		f.add(Fact{
			Text:  fmt.Sprintf("epoll_wait(timeout=0)=0 by thread %d", l.tid),
			Count: evidence.Know(empty), Source: l.source, weight: weight,
		})
		f.add(Fact{
			Text:  fmt.Sprintf("all other waits by thread %d", l.tid),
			Count: evidence.Know(l.waits.Total() - empty), Source: l.source,
		})
		in.addSleep(f, l.tid)
	}
	if in.Window == nil || !in.Window.Hooks.Syscall.IsKnown() {
		f.Unknown = append(f.Unknown, "the kernel's count of the waits and of the calls on each descriptor")
	}
}

// addSleep adds how often a thread went to sleep by itself.
func (in *input) addSleep(f *Finding, tid int) {
	if in.Window == nil {
		return
	}
	for i := range in.Window.Threads {
		t := &in.Window.Threads[i]
		if n, ok := t.VoluntarySwitches.Get(); ok && t.TID == tid {
			weight := 0.0
			if n == 0 {
				weight = 0.3
			}
			f.add(Fact{
				Text:  fmt.Sprintf("voluntary context switches of thread %d", tid),
				Count: evidence.Know(n), Source: sourceScheduler, weight: weight,
			})
		}
	}
}

func (in *input) thread(tid int) *Thread {
	for i := range in.threads {
		if in.threads[i].TID == tid {
			return &in.threads[i]
		}
	}
	return nil
}

// addSilence adds that nothing was done on the stream's remaining descriptor, if that was watched.
func (in *input) addSilence(f *Finding, s *evidence.Stream) {
	if f.FD == nil || in.Window == nil || !in.Window.Hooks.Syscall.IsKnown() {
		return
	}
	var calls, delivered uint64
	if d := in.descriptor(f.FD.Number); d != nil {
		calls = d.Read.Calls + d.Write.Calls + d.Connects + d.Shutdowns
		delivered = d.Delivered()
	}
	weight := 0.0
	if calls == 0 {
		weight = 0.4
	}
	f.add(Fact{
		Text:  fmt.Sprintf("system calls on descriptor %d (%s side) in the window", f.FD.Number, f.FD.Side),
		Count: evidence.Know(calls), Source: sourceSyscalls, weight: weight,
	})
	f.add(Fact{
		Text:  fmt.Sprintf("events delivered for descriptor %d", f.FD.Number),
		Count: evidence.Know(delivered), Source: sourceSyscalls,
	})
	for _, r := range in.Window.Resets {
		if r.Remote == s.Upstream && r.Local != "" && s.Upstream != "" {
			f.add(Fact{
				Text: fmt.Sprintf("a reset between %s and %s: it ranks a candidate and proves nothing",
					r.Local, r.Remote),
				Source: sourceSockets,
			})
		}
	}
}

// remedy is what the operator can do now. It must work on that very process: a real HAProxy ignores
// "shutdown session" for an orphaned stream, our own kill is total.
func (in *input) remedy(class Class, s *evidence.Stream) string {
	switch {
	case s != nil && in.Process.Kind == evidence.KindWhyspin:
		order := "shutdown session " + s.ID
		if in.Socket == "" {
			return fmt.Sprintf("give the order %q on a stats socket of level admin: it ends only that stream",
				order)
		}
		return fmt.Sprintf("echo %q | socat - %s   (level admin; it ends that stream and no other)", order,
			in.Socket)
	case s != nil && in.Process.Kind == evidence.KindHAProxy && (class == T3 || class == T3i):
		return "this HAProxy ignores \"shutdown session\" for such a stream: reload it, wait until the old " +
			fmt.Sprintf("process holds only that stream, then end the old process with: kill -TERM %d",
				in.Process.PID)
	case class == Unknown:
		return "keep the process and look longer (--for 10s), then at its functions with a CPU profiler"
	}
	return "restart the process when its other work allows"
}
