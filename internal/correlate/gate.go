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
	// nearlyAwake bounds the share of the window asleep of a thread that hardly slept in its waits: what is
	// left is the lag of the scheduler's sums, for the time that a thread waits for a CPU is added when it
	// gets it. sleepsPerWait is how often it may have slept elsewhere: once in so many waits. In the wait
	// itself threads that share a set sleep when they meet at the kernel's lock on it, 10 to 30 times in a
	// million waits: waitsPerLock allows ten times as many.
	nearlyAwake   = 0.3
	sleepsPerWait = 100
	waitsPerLock  = 3000
	// longestTurn is how much CPU time in the program goes with one wait at most on a thread that spins.
	// Handlers that compute take longer (look-alikes L4 and L14).
	longestTurn = time.Millisecond
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
	// lost is how many calls the probes could not record, which may have been progress.
	lost uint64
	// user is the thread's CPU time in the program, switches how often it slept, wherever.
	user     evidence.Observed[time.Duration]
	switches evidence.Observed[uint64]
	// awake is true exactly when the thread is known to have slept next to nothing; gated when it also got
	// next to nothing done; blurred when that is what was seen, but too much was lost to say so.
	awake, gated, blurred bool
}

// summarize reduces the evidence to one line per thread that runs an event loop or keeps a CPU busy, and
// applies the gate to each.
func summarize(c *evidence.Case, loops []loop) []Thread {
	var threads []Thread
	seen := map[int]bool{}
	if c.Window != nil {
		for i := range c.Window.Threads {
			t := &c.Window.Threads[i]
			at := slices.IndexFunc(loops, func(l loop) bool { return l.tid == t.TID })
			if at < 0 && !isWorker(c, t) && !busy(t, c.Window.Length()) {
				continue
			}
			seen[t.TID] = true
			s := Thread{
				TID: t.TID, Name: t.Name, CPU: t.CPU(c.Window.Length()), Slept: t.Blocked(c.Window.Length()),
			}
			if c.Window.Hooks.Syscall.IsKnown() {
				s.Waits = evidence.Know(0.0)
			} else if a, ok := activityOf(c, t.TID); ok && !busyPolling(c) {
				// One wait in each turn. What it got done is not counted, so that nothing follows from it.
				s.Waits = evidence.Know(float64(a.Loops) / c.After.At.Sub(c.Before.At).Seconds())
				s.Source = sourceActivity
			}
			for j := max(at, 0); at >= 0 && j < len(loops); j++ {
				if loops[j].tid == t.TID {
					s.judge(&loops[j], c.Window.Length())
				}
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

// isWorker reports whether a thread that made no wait in the window runs an event loop all the same: it
// slept on its set.
func isWorker(c *evidence.Case, t *evidence.Thread) bool {
	set, known := t.WaitsOn.Get()
	return known && set >= 0 && isLoop(c, set)
}

// busy reports whether a thread without a known event loop is worth a line: it keeps a CPU busy. Threads of
// a runtime that work now and then are not. On a loaded machine the scheduler's sums lag by more than one
// that is awake may sleep; then it tells that the thread was runnable at both ends and hardly ever gave up
// its CPU.
func busy(t *evidence.Thread, window time.Duration) bool {
	const lag, perSecond = 0.1, 2
	slept, ok := t.Blocked(window).Get()
	if !ok || slept >= lag {
		return false
	}
	switches, counted := t.VoluntarySwitches.Get()
	return slept < awake || counted && t.Runnable && float64(switches) <= perSecond*window.Seconds()
}

// judge enters a loop's waits and applies the gate: hardly asleep and hardly any progress. Neither alone is
// enough. Of a thread with several loops the one with the most waits is shown.
func (t *Thread) judge(l *loop, window time.Duration) {
	total := l.waits.Total()
	if rate := float64(total) / window.Seconds(); rate >= t.Waits.Or(0) {
		t.Source = l.source
		t.Waits = evidence.Know(rate)
		if total > 0 {
			t.Zero = evidence.Know(share(l.waits.Timeout(evidence.TimeoutZero), total))
			t.Empty = evidence.Know(share(l.waits.Result(evidence.ResultNone), total))
		}
	}
	if total < leastWaits {
		return
	}
	if asleep, ok := t.Slept.Get(); ok {
		slept, exact := l.slept.Get()
		l.awake = asleep < awake ||
			exact && slept*waitsPerLock <= total && asleep < nearlyAwake &&
				l.switches.Or(total)*sleepsPerWait <= total
	} else {
		// Without scheduler data: it cannot have slept in waits with a timeout of zero.
		l.awake = share(l.waits.Timeout(evidence.TimeoutZero), total) > 1-awake
	}
	idle := l.awake && total >= waitsPerProgress*l.progress && l.user.Or(0) < time.Duration(total)*longestTurn
	l.gated = idle && total >= waitsPerProgress*(l.progress+l.lost)
	l.blurred = idle && !l.gated
	t.Gated = t.Gated || l.gated
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
				if s.Owner == evidence.OwnerRuntime || !isLoop(c, s.FD) {
					continue
				}
				loops = append(loops, loop{
					tid: t.TID, epollFD: s.FD, waits: s.Waits, slept: s.Slept, source: sourceSyscalls,
					progress: t.Progress.Or(progressOn(c.Window, s.FD)), user: t.User,
					switches: t.VoluntarySwitches, lost: lostCalls(&c.Window.Losses),
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
		done, doneBefore := moved(&after.Read)+moved(&after.Write), moved(&before.Read)+moved(&before.Write)
		if !l.waits.Sub(&before.Waits) || done < doneBefore {
			continue // the summary of a busy worker may be older than what it said before
		}
		l.progress = done - doneBefore
		loops = append(loops, l)
	}
	return loops
}

// lostCalls is how many calls were not recorded, as far as the probes know.
func lostCalls(l *evidence.Losses) uint64 {
	return l.BeyondTable + l.FullMaps + l.ProgramMisses + l.CompatCalls
}

// isLoop reports whether an epoll set is an event loop of the program: one that a worker is known to own,
// or, when the process says nothing of its workers, any. Threads are no means to tell: a process in another
// pid namespace numbers them otherwise.
func isLoop(c *evidence.Case, set int) bool {
	if c.After == nil || len(c.After.Workers) == 0 {
		return true
	}
	return slices.ContainsFunc(c.After.Workers, func(w evidence.Worker) bool { return w.EpollFD == set })
}

// threadOf returns the thread of a worker as the observer numbers it; not ok for a worker that is not known.
func threadOf(c *evidence.Case, worker int) (tid int, ok bool) {
	if c.After == nil {
		return 0, false
	}
	w := workerOf(c.After, worker)
	if w == nil {
		return 0, false
	}
	if c.Window == nil {
		return w.TID, true
	}
	for i := range c.Window.Threads {
		t := &c.Window.Threads[i]
		if t.WaitsOn.Or(-1) == w.EpollFD ||
			slices.ContainsFunc(t.Sets, func(s evidence.EpollSet) bool { return s.FD == w.EpollFD }) {
			return t.TID, true
		}
	}
	known := slices.ContainsFunc(c.Window.Threads, func(t evidence.Thread) bool { return t.TID == w.TID })
	return w.TID, known
}

func workerOf(s *evidence.Snapshot, index int) *evidence.Worker {
	for i := range s.Workers {
		if s.Workers[i].Index == index {
			return &s.Workers[i]
		}
	}
	return nil
}

// moved is how many calls moved bytes.
func moved(io *evidence.IO) uint64 {
	return io.Calls - min(io.Calls, io.Again+io.Zero+io.Reset+io.Pipe+io.Errors)
}

// endings is how many calls said that a connection is over. That does not come again, so it is progress once
// for a connection and not more often.
func endings(d *evidence.Descriptor) uint64 {
	over := d.Read.Zero + d.Read.Reset + d.Read.Errors + d.Write.Reset + d.Write.Pipe + d.Write.Errors
	return min(over, 1+d.Closes)
}

// progressOn is what was done on the descriptors that an epoll set delivered.
func progressOn(w *evidence.Window, set int) uint64 {
	var n uint64
	for i := range w.Descriptors {
		d := &w.Descriptors[i]
		if d.EpollFD == set || d.EpollFD < 0 {
			n += moved(&d.Read) + moved(&d.Write) + endings(d) + d.Accepts + d.Closes
		}
	}
	return n
}
