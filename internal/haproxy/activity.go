package haproxy

import (
	"io"
	"strconv"
	"strings"
)

// Activity is the answer to "show activity" (since 1.9): counters of the event loops. Before 2.3 they are
// those of the one thread that answered; since then there is a sum and the counter of each thread.
type Activity struct {
	// Counters are by the name that is printed.
	Counters map[string]Counter
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

// ReadActivity reads the answer to "show activity". Lines that are no counters, such as the help text of a
// version that does not know the command, are skipped.
func ReadActivity(r io.Reader) (Activity, error) {
	a := Activity{Counters: map[string]Counter{}}
	lines := newLines(r)
	for lines.next() {
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
	return a, lines.err
}
