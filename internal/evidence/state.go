package evidence

import (
	"time"

	"github.com/whyspin/whyspin/internal/ktime"
)

// Kind is what kind of program a process is.
type Kind string

// The kinds of processes.
const (
	KindWhyspin Kind = "whyspin"
	KindHAProxy Kind = "haproxy"
	KindGeneric Kind = "generic"
)

// Process is who is being diagnosed.
type Process struct {
	PID     int    `json:"pid"`
	Command string `json:"command"`
	Kind    Kind   `json:"kind"`
	Version string `json:"version,omitempty"`
	// Program is what it runs, nil when nothing is sure.
	Program *Program `json:"program,omitempty"`
	// Surroundings are sentences about what is out of the ordinary around it: a container, a quota, a program
	// that was replaced on disk.
	Surroundings []string `json:"surroundings,omitempty"`
	// Started is when the process started, by the clock of ktime.
	Started Observed[ktime.Time] `json:"started"`
}

// Snapshot is what a process says of its own state at one moment.
type Snapshot struct {
	At      ktime.Time `json:"at"`
	Process Process    `json:"process"`
	// BusyPolling is true exactly when the configuration asks never to sleep. Stopping is true during a
	// soft stop.
	BusyPolling bool `json:"busy_polling"`
	Stopping    bool `json:"stopping"`

	Workers []Worker `json:"workers"`
	// StreamCount is the number of streams of the process, listed or not.
	StreamCount int `json:"stream_count"`
	// Streams are the streams that a rule may want to see: those that are suspect. A stream that is not
	// listed is in order as far as the process can tell.
	Streams []Stream `json:"streams"`
	// Activity is what the event loops of another program count, Claims what it says of descriptors that a
	// finding may be about. Claims that are about something else than what the kernel shows are not there.
	Activity []Activity `json:"activity,omitempty"`
	Claims   []Claim    `json:"claims,omitempty"`
	// Listeners are the listening sockets, when the process describes them.
	Listeners []Listener `json:"listeners,omitempty"`

	// Unknown are sentences about what the process could not say.
	Unknown []string `json:"unknown,omitempty"`
}

// Worker is one event loop of the process and its own counters since the start.
type Worker struct {
	// Index counts from 1; TID is the thread, EpollFD its epoll set, WakerFD the eventfd by which others wake
	// it, 0 when it does not say.
	Index   int `json:"index"`
	TID     int `json:"tid"`
	EpollFD int `json:"epoll_fd"`
	WakerFD int `json:"waker_fd,omitempty"`
	Streams int `json:"streams"`
	// RunQueue is the number of streams that are due now.
	RunQueue int   `json:"run_queue"`
	Waits    Waits `json:"waits"`
	// CountedAt is when the counts were taken: of a worker that does not come back to its loop, some time
	// ago.
	CountedAt Observed[ktime.Time] `json:"counted_at,omitzero"`
	// ZeroTimeouts says why waits had a timeout of zero. NearestDeadline is when the worker's next timer
	// passes by the streams' own account, Never when none is armed.
	ZeroTimeouts    Observed[ZeroTimeouts] `json:"zero_timeout_reasons,omitzero"`
	NearestDeadline Observed[ktime.Time]   `json:"nearest_deadline,omitzero"`
	// Events counts deliveries, Stale those for a descriptor that the worker has closed or registered anew,
	// Elsewhere those for a connection that it has handed to another worker.
	// Accepted counts the connections that it accepted, Refused the calls of accept that failed otherwise
	// than with EAGAIN.
	Events    Observed[uint64] `json:"events,omitzero"`
	Stale     Observed[uint64] `json:"stale,omitzero"`
	Elsewhere Observed[uint64] `json:"elsewhere,omitzero"`
	Accepted  Observed[uint64] `json:"accepted,omitzero"`
	Refused   Observed[uint64] `json:"accept_errors,omitzero"`
	// Wakeups counts the wakeups of streams, NoProgress those that neither consumed their cause nor moved
	// anything.
	Wakeups    uint64 `json:"wakeups"`
	NoProgress uint64 `json:"no_progress"`
	// Late counts the times a stream came back from its wakeup with a deadline in the past: rule 2 broken.
	Late uint64 `json:"late"`
	// Read and Write count the calls on proxied descriptors.
	Read  IO `json:"read"`
	Write IO `json:"write"`
	// Stuck is how long the worker has not come back to its loop, when that is long enough to be said;
	// Stack is then where it is.
	Stuck time.Duration `json:"stuck_ns,omitempty"`
	Stack string        `json:"stack,omitempty"`
	// Yields counts the times that it gave the CPU away while it waited for a lock.
	Yields Observed[uint64] `json:"yields,omitzero"`
	// Running is the id of the stream that a stuck worker is at, empty when it is at none.
	Running string `json:"running,omitempty"`
}

// ZeroTimeouts counts the waits with a timeout of zero by the first of these reasons that held.
type ZeroTimeouts struct {
	// RunQueue: streams were due to run. Deadline: a timer of the worker had passed, or a rest of a listener
	// was over.
	RunQueue uint64 `json:"run_queue"`
	Deadline uint64 `json:"deadline"`
	// Ahead: the nearest deadline lay ahead, by less than the millisecond in which waits are measured or,
	// when no flag was set, by any time.
	Ahead uint64 `json:"deadline_ahead"`
	// Flag: nothing was due, and the process was stopping. None: nothing was due.
	Flag uint64 `json:"flag"`
	None uint64 `json:"none"`
}

// Sub returns the counts since v, and false when v is not an earlier state of the same counts.
func (z ZeroTimeouts) Sub(v ZeroTimeouts) (ZeroTimeouts, bool) {
	if v.RunQueue > z.RunQueue || v.Deadline > z.Deadline || v.Ahead > z.Ahead || v.Flag > z.Flag ||
		v.None > z.None {
		return ZeroTimeouts{}, false
	}
	return ZeroTimeouts{
		RunQueue: z.RunQueue - v.RunQueue, Deadline: z.Deadline - v.Deadline, Ahead: z.Ahead - v.Ahead,
		Flag: z.Flag - v.Flag, None: z.None - v.None,
	}, true
}

// Total is the number of waits of all reasons.
func (z ZeroTimeouts) Total() uint64 { return z.RunQueue + z.Deadline + z.Ahead + z.Flag + z.None }

// Listener is a listening socket as its process describes it.
type Listener struct {
	FD       int    `json:"fd"`
	Address  string `json:"address"`
	Frontend string `json:"frontend"`
	// Armed is how many workers have it in their epoll set, Paused how many have taken it out for a while.
	Armed  int `json:"armed"`
	Paused int `json:"paused"`
	// Limit names the limit that is reached and what it is, empty when none is.
	Limit string `json:"limit,omitempty"`
	// Refused counts the calls of accept that failed, otherwise than with EAGAIN, since the start; Error is
	// the latest such error.
	Refused uint64 `json:"accept_errors"`
	// Fruitless counts the deliveries after which the listener stayed armed and nothing had been taken from
	// it.
	Fruitless uint64 `json:"fruitless"`
	Error     string `json:"error,omitempty"`
}

// Timer is one armed timer of a stream.
type Timer struct {
	// Name is the timeout it comes from: "connect", "queue", "client", "server", "tunnel", "client-fin" ...
	// A process that does not say which timeout was armed says what the timer is for: "server read".
	Name     string     `json:"name"`
	Deadline ktime.Time `json:"deadline"`
	// Passed is true exactly when the timer has passed and its process does not say when. Deadline is then
	// Never.
	Passed bool `json:"passed,omitempty"`
}

// Channel is one direction of a stream: bytes read from one side and written to the other.
type Channel struct {
	// InShut is true exactly when nothing more will be read into it, OutShut when nothing more will be
	// written from it. OutPending is true exactly when a shutdown waits for the buffer to drain.
	InShut     bool   `json:"in_shut"`
	OutPending bool   `json:"out_pending"`
	OutShut    bool   `json:"out_shut"`
	Buffered   int    `json:"buffered"`
	Total      uint64 `json:"total"`
	// Written is the bytes written. Full is true exactly when there is no room to read into.
	Written Observed[uint64] `json:"written,omitzero"`
	Full    Observed[bool]   `json:"full,omitzero"`
}

// Side is what a process believes of the descriptor of one side of a stream, and what it did on it.
type Side struct {
	// Readable and Writable are what the process has noted from the events of the descriptor; it tries again
	// only while they are set. Connecting is true until the outcome of a connect is known, HungUp when ERR or
	// HUP was delivered and nobody has looked at it.
	Readable   bool `json:"readable,omitempty"`
	Writable   bool `json:"writable,omitempty"`
	Connecting bool `json:"connecting,omitempty"`
	HungUp     bool `json:"hung_up,omitempty"`
	// WantsRead and WantsWrite are what the stream has use for.
	WantsRead  bool `json:"wants_read,omitempty"`
	WantsWrite bool `json:"wants_write,omitempty"`
	// Unread is how many bytes wait in the kernel to be read while the worker sleeps and the stream, which
	// has not run for a while, waits to be told of them. Nobody looks at the others.
	Unread uint64 `json:"unread,omitempty"`
	// Reads and Writes count calls since the stream was accepted, on all descriptors that the side had;
	// ReadsAgain and WritesAgain those that returned EAGAIN.
	Reads       uint64 `json:"reads"`
	Writes      uint64 `json:"writes"`
	ReadsAgain  uint64 `json:"reads_eagain"`
	WritesAgain uint64 `json:"writes_eagain"`
	// Events counts deliveries since the descriptor was registered, Row those since the last call on it, and
	// Mask is the latest.
	// Rewrites counts how often what the descriptor is watched for was written anew.
	Events   uint64    `json:"events"`
	Row      uint64    `json:"row"`
	Mask     EventMask `json:"mask"`
	Rewrites uint64    `json:"rewrites,omitempty"`
	// EdgeTriggered is true exactly when the descriptor is known to be watched for edges: then it is
	// delivered again because its peer did something, or because of a rewrite, and not because little is
	// done on it.
	EdgeTriggered bool `json:"edge_triggered,omitempty"`
	// TLS says how the TLS of the connection stands, and what it waits for; nil without it.
	TLS *TLS `json:"tls,omitempty"`
}

// Stream is one proxied stream as its process describes it.
type Stream struct {
	ID       string `json:"id"`
	Worker   int    `json:"worker"` // index of its worker, 0 when unknown
	Frontend string `json:"frontend"`
	Backend  string `json:"backend,omitempty"`
	Server   string `json:"server,omitempty"`
	Client   string `json:"client,omitempty"`
	Upstream string `json:"upstream,omitempty"`
	// Age is the time since it was accepted.
	Age time.Duration `json:"age_ns"`
	// ClientState and ServerState are HAProxy's three letters: INI, REQ, QUE, TAR, ASS, CON, CER, EST, DIS,
	// CLO.
	ClientState string  `json:"client_state"`
	ServerState string  `json:"server_state"`
	Request     Channel `json:"request"`
	Response    Channel `json:"response"`
	// ClientFD and ServerFD are -1 when there is none.
	ClientFD int `json:"client_fd"`
	ServerFD int `json:"server_fd"`
	// ClientSide and ServerSide are not observed for a side without a descriptor, and of a process that does
	// not say.
	ClientSide Observed[Side] `json:"client_side,omitzero"`
	ServerSide Observed[Side] `json:"server_side,omitzero"`
	// Timers are the armed timers, none for a stream that waits for events only.
	Timers []Timer `json:"timers,omitempty"`
	// TimersUnknown is true exactly when there may be more timers than those that are listed.
	TimersUnknown bool `json:"timers_unknown,omitempty"`
	// Calls counts its wakeups since it was accepted. NoProgress is the number of consecutive wakeups, up
	// to now, that brought no progress, NoProgressSince the time of the first of them. Cause names the last
	// one.
	Calls           uint64               `json:"calls"`
	NoProgress      Observed[uint64]     `json:"no_progress"`
	NoProgressSince Observed[ktime.Time] `json:"no_progress_since"`
	Cause           string               `json:"cause,omitempty"`
	// Runnable is true exactly when the stream is due to run at the moment of the snapshot.
	Runnable bool `json:"runnable"`
	// Fruitless counts all wakeups that brought no progress and left their cause as it was. Woken is when the
	// stream was woken last.
	Fruitless Observed[uint64]     `json:"fruitless,omitzero"`
	Woken     Observed[ktime.Time] `json:"woken,omitzero"`
	// Requeued counts the wakeups that the stream asked for itself, by being due again the moment it had run.
	// Attempts counts the connections to servers that were tried.
	Requeued Observed[uint64] `json:"requeued,omitzero"`
	Attempts Observed[uint64] `json:"attempts,omitzero"`
	Retries  int              `json:"retries"`
	// Redispatched is true exactly when a retry went to another server.
	Redispatched bool `json:"redispatched"`
	// History is what its latest wakeups came to, the oldest first, as far back as its process remembers.
	History []Moment `json:"history,omitempty"`
}

// Moment is one wakeup of a stream, or a row of wakeups that left it as it was.
type Moment struct {
	// At is the first wakeup of the row, Until the last, Count how many there are.
	At    ktime.Time `json:"at"`
	Until ktime.Time `json:"until"`
	Count uint64     `json:"count"`
	// Cause is why the first of them came about. NoProgress is true exactly when each neither consumed its
	// cause nor moved anything.
	Cause      string `json:"cause"`
	NoProgress bool   `json:"no_progress"`
	// ClientState and ServerState are those after the wakeup, as in Stream; the others say of each end of
	// the two channels whether it is "open", "pending" or "shut".
	ClientState  string `json:"client_state"`
	ServerState  string `json:"server_state"`
	RequestIn    string `json:"request_in"`
	RequestOut   string `json:"request_out"`
	ResponseIn   string `json:"response_in"`
	ResponseOut  string `json:"response_out"`
	Retries      int    `json:"retries"`
	Redispatched bool   `json:"redispatched"`
	// Handshake is true exactly when a TLS handshake is under way.
	Handshake bool `json:"handshake,omitempty"`
	// ClientTLS and ServerTLS are what the TLS of the sides waited for after the last wakeup, in the words of
	// TLS.String; empty for nothing, and without TLS.
	ClientTLS string `json:"client_tls,omitempty"`
	ServerTLS string `json:"server_tls,omitempty"`
}

// Overdue returns the armed timer that is furthest in the past at now, and whether there is one. When none of
// those with a deadline has passed, it is the first of those that passed nobody knows when.
func (s *Stream) Overdue(now ktime.Time) (Timer, bool) {
	worst := Timer{Deadline: ktime.Never}
	for _, t := range s.Timers {
		if t.Deadline.Passed(now) && t.Deadline < worst.Deadline || t.Passed && worst.Name == "" {
			worst = t
		}
	}
	return worst, worst.Deadline.IsSet() || worst.Passed
}

// OverdueBy returns how long a timer has been overdue at now; not observed when that is not known.
func (t *Timer) OverdueBy(now ktime.Time) Observed[time.Duration] {
	if !t.Deadline.Passed(now) {
		return Observed[time.Duration]{}
	}
	return Know(now.Sub(t.Deadline))
}

// Next returns the armed timer that passes first, with a deadline of Never when there is none.
func (s *Stream) Next() Timer {
	next := Timer{Deadline: ktime.Never}
	for _, t := range s.Timers {
		if t.Deadline < next.Deadline {
			next = t
		}
	}
	return next
}

// Armed reports whether any timer of the stream is armed.
func (s *Stream) Armed() bool { return len(s.Timers) > 0 }

// Case is everything a diagnosis has to go by. Each part may be missing.
type Case struct {
	Process Process `json:"process"`
	// Window is the kernel's view, nil when there was none.
	Window *Window `json:"window,omitempty"`
	// Before and After are the state at the begin and the end of the window, nil when the process did not
	// answer.
	Before *Snapshot `json:"before,omitempty"`
	After  *Snapshot `json:"after,omitempty"`
	// Socket is the path or address of the runtime API that answered, empty when none did.
	Socket string `json:"socket,omitempty"`
	// BusyPolling is true exactly when its configuration, as far as it could be read, asks never to sleep: a
	// process that does not answer cannot say so itself.
	BusyPolling bool `json:"busy_polling,omitempty"`
	// Unknown are sentences about what is missing and why.
	Unknown []string `json:"unknown,omitempty"`
}
