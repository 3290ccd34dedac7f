package profile

import (
	"path"
	"slices"
	"strconv"

	"github.com/google/pprof/profile"

	"github.com/whyspin/whyspin/internal/evidence"
)

// addCPU adds the stacks. Without any, the CPU time of each thread is under a frame that says so.
func (b *builder) addCPU(w *evidence.Window) {
	if w.Samples == nil {
		for i := range w.Threads {
			t := &w.Threads[i]
			b.add(valueCPU, uint64(t.Run.Or(0)), b.ofThread(t.TID), b.synthetic(frameNotSampled),
				b.thread(t.TID))
		}
		return
	}
	period := uint64(w.Samples.Period)
	b.p.Period = int64(period)
	b.programFirst(w.Samples)
	for i := range w.Samples.Stacks {
		k := &w.Samples.Stacks[i]
		var stack []*profile.Location
		for f := range k.Kernel {
			stack = append(stack, b.frame(&k.Kernel[f]))
		}
		for f := range k.User {
			stack = append(stack, b.frame(&k.User[f]))
		}
		if k.Truncated {
			stack = append(stack, b.synthetic(frameTruncated))
		}
		// A thread of another process is a label only: its functions say more.
		if b.own || len(stack) == 0 {
			stack = append(stack, b.thread(k.TID))
		}
		b.add(valueCPU, k.Count*period, b.ofThread(k.TID), stack...)
	}
	b.add(valueCPU, w.Samples.Lost*period, nil, b.synthetic(frameLost))
}

// programFirst makes the program the first mapping, by which tools name a profile.
func (b *builder) programFirst(s *evidence.Samples) {
	for i := range s.Stacks {
		for _, f := range s.Stacks[i].User {
			if path.Base(f.Object) == b.c.Process.Command {
				b.mapping(f.Object)
				return
			}
		}
	}
}

// addWaits adds the waits that asked not to sleep, by thread: as the kernel counted them, or otherwise the
// process itself.
func (b *builder) addWaits() {
	cause := b.synthetic("epoll_wait(timeout=0)")
	if w := b.c.Window; w != nil && w.Hooks.Syscall.IsKnown() {
		for i := range w.Threads {
			t := &w.Threads[i]
			for s := range t.Sets {
				l := b.ofThread(t.TID)
				l["fd"] = strconv.Itoa(t.Sets[s].FD)
				n := t.Sets[s].Waits.Timeout(evidence.TimeoutZero)
				b.add(valueZeroWaits, n, l, cause, b.thread(t.TID))
			}
		}
		return
	}
	for _, worker := range b.workers() {
		l := b.ofThread(worker.after.TID)
		l["fd"] = strconv.Itoa(worker.after.EpollFD)
		n := worker.after.Waits.Timeout(evidence.TimeoutZero)
		b.add(valueZeroWaits, since(n, worker.before.Waits.Timeout(evidence.TimeoutZero)), l, cause,
			b.thread(worker.after.TID))
	}
}

// addTinyIO adds the calls that moved 1 to 16 bytes, by descriptor.
func (b *builder) addTinyIO(w *evidence.Window) {
	for i := range w.Descriptors {
		d := &w.Descriptors[i]
		for _, direction := range []struct {
			cause string
			n     uint64
		}{{"read of 1 to 16 bytes", d.Read.Tiny}, {"write of 1 to 16 bytes", d.Write.Tiny}} {
			if direction.n == 0 {
				continue
			}
			l, above := b.ofDescriptor(d)
			stack := append([]*profile.Location{b.synthetic(direction.cause)}, above...)
			b.add(valueTinyIO, direction.n, l, stack...)
		}
	}
}

// ofDescriptor returns the labels of a descriptor and the frames that it is under: its stream's, when the
// process says that it belongs to one.
func (b *builder) ofDescriptor(d *evidence.Descriptor) (labels, []*profile.Location) {
	number := strconv.Itoa(d.FD)
	s := b.find(func(s *evidence.Stream) bool { return s.ClientFD == d.FD || s.ServerFD == d.FD })
	l := b.ofStream(s)
	l["fd"] = number
	socket, _ := d.Socket.Get()
	l["destination"] = socket.Remote
	if s != nil {
		return l, b.streamFrames(s)
	}
	return l, []*profile.Location{b.synthetic("fd " + number)}
}

// addResets adds the resets, by the address of the peer.
func (b *builder) addResets(w *evidence.Window) {
	for i := range w.Resets {
		r := &w.Resets[i]
		cause := "reset received"
		if r.Sent {
			cause = "reset sent"
		}
		s := b.find(func(s *evidence.Stream) bool {
			return r.Remote != "" && (s.Client == r.Remote || s.Upstream == r.Remote)
		})
		l := b.ofStream(s)
		l["destination"], l["side"] = r.Remote, r.Side
		stack := []*profile.Location{b.synthetic(cause)}
		if s != nil {
			stack = append(stack, b.streamFrames(s)...)
		}
		b.add(valueResets, 1, l, stack...)
	}
}

// find returns the only stream that matches, nil when there is none or several.
func (b *builder) find(matches func(*evidence.Stream) bool) *evidence.Stream {
	for _, snapshot := range []*evidence.Snapshot{b.c.After, b.c.Before} {
		if snapshot == nil {
			continue
		}
		i := slices.IndexFunc(snapshot.Streams, func(s evidence.Stream) bool { return matches(&s) })
		if i < 0 {
			continue
		}
		if slices.ContainsFunc(snapshot.Streams[i+1:], func(s evidence.Stream) bool { return matches(&s) }) {
			return nil
		}
		return &snapshot.Streams[i]
	}
	return nil
}
