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
	b.addDestinations()
	b.addTraffic()
	b.addResets()
	b.addLosses()
	for _, s := range b.p.plan() {
		if text := s.Unknown(); text != "" {
			b.unknown("%s", text)
		}
	}
}

func (b *builder) readTable() {
	if !b.p.available(signalFiles) {
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
	if table.byProc {
		b.w.Hooks.Files = evidence.Know("proc")
		b.w.Unknown = append(b.w.Unknown, table.unknown...)
	}
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
			addThreadCalls(t, &syscallThread{}) // a thread without a slot made no call
		}
	}
	seen := map[uint32]int{} // ids in the caller's namespace by those in the machine's
	var calls, events, rings uint64
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
		addThreadCalls(byTID[tid], slot)
		calls += slot.Calls
		rings += slot.Rings
	}
	if rings > 0 {
		b.unknown("%d calls of io_uring_enter: what the process does through io_uring is not seen", rings)
	}
	blind := map[int]*evidence.EpollSet{}
	for i := range c.waitSets {
		slot := &c.waitSets[i]
		tid, ok := seen[uint32(slot.Key>>32)]
		if slot.Key == 0 || !ok {
			continue
		}
		set := b.epollSet(slot)
		if set.FD == int(syscallLimitPOLL_SET) {
			byTID[tid].Polls = evidence.Know(set.Waits)
			continue
		}
		byTID[tid].Sets = append(byTID[tid].Sets, set)
		events += set.Events
		if set.Unattributed+set.Ambiguous > 0 && set.Owner != evidence.OwnerRuntime {
			if blind[set.FD] == nil {
				blind[set.FD] = &evidence.EpollSet{}
			}
			blind[set.FD].Unattributed += set.Unattributed
			blind[set.FD].Ambiguous += set.Ambiguous
		}
	}
	b.addBlind(blind)
	// No count of a descriptor is larger than the number of calls, or of events.
	if max(calls, events) > math.MaxUint32 {
		b.unknown("the window was too long: counts by descriptor may have overflowed 32 bits")
	}
	for _, t := range byTID {
		slices.SortFunc(t.Sets, func(a, b evidence.EpollSet) int { return cmp.Compare(a.FD, b.FD) })
	}
}

// addThreadCalls notes what the kernel counted for a thread.
func addThreadCalls(t *evidence.Thread, slot *syscallThread) {
	t.Calls = evidence.Know(slot.Calls)
	t.Yields, t.Futexes = evidence.Know(slot.Yields), evidence.Know(slot.Futexes)
	t.Rings, t.Forks = evidence.Know(slot.Rings), evidence.Know(slot.Forks)
	t.Polls, t.Progress = evidence.Know(evidence.Waits{}), evidence.Know(slot.Progress)
}

// addBlind says of which epoll sets events could not be attributed to descriptors.
func (b *builder) addBlind(blind map[int]*evidence.EpollSet) {
	for _, fd := range slices.Sorted(maps.Keys(blind)) {
		set := blind[fd]
		b.w.Losses.UnattributedEvents += set.Unattributed + set.Ambiguous
		if set.Unattributed > 0 {
			b.unknown("%d events of epoll set %d are counted but not by descriptor: nothing is known of"+
				" their data", set.Unattributed, fd)
		}
		if set.Ambiguous > 0 {
			b.unknown("%d events of epoll set %d are counted but not by descriptor: several descriptors are"+
				" registered with the same data", set.Ambiguous, fd)
		}
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
		Unattributed: slot.Unattributed,
		Ambiguous:    slot.Ambiguous,
	}
}

// owner tells whose an epoll set is.
func (b *builder) owner(fd int) evidence.Owner {
	if b.p.direct[fd] {
		return evidence.OwnerWorker
	}
	if set := b.p.sets[fd]; set != nil && b.p.runtime.owns(set) {
		return evidence.OwnerRuntime
	}
	return evidence.OwnerUnknown
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
	if !b.p.iterates() {
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
	losses.FullMaps = counted.FullTables + counted.FullRegistrations
	losses.Destinations = counted.FullDestinations
	losses.UnreadArguments = counted.UnreadArguments
	losses.ProgramMisses = b.r.hook.misses() - b.r.misses
	if counted.BlindCalls > 0 {
		b.unknown("%d calls had begun before the window: what they were about is not known",
			counted.BlindCalls)
	}
	if counted.CompatCalls > 0 {
		b.unknown("%d calls came through the 32-bit interface, which is not decoded", counted.CompatCalls)
	}
	if counted.RangeCloses > 0 {
		b.unknown("%d calls of close_range: which descriptors they closed is not counted",
			counted.RangeCloses)
	}
	if counted.FullDestinations > 0 {
		b.unknown("%d attempts to connect went to further destinations than the %d that are counted",
			counted.FullDestinations, len(b.p.counter.destinations))
	}
}
