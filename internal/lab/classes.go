package lab

import (
	"context"

	"github.com/whyspin/whyspin/internal/fault"
)

// classes are the cases of the classes of the catalogue, in its order.
var classes = []Case{
	{
		Name: "timer-not-disarmed", Class: "T1", fault: fault.TimerNotDisarmed, heals: true,
		Shows: "the connect timer stays armed after the connect, and passes",
		lines: plain("timeout connect 100ms"), start: sayOne, blind: []string{Awake},
	},
	{
		Name: "deadline-truncated", Class: "T2", fault: fault.DeadlineTruncated, heals: true,
		Shows: "a deadline in an hour, in microseconds, in 32 bits: it is taken for one in the past",
		lines: plain("timeout tunnel 1h"), start: sayOne, blind: []string{Awake},
	},
	{
		Name: "redispatch-after-abort", Class: "T3", fault: fault.RedispatchAfterAbort, heals: true,
		Shows: "a client leaves in the wakeup of a connect timeout, and a timer is armed on what is shut",
		lines: foundingLines("timeout tunnel 1500ms"), start: hitFounding, blind: []string{Awake},
		symptom: awaitOrphanOverdue,
	},
	{
		Name: "redispatch-after-abort-idle", Class: "T3i", fault: fault.RedispatchAfterAbort,
		Shows: "the same without a timer: nothing will ever move the stream, and it costs no CPU",
		lines: foundingLines(), start: hitFounding, blind: []string{"healthy"}, symptom: already,
	},
	{
		Name: "wakes-itself", Class: "T4", fault: fault.WakesItself, heals: true,
		Shows: "a client has shut down, its server does not answer, and the stream wakes itself",
		lines: silentLines, start: sayAndShut, blind: []string{Awake},
	},
	{
		Name: "writes-to-full", Class: "T5", fault: fault.WritesToFull, heals: true,
		Shows: "a server does not read, and who sends is woken again though the buffer is full",
		lines: deafServer, start: fill, blind: []string{Awake},
	},
	{
		Name: "ready-after-eagain", Class: "T6", fault: fault.ReadyAfterEAGAIN, heals: true,
		Shows: "after urgent data a read fails with EAGAIN, and the socket is still believed to be readable",
		start: sayUrgent,
	},
	{
		Name: "never-sleeps", Class: "T7", fault: fault.NeverSleeps, everywhere: true,
		Shows: "a soft stop while streams are left: the workers do not sleep any more",
		start: softStop, blind: []string{Awake}, remedy: drain,
	},
	{
		Name: "write-interest-kept", Class: "F1", fault: fault.WriteInterestKept, heals: true,
		Shows: "a server's connection is watched for room to write, and there is nothing to write",
		lines: ownEcho, start: sayOne,
	},
	{
		Name: "tls-want-read-armed-write", Class: "F1", fault: fault.TLSWantReadArmedWrite, heals: true,
		Shows:  "TLS waits for the rest of a record, and is watched for room to write",
		secure: true, start: sayHalf,
	},
	{
		Name: "read-interest-kept", Class: "F2", fault: fault.ReadInterestKept, heals: true,
		Shows: "a client sends more than its server reads, and is watched for more",
		lines: deafServer, start: fill,
	},
	{
		Name: "eof-forgotten", Class: "F3", fault: fault.EOFForgotten, heals: true,
		Shows: "a client has said that nothing more comes, and is asked again and again",
		lines: holdingServer, start: sayAndShut,
	},
	{
		Name: "error-ignored", Class: "F4", fault: fault.ErrorIgnored, heals: true,
		Shows: "a client that has shut down resets its connection, and nobody reads from it any more",
		lines: holdingServer, start: shutAndReset,
	},
	{
		Name: "tls-error-swallowed", Class: "F4", fault: fault.TLSErrorSwallowed, heals: true,
		Shows:  "a client resets its connection, TLS reads the error, and the stream is never told",
		secure: true, start: sayAndReset,
	},
	{
		Name: "accept-not-paused", Class: "F5", fault: fault.AcceptNotPaused, heals: true,
		Shows: "a frontend is full, and its listener is watched on while a client waits",
		lines: plain("maxconn 2"), start: overfill, remedy: leave,
	},
	{
		Name: "closed-without-removal", Class: "F6", fault: fault.ClosedWithoutRemoval, heals: true,
		Shows: "a client's descriptor is closed, and lives on in the epoll set by a copy",
		lines: endingServer, start: sayAndLeave, remedy: restart,
	},
	{
		Name: "registered-twice", Class: "F7", fault: fault.RegisteredTwice, workers: 2, heals: true,
		Shows: "a connection is handed to another worker, and the first one is still woken by it",
		start: crowd, remedy: leave,
	},
	{
		Name: "interest-rewritten", Class: "F8", fault: fault.InterestRewritten, heals: true,
		Shows: "what a connection is watched for is written anew in each turn, which wakes it again",
		start: sayOne,
	},
	{
		Name: "edge-forgotten", Class: "S1", fault: fault.EdgeForgotten,
		Shows: "more arrives than one read takes, and the rest is forgotten: a stall, at no cost of CPU",
		start: stall, blind: []string{"healthy"}, symptom: already,
	},
	{
		Name: "retries-at-once", Class: "C1", fault: fault.RetriesAtOnce, heals: true,
		Shows: "a server refuses and is tried again at once, for as long as the client stays",
		lines: refusingServer, start: insist, remedy: bringUp,
	},
	{
		Name: "handler-loops", Class: "B1", fault: fault.HandlerLoops, workers: 2, holds: true, heals: true,
		Shows: "a handler that does not come back while a receiver takes nothing",
		lines: deafServer, start: loopForever, remedy: endHeld,
	},
	{
		Name: "lock-yields", Class: "B2", fault: fault.LockYields, workers: 2, holds: true, heals: true,
		Shows: "a lock that a stream in a queue keeps, and a worker that asks for it again and again",
		lines: fullServer, start: queueUp, remedy: endHeld,
	},
	{
		Name: "reads-byte-by-byte", Class: "B4", fault: fault.ReadsByteByByte,
		Shows: "one byte per read, whatever there is: bytes flow, at a price",
		start: manyBytes, symptom: already, remedy: leave,
	},
}

// already is the symptom of what is there when the traffic has started.
func already(context.Context, *stage) error { return nil }

// foundingLines are those of the mail proxy of the founding case, with further ones.
func foundingLines(more ...string) func(s *stage) ([]string, error) {
	return func(s *stage) ([]string, error) {
		silent, err := startSilentServer()
		if err != nil {
			return nil, err
		}
		s.closers = append(s.closers, silent.close)
		return append(more, "option redispatch", "retries 3", "timeout connect 300ms",
			"server mx1 "+silent.address, "server mx2 "+s.echo.address()), nil
	}
}

// hitFounding brings the founding bug about.
func hitFounding(ctx context.Context, s *stage) error {
	l := leavers{address: s.address, proxy: s.proxy}
	_, err := l.hit(ctx)
	s.culprit.connections = l.clients
	return err
}

// awaitOrphanOverdue waits until the timer of an orphan has passed.
func awaitOrphanOverdue(ctx context.Context, s *stage) error {
	ids, err := orphans(ctx, s.proxy)
	if err != nil {
		return err
	}
	return awaitOverdue(ctx, s.proxy, ids[0])
}
