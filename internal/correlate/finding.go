package correlate

import (
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// Finding is one thing that is wrong.
type Finding struct {
	Class Class
	// Confidence is from 0 to 1; it follows from the weights of the facts in Evidence.
	Confidence float64
	// Stream is the culprit, nil when none is to blame or none is known.
	Stream *evidence.Stream
	// FD is the descriptor concerned, nil for none.
	FD *Descriptor
	// Listener is the listening socket concerned, nil for none.
	Listener *Listener
	// Destination is the address that the process connects to again and again, empty for none.
	Destination string
	// Timer is the timer to blame, nil for none.
	Timer *Timer
	// Functions are those in which the thread concerned was found, the most frequent first; empty when no
	// samples were taken.
	Functions []Function
	// Idle is true exactly when the finding costs no CPU, at present or ever; Stalled when moreover somebody
	// waits for what is not done.
	Idle    bool
	Stalled bool
	// Partial is true exactly when the thread concerned has other work as well and gets it done.
	Partial  bool
	Evidence []Fact
	// History is what happened to the stream before and while it was woken for nothing, the oldest first;
	// empty when its process does not remember.
	History []Step
	// Unknown are sentences about what would have made it surer.
	Unknown []string
	// Remedy is what the operator can do now.
	Remedy string

	// threads are those that it keeps awake; none means any.
	threads []int
}

// Verdict is what the finding alone makes of the process.
func (f *Finding) Verdict() Verdict {
	switch {
	case f.Stalled:
		return Stall
	case f.Idle:
		return Leak
	case f.Class == L15:
		return TrafficLoop
	case f.Class.boundary():
		return Boundary
	case f.Partial:
		return Partial
	}
	return Spin
}

// Spins reports whether the finding is a spin of an event loop, one that has other work as well among them.
func (f *Finding) Spins() bool { v := f.Verdict(); return v == Spin || v == Partial }

func (f *Finding) add(fact Fact) { f.Evidence = append(f.Evidence, fact) }

// Descriptor is a descriptor in a finding.
type Descriptor struct {
	Number int
	Side   string // "client" or "server", empty when there is no such thing or it is not known
	Role   string // what it is to its program, empty when that is not known
	Kind   string // as evidence.Socket.Kind; empty when not observed
	State  string // TCP state, empty when not observed, and for what is not a TCP socket
	// Mask is the events delivered in the window, empty for none.
	Mask   evidence.Observed[string]
	Local  string // address:port, empty when not observed or when there is none
	Remote string
}

// Listener is a listening socket in a finding.
type Listener struct {
	Number  int
	Address string
	// Waiting is how many connections wait to be accepted, Backlog how many may.
	Waiting, Backlog evidence.Observed[uint32]
	// Frontend is whose it is, Limit the limit that is reached, Error the latest error of accept; each is
	// empty when there is none, or when the process does not say.
	Frontend, Limit, Error string
}

// Function is where a thread was found.
type Function struct {
	// Name is the function's name, or its object and address when it has none. Callers are those that
	// called it, the nearest first, in its most frequent stack.
	Name    string
	Callers []string
	// Share is in how many of the thread's samples it was the innermost function.
	Share float64

	count, of uint64
}

// Timer is a timer to blame. It is overdue, by how much is not observed when the process says only that it
// has passed; or it lies ahead, and is acted on as if it had passed.
type Timer struct {
	Name    string
	Overdue evidence.Observed[time.Duration]
	Ahead   evidence.Observed[time.Duration]
}

// Fact is one piece of evidence. Count is not observed for facts that are not counts.
type Fact struct {
	Text   string
	Count  evidence.Observed[uint64]
	Source string
	// Weight is how likely the fact alone makes the finding, from 0 to 1.
	Weight float64
}

// Sources of facts, as reports name them.
const (
	sourceSyscalls  = "syscall probe"
	sourceSockets   = "socket probe"
	sourceScheduler = "scheduler"
	sourceLedger    = "ledger"
	sourceState     = "runtime API"
	sourceFiles     = "descriptor iterator"
	sourceSamples   = "samples"
	// What HAProxy counts of its loops, and says of its descriptors.
	sourceActivity    = "show activity"
	sourceDescriptors = "show fd"
)
