// Package fault names the engine faults that bring back, on purpose, a class of bug from the spin
// catalogue.
//
// A fault weakens a condition or omits an action at the place where such a bug really sat; it never writes
// a wrong state. Faults exist so that whyspin can prove that it names the bug. They are refused unless the
// program runs with --allow-faults, and they cost one bit test where they sit.
package fault

import (
	"fmt"
	"strings"
)

// Set is a set of faults. The zero Set is the healthy engine.
type Set uint32

// The faults. The comment of each says what it weakens.
const (
	// RedispatchAfterAbort is the founding bug (class T3; T3i without a tunnel timeout). It weakens two
	// conditions of package stream: the check whether the client has gone looks at a pending shutdown only,
	// not at one that has already completed; and the timeout check skips directions that are already shut,
	// without disarming them. Source: a real HAProxy 1.7 in production, see "The founding case" in
	// internal/README.md.
	RedispatchAfterAbort Set = 1 << iota
	// TimerNotDisarmed (class T1) omits, in stream.setServer, to end the timer of the state that is left.
	// The next attempt sets it anew; a stream whose server was reached keeps the connect timer, which
	// nobody looks at in that state, so that it stays in the past from "timeout connect" on until the
	// stream ends.
	TimerNotDisarmed
	// DeadlineTruncated (class T2) weakens the arithmetic of conn.wakeAt, by which the worker's timers know
	// a stream's deadline: the time left is counted in microseconds in 32 bits. From 35 min 47 s on, up to
	// twice as much, it is negative: the stream is woken at once though its deadline lies in the future,
	// finds nothing expired, and is woken again.
	DeadlineTruncated
	// WakesItself (class T4) weakens worker.canMove: a shutdown that waits for the buffer to drain makes
	// the stream run again at once, whether or not anybody takes the bytes: the server may not be reached
	// yet, or not read.
	WakesItself
	// WritesToFull (class T5) weakens worker.canMove: what sends is a reason to run again though the buffer
	// that it would be read into is full, until the peer behind that buffer reads.
	WritesToFull
	// ReadyAfterEAGAIN (class T6) omits, in worker.read, to note that there is nothing to read after a read
	// has failed with EAGAIN. Reads come to that after urgent data, on unix sockets, and when a buffer was
	// filled to the last byte.
	ReadyAfterEAGAIN
	// NeverSleeps (class T7) weakens the condition for a wait without sleep (engine.nextTimeout): during a
	// soft stop a worker does not sleep before it has let go of the listeners, and with the fault not after
	// that either. It is chosen for the whole process. No stream is to blame.
	NeverSleeps
	// EdgeForgotten (class S1) weakens a condition of worker.read: a read that filled the buffer counts as
	// one that has emptied the socket, like a short one. What is left is read when the peer sends more, and
	// never if it waits for an answer.
	EdgeForgotten
	// WriteInterestKept (class F1) weakens the update of what a server's connection is watched for
	// (engine.interest): writability, without which the end of the connect would not be seen, is not taken
	// away again when there is nothing to send. The server's descriptor is level-triggered.
	WriteInterestKept
	// ReadInterestKept (class F2) weakens the same update for a client's connection: readability is not taken
	// away while the buffer is full, because the server does not read. The client's descriptor is
	// level-triggered.
	ReadInterestKept
	// EOFForgotten (class F3) omits to tell the stream of the client's end of file (engine.read), so that it
	// goes on wanting to read. The client's descriptor is level-triggered.
	EOFForgotten
	// ErrorIgnored (class F4) omits to note errors and hang-ups of a client's connection
	// (engine.connectionEvent): they are found only by reading or writing, and a client that has sent its end
	// is not read from. The client's descriptor is level-triggered.
	ErrorIgnored
	// AcceptNotPaused (class F5) omits to pause a listener when a limit of connections is reached, and when
	// there is no descriptor or memory for a connection (engine.takeConnections, acceptTrouble). Listeners
	// are level-triggered anyhow. It is chosen per listener.
	AcceptNotPaused
	// ClosedWithoutRemoval (class F6) omits two actions at the end of a client's connection
	// (engine.closeEnd): to close the copy of the descriptor that was made for the log, and to remove the
	// descriptor from the epoll set before it is closed. The client's descriptor is level-triggered. What
	// spins outlives the stream.
	ClosedWithoutRemoval
	// RegisteredTwice (class F7) omits to remove a client's connection from the epoll set of the worker that
	// accepted it when it is handed to another (engine.place). That second registration is level-triggered,
	// and the worker may not act upon its events.
	RegisteredTwice
	// InterestRewritten (class F8) weakens the check whether what a client's connection is watched for has
	// changed (engine.updateInterest): it is written after every wakeup, and each time the kernel delivers
	// once more that the connection can be written, though the descriptor is edge-triggered.
	InterestRewritten
	// RetriesAtOnce (class C1) omits two actions of stream.retry: to count the attempt, and to pause before
	// the same server is tried again. A server that refuses is tried for as long as the client stays.
	// Streams that may not retry are spared.
	RetriesAtOnce
	// HandlerLoops (class B1) weakens the conditions that end the loop of engine.pump: a direction is not
	// left while its buffer holds bytes, though the receiver takes none, and an event that says that it does
	// is taken in only in the next turn. An order to end the stream is seen.
	HandlerLoops
	// LockYields (class B2) weakens how a lock is waited for (engine.takeTurn): with sched_yield instead of
	// sleep; and omits to give it back when the stream that has it waits in the queue of its backend
	// (engine.assign). The lock is one that only streams with the fault take.
	LockYields
	// ReadsByteByByte (class B4) weakens how much worker.read asks for: one byte, whatever room there is.
	ReadsByteByByte
	// TLSWantReadArmedWrite (class F1) weakens the condition under which the TLS of a client's connection has
	// it watched for room to write (conn.tlsInterest): that what was sealed waits to be written. With the
	// fault it is enough that TLS waits at all, be it for bytes of the peer: within a handshake, or for the
	// rest of a record. The client's descriptor is level-triggered.
	TLSWantReadArmedWrite
	// TLSErrorSwallowed (class F4) omits to tell the stream that the connection beneath a client's TLS is
	// broken (worker.readSecured, worker.shake): the TLS layer has read the error, which the socket tells
	// once, and answers from then on as if nothing had come yet. The client's descriptor is level-triggered.
	TLSErrorSwallowed
)

// table has every fault with the name by which the configuration, the simulator and the lab know it, and the
// class of the catalogue that it brings back.
var table = []struct {
	fault       Set
	name, class string
}{
	{TimerNotDisarmed, "timer-not-disarmed", "T1"},
	{DeadlineTruncated, "deadline-truncated", "T2"},
	{RedispatchAfterAbort, "redispatch-after-abort", "T3"},
	{WakesItself, "wakes-itself", "T4"},
	{WritesToFull, "writes-to-full", "T5"},
	{ReadyAfterEAGAIN, "ready-after-eagain", "T6"},
	{NeverSleeps, "never-sleeps", "T7"},
	{EdgeForgotten, "edge-forgotten", "S1"},
	{WriteInterestKept, "write-interest-kept", "F1"},
	{TLSWantReadArmedWrite, "tls-want-read-armed-write", "F1"},
	{ReadInterestKept, "read-interest-kept", "F2"},
	{EOFForgotten, "eof-forgotten", "F3"},
	{ErrorIgnored, "error-ignored", "F4"},
	{TLSErrorSwallowed, "tls-error-swallowed", "F4"},
	{AcceptNotPaused, "accept-not-paused", "F5"},
	{ClosedWithoutRemoval, "closed-without-removal", "F6"},
	{RegisteredTwice, "registered-twice", "F7"},
	{InterestRewritten, "interest-rewritten", "F8"},
	{RetriesAtOnce, "retries-at-once", "C1"},
	{HandlerLoops, "handler-loops", "B1"},
	{LockYields, "lock-yields", "B2"},
	{ReadsByteByByte, "reads-byte-by-byte", "B4"},
}

// Has reports whether every fault of f is in s.
func (s Set) Has(f Set) bool { return s&f == f }

// Parse returns the fault of that name. The error lists the names there are.
func Parse(name string) (Set, error) {
	for _, t := range table {
		if t.name == name {
			return t.fault, nil
		}
	}
	return 0, fmt.Errorf("no fault named %q; known faults: %s", name, strings.Join(Names(), ", "))
}

// Names returns the names of all faults in the order of the catalogue.
func Names() []string {
	all := make([]string, len(table))
	for i, t := range table {
		all[i] = t.name
	}
	return all
}

// Class returns the class of the catalogue that one fault brings back, "" for a set that is not one fault.
func (s Set) Class() string {
	for _, t := range table {
		if t.fault == s {
			return t.class
		}
	}
	return ""
}

// String prints the names of the faults in s, joined by commas, or "none".
func (s Set) String() string {
	var in []string
	for _, t := range table {
		if s.Has(t.fault) {
			in = append(in, t.name)
		}
	}
	if len(in) == 0 {
		return "none"
	}
	return strings.Join(in, ",")
}
