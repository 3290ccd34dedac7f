package correlate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// leastClimb is how many wakeups without progress make a stream restless: the budget that the engine's own
// ledger allows in a tenth of a second. A stream that needs longer for them is slow, not restless.
func (in *input) leastClimb() uint64 {
	const budget, per = 20, 100 * time.Millisecond
	if in.Before == nil || in.After == nil {
		return budget
	}
	return max(budget, uint64(budget*in.After.At.Sub(in.Before.At)/per))
}

// seconds prints a duration for people: "12.3 s", "2h13m".
func seconds(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// finding begins a finding about a stream.
func (in *input) finding(class Class, s *evidence.Stream) Finding {
	f := Finding{Class: class, Stream: s, Remedy: in.remedy(class, s), History: historyOf(s)}
	if tid, ok := threadOf(in.Case, s.Worker); ok {
		f.threads = []int{tid}
	}
	side, fd := "server", s.ServerFD
	if s.ServerState == "CLO" || fd < 0 {
		side, fd = "client", s.ClientFD
	}
	if fd < 0 {
		return f
	}
	d := in.describe(fd)
	d.Side = side
	switch {
	case d.Kind == "":
		f.Unknown = append(f.Unknown, fmt.Sprintf("what descriptor %d is", fd))
	case d.Kind == "tcp" && d.State == "":
		f.Unknown = append(f.Unknown, fmt.Sprintf("the TCP state of descriptor %d", fd))
	}
	f.FD = d
	return f
}

// describe says what is known of a descriptor.
func (in *input) describe(fd int) *Descriptor {
	d := &Descriptor{Number: fd}
	if in.Window != nil && in.Window.Hooks.Syscall.IsKnown() {
		d.Mask = evidence.Know("")
	}
	if s := in.streamOf(fd); s != nil {
		d.Side = sideOf(s, fd)
	}
	seen := in.descriptor(fd)
	if seen == nil {
		return d
	}
	if socket, ok := seen.Socket.Get(); ok {
		d.Kind, d.State, d.Local, d.Remote = socket.Kind, socket.State, socket.Local, socket.Remote
		if socket.State == listening {
			d.Remote = "" // the kernel has 0.0.0.0:0
		}
		d.Role = in.role(seen)
		if d.Side == "" {
			d.Side = in.side(&socket)
		}
	}
	var masks []string
	for _, v := range seen.Deliveries {
		masks = append(masks, fmt.Sprintf("%v x%d", v.Mask, v.Count))
	}
	if len(masks) > 0 {
		d.Mask = evidence.Know(strings.Join(masks, " "))
	}
	return d
}

// sideOf tells on which side of a stream its descriptor is.
func sideOf(s *evidence.Stream, fd int) string {
	if s.ClientFD == fd {
		return evidence.SideClient
	}
	return evidence.SideServer
}

// side tells on which side of a proxy a connection is: one whose own port is that of a listener of the
// process was accepted, any other connected.
func (in *input) side(s *evidence.Socket) string {
	if s.Kind != "tcp" || s.Remote == "" || s.State == listening {
		return ""
	}
	_, port, ok := cutLast(s.Local, ':')
	if !ok || port == "0" { // of a connection that is over, the kernel has given the port back
		return ""
	}
	listeners := false
	for i := range in.Window.Descriptors {
		l, known := in.Window.Descriptors[i].Socket.Get()
		if !known || l.Kind != "tcp" || l.State != listening {
			continue
		}
		listeners = true
		if _, own, _ := cutLast(l.Local, ':'); own == port {
			return evidence.SideClient
		}
	}
	if !listeners {
		return "" // a listener that is closed by now may have accepted it
	}
	return evidence.SideServer
}

// listening is the TCP state of a listener.
const listening = "LISTEN"

func cutLast(text string, sep byte) (before, after string, found bool) {
	if i := strings.LastIndexByte(text, sep); i >= 0 {
		return text[:i], text[i+1:], true
	}
	return text, "", false
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

// climbed returns how often the stream was woken in the window; false when it was not seen at both ends, or
// when the later look tells what was before the earlier one.
func (in *input) climbed(s *evidence.Stream) (uint64, bool) {
	if in.Before == nil {
		return 0, false
	}
	for i := range in.Before.Streams {
		if b := &in.Before.Streams[i]; b.ID == s.ID && b.Calls <= s.Calls {
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
			"how often the stream was woken in the window: it was not told at both ends of it")
		return
	}
	text := "wakeups of the stream between two looks at it"
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
	f.add(Fact{Text: text, Count: evidence.Know(climbed), Source: sourceState, Weight: weight})
}

// addWaits adds what the waits of the threads concerned, and the scheduler, say.
func (in *input) addWaits(f *Finding) {
	for i := range in.loops {
		l := &in.loops[i]
		if len(f.threads) > 0 && !slices.Contains(f.threads, l.tid) || len(f.threads) == 0 && !l.gated {
			continue
		}
		in.addLoop(f, l)
		in.addActivity(f, l)
		in.addSleep(f, l.tid)
	}
	if in.Window == nil || !in.Window.Hooks.Syscall.IsKnown() {
		in.addAwake(f)
		f.Unknown = append(f.Unknown, "the kernel's count of the waits and of the calls on each descriptor")
	}
}

// addLoop adds what one loop's waits say: those of its commonest kind, and the others.
func (in *input) addLoop(f *Finding, l *loop) {
	weight := 0.0
	switch {
	case l.gated && l.source == sourceSyscalls:
		weight = 0.8
	case l.gated:
		weight = 0.5
	}
	timeout, result := evidence.TimeoutZero, evidence.ResultNone
	for t := range l.waits {
		for r := range l.waits[t] {
			if l.waits[t][r] > l.waits[timeout][result] {
				timeout, result = evidence.TimeoutClass(t), evidence.ResultClass(r)
			}
		}
	}
	count := l.waits[timeout][result]
	f.add(Fact{
		Text: fmt.Sprintf("epoll_wait(timeout%s)%s by thread %d", timeoutSigns[timeout], resultSigns[result],
			l.tid),
		Count: evidence.Know(count), Source: l.source, Weight: weight,
	})
	f.add(Fact{
		Text:  fmt.Sprintf("all other waits by thread %d", l.tid),
		Count: evidence.Know(l.waits.Total() - count), Source: l.source,
	})
}

// The classes of waits as a reader of straces writes them.
var (
	timeoutSigns = [evidence.TimeoutClasses]string{"=0", ">0", "=-1", " unknown"}
	resultSigns  = [evidence.ResultClasses]string{"=0", ">0", "<0"}
)

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
				Count: evidence.Know(n), Source: sourceScheduler, Weight: weight,
			})
		}
	}
}

// addSilence adds what its program says of the stream's remaining descriptor, and that nothing was done
// on it, if that was watched.
func (in *input) addSilence(f *Finding, s *evidence.Stream) {
	in.addClaim(f)
	if f.FD == nil || in.Window == nil || !in.Window.Hooks.Syscall.IsKnown() {
		return
	}
	var calls, delivered uint64
	d := in.descriptor(f.FD.Number)
	if (d == nil || d.Delivered() == 0) && lostCalls(&in.Window.Losses) > 0 {
		f.Unknown = append(f.Unknown, fmt.Sprintf("the calls on descriptor %d: the probes lost some",
			f.FD.Number))
		return
	}
	if d != nil {
		calls = d.Read.Calls + d.Write.Calls + d.Connects + d.Shutdowns
		delivered = d.Delivered()
	}
	weight := 0.0
	if calls == 0 {
		weight = 0.4
	}
	f.add(Fact{
		Text:  fmt.Sprintf("system calls on descriptor %d (%s side) in the window", f.FD.Number, f.FD.Side),
		Count: evidence.Know(calls), Source: sourceSyscalls, Weight: weight,
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
