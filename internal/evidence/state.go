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

	// Unknown are sentences about what the process could not say.
	Unknown []string `json:"unknown,omitempty"`
}

// Worker is one event loop of the process and its own counters since the start.
type Worker struct {
	// Index counts from 1; TID is the thread, EpollFD its epoll set.
	Index   int `json:"index"`
	TID     int `json:"tid"`
	EpollFD int `json:"epoll_fd"`
	Streams int `json:"streams"`
	// RunQueue is the number of streams that are due now.
	RunQueue int   `json:"run_queue"`
	Waits    Waits `json:"waits"`
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
	Retries  int  `json:"retries"`
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
