// Package evidence is the vocabulary in which whyspin speaks about a process that may be spinning: what the
// kernel saw of it during a window of time, and what it says of its own state. Probes and adapters write
// it, the correlator reads it, and neither knows the other.
//
// The package is pure. A number in it is known, zero, or not observed, and the types keep the three apart:
// plain integers are counted facts, Observed values may be missing.
package evidence

import (
	"encoding/json"
	"time"

	"github.com/whyspin/whyspin/internal/ktime"
)

// Observed is a value that may not have been observed. The zero Observed is "not observed", which is not
// the same as a value of zero.
type Observed[T any] struct {
	value T
	known bool
}

// Know returns v as an observed value.
func Know[T any](v T) Observed[T] { return Observed[T]{value: v, known: true} }

// Get returns the value and whether it was observed.
func (o Observed[T]) Get() (T, bool) { return o.value, o.known }

// Or returns the value, or otherwise when it was not observed.
func (o Observed[T]) Or(otherwise T) T {
	if o.known {
		return o.value
	}
	return otherwise
}

// IsKnown reports whether the value was observed.
func (o Observed[T]) IsKnown() bool { return o.known }

// Equal reports whether both were observed with equal values or neither was; go-cmp uses it.
func Equal[T comparable](a, b Observed[T]) bool { return a == b }

// MarshalJSON writes the value, or null when it was not observed.
func (o Observed[T]) MarshalJSON() ([]byte, error) {
	if !o.known {
		return []byte("null"), nil
	}
	return json.Marshal(o.value)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (o *Observed[T]) UnmarshalJSON(text []byte) error {
	*o = Observed[T]{}
	if string(text) == "null" {
		return nil
	}
	if err := json.Unmarshal(text, &o.value); err != nil {
		return err
	}
	o.known = true
	return nil
}

// TimeoutClass sorts waits by their timeout argument.
type TimeoutClass uint8

// The timeout classes.
const (
	TimeoutZero     TimeoutClass = iota // returns at once: the caller asks not to sleep
	TimeoutPositive                     // may sleep for a bounded time
	TimeoutInfinite                     // may sleep until an event
	TimeoutUnknown                      // the argument could not be read
	TimeoutClasses                      // the number of classes
)

// String names the class.
func (c TimeoutClass) String() string {
	return [...]string{"zero", "positive", "infinite", "unknown"}[c]
}

// ResultClass sorts waits by what they returned.
type ResultClass uint8

// The result classes.
const (
	ResultNone    ResultClass = iota // 0: the timeout passed, or was zero
	ResultEvents                     // at least one event
	ResultError                      // a negative result that is not a restart; EINTR among them
	ResultClasses                    // the number of classes
)

// String names the class.
func (c ResultClass) String() string { return [...]string{"none", "events", "error"}[c] }

// Waits counts returns of epoll_wait, epoll_pwait and epoll_pwait2.
type Waits [TimeoutClasses][ResultClasses]uint64

// Total is the number of waits of every class.
func (w *Waits) Total() uint64 {
	var sum uint64
	for _, byResult := range w {
		for _, n := range byResult {
			sum += n
		}
	}
	return sum
}

// Timeout is the number of waits with that timeout class.
func (w *Waits) Timeout(c TimeoutClass) uint64 {
	var sum uint64
	for _, n := range w[c] {
		sum += n
	}
	return sum
}

// Result is the number of waits with that result class.
func (w *Waits) Result(c ResultClass) uint64 {
	var sum uint64
	for _, byResult := range w {
		sum += byResult[c]
	}
	return sum
}

// Add adds v to w.
func (w *Waits) Add(v *Waits) {
	for t := range w {
		for r := range w[t] {
			w[t][r] += v[t][r]
		}
	}
}

// Sub takes v from w and reports whether that could be done: no count of v is above that of w. Otherwise w
// is not changed.
func (w *Waits) Sub(v *Waits) bool {
	for t := range w {
		for r := range w[t] {
			if v[t][r] > w[t][r] {
				return false
			}
		}
	}
	for t := range w {
		for r := range w[t] {
			w[t][r] -= v[t][r]
		}
	}
	return true
}

// Window is what the kernel saw of one process from Start to End.
type Window struct {
	// PID is the process in the namespace of the observer.
	PID        int        `json:"pid"`
	Start, End ktime.Time `json:",omitzero"`

	// Hooks tells by which hook each signal was seen.
	Hooks Hooks `json:"hooks"`

	Threads     []Thread     `json:"threads"`
	Descriptors []Descriptor `json:"descriptors,omitempty"`
	Resets      []Reset      `json:"resets,omitempty"`
	// Destinations are those that the process tried to connect to.
	Destinations []Destination `json:"destinations,omitempty"`
	// Traffic is what went through the sockets of the process, by whatever descriptor or interface.
	Traffic Observed[Traffic] `json:"traffic,omitzero"`
	// Samples are the stacks in which its threads were found on a CPU, nil when none were taken.
	Samples *Samples `json:"samples,omitempty"`

	// Losses are what the probes know that they missed.
	Losses Losses `json:"losses"`

	// Unknown are sentences about what could not be seen and why, for the person who reads the verdict.
	Unknown []string `json:"unknown,omitempty"`
}

// Length is the duration of the window.
func (w *Window) Length() time.Duration { return w.End.Sub(w.Start) }

// Hooks names, for each signal, the hook that was attached ("tp_btf", "raw_tp", "tracepoint"). Not observed
// means that the signal was not to be had; Window.Unknown says why.
type Hooks struct {
	Socket  Observed[string] `json:"socket"`           // resets and states
	Syscall Observed[string] `json:"syscall"`          // waits, deliveries, I/O per descriptor
	Files   Observed[string] `json:"files"`            // descriptors and epoll registrations
	Samples Observed[string] `json:"samples"`          // stacks
	Traffic Observed[string] `json:"traffic,omitzero"` // bytes by socket
}

// Traffic is what a process received and sent through sockets over a window, in bytes.
type Traffic struct {
	Received uint64 `json:"received_bytes"`
	Sent     uint64 `json:"sent_bytes"`
	// GoneReceived and GoneSent are the parts of it on sockets of which the process had no descriptor at
	// the end.
	GoneReceived uint64 `json:"gone_received_bytes"`
	GoneSent     uint64 `json:"gone_sent_bytes"`
}

// Losses are counts of facts that the probes could not record.
type Losses struct {
	// CompatCalls are calls by 32-bit callers, which are not decoded.
	CompatCalls uint64 `json:"compat_calls,omitempty"`
	// UnreadEvents are delivered events whose array was too long or could not be read.
	UnreadEvents uint64 `json:"unread_events,omitempty"`
	// BeyondTable are calls on descriptors with numbers above the table.
	BeyondTable uint64 `json:"beyond_table,omitempty"`
	// FullMaps are updates refused because a map was full.
	FullMaps uint64 `json:"full_maps,omitempty"`
	// RingDrops are rare events that found the ring buffer full.
	RingDrops uint64 `json:"ring_drops,omitempty"`
	// UnattributedEvents are delivered events of which it is not known for which descriptor: nothing is known
	// of their data, or several registrations have them. Those of the Go runtime's set are left out.
	UnattributedEvents uint64 `json:"unattributed_events,omitempty"`
	// Destinations are attempts to connect that found the table of destinations full.
	Destinations uint64 `json:"destinations,omitempty"`
	// UnreadArguments are calls whose arguments in memory could not be read.
	UnreadArguments uint64 `json:"unread_arguments,omitempty"`
	// ProgramMisses are program runs that the kernel skipped because of recursion.
	ProgramMisses uint64 `json:"program_misses,omitempty"`
}

// Any reports whether anything was lost.
func (l Losses) Any() bool { return l != Losses{} }

// Thread is one thread of the process over the window.
type Thread struct {
	TID  int    `json:"tid"`
	Name string `json:"name"`
	// Run is the time on a CPU, Queued the time runnable but waiting for one (schedstat).
	Run    Observed[time.Duration] `json:"run_ns"`
	Queued Observed[time.Duration] `json:"queued_ns"`
	// Runnable is true exactly when the thread was seen on a CPU, or waiting for one, at the begin of the
	// window, after its switches had been counted.
	Runnable bool `json:"runnable,omitempty"`
	// VoluntarySwitches counts the times the thread went to sleep by itself, InvoluntarySwitches the times
	// the CPU was taken from it.
	VoluntarySwitches   Observed[uint64] `json:"voluntary_switches"`
	InvoluntarySwitches Observed[uint64] `json:"involuntary_switches"`
	// User and System divide Run into time in the program and time in the kernel.
	// In steps of 10 ms: what /proc gives.
	User   Observed[time.Duration] `json:"user_ns"`
	System Observed[time.Duration] `json:"system_ns"`
	// Calls counts system calls that are not waits. Not observed without the syscall hook.
	Calls Observed[uint64] `json:"calls"`
	// Yields counts calls of sched_yield, Futexes of futex: both are among Calls.
	Yields  Observed[uint64] `json:"yields"`
	Futexes Observed[uint64] `json:"futexes"`
	// Progress counts the calls that got something done: that moved bytes, accepted a connection, connected
	// at once or closed a descriptor. Not observed without the syscall hook.
	Progress Observed[uint64] `json:"progress"`
	// WaitsOn is the descriptor of the epoll set on which the thread slept at the end of the window, -1
	// when it was doing something else.
	WaitsOn Observed[int] `json:"waits_on"`
	// Polls counts calls of poll, ppoll, select and pselect6, by which programs wait that do not use epoll;
	// Rings those of io_uring_enter; Forks those of clone, fork and vfork that made a process, which has
	// copies of all descriptors. All are among Calls.
	Polls Observed[Waits]  `json:"polls"`
	Rings Observed[uint64] `json:"rings"`
	Forks Observed[uint64] `json:"forks"`
	// Sets are the epoll sets on which the thread waited.
	Sets []EpollSet `json:"sets,omitempty"`
}

// Blocked is the share of the window in which the thread neither ran nor waited for a CPU: it slept. Time
// inside epoll_wait says nothing about it. The scheduler's sums lag by up to a tick, and by as long as the
// thread waits for a CPU, which a quota or a loaded machine makes long: a thread that was runnable and never
// gave up its CPU by itself did not sleep at all.
func (t *Thread) Blocked(window time.Duration) Observed[float64] {
	run, ok1 := t.Run.Get()
	queued, ok2 := t.Queued.Get()
	if !ok1 || !ok2 || window <= 0 {
		return Observed[float64]{}
	}
	if n, ok := t.VoluntarySwitches.Get(); ok && n == 0 && t.Runnable {
		return Know(0.0)
	}
	return Know(max(0, 1-float64(run+queued)/float64(window)))
}

// CPU is the share of the window that the thread spent on a CPU.
func (t *Thread) CPU(window time.Duration) Observed[float64] {
	run, ok := t.Run.Get()
	if !ok || window <= 0 {
		return Observed[float64]{}
	}
	return Know(min(1, float64(run)/float64(window)))
}

// Owner tells whose epoll set a set is.
type Owner uint8

const (
	// OwnerUnknown is the process's, as far as is known.
	OwnerUnknown Owner = iota
	// OwnerWorker is a worker's set: proxied descriptors are in it.
	OwnerWorker
	// OwnerRuntime is the Go runtime's own set, which polls without progress by design (look-alike L3).
	OwnerRuntime
)

// String names the owner.
func (o Owner) String() string { return [...]string{"unknown", "worker", "runtime"}[o] }

// EpollSet counts one thread's waits on one epoll set.
type EpollSet struct {
	// FD is the descriptor of the set.
	FD    int   `json:"fd"`
	Owner Owner `json:"owner"`
	Waits Waits `json:"waits"`
	// Slept counts the waits during which the thread really went to sleep: exact, from the context switch
	// counter.
	Slept Observed[uint64] `json:"slept"`
	// SleptUnknown counts the waits that are not in Slept because nothing is known of them: a thread's first
	// call in the window may have begun before it. At most one per thread.
	SleptUnknown uint64 `json:"slept_unknown,omitempty"`
	// Events is the number of events delivered. Of these Unattributed were for no descriptor that is known,
	// and Ambiguous for one of several with the same epoll data; the others are in Descriptor.Deliveries.
	Events       uint64 `json:"events"`
	Unattributed uint64 `json:"unattributed,omitempty"`
	Ambiguous    uint64 `json:"ambiguous,omitempty"`
}

// EventMask is a set of epoll event bits as the kernel delivers them.
type EventMask uint32

// The event bits, from include/uapi/linux/eventpoll.h.
const (
	EventIn    EventMask = 0x001
	EventPri   EventMask = 0x002
	EventOut   EventMask = 0x004
	EventErr   EventMask = 0x008
	EventHup   EventMask = 0x010
	EventRdHup EventMask = 0x2000
)

// String prints the bits as in "IN|RDHUP"; bits without a name are printed in hexadecimal.
func (m EventMask) String() string {
	if m == 0 {
		return "0"
	}
	names := [...]struct {
		bit  EventMask
		name string
	}{{EventIn, "IN"}, {EventPri, "PRI"}, {EventOut, "OUT"}, {EventErr, "ERR"}, {EventHup,
		"HUP"}, {EventRdHup, "RDHUP"}}
	text := ""
	for _, n := range names {
		if m&n.bit != 0 {
			text += "|" + n.name
			m &^= n.bit
		}
	}
	if m != 0 {
		text += "|0x" + hex(uint32(m))
	}
	return text[1:]
}

func hex(n uint32) string {
	const digits = "0123456789abcdef"
	text := ""
	for ; n > 0; n >>= 4 {
		text = string(digits[n&15]) + text
	}
	return text
}

// Delivery is how often a descriptor was returned by a wait with one mask.
type Delivery struct {
	Mask  EventMask `json:"mask"`
	Count uint64    `json:"count"`
}

// Deliverer is one of several threads that a descriptor was delivered to.
type Deliverer struct {
	TID int `json:"tid"`
	// Count is how often it was delivered to the thread, Calls what the thread did on it since the first
	// time.
	Count uint64 `json:"count"`
	Calls uint64 `json:"calls"`
}

// Destination is an address that the process tried to connect to, whatever descriptors it used.
type Destination struct {
	Address string `json:"address"` // address:port, or a path
	// Connects counts attempts: calls of connect that do not merely ask after one that is under way. Refused
	// are those that failed at once, Failed those that failed later, Established the connections that came
	// about: as the process learnt by connect, SO_ERROR, or its first read or write. Pending is the rest:
	// under way at the end, or closed before the outcome was asked for.
	Connects uint64 `json:"connects"`
	Refused  uint64 `json:"refused"`
	Failed   uint64 `json:"failed,omitempty"`
	Pending  uint64 `json:"pending,omitempty"`
	// Established is not observed when all that were not refused are pending.
	Established Observed[uint64] `json:"established"`
}

// IO counts the calls of one direction on one descriptor.
type IO struct {
	// Calls is all calls, Bytes what they moved. Tiny counts the calls that moved 1 to 16 bytes, Zero those
	// that returned 0 (for a read of a socket: end of file).
	Calls uint64 `json:"calls"`
	Bytes uint64 `json:"bytes"`
	Tiny  uint64 `json:"tiny"`
	Zero  uint64 `json:"zero"`
	// Again, Reset and Pipe count EAGAIN, ECONNRESET and EPIPE; Errors every other error.
	Again  uint64 `json:"eagain"`
	Reset  uint64 `json:"econnreset"`
	Pipe   uint64 `json:"epipe"`
	Errors uint64 `json:"errors"`
}

// Add adds v to i.
func (i *IO) Add(v *IO) {
	i.Calls += v.Calls
	i.Bytes += v.Bytes
	i.Tiny += v.Tiny
	i.Zero += v.Zero
	i.Again += v.Again
	i.Reset += v.Reset
	i.Pipe += v.Pipe
	i.Errors += v.Errors
}

// Sub takes v from i and reports whether that could be done: no count of v is above that of i. Otherwise i is
// not changed.
func (i *IO) Sub(v *IO) bool {
	if v.Calls > i.Calls || v.Bytes > i.Bytes || v.Tiny > i.Tiny || v.Zero > i.Zero || v.Again > i.Again ||
		v.Reset > i.Reset || v.Pipe > i.Pipe || v.Errors > i.Errors {
		return false
	}
	i.Calls -= v.Calls
	i.Bytes -= v.Bytes
	i.Tiny -= v.Tiny
	i.Zero -= v.Zero
	i.Again -= v.Again
	i.Reset -= v.Reset
	i.Pipe -= v.Pipe
	i.Errors -= v.Errors
	return true
}

// Descriptor is one file descriptor of the process over the window.
type Descriptor struct {
	FD int `json:"fd"`
	// EpollFD is the set that delivered it, -1 when none did.
	EpollFD    int        `json:"epoll_fd"`
	Deliveries []Delivery `json:"deliveries,omitempty"`
	// Row is the longest row of deliveries with one and the same mask without a call on the descriptor
	// between them.
	Row uint64 `json:"row,omitempty"`
	// Deliverers are the threads that it was delivered to, when there was more than one.
	// Seven are kept apart; OtherDeliveries counts what went to further ones.
	Deliverers      []Deliverer `json:"deliverers,omitempty"`
	OtherDeliveries uint64      `json:"other_deliveries,omitempty"`
	Read            IO          `json:"read"`
	Write           IO          `json:"write"`
	// Accepts counts accept and accept4 that returned a descriptor, AcceptErrors those that did not.
	Accepts      uint64 `json:"accepts,omitempty"`
	AcceptErrors uint64 `json:"accept_errors,omitempty"`
	// Connects counts calls of connect, Closes of close, Shutdowns of shutdown, Controls of epoll_ctl on it.
	Connects  uint64 `json:"connects,omitempty"`
	Closes    uint64 `json:"closes,omitempty"`
	Shutdowns uint64 `json:"shutdowns,omitempty"`
	Controls  uint64 `json:"controls,omitempty"`
	// Dups counts calls of dup, dup2, dup3 and fcntl that were to copy it, and Passed messages that took it
	// to another process (SCM_RIGHTS; eight descriptors of a message are looked at). See also Thread.Forks.
	Dups   uint64 `json:"dups,omitempty"`
	Passed uint64 `json:"passed,omitempty"`

	// Stale counts deliveries between a close of the number and the next registration under it: of a file
	// that lives on under another number or in another process (F6).
	Stale uint64 `json:"stale,omitempty"`
	// Data is the epoll data of the last registration that was seen under the number.
	Data Observed[uint64] `json:"data,omitzero"`
	// Before is what was open under the number at the begin of the window. It is observed only when that is
	// not what is open there at the end; the number may since have been closed (Socket.Kind says so) or have
	// become another file.
	Before Observed[Socket] `json:"before,omitzero"`
	// Socket is what the kernel's tables say of it at the end of the window.
	Socket Observed[Socket] `json:"socket"`
}

// Delivered is the number of events delivered for the descriptor.
func (d *Descriptor) Delivered() uint64 {
	var sum uint64
	for _, v := range d.Deliveries {
		sum += v.Count
	}
	return sum
}

// SocketClosed is the Kind of a descriptor number under which nothing is open.
const SocketClosed = "closed"

// Socket is a descriptor as the kernel's tables show it.
type Socket struct {
	Kind   string `json:"kind"`            // "tcp", "udp", "unix", "epoll", "eventfd", "pipe", "file" ...
	Local  string `json:"local,omitempty"` // address:port
	Remote string `json:"remote,omitempty"`
	// State is the TCP state in the names of ss(8) written out: "ESTABLISHED", "CLOSE_WAIT", "LISTEN" ...
	State  string `json:"state,omitempty"`
	Cookie uint64 `json:"cookie,omitempty"`
	// ReceiveQueue and SendQueue are in bytes; for a listening socket ReceiveQueue is the number of
	// connections that wait to be accepted. Both are 0 for what is not a TCP socket.
	ReceiveQueue uint32 `json:"receive_queue"`
	SendQueue    uint32 `json:"send_queue"`
	// Received and Sent are the bytes that the process moved through this very socket over the window, by
	// whatever descriptor, number or interface (io_uring among them).
	Received Observed[uint64] `json:"received_bytes,omitzero"`
	Sent     Observed[uint64] `json:"sent_bytes,omitzero"`
	// Interest is the events that an epoll set of the process waits for on it, with the flags of the
	// registration (EPOLLET and so on) and ERR and HUP, which cannot be waived; 0 when it is in none.
	Interest EventMask `json:"interest,omitempty"`
	// Registered is true exactly when an epoll set of the process holds the descriptor; Ready when it is on
	// that set's ready list.
	Registered bool `json:"registered"`
	Ready      bool `json:"ready"`
	// Orphaned is true exactly when an epoll set of the process holds, under this number, a file that is no
	// longer open under it but still is under another, or in another process: closed without
	// EPOLL_CTL_DEL.
	Orphaned bool `json:"orphaned,omitempty"`
	// Copy is the number under which the orphaned file is still open in the process, 0 when it is in none:
	// then only another process has it. Standard input is not told from that.
	Copy int `json:"copy,omitempty"`
	// Backlog is the limit of ReceiveQueue of a listening socket, 0 when it is not known.
	Backlog uint32 `json:"backlog,omitempty"`
}

// The sides of a proxied process on which a socket can be.
const (
	SideClient = "client" // accepted by the process
	SideServer = "server" // connected by the process
)

// Reset is one TCP reset on a socket of the process.
type Reset struct {
	At ktime.Time `json:"at"`
	// Sent is true for a reset that this machine sent, false for one that it received.
	Sent   bool   `json:"sent"`
	Cookie uint64 `json:"cookie"`
	Local  string `json:"local"`
	Remote string `json:"remote"`
	// Side is SideClient or SideServer, "" when it is not known.
	Side string `json:"side,omitempty"`
}
