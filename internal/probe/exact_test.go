//go:build amd64

package probe

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/evidence"
)

func init() { children["load"] = runLoad }

// TestCountsAreExact runs a process that makes every call in every way the probe tells apart, from
// several threads and CPUs at once, and keeps its own account. The two accounts must agree to the last
// call, by whichever hook.
func TestCountsAreExact(t *testing.T) {
	for _, hook := range []string{"tp_btf", "raw_tp", "tracepoint"} {
		t.Run(hook, func(t *testing.T) {
			runtime.LockOSThread() // never unlocked: the thread has mounts of its own
			if os.Getenv(probesVariable) != "absent" {
				inOwnMounts(t)
			}
			c := startChild(t, "load", nil)
			p := load(t, Options{PID: c.pid(), MaxDescriptors: tallyDescriptors, only: hook})
			c.await(loadThreads)
			awaitCalls(t, c.pid(), loadThreads, syscall.SYS_READ, childGo)

			r, err := p.Begin()
			if err != nil {
				t.Fatal(err)
			}
			runtime.GC() // a link that is not referenced is closed by the collector
			c.goAhead(loadThreads)
			c.await(loadThreads)
			awaitCalls(t, c.pid(), loadThreads, syscall.SYS_READ, childStop)
			w, err := r.End()
			if err != nil {
				t.Fatal(err)
			}
			var report loadReport
			c.finish(loadThreads, &report)

			if got := w.Hooks.Syscall; got != evidence.Know(hook) {
				t.Errorf("hook %v, want %s", got, hook)
			}
			if hook == "tracepoint" {
				// The entry of the calls that were under way was not seen, so neither is what they were
				// about.
				delete(report.FDs, childGo)
				for i := range report.Threads {
					report.Threads[i].Progress--
				}
				mustSay(t, w, "had begun before")
			}
			compareThreads(t, w, &report)
			compareDescriptors(t, w, &report)
			want := evidence.Losses{CompatCalls: report.Compat, BeyondTable: report.Beyond}
			if w.Losses != want {
				t.Errorf("losses %+v, want %+v", w.Losses, want)
			}
		})
	}
}

func compareThreads(t *testing.T, w *evidence.Window, report *loadReport) {
	t.Helper()
	for _, want := range report.Threads {
		i := slices.IndexFunc(w.Threads, func(v evidence.Thread) bool { return v.TID == want.TID })
		if i < 0 {
			t.Errorf("thread %d is missing", want.TID)
			continue
		}
		got := w.Threads[i]
		if got.Calls != evidence.Know(want.Calls) {
			t.Errorf("thread %d made %v calls, want %d", want.TID, got.Calls, want.Calls)
		}
		account := evidence.Thread{Progress: evidence.Know(want.Progress), Yields: evidence.Know(want.Yields),
			Futexes: evidence.Know(want.Futexes), Polls: evidence.Know(want.Polls)}
		if got.Progress != account.Progress || got.Yields != account.Yields || got.Polls != account.Polls ||
			got.Futexes != account.Futexes {
			t.Errorf("thread %d: %v, %v, %v, %v of progress, yields, futexes and polls, want %v, %v, %v, %v",
				want.TID, got.Progress, got.Yields, got.Futexes, got.Polls, account.Progress, account.Yields,
				account.Futexes, account.Polls)
		}
		if !got.Run.IsKnown() || !got.VoluntarySwitches.IsKnown() {
			t.Errorf("thread %d has no scheduler data", want.TID)
		}
		var sets []evidence.EpollSet
		for _, s := range want.Sets {
			sets = append(sets, evidence.EpollSet{FD: s.FD, Waits: s.Waits, Slept: evidence.Know(s.Slept),
				Events: s.Events})
		}
		slices.SortFunc(sets, func(a, b evidence.EpollSet) int { return a.FD - b.FD })
		if diff := cmp.Diff(sets, got.Sets, cmp.Comparer(evidence.Equal[uint64])); diff != "" {
			t.Errorf("waits of thread %d (-child +probe):\n%s", want.TID, diff)
		}
	}
}

func compareDescriptors(t *testing.T, w *evidence.Window, report *loadReport) {
	t.Helper()
	var counted int
	for _, got := range w.Descriptors {
		want := evidence.Descriptor{FD: got.FD, EpollFD: -1}
		if d := report.FDs[got.FD]; d != nil {
			counted++
			want = d.evidence(got.FD)
		}
		// How the calls of several threads fell between each other the child does not know, nor is it asked
		// what its descriptors are: story_test.go looks at those.
		counts := got
		counts.Row, counts.Deliverers, counts.OtherDeliveries = 0, nil, 0
		counts.Socket, counts.Before, counts.Data = want.Socket, want.Before, want.Data
		if diff := cmp.Diff(want, counts, cmp.Comparer(evidence.Equal[evidence.Socket]),
			cmp.Comparer(evidence.Equal[uint64])); diff != "" {
			t.Errorf("descriptor %d (-child +probe):\n%s", got.FD, diff)
		}
		if !got.Socket.IsKnown() {
			t.Errorf("descriptor %d: what it is is not known", got.FD)
		}
	}
	if counted != len(report.FDs) {
		t.Errorf("the window has %d of the child's %d descriptors", counted, len(report.FDs))
	}
}

func (d *fdTally) evidence(fd int) evidence.Descriptor {
	e := evidence.Descriptor{FD: fd, EpollFD: -1, Read: d.Read, Write: d.Write, Accepts: d.Accepts,
		AcceptErrors: d.AcceptErrors, Connects: d.Connects, Closes: d.Closes, Shutdowns: d.Shutdowns,
		Controls: d.Controls, Dups: d.Dups}
	for index, n := range d.Deliveries {
		if n > 0 {
			e.EpollFD = d.Epoll
			mask := evidence.EventMask(d.DeliveredMask[index])
			e.Deliveries = append(e.Deliveries, evidence.Delivery{Mask: mask, Count: n})
		}
	}
	return e
}

// TestLoadIsComplete guards the test above: a load that stopped doing something would agree just as well.
func TestLoadIsComplete(t *testing.T) {
	c := startChild(t, "load", nil)
	c.await(loadThreads)
	c.goAhead(loadThreads)
	c.await(loadThreads)
	var report loadReport
	c.finish(loadThreads, &report)

	var sum fdTally
	masks := map[evidence.EventMask]bool{}
	for _, d := range report.FDs {
		sum.add(d)
		for _, v := range d.evidence(0).Deliveries {
			masks[v.Mask] = true
		}
	}
	counters := map[string]uint64{
		"read bytes": sum.Read.Bytes, "tiny reads": sum.Read.Tiny, "zero reads": sum.Read.Zero,
		"read EAGAIN": sum.Read.Again, "read ECONNRESET": sum.Read.Reset,
		"other read errors": sum.Read.Errors,
		"write bytes":       sum.Write.Bytes, "tiny writes": sum.Write.Tiny, "zero writes": sum.Write.Zero,
		"write EAGAIN": sum.Write.Again, "write EPIPE": sum.Write.Pipe,
		"accepts": sum.Accepts, "accept errors": sum.AcceptErrors, "connects": sum.Connects,
		"closes":    sum.Closes,
		"shutdowns": sum.Shutdowns, "controls": sum.Controls, "dups": sum.Dups,
		"calls beyond the table": report.Beyond, "32-bit calls": report.Compat,
	}
	for name, n := range counters {
		if n == 0 {
			t.Errorf("the load has no %s", name)
		}
	}
	var waits evidence.Waits
	var slept uint64
	for _, thread := range report.Threads {
		for _, s := range thread.Sets {
			waits.Add(&s.Waits)
			slept += s.Slept
		}
	}
	impossible := map[string]bool{"infinite none": true, "unknown none": true, "unknown events": true}
	for class := range evidence.TimeoutClasses {
		for result := range evidence.ResultClasses {
			if name := fmt.Sprint(class, " ", result); waits[class][result] == 0 && !impossible[name] {
				t.Errorf("the load has no waits %s", name)
			}
		}
	}
	if slept == 0 || slept == waits.Total() {
		t.Errorf("%d of %d waits slept, want some", slept, waits.Total())
	}
	for _, mask := range []evidence.EventMask{
		evidence.EventIn,
		evidence.EventHup,
		evidence.EventOut | evidence.EventErr,
		evidence.EventIn | evidence.EventPri | evidence.EventOut,
		evidence.EventIn | evidence.EventOut | evidence.EventRdHup,
		evidence.EventIn | evidence.EventOut | evidence.EventErr | evidence.EventHup | evidence.EventRdHup,
	} {
		if !masks[mask] {
			t.Errorf("the load has no delivery of %v, only of %v", mask, masks)
		}
	}
}
