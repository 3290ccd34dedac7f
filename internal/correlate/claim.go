package correlate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/whyspin/whyspin/internal/evidence"
)

// What another program says of its event loops and descriptors is a second witness beside the kernel.

// addClaim adds what the program says of the descriptor of a finding.
func (in *input) addClaim(f *Finding) {
	if f.FD == nil || in.After == nil {
		return
	}
	at := slices.IndexFunc(in.After.Claims, func(c evidence.Claim) bool { return c.FD == f.FD.Number })
	if at < 0 {
		return
	}
	c := &in.After.Claims[at]
	asks := "asks for no event"
	switch {
	case c.Reads && c.Writes:
		asks = "asks to read and to write"
	case c.Reads:
		asks = "asks to read and not to write"
	case c.Writes:
		asks = "asks to write and not to read"
	}
	text := fmt.Sprintf("its own table %s on descriptor %d; last event: %v", asks, c.FD, c.Events)
	for _, part := range []struct{ name, value string }{{"handler", c.Handler}, {"frontend", c.Frontend},
		{"server", c.Server}, {"threads", c.Threads}} {
		if part.value != "" {
			text += fmt.Sprintf("; %s %s", part.name, part.value)
		}
	}
	if c.Suspicious {
		text += "; it finds this odd itself"
	}
	f.add(Fact{Text: text, Source: sourceDescriptors})
}

// toldCounters are the counters of a loop that are told beside the number of its turns, those first that say
// why it did not sleep. The names are those of HAProxy, whose management guide explains them.
var toldCounters = []string{
	"wake_tasks", "wake_cache", "wake_signal", "poll_exp", "poll_io", "poll_drop", "poll_drop_fd",
	"poll_dead", "poll_skip", "poll_skip_fd", "empty_rq", "long_rq",
}

// addActivity adds what the program counts of a loop that the kernel has counted, too.
func (in *input) addActivity(f *Finding, l *loop) {
	if a, ok := activityOf(in.Case, l.tid); ok && l.source == sourceSyscalls && in.agrees(&a, l) {
		f.addTurns(&a, l.tid)
	}
}

// addAwake adds what the program counts of the loops that did not sleep, where the kernel has counted none.
func (in *input) addAwake(f *Finding) {
	for i := range in.threads {
		t := &in.threads[i]
		if t.Source != sourceActivity || t.Slept.Or(1) >= awake ||
			len(f.threads) > 0 && !slices.Contains(f.threads, t.TID) {
			continue
		}
		if a, ok := activityOf(in.Case, t.TID); ok {
			f.addTurns(&a, t.TID)
		}
	}
}

func (f *Finding) addTurns(a *evidence.Activity, tid int) {
	var told []string
	for _, name := range toldCounters {
		if n := a.Counters[name]; n > 0 {
			told = append(told, fmt.Sprintf("%s %d", name, n))
		}
	}
	text := fmt.Sprintf("turns of the loop of thread %d by its own count, between two looks at it", tid)
	if len(told) > 0 {
		text += ": " + strings.Join(told, ", ")
	}
	f.add(Fact{Text: text, Count: evidence.Know(a.Loops), Source: sourceActivity, Weight: 0.2})
}

// activityOf returns what the program counted of a thread between the two looks at it. Which thread a counter
// belongs to is known when the kernel has as many threads as there are counters: they are in the order in
// which the main thread has started the others. With several that rests on ids that have grown.
func activityOf(c *evidence.Case, tid int) (evidence.Activity, bool) {
	if c.Window == nil || c.Before == nil || c.After == nil || c.After.At <= c.Before.At ||
		len(c.Window.Threads) != len(c.After.Activity) || len(c.Before.Activity) != len(c.After.Activity) {
		return evidence.Activity{}, false
	}
	var tids []int
	for i := range c.Window.Threads {
		if id := c.Window.Threads[i].TID; id != c.Window.PID {
			tids = append(tids, id)
		}
	}
	slices.Sort(tids)
	at := slices.Index(append([]int{c.Window.PID}, tids...), tid)
	if at < 0 || at >= len(c.After.Activity) {
		return evidence.Activity{}, false
	}
	return c.After.Activity[at].Since(c.Before.Activity[at]), true
}

// agrees reports whether the program's count can be of the same thread as the kernel's: their rates are not
// far apart. The looks are not at the ends of the window.
func (in *input) agrees(a *evidence.Activity, l *loop) bool {
	const apart = 4
	own := float64(a.Loops) / in.After.At.Sub(in.Before.At).Seconds()
	kernel := float64(l.waits.Total()) / in.Window.Length().Seconds()
	return own <= apart*kernel && kernel <= apart*own
}
