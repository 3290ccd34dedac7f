package correlate

import (
	"fmt"

	"github.com/whyspin/whyspin/internal/evidence"
)

// edgeTriggered is EPOLLET in the interest of a registration.
const edgeTriggered evidence.EventMask = 1 << 31

// established are the TCP states in which bytes that have come can be read.
var established = map[string]bool{"ESTABLISHED": true, "CLOSE_WAIT": true, "FIN_WAIT1": true,
	"FIN_WAIT2": true}

// readyLists is the hook that sees which descriptors are on a ready list.
var readyLists = evidence.Know("iter")

// lostWakeup is the rule for S1: an edge was consumed, work was left, and nobody will be told again. It costs
// no CPU. The deciding fact is a stream that is neither due nor going to be told: it could go on by its own
// account, or by the kernel's while the stream waits for an event that has come already.
func lostWakeup(in *input) []Finding {
	if in.After == nil {
		return nil
	}
	var found []Finding
	for i := range in.After.Streams {
		s := &in.After.Streams[i]
		if s.Runnable || in.about(s) || isOrphan(s) {
			continue
		}
		for side, fd := range [...]int{s.ClientFD, s.ServerFD} {
			state, known := [...]evidence.Observed[evidence.Side]{s.ClientSide, s.ServerSide}[side].Get()
			if !known || fd < 0 || state.Connecting {
				continue
			}
			name, out := evidence.SideClient, s.Response.Buffered
			if side == 1 {
				name, out = evidence.SideServer, s.Request.Buffered
			}
			facts := in.notDue(s, &state, side)
			if facts == nil {
				facts = in.notTold(s, &state, fd, out)
			}
			if facts == nil {
				facts = in.leftUnread(s, &state, side)
			}
			if facts == nil {
				facts = in.keptError(s, &state, side)
			}
			if facts == nil {
				continue
			}
			f := in.finding(S1, s)
			f.FD = in.describe(fd)
			f.FD.Side, f.Idle, f.Stalled, f.Evidence = name, true, true, facts
			found = append(found, f)
			break
		}
	}
	return found
}

// notDue is for a stream that has noted what it waits for and was not made due, at both looks and with no
// wakeup in between.
func (in *input) notDue(s *evidence.Stream, now *evidence.Side, side int) []Fact {
	before := in.listedBefore(s.ID)
	if before == nil || before.Calls != s.Calls || before.Runnable {
		return nil
	}
	then, known := [...]evidence.Observed[evidence.Side]{before.ClientSide, before.ServerSide}[side].Get()
	if !known || !canGoOn(now) || !canGoOn(&then) {
		return nil
	}
	return []Fact{
		{Text: "its descriptor is noted as ready for what the stream wants, and the stream is not due",
			Source: sourceState, Weight: 0.8},
		{Text: "wakeups of the stream in the window", Count: evidence.Know(uint64(0)), Source: sourceState,
			Weight: 0.6},
	}
}

// leftUnread is for a stream that waits to be told of bytes that its process has found in the kernel, at
// both looks, while its worker slept, and with no wakeup in between: what was on its way at the first look
// has come.
func (in *input) leftUnread(s *evidence.Stream, now *evidence.Side, side int) []Fact {
	before := in.listedBefore(s.ID)
	if before == nil || before.Calls != s.Calls || now.Unread == 0 || !now.WantsRead || now.Readable {
		return nil
	}
	then, known := [...]evidence.Observed[evidence.Side]{before.ClientSide, before.ServerSide}[side].Get()
	if !known || then.Unread == 0 {
		return nil
	}
	return []Fact{
		{Text: "bytes wait in its descriptor to be read, and the stream waits to be told",
			Count: evidence.Know(now.Unread), Source: sourceState, Weight: 0.8},
		{Text: "wakeups of the stream in the window", Count: evidence.Know(uint64(0)), Source: sourceState,
			Weight: 0.6},
	}
}

// keptError is for a stream that waits to be told of an error which its TLS layer has read already, at both
// looks and with no wakeup in between: the socket tells an error once.
func (in *input) keptError(s *evidence.Stream, now *evidence.Side, side int) []Fact {
	before := in.listedBefore(s.ID)
	if before == nil || before.Calls != s.Calls || before.Runnable || !keepsError(now) {
		return nil
	}
	then, known := [...]evidence.Observed[evidence.Side]{before.ClientSide, before.ServerSide}[side].Get()
	if !known || !keepsError(&then) {
		return nil
	}
	return []Fact{
		errorKept(now.TLS),
		{Text: "wakeups of the stream in the window", Count: evidence.Know(uint64(0)), Source: sourceState,
			Weight: 0.6},
	}
}

func canGoOn(s *evidence.Side) bool { return s.WantsRead && s.Readable || s.WantsWrite && s.Writable }

// notTold is for a stream that waits for an event while the kernel has what it waits for, and has told so
// before the window: it is not going to again.
func (in *input) notTold(s *evidence.Stream, now *evidence.Side, fd, out int) []Fact {
	d := in.descriptor(fd)
	woken, known := s.Woken.Get()
	if d == nil || !known || in.Window == nil || woken >= in.Window.Start ||
		!in.Window.Hooks.Syscall.IsKnown() || in.Window.Hooks.Files != readyLists ||
		lostCalls(&in.Window.Losses) > 0 {
		return nil
	}
	socket, ok := d.Socket.Get()
	if !ok || socket.Kind != "tcp" || !established[socket.State] || !socket.Registered || socket.Ready ||
		socket.Interest&edgeTriggered == 0 || d.Delivered() > 0 || d.Read.Calls+d.Write.Calls > 0 {
		return nil
	}
	silence := Fact{
		Text:   fmt.Sprintf("events and calls on descriptor %d in the window, which is edge-triggered", fd),
		Count:  evidence.Know(uint64(0)),
		Source: sourceSyscalls, Weight: 0.6,
	}
	switch {
	case now.WantsRead && !now.Readable && socket.Interest&evidence.EventIn != 0 && socket.ReceiveQueue > 0:
		return []Fact{{
			Text: fmt.Sprintf("bytes wait in descriptor %d to be read, and the stream waits to be told",
				fd),
			Count: evidence.Know(uint64(socket.ReceiveQueue)), Source: sourceFiles, Weight: 0.8,
		}, silence}
	case now.WantsWrite && !now.Writable && socket.Interest&evidence.EventOut != 0 && out > 0 &&
		socket.SendQueue == 0:
		return []Fact{{
			Text: fmt.Sprintf("bytes wait to be written to descriptor %d, whose send queue is empty, and the"+
				" stream waits to be told", fd),
			Count: evidence.Know(uint64(out)), Source: sourceFiles, Weight: 0.8,
		}, silence}
	}
	return nil
}

// Owners returns the descriptors of which a rule wants to know whose they are, and that no stream in the case
// owns: bytes wait in them and nobody reads (S1). Whoever gathers the evidence asks the process for their
// streams.
func Owners(c *evidence.Case) []int {
	if c.Window == nil || c.After == nil || !c.Window.Hooks.Syscall.IsKnown() ||
		c.Window.Hooks.Files != readyLists {
		return nil
	}
	in := &input{Case: c}
	var wanted []int
	for i := range c.Window.Descriptors {
		d := &c.Window.Descriptors[i]
		s, ok := d.Socket.Get()
		if ok && s.Kind == "tcp" && established[s.State] && s.Registered && !s.Ready && s.ReceiveQueue > 0 &&
			s.Interest&edgeTriggered != 0 && d.Delivered() == 0 && d.Read.Calls == 0 &&
			in.streamOf(d.FD) == nil && len(wanted) < maxOwners {
			wanted = append(wanted, d.FD)
		}
	}
	return wanted
}

// maxOwners is how many descriptors are asked for at most: more slow readers than that have the same cause.
const maxOwners = 64
