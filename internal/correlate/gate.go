package correlate

import (
	"slices"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

const (
	// awake is the share of the window asleep below which a thread counts as never sleeping. Time runnable
	// without a CPU, for want of one or by a quota, does not count as asleep, so a spinner under a quota or
	// beside a busy neighbour is one still. The CPU share is no part of the gate.
	awake = 0.02
	// waitsPerProgress is how many waits go with one useful call on a thread that spins. On spinning
	// processes it was about 500, on busy healthy ones well below 1 (about 380 calls were made per wait).
	waitsPerProgress = 10
	// leastWaits is how many waits at least must have been counted to say anything about them.
	leastWaits = 100
)

// loop is what one event loop did in the window: the thread, its waits, and what it got done.
type loop struct {
	tid      int
	epollFD  int
	waits    evidence.Waits
	slept    evidence.Observed[uint64]
	progress uint64 // calls that moved bytes, accepted, connected or closed
	source   string
}

// summarize reduces the evidence to one line per thread that runs an event loop or keeps a CPU busy, and
// applies the gate to each.
func summarize(c *evidence.Case) []Thread {
	loops := loopsOf(c)
	var threads []Thread
	seen := map[int]bool{}
	if c.Window != nil {
		for i := range c.Window.Threads {
			t := &c.Window.Threads[i]
			at := slices.IndexFunc(loops, func(l loop) bool { return l.tid == t.TID })
			if at < 0 && !idleLoop(t, c.Window.Length()) {
				continue
			}
			seen[t.TID] = true
			s := Thread{
				TID: t.TID, Name: t.Name, CPU: t.CPU(c.Window.Length()), Slept: t.Blocked(c.Window.Length()),
			}
			if at >= 0 {
				s.judge(&loops[at], c.Window.Length())
			}
			threads = append(threads, s)
		}
	}
	for i := range loops {
		if !seen[loops[i].tid] {
			s := Thread{TID: loops[i].tid}
			s.judge(&loops[i], c.After.At.Sub(c.Before.At))
			threads = append(threads, s)
		}
	}
	return threads
}

// idleLoop reports whether a thread without a known event loop is worth a line: it keeps a CPU busy.
// Threads of a runtime that work now and then are not.
func idleLoop(t *evidence.Thread, window time.Duration) bool {
	slept, ok := t.Blocked(window).Get()
	return ok && slept < awake
}

// judge enters a loop's waits and applies the gate: hardly asleep and hardly any progress. Neither alone is
// enough.
func (t *Thread) judge(l *loop, window time.Duration) {
	total := l.waits.Total()
	t.Source = l.source
	t.Waits = evidence.Know(float64(total) / window.Seconds())
	if total > 0 {
		t.Zero = evidence.Know(share(l.waits.Timeout(evidence.TimeoutZero), total))
		t.Empty = evidence.Know(share(l.waits.Result(evidence.ResultNone), total))
	}
	if total < leastWaits || total < waitsPerProgress*l.progress {
		return
	}
	if slept, ok := t.Slept.Get(); ok {
		t.Gated = slept < awake
		return
	}
	// Without scheduler data: it cannot have slept in waits with a timeout of zero.
	t.Gated = t.Zero.Or(0) > 1-awake
}

func share(part, of uint64) float64 { return float64(part) / float64(of) }

// loopsOf returns the event loops of the process, by the kernel's count where there is one and by the
// process's own otherwise. The Go runtime's own epoll set, which polls without progress by design (L3), is
// none of them.
func loopsOf(c *evidence.Case) []loop {
	var loops []loop
	if c.Window != nil && c.Window.Hooks.Syscall.IsKnown() {
		for i := range c.Window.Threads {
			t := &c.Window.Threads[i]
			for j := range t.Sets {
				s := &t.Sets[j]
				if s.Owner == evidence.OwnerRuntime || !isLoop(c, t.TID, s) {
					continue
				}
				loops = append(loops, loop{
					tid: t.TID, epollFD: s.FD, waits: s.Waits, slept: s.Slept, source: sourceSyscalls,
					progress: progressOn(c.Window, s.FD),
				})
			}
		}
		return loops
	}
	if c.Before == nil || c.After == nil {
		return nil
	}
	for i := range c.After.Workers {
		after := &c.After.Workers[i]
		before := workerOf(c.Before, after.Index)
		if before == nil {
			continue
		}
		l := loop{tid: after.TID, epollFD: after.EpollFD, waits: after.Waits, source: sourceLedger}
		for t := range l.waits {
			for r := range l.waits[t] {
				l.waits[t][r] -= before.Waits[t][r]
			}
		}
		l.progress = moved(&after.Read) + moved(&after.Write) - moved(&before.Read) - moved(&before.Write)
		loops = append(loops, l)
	}
	return loops
}

// isLoop reports whether an epoll set is an event loop of the program: one that a worker is known to own,
// or, when the process says nothing of its workers, any.
func isLoop(c *evidence.Case, tid int, s *evidence.EpollSet) bool {
	if c.After == nil || len(c.After.Workers) == 0 {
		return true
	}
	for _, w := range c.After.Workers {
		if w.TID == tid && w.EpollFD == s.FD {
			return true
		}
	}
	return false
}

func workerOf(s *evidence.Snapshot, index int) *evidence.Worker {
	for i := range s.Workers {
		if s.Workers[i].Index == index {
			return &s.Workers[i]
		}
	}
	return nil
}

// moved is how many calls did something: an end of file or an error, too, is something that will not come
// again.
func moved(io *evidence.IO) uint64 { return io.Calls - io.Again }

// progressOn is what was done on the descriptors that an epoll set delivered.
func progressOn(w *evidence.Window, set int) uint64 {
	var n uint64
	for i := range w.Descriptors {
		d := &w.Descriptors[i]
		if d.EpollFD == set || d.EpollFD < 0 {
			n += moved(&d.Read) + moved(&d.Write) + d.Accepts + d.Connects + d.Closes
		}
	}
	return n
}
