package control

import (
	"fmt"
	"time"

	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/evidence"
)

// activity is the lines of "show activity": those of HAProxy 2.6 in its order, each with what comes nearest
// to it here, 0 where nothing does, and our own after them.
var activity = []struct {
	name string
	of   func(*engine.WorkerView) uint64
}{
	{"ctxsw", func(w *engine.WorkerView) uint64 { return w.Wakeups + w.Accepted }},
	{"tasksw", func(w *engine.WorkerView) uint64 { return w.Wakeups }},
	{"empty_rq", none},
	{"long_rq", none},
	{"loops", func(w *engine.WorkerView) uint64 { return w.Turns }},
	// Waits that could not sleep because a stream was due.
	{"wake_tasks", func(w *engine.WorkerView) uint64 { return w.Waits.Timeout(evidence.TimeoutZero) }},
	{"wake_signal", none},
	{"poll_io", func(w *engine.WorkerView) uint64 { return w.Waits.Result(evidence.ResultEvents) }},
	// Waits that slept until their timeout.
	{"poll_exp", func(w *engine.WorkerView) uint64 {
		return w.Waits[evidence.TimeoutPositive][evidence.ResultNone]
	}},
	// Events of descriptors that were closed or used again in the meantime.
	{"poll_drop_fd", func(w *engine.WorkerView) uint64 { return w.Stale }},
	{"poll_skip_fd", none},
	{"conn_dead", none},
	{"stream_calls", func(w *engine.WorkerView) uint64 { return w.Wakeups }},
	{"pool_fail", none},
	{"buf_wait", none},
	{"cpust_ms_tot", none},
	{"cpust_ms_1s", none},
	{"cpust_ms_15s", none},
	{"avg_loop_us", none},
	{"accepted", func(w *engine.WorkerView) uint64 { return w.Accepted }},
	{"accq_pushed", func(w *engine.WorkerView) uint64 { return w.Handed }},
	{"accq_full", none},
	{"accq_ring", none},
	{"fd_takeover", none},

	{"events", func(w *engine.WorkerView) uint64 { return w.Events }},
	{"timers", func(w *engine.WorkerView) uint64 { return w.Timers }},
	{"slots", func(w *engine.WorkerView) uint64 { return w.Slots }},
	{"no_progress", func(w *engine.WorkerView) uint64 { return w.Charged }},
	{"late", func(w *engine.WorkerView) uint64 { return w.Late }},
	{"unnamed", func(w *engine.WorkerView) uint64 { return w.Unnamed }},
	{"buf_refused", func(w *engine.WorkerView) uint64 { return w.BuffersRefused }},
	{"stuck_ms", func(w *engine.WorkerView) uint64 { return uint64(w.Stuck / time.Millisecond) }},
}

func none(*engine.WorkerView) uint64 { return 0 }

// averages are the lines whose total is the mean of the workers.
var averages = map[string]bool{"avg_loop_us": true}

func showActivity(c *session, _ []string) {
	workers := c.server.options.Engine.Workers()
	now := time.Now()
	fmt.Fprintf(c.out, "thread_id: 1 (1..%d)\n", len(workers))
	fmt.Fprintf(c.out, "date_now: %d.%06d\n", now.Unix(), now.Nanosecond()/1000)
	for _, line := range activity {
		var total uint64
		for i := range workers {
			total += line.of(&workers[i])
		}
		if averages[line.name] {
			total /= uint64(len(workers))
		}
		fmt.Fprintf(c.out, "%s: %d", line.name, total)
		if len(workers) > 1 {
			fmt.Fprint(c.out, " [")
			for i := range workers {
				fmt.Fprintf(c.out, " %d", line.of(&workers[i]))
			}
			fmt.Fprint(c.out, " ]")
		}
		fmt.Fprintln(c.out)
	}
}
