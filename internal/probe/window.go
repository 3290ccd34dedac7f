package probe

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/target"
)

// builder puts a window together from what the kernel counted, what the scheduler said and what is open
// at the end.
type builder struct {
	p *Probe
	r *Recording
	w *evidence.Window
	// table is the pass over the descriptors at the end, nil when there was none.
	table *fileTable
}

func (b *builder) unknown(format string, args ...any) {
	b.w.Unknown = append(b.w.Unknown, fmt.Sprintf(format, args...))
}

func (b *builder) build(after *target.Reading, look bool) {
	// Whose the epoll sets are hardly changes; one look serves many windows.
	if look || b.p.sets == nil {
		b.readTable()
	}
	if !look {
		b.table = nil
		b.w.Hooks.Files = evidence.Observed[string]{}
		b.unknown("what the descriptors are was not looked at")
	}
	b.addThreads(after)
	b.addDescriptors()
	b.addResets()
	b.addLosses()
	for _, s := range b.p.plan() {
		if text := s.Unknown(); text != "" {
			b.unknown("%s", text)
		}
	}
}

func (b *builder) readTable() {
	if b.p.reader == nil {
		return
	}
	table, err := b.p.readFiles()
	if err != nil {
		b.unknown("what the descriptors are is not known: %v", err)
		return
	}
	if len(table.files) == 0 {
		b.unknown("what the descriptors are is not known: process %d has none open, or has ended", b.p.pid)
		return
	}
	b.table = table
	b.w.Hooks.Files = evidence.Know("iter")
	for _, fd := range table.ioURing() {
		b.unknown("descriptor %d is an io_uring: what the process does through it is not seen", fd)
	}
	if n := table.unmarked(); n > 0 {
		b.unknown("%d sockets could not be marked: resets on them are not seen", n)
	}
}

// addThreads joins the scheduler's account of each thread with the calls that the kernel counted.
func (b *builder) addThreads(after *target.Reading) {
	byTID := map[int]*evidence.Thread{}
	if after != nil && b.r.before != nil {
		for _, t := range after.Since(b.r.before) {
			byTID[t.TID] = &t
		}
		if !after.Runs() {
			b.unknown("the process is not running (state %c): it could make no progress, and no calls",
				after.State)
		}
		if after.Unread > 0 {
			b.unknown("%d threads beyond the limit were not read", after.Unread)
		}
	}
	if b.r.hook != nil {
		b.addCalls(byTID)
	}
	for _, tid := range slices.Sorted(maps.Keys(byTID)) {
		b.w.Threads = append(b.w.Threads, *byTID[tid])
	}
}

func (b *builder) addCalls(byTID map[int]*evidence.Thread) {
	c := b.p.counter
	b.w.Hooks.Syscall = evidence.Know(b.r.hook.try.Hook)
	if c.globals.Losses.FullTables == 0 {
		for _, t := range byTID {
			t.Calls = evidence.Know(uint64(0)) // a thread without a slot made no call
		}
	}
	seen := map[uint32]int{} // ids in the caller's namespace by those in the machine's
	var calls, events uint64
	for i := range c.threads {
		slot := &c.threads[i]
		if slot.Tid == 0 {
			continue
		}
		tid := int(slot.SeenTid)
		if tid == 0 {
			b.unknown("a thread is not visible in this pid namespace: its %d calls are not listed",
				slot.Calls)
			continue
		}
		seen[slot.Tid] = tid
		if byTID[tid] == nil {
			byTID[tid] = &evidence.Thread{TID: tid} // born and gone within the window
		}
		byTID[tid].Calls = evidence.Know(slot.Calls)
		calls += slot.Calls
	}
	blind := map[int]bool{}
	for i := range c.waitSets {
		slot := &c.waitSets[i]
		tid, ok := seen[uint32(slot.Key>>32)]
		if slot.Key == 0 || !ok {
			continue
		}
		set := b.epollSet(slot)
		byTID[tid].Sets = append(byTID[tid].Sets, set)
		events += set.Events
		if set.Events > 0 && set.Owner != evidence.OwnerRuntime && !b.r.sets[set.FD] {
			blind[set.FD] = true
		}
	}
	for _, fd := range slices.Sorted(maps.Keys(blind)) {
		b.unknown("the events of epoll set %d are counted but not by descriptor: its data are not descriptor"+
			" numbers", fd)
	}
	// No count of a descriptor is larger than the number of calls, or of events.
	if max(calls, events) > math.MaxUint32 {
		b.unknown("the window was too long: counts by descriptor may have overflowed 32 bits")
	}
	for _, t := range byTID {
		slices.SortFunc(t.Sets, func(a, b evidence.EpollSet) int { return cmp.Compare(a.FD, b.FD) })
	}
}

func (b *builder) epollSet(slot *syscallWaitSet) evidence.EpollSet {
	fd := int(int32(uint32(slot.Key)))
	return evidence.EpollSet{
		FD:           fd,
		Owner:        b.owner(fd),
		Waits:        evidence.Waits(slot.Waits),
		Slept:        evidence.Know(slot.Slept),
		SleptUnknown: slot.SleptUnknown,
		Events:       slot.Events,
	}
}

// owner tells whose an epoll set is.
func (b *builder) owner(fd int) evidence.Owner {
	if b.p.direct[fd] {
		return evidence.OwnerWorker
	}
	if set := b.p.sets[fd]; set != nil && set.wakeup && b.p.isGo.Or(false) {
		return evidence.OwnerRuntime
	}
	return evidence.OwnerUnknown
}

// addDescriptors lists every descriptor on which something happened and every one that is open at the end.
func (b *builder) addDescriptors() {
	byFD := map[int]*evidence.Descriptor{}
	at := func(fd int) *evidence.Descriptor {
		d := byFD[fd]
		if d == nil {
			d = &evidence.Descriptor{FD: fd, EpollFD: -1}
			byFD[fd] = d
		}
		return d
	}
	if b.r.hook != nil {
		b.p.counter.each(func(fd int, raw *syscallDescriptor) { fill(at(fd), raw) })
	}
	if b.table != nil {
		sockets := b.table.sockets()
		for fd, s := range sockets {
			at(fd).Socket = evidence.Know(s)
		}
		for fd, d := range byFD {
			if _, open := sockets[fd]; !open {
				d.Socket = evidence.Know(evidence.Socket{Kind: evidence.SocketClosed})
			}
		}
		for fd := range b.r.sets {
			if s := b.p.sets[fd]; s != nil && s.registrations > 0 && !s.direct {
				b.unknown("the data of epoll set %d are not all descriptor numbers: its events may be"+
					" counted for the wrong descriptors", fd)
			}
		}
	}
	b.w.Descriptors = make([]evidence.Descriptor, 0, len(byFD))
	for _, fd := range slices.Sorted(maps.Keys(byFD)) {
		b.w.Descriptors = append(b.w.Descriptors, *byFD[fd])
	}
}

// each calls f for every descriptor for which something was counted.
func (c *counter) each(f func(fd int, raw *syscallDescriptor)) {
	for block, touched := range c.globals.Touched {
		if touched == 0 {
			continue
		}
		from := block * int(syscallLimitTOUCHED_BLOCK)
		for fd := from; fd < min(from+int(syscallLimitTOUCHED_BLOCK), len(c.descriptors)); fd++ {
			if raw := &c.descriptors[fd]; raw.Touched != 0 {
				f(fd, raw)
			}
		}
	}
}

func fill(d *evidence.Descriptor, raw *syscallDescriptor) {
	d.EpollFD = int(raw.EpollFd1) - 1
	d.Read, d.Write = ioCounts(&raw.Read), ioCounts(&raw.Write)
	d.Accepts, d.AcceptErrors = uint64(raw.Accepts), uint64(raw.AcceptErrors)
	d.Connects, d.Closes = uint64(raw.Connects), uint64(raw.Closes)
	d.Shutdowns, d.Controls, d.Dups = uint64(raw.Shutdowns), uint64(raw.Controls), uint64(raw.Dups)
	for index, n := range raw.Deliveries {
		if n > 0 {
			d.Deliveries = append(d.Deliveries, evidence.Delivery{Mask: maskAt(index), Count: uint64(n)})
		}
	}
}

// maskAt is the event mask that is counted at an index: the five lowest bits, and RDHUP in the sixth.
func maskAt(index int) evidence.EventMask {
	mask := evidence.EventMask(index) & 0x1f
	if index&0x20 != 0 {
		mask |= evidence.EventRdHup
	}
	return mask
}

func ioCounts(raw *syscallIo) evidence.IO {
	return evidence.IO{
		Calls:  uint64(raw.Calls),
		Bytes:  raw.Bytes,
		Tiny:   uint64(raw.Tiny),
		Zero:   uint64(raw.Zero),
		Again:  uint64(raw.Again),
		Reset:  uint64(raw.Reset),
		Pipe:   uint64(raw.Pipe),
		Errors: uint64(raw.Errors),
	}
}

func (b *builder) addResets() {
	w := b.p.watcher
	if w == nil || !w.attached() {
		if b.p.available(signalResets) {
			b.unknown("TCP resets are not seen: they are not being watched")
		}
		return
	}
	b.w.Hooks.Socket = evidence.Know("tp_btf")
	if err := w.drain(); err != nil {
		b.unknown("resets may be missing: %v", err)
	}
	for _, r := range w.recent {
		if r.At >= b.w.Start && r.At <= b.w.End {
			b.w.Resets = append(b.w.Resets, r)
		}
	}
	b.w.Losses.RingDrops = w.dropped() - b.r.dropped
	if n := w.drained - b.r.drained; n > maxRecentResets {
		b.w.Losses.RingDrops += n - maxRecentResets
	}
	if !b.p.available(signalFiles) {
		b.unknown("resets on sockets that existed before the watch began are not seen")
	}
}

func (b *builder) addLosses() {
	if b.r.hook == nil {
		return
	}
	counted := &b.p.counter.globals.Losses
	losses := &b.w.Losses
	losses.CompatCalls = counted.CompatCalls
	losses.UnreadEvents = counted.UnreadEvents
	losses.BeyondTable = counted.BeyondTable
	losses.FullMaps = counted.FullTables
	losses.ProgramMisses = b.r.hook.misses() - b.r.misses
	if counted.BlindCalls > 0 {
		b.unknown("%d calls had begun before the window: what they were about is not known",
			counted.BlindCalls)
	}
	if counted.CompatCalls > 0 {
		b.unknown("%d calls came through the 32-bit interface, which is not decoded", counted.CompatCalls)
	}
}
