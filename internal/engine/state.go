package engine

import (
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
)

// State returns the engine's own description of itself for a diagnosis: every worker, and those streams
// that a rule may want to see, or that have one of the descriptors.
func (e *Engine) State(owners ...int) *evidence.Snapshot {
	s := &evidence.Snapshot{
		At: e.kernel.Now(),
		Process: evidence.Process{
			PID: os.Getpid(), Command: "whyspin", Kind: evidence.KindWhyspin,
			Started: evidence.Know(e.started),
		},
		Stopping:    e.stopping.Load(),
		StreamCount: e.Streams(),
	}
	for _, w := range e.workers {
		s.Workers = append(s.Workers, w.state())
	}
	held := 0
	stuck := e.visit((*worker).viewUnread, func(v *StreamView) bool {
		suspect := v.suspect() || slices.Contains(owners, v.Ends[stream.Client].FD) ||
			slices.Contains(owners, v.Ends[stream.Server].FD)
		if !suspect && held < maxHeld && (v.held() || v.morsels()) {
			held++
			suspect = true
		}
		if suspect {
			s.Streams = append(s.Streams, v.State())
		}
		return true
	})
	for _, k := range stuck {
		of := &s.Workers[k.Worker-1]
		of.Stuck, of.Stack, of.Running = k.For, k.Stack, k.Running
	}
	s.Listeners = e.listenerStates()
	return s
}

// listedFor is how old the last wakeup without progress may be for a stream to be listed as suspect.
const listedFor = time.Second

// listedRow is how many deliveries without a call between them make a stream worth a look. Edge-triggered, a
// descriptor is delivered about as often as its peer does something.
const listedRow = 100

// suspect reports whether a rule may want to see the stream: an orphan, one with a deadline in the past, one
// that was lately charged with wakeups, one with a descriptor that is delivered again and again, one whose
// TLS has kept an error to itself, or one that could go on and is not due (rule 6 is broken).
func (v *StreamView) suspect() bool {
	a := v.Account
	return v.Orphaned || v.overdue() || a.Consecutive > 1 && v.At.Sub(a.Last) < listedFor ||
		v.Ends[stream.Client].Row >= listedRow || v.Ends[stream.Server].Row >= listedRow ||
		v.Ends[stream.Client].keepsError() || v.Ends[stream.Server].keepsError() ||
		!v.Due && !v.Running && (v.Ends[stream.Client].couldGoOn() || v.Ends[stream.Server].couldGoOn())
}

// maxHeld is how many streams are listed at most that are in order as far as the engine knows: there may be
// thousands of slow readers.
const maxHeld = 256

// held reports whether bytes have waited to be written or read since long before now and nothing was done
// about it: a slow reader, or an edge that was lost (S1).
func (v *StreamView) held() bool {
	client, server := &v.Ends[stream.Client], &v.Ends[stream.Server]
	return client.Unread > 0 || server.Unread > 0 || v.At.Sub(v.Woken) >= listedFor && !v.Due &&
		(v.Request.Buffered > 0 && server.WantsWrite || v.Response.Buffered > 0 && client.WantsWrite)
}

// restsFor is how long a stream that is not due must not have run for a look at what waits for it.
const restsFor = 100 * time.Millisecond

// viewUnread is view with a look at what waits in the kernel for a stream that rests and wants to read. While
// the worker sleeps and has no events, nothing is on its way to the stream that would tell it; with events, a
// worker waits for a processor. The worker's lock is held.
func (w *worker) viewUnread(c *conn, now ktime.Time) StreamView {
	v := w.view(c, now)
	if v.Due || now.Sub(v.Woken) < restsFor || w.waitBegan.Load() == 0 {
		return v
	}
	for side := range v.Ends {
		end := &v.Ends[side]
		if end.WantsRead && end.FD >= 0 && !end.ready.has(readable) && !end.ready.has(connecting) {
			if n := w.kernel.Unread(end.FD); n > 0 && !w.kernel.HasEvents(w.set) {
				end.Unread = n
			}
		}
	}
	return v
}

// morsels reports whether a side is read in next to nothing at a time though more was there (B4): many reads
// for each event, of a few bytes.
func (v *StreamView) morsels() bool {
	const least, perEvent = 256, 4
	totals := [2]uint64{v.Request.Total, v.Response.Total}
	for side := range v.Ends {
		reads := v.Ends[side].Reads
		if reads >= least && totals[side] <= tinyIO*uint64(reads) && reads >= perEvent*v.Ends[side].Events {
			return true
		}
	}
	return false
}

// keepsError reports whether the TLS of the end has met an error of which the stream was not told.
func (v *EndView) keepsError() bool { return v.TLS != nil && v.TLS.Error != "" }

// couldGoOn reports whether the end is ready for what the stream wants. The stream is due then.
func (v *EndView) couldGoOn() bool {
	return v.FD >= 0 && !v.ready.has(connecting) &&
		(v.WantsRead && v.ready.has(readable) || v.WantsWrite && v.ready.has(writable))
}

// lateBy is how much later than its deadline a stream may run on a worker that is merely busy.
const lateBy = 100 * time.Millisecond

func (v *StreamView) overdue() bool { return v.Deadline.Add(lateBy).Passed(v.At) }

// Suspicious reports whether "show sess susp" lists the stream.
func (v *StreamView) Suspicious() bool { return v.suspect() }

// State describes the stream in the words of a diagnosis.
func (v *StreamView) State() evidence.Stream {
	s := evidence.Stream{
		ID: v.ID, Worker: v.Worker, Frontend: v.Frontend.Name, Client: v.Client.String(),
		Age: v.Age(), ClientState: v.ClientState.String(), ServerState: v.ServerState.String(),
		Request: channelState(v.Request), Response: channelState(v.Response),
		ClientFD: v.Ends[stream.Client].FD, ServerFD: v.Ends[stream.Server].FD,
		Calls: v.Account.Calls, NoProgress: evidence.Know(v.Account.Consecutive),
		Cause: v.Account.Cause.String(), Runnable: v.Due || v.Running || v.Deadline.Passed(v.At),
		Retries: v.Retries, Redispatched: v.Redispatched, History: v.History,
		Fruitless: evidence.Know(v.Account.Charged), Woken: evidence.Know(v.Woken),
		Requeued: evidence.Know(v.Requeued), Attempts: evidence.Know(v.Attempts),
		ClientSide: v.Ends[stream.Client].state(), ServerSide: v.Ends[stream.Server].state(),
	}
	if v.Account.Since.IsSet() {
		s.NoProgressSince = evidence.Know(v.Account.Since)
	}
	if v.Backend != nil {
		s.Backend = v.Backend.Name
	}
	if v.Server != nil {
		s.Server, s.Upstream = v.Server.Name, v.ServerAddress.String()
	}
	add := func(timer stream.Timer, deadline ktime.Time) {
		if deadline.IsSet() {
			s.Timers = append(s.Timers, evidence.Timer{Name: timer.String(), Deadline: deadline})
		}
	}
	add(v.SideTimer, v.SideDeadline)
	for _, c := range [...]*stream.ChannelView{&v.Request, &v.Response} {
		add(c.InTimer, c.InDeadline)
		add(c.OutTimer, c.OutDeadline)
	}
	return s
}

func channelState(c stream.ChannelView) evidence.Channel {
	return evidence.Channel{
		InShut: c.In == stream.Shut, OutPending: c.Out == stream.Pending, OutShut: c.Out == stream.Shut,
		Buffered: c.Buffered, Total: c.Total, Written: evidence.Know(c.Written),
		Full: evidence.Know(c.Full),
	}
}

// state describes an end, if there is one.
func (v *EndView) state() evidence.Observed[evidence.Side] {
	if v.FD < 0 {
		return evidence.Observed[evidence.Side]{}
	}
	return evidence.Know(evidence.Side{
		Readable: v.ready.has(readable), Writable: v.ready.has(writable),
		Connecting: v.ready.has(connecting), HungUp: v.ready.has(hungUp),
		WantsRead: v.WantsRead, WantsWrite: v.WantsWrite, Unread: uint64(v.Unread),
		Reads: uint64(v.Reads), Writes: uint64(v.Writes),
		ReadsAgain: uint64(v.ReadsAgain), WritesAgain: uint64(v.WritesAgain),
		Events: uint64(v.Events), Row: uint64(v.Row), Mask: evidence.EventMask(v.Mask),
		Rewrites: uint64(v.Rewrites), EdgeTriggered: v.EdgeTriggered, TLS: v.TLS,
	})
}

// state describes a worker. When it does not give its lock, the last published summary speaks for it.
func (w *worker) state() evidence.Worker {
	var sum summary
	at := ktime.Never
	if !w.locked(func() { sum, at = w.summarize(), w.kernel.Now() }) {
		sum = *w.published.Load()
		at = sum.at
	}
	s := &sum.stats
	return evidence.Worker{
		Index: w.index + 1, TID: int(w.tid.Load()), EpollFD: w.set, WakerFD: w.waker,
		Streams:  sum.streams,
		RunQueue: sum.queue, Waits: s.waits, Wakeups: s.wakeups, NoProgress: s.charged, Late: s.late,
		Read: s.read, Write: s.write,
		CountedAt: evidence.Know(at), ZeroTimeouts: evidence.Know(s.zero),
		NearestDeadline: evidence.Know(sum.next),
		Events:          evidence.Know(s.events), Stale: evidence.Know(s.stale),
		Elsewhere: evidence.Know(s.foreign), Yields: evidence.Know(w.yields.Load()),
		Accepted: evidence.Know(s.accepted), Refused: evidence.Know(s.refused),
	}
}

func (w *worker) summarize() summary {
	return summary{
		at: w.now, next: w.nearestDeadline(), streams: len(w.slots) - len(w.freeSlots),
		queue: len(w.queue), stats: w.stats,
		buffers: w.buffers.count, bufferBytes: w.buffers.used, bufferPeak: w.buffers.peak,
		bufferLimit: w.buffers.limit, buffersRefused: w.buffers.refused,
		pipes: w.pipes.used, pipesFree: len(w.pipes.free), pipeLimit: w.pipes.limit,
		pipesRefused: w.pipes.refused,
	}
}

// nearestDeadline is that of the stream whose timer comes next, by the stream's own account.
func (w *worker) nearestDeadline() ktime.Time {
	if !w.timers.next().IsSet() {
		return ktime.Never
	}
	deadline, _ := w.timers.entries[0].conn.stream.Deadline()
	return deadline
}

// WorkerView is what "show info" and "show activity" say of one worker.
type WorkerView struct {
	Index, TID       int
	EpollFD, WakerFD int
	Waits            evidence.Waits
	Events, Stale    uint64
	Turns            uint64
	Wakeups, Charged uint64
	Late, Unnamed    uint64
	Timers, Slots    uint64
	Accepted, Handed uint64
	Read, Write      evidence.IO
	Streams, Queue   int
	// SentRate is the bytes written per second.
	SentRate float64
	// Idle is the share of the last second, or more, that the worker waited.
	Idle float64
	// Buffers are the buffers in use, the others in bytes; BuffersRefused counts wishes for larger buffers
	// that the limit forbade.
	Buffers, BufferBytes, BufferPeak, BufferLimit int
	BuffersRefused                                uint64
	// Pipes are those of the buffers in use that are pipes, PipesFree the pipes kept besides, PipeLimit how
	// many there may be; PipesRefused counts those that the kernel did not grant. Spliced is the bytes
	// written that went through one.
	Pipes, PipesFree, PipeLimit int
	PipesRefused, Spliced       uint64
	Stuck                       time.Duration
}

// Workers describes every worker.
func (e *Engine) Workers() []WorkerView {
	views := make([]WorkerView, 0, len(e.workers))
	for _, w := range e.workers {
		views = append(views, w.describeSelf())
	}
	return views
}

func (w *worker) describeSelf() WorkerView {
	v := WorkerView{Index: w.index + 1, TID: int(w.tid.Load()), EpollFD: w.set, WakerFD: w.waker}
	var sum summary
	got := w.locked(func() {
		now := w.kernel.Now()
		sum = w.summarize()
		v.Idle = w.idle(now)
	})
	if !got {
		sum = *w.published.Load()
		v.Stuck = w.stuck()
	}
	s := &sum.stats
	v.Waits, v.Events, v.Stale, v.Turns = s.waits, s.events, s.stale, s.waits.Total()
	v.Wakeups, v.Charged, v.Late, v.Unnamed = s.wakeups, s.charged, s.late, s.unnamed
	v.Timers, v.Slots, v.Accepted, v.Handed = s.timers, s.slots, s.accepted, s.handed
	v.Read, v.Write, v.Streams, v.Queue = s.read, s.write, sum.streams, sum.queue
	v.SentRate = s.sent.PerSecond(w.kernel.Now())
	v.Buffers, v.BufferBytes, v.BufferPeak = sum.buffers, sum.bufferBytes, sum.bufferPeak
	v.BufferLimit, v.BuffersRefused = sum.bufferLimit, sum.buffersRefused
	v.Pipes, v.PipesFree, v.PipeLimit = sum.pipes, sum.pipesFree, sum.pipeLimit
	v.PipesRefused, v.Spliced = sum.pipesRefused, s.spliced
	return v
}

// idleSample is the time blocked as of a moment, for the share of the time since.
type idleSample struct {
	at      ktime.Time
	blocked time.Duration
	share   float64
}

// idleEvery is over how long at least the idle share is taken.
const idleEvery = time.Second

// sampleIdle renews the idle share when the last sample is old enough.
func (w *worker) sampleIdle(now ktime.Time) {
	s := &w.stats.sampled
	over := now.Sub(s.at)
	if over < idleEvery {
		return
	}
	*s = idleSample{at: now, blocked: w.stats.blocked,
		share: float64(w.stats.blocked-s.blocked) / float64(over)}
}

// idle returns the idle share at now, the wait that is going on included. The worker's lock is held.
func (w *worker) idle(now ktime.Time) float64 {
	last := w.stats.sampled
	over := now.Sub(last.at)
	if over < idleEvery {
		return last.share
	}
	blocked := w.stats.blocked - last.blocked
	if began := ktime.Time(w.waitBegan.Load()); began > 0 {
		blocked += now.Sub(max(began, last.at))
	}
	return min(1, float64(blocked)/float64(over))
}

// Totals are the process-wide counters of "show info".
type Totals struct {
	Started          ktime.Time
	Streams, MaxConn int
	CumulatedConns   uint64
	// ConnRate is the client connections per second, MaxConnRate the highest so far.
	ConnRate    float64
	MaxConnRate uint64

	BytesIn, BytesOut              uint64
	Listeners                      int
	Stopping                       bool
	Frontends, Backends, Processes int
	HeapBytes                      uint64
}

// Totals returns the process-wide counters.
func (e *Engine) Totals() Totals {
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	rate, highest := e.opened.read(e.kernel.Now())
	return Totals{
		Started: e.started, Streams: e.Streams(), MaxConn: int(e.maxConn),
		CumulatedConns: uint64(e.cumulated.Load()), BytesIn: e.bytesIn.Load(), BytesOut: e.bytesOut.Load(),
		Listeners: len(e.listeners), Stopping: e.stopping.Load(), Frontends: len(e.frontends),
		Backends: len(e.backends), Processes: 1, HeapBytes: memory.HeapAlloc,
		ConnRate: rate, MaxConnRate: highest,
	}
}
