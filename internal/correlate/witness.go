package correlate

import (
	"fmt"
	"slices"

	"github.com/whyspin/whyspin/internal/evidence"
)

// Ledger is what the workers of a process counted of themselves over some time.
type Ledger struct {
	Waits       evidence.Waits
	Read, Write evidence.IO
	Accepted    uint64
}

// Add adds v to l.
func (l *Ledger) Add(v *Ledger) {
	l.Waits.Add(&v.Waits)
	l.Read.Add(&v.Read)
	l.Write.Add(&v.Write)
	l.Accepted += v.Accepted
}

// Since returns what was counted since v, and false when v is not an earlier state of the same ledger.
func (l Ledger) Since(v *Ledger) (Ledger, bool) {
	ok := l.Waits.Sub(&v.Waits) && l.Read.Sub(&v.Read) && l.Write.Sub(&v.Write) && l.Accepted >= v.Accepted
	if !ok {
		return Ledger{}, false
	}
	l.Accepted -= v.Accepted
	return l, true
}

// Witnessed is one thing that both the kernel and the workers' own ledger counted.
type Witnessed struct {
	What   string
	Kernel uint64
	// AtLeast is what the ledger counted in a time within the window, AtMost in one around it: the truth lies
	// between them. Either may be missing.
	AtLeast, AtMost evidence.Observed[uint64]
	// sure is what of the kernel's count is the workers' for sure. lost is how many it may have missed,
	// edge how many may be counted in another window by one of the two: those that end while the window
	// begins or ends.
	sure, lost, edge uint64
}

// Disagreement says in a sentence how the two differ, "" when they agree as far as what was lost, and what
// the edges of the window leave open, allows.
func (w *Witnessed) Disagreement() string {
	if least, ok := w.AtLeast.Get(); ok && w.Kernel+w.lost+w.edge < least {
		return fmt.Sprintf("the two witnesses disagree: the kernel counted %d %s, the workers' own ledger at"+
			" least %d: the probes missed some, and do not know of it", w.Kernel, w.What, least)
	}
	if most, ok := w.AtMost.Get(); ok && w.sure > most+w.edge {
		return fmt.Sprintf("the two witnesses disagree: the kernel counted %d %s, the workers' own ledger at"+
			" most %d: the process makes some of which it keeps no account", w.sure, w.What, most)
	}
	return ""
}

// Owned are the descriptors by which the workers' calls are told from those of the rest of the process.
type Owned struct {
	// Sets are the workers' epoll sets, Wakers the eventfds by which they are woken, Listeners what they
	// accept from.
	Sets, Wakers, Listeners []int
}

// Witnesses sets side by side what the kernel counted in a window and what the ledger did: in a time within
// the window, and in one around it; nil for a time that is not known.
func Witnesses(w *evidence.Window, own *Owned, within, around *Ledger) []Witnessed {
	if !w.Hooks.Syscall.IsKnown() {
		return nil
	}
	sure, few, all := kernelLedgers(w, own)
	lost := lostCalls(&w.Losses)
	var rows []Witnessed
	add := func(what string, of func(*Ledger) uint64) {
		row := Witnessed{What: what, Kernel: of(few), sure: of(sure), lost: lost,
			edge: 2 * uint64(len(own.Sets))}
		if within != nil {
			row.AtLeast = evidence.Know(of(within))
			// What is on descriptors of which it is not known that they are the workers' may be theirs.
			row.lost += of(all) - of(few)
		}
		if around != nil {
			row.AtMost = evidence.Know(of(around))
		}
		rows = append(rows, row)
	}
	for t := evidence.TimeoutZero; t < evidence.TimeoutUnknown; t++ {
		add(fmt.Sprintf("waits with timeout %s", t), func(l *Ledger) uint64 { return l.Waits.Timeout(t) })
	}
	add("reads", func(l *Ledger) uint64 { return l.Read.Calls })
	add("bytes read", func(l *Ledger) uint64 { return l.Read.Bytes })
	add("reads with EAGAIN", func(l *Ledger) uint64 { return l.Read.Again })
	add("writes", func(l *Ledger) uint64 { return l.Write.Calls })
	add("bytes written", func(l *Ledger) uint64 { return l.Write.Bytes })
	add("writes with EAGAIN", func(l *Ledger) uint64 { return l.Write.Again })
	add("accepted connections", func(l *Ledger) uint64 { return l.Accepted })
	return rows
}

// kernelLedgers adds up what the kernel counted: few on the descriptors that the sets delivered, sure on
// those of them whose number was one file's all the time, and all on those, too, that the sets did not
// deliver.
func kernelLedgers(w *evidence.Window, own *Owned) (sure, few, all *Ledger) {
	sure, few, all = &Ledger{}, &Ledger{}, &Ledger{}
	for i := range w.Threads {
		for j := range w.Threads[i].Sets {
			if s := &w.Threads[i].Sets[j]; slices.Contains(own.Sets, s.FD) {
				sure.Waits.Add(&s.Waits)
				few.Waits.Add(&s.Waits)
				all.Waits.Add(&s.Waits)
			}
		}
	}
	for i := range w.Descriptors {
		d := &w.Descriptors[i]
		n := Ledger{Read: d.Read, Write: d.Write}
		switch {
		case slices.Contains(own.Wakers, d.FD):
			continue
		case d.EpollFD < 0 && isPipe(d):
			// What is spliced is counted at the socket, too, as the workers count it.
			continue
		case slices.Contains(own.Listeners, d.FD):
			n = Ledger{Accepted: d.Accepts}
			sure.Add(&n)
			few.Add(&n)
		case slices.Contains(own.Sets, d.EpollFD):
			if d.Closes == 0 {
				sure.Add(&n)
			}
			few.Add(&n)
		}
		all.Add(&n)
	}
	return sure, few, all
}

func isPipe(d *evidence.Descriptor) bool {
	s, known := d.Socket.Get()
	return known && s.Kind == "pipe"
}

// disagreements compares the two witnesses of a case. The process is asked within the window, or before and
// after it.
func disagreements(c *evidence.Case) []string {
	if c.Window == nil || c.Before == nil || c.After == nil {
		return nil
	}
	var own Owned
	var ledger Ledger
	within := c.Before.At >= c.Window.Start && c.After.At <= c.Window.End
	around := c.Before.At <= c.Window.Start && c.After.At >= c.Window.End
	for i := range c.After.Workers {
		after := &c.After.Workers[i]
		before := workerOf(c.Before, after.Index)
		if before == nil || !after.Accepted.IsKnown() {
			return nil
		}
		// What a busy worker has published some time ago is of another time.
		then, now := before.CountedAt.Or(0), after.CountedAt.Or(0)
		within = within && then >= c.Window.Start
		around = around && now >= c.Window.End
		is, was := ledgerOf(after), ledgerOf(before)
		n, ok := is.Since(&was)
		if !ok {
			return nil
		}
		ledger.Add(&n)
		own.Sets, own.Wakers = append(own.Sets, after.EpollFD), append(own.Wakers, after.WakerFD)
	}
	for i := range c.After.Listeners {
		own.Listeners = append(own.Listeners, c.After.Listeners[i].FD)
	}
	var rows []Witnessed
	switch {
	case within:
		rows = Witnesses(c.Window, &own, &ledger, nil)
	case around:
		rows = Witnesses(c.Window, &own, nil, &ledger)
	}
	var said []string
	for i := range rows {
		if text := rows[i].Disagreement(); text != "" {
			said = append(said, text)
		}
	}
	return said
}

func ledgerOf(w *evidence.Worker) Ledger {
	return Ledger{Waits: w.Waits, Read: w.Read, Write: w.Write, Accepted: w.Accepted.Or(0)}
}
