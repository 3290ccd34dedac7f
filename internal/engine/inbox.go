package engine

import (
	"sync"

	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// message is what one worker tells another.
type message struct {
	kind     messageKind
	fd       int         // accepted: the descriptor
	peer     sys.Address // accepted
	listener *listener   // accepted, pause
	until    ktime.Time  // pause
	faults   fault.Set   // accepted
	id       uint64      // slot, kill, slow: the stream
	server   *server     // slot
	killer   stream.Killer
	answer   chan<- bool // kill
}

type messageKind uint8

const (
	messageAccepted messageKind = iota // a connection to open
	messageSlot                        // a slot for a queued stream
	messageResume                      // a limit may have been left
	messageKill                        // an order to end a stream
	messagePause                       // an order to rest a listener
	messageSlow                        // an order to rest between a stream's attempts
	messageRenew                       // an order to make the epoll set anew
)

// inbox holds the messages to a worker. It needs no limit of its own: accepted connections are limited by
// maxconn, a slot is granted once per queued stream, there is at most one resume, whoever orders the end of a
// stream waits for it, and the supervisor gives few orders in a second.
type inbox struct {
	mu       sync.Mutex
	messages []message
	reading  []message // the batch in work, owned by the worker
	resume   bool      // a resume is among the messages
}

// post leaves a message and wakes the worker if it is the first.
func (w *worker) post(m message) {
	b := &w.inbox
	b.mu.Lock()
	first := len(b.messages) == 0
	if m.kind == messageResume {
		if b.resume {
			b.mu.Unlock()
			return
		}
		b.resume = true
	}
	b.messages = append(b.messages, m)
	b.mu.Unlock()
	if first {
		w.kernel.Wake(w.waker)
	}
}

// readInbox takes in the messages that were there when it began. It reports whether there were any.
func (w *worker) readInbox() bool {
	b := &w.inbox
	b.mu.Lock()
	b.messages, b.reading = b.reading[:0], b.messages
	b.resume = false
	b.mu.Unlock()
	for i := range b.reading {
		w.receive(b.reading[i])
		b.reading[i] = message{}
	}
	return len(b.reading) > 0
}

// receive acts on a message.
func (w *worker) receive(m message) {
	switch m.kind {
	case messageAccepted:
		w.open(m)
	case messageSlot:
		w.grant(m.id, m.server)
	case messageKill:
		w.kill(m.id, m.killer, m.answer)
	case messagePause:
		w.obeyPause(m.listener, m.until)
	case messageRenew:
		w.renew()
	case messageSlow:
		if c := w.find(m.id); c != nil {
			c.stream.SlowRetries()
		}
	case messageResume:
		// resumeListeners looks at the limits in every turn; the message only brings the turn about.
	}
}
