package haproxy

import (
	"io"
	"strconv"
	"strings"

	"github.com/whyspin/whyspin/internal/evidence"
)

// Activity is the answer to "show activity" (since 1.9): counters of the event loops. Before 2.3 they are
// those of the one thread that answered; since then there is a sum and the counter of each thread.
type Activity struct {
	// Counters are by the name that is printed.
	Counters map[string]Counter
	// Begin is the first line, when there are no counters: the reason why.
	Begin string
}

// Counter is one counter of the event loops.
type Counter struct {
	Total uint64
	// Threads is the counter of each thread, nil when only one number is printed.
	Threads []uint64
}

// maxCounters and maxCounterThreads bound what is kept of an answer: HAProxy has about 40 counters, and at
// most 4096 threads in its largest configuration.
const (
	maxCounters       = 256
	maxCounterThreads = 4096
)

// ReadActivity reads the answer to "show activity", up to the empty line at its end. Lines that are no
// counters, such as the help text of a version that does not know the command, are skipped. What follows can
// be read afterwards, as with ReadInfo.
func ReadActivity(r io.Reader) (Activity, error) {
	a := Activity{Counters: map[string]Counter{}}
	lines := newLines(r)
	begin := ""
	for lines.next() && !lines.blank {
		if begin == "" {
			begin = string(lines.line[:min(len(lines.line), maxBegin)])
		}
		key, value := cutColon(lines.text())
		total, rest, _ := strings.Cut(value, " ")
		n, err := strconv.ParseUint(total, 10, 64)
		if err != nil || strings.Contains(key, " ") || key == "thread_id" || len(a.Counters) >= maxCounters {
			continue
		}
		c := Counter{Total: n}
		if list, ok := strings.CutPrefix(strings.TrimSpace(rest), "["); ok {
			for word := range strings.FieldsSeq(strings.TrimSuffix(list, "]")) {
				v, err := strconv.ParseUint(word, 10, 64)
				if err == nil && len(c.Threads) < maxCounterThreads {
					c.Threads = append(c.Threads, v)
				}
			}
		}
		a.Counters[key] = c
	}
	if len(a.Counters) == 0 {
		a.Begin = begin
	}
	return a, lines.err
}

// Loops returns what each event loop counts, in the order of the threads. Without a counter for each thread
// the numbers are those of the thread that answered, which are told only of a process that has no other.
func (a Activity) Loops(info Info) []evidence.Activity {
	loops, ok := a.Counters["loops"]
	if !ok {
		return nil
	}
	of := func(c Counter, thread int) (uint64, bool) {
		switch {
		case thread < len(c.Threads):
			return c.Threads[thread], true
		case len(c.Threads) == 0 && info.Threads.Or(0) == 1:
			return c.Total, true
		}
		return 0, false
	}
	var all []evidence.Activity
	for thread := range max(len(loops.Threads), 1) {
		n, ok := of(loops, thread)
		if !ok {
			break
		}
		e := evidence.Activity{Thread: thread + 1, Loops: n, Counters: map[string]uint64{}}
		for name, c := range a.Counters {
			if v, ok := of(c, thread); ok && name != "loops" {
				e.Counters[name] = v
			}
		}
		all = append(all, e)
	}
	return all
}
