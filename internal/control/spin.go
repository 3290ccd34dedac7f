package control

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/stream"
)

func showSpin(c *session, args []string) {
	switch {
	case len(args) == 0:
		c.printSpin()
	case args[0] == "json":
		c.showState(args[1:])
	case len(args) == 1 && isFindingID(args[0]):
		c.printFinding(args[0])
	default:
		c.message(severityError, "'show spin' only supports 'json', a finding's number and a stream's id.\n")
	}
}

// isFindingID reports whether a word is the number of a finding or the id of a stream.
func isFindingID(word string) bool {
	_, err := strconv.ParseUint(word, 0, 64)
	return err == nil
}

// printFinding writes one finding with its evidence.
func (c *session) printFinding(id string) {
	found := c.server.options.Spin
	if found == nil || !found.ShowFinding(&noEmptyLines{to: c.out}, id) {
		c.message(severityError, "No such finding (use 'show spin').\n")
	}
}

// showState takes the descriptors whose streams are wanted as well.
func (c *session) showState(args []string) {
	var owners []int
	for _, a := range args {
		fd, err := strconv.Atoi(a)
		if err != nil || fd < 0 {
			c.message(severityError, "'show spin json' expects the numbers of descriptors.\n")
			return
		}
		owners = append(owners, fd)
	}
	c.printState(owners)
}

// printState writes the engine's state as one line of JSON: evidence.Snapshot, by which another process
// diagnoses this one.
func (c *session) printState(owners []int) {
	state := c.server.options.Engine.State(owners...)
	state.Process.Version = c.server.version
	if err := json.NewEncoder(c.out).Encode(state); err != nil {
		c.message(severityError, "The state cannot be written: %v\n", err)
	}
}

// printSpin writes the ledger of every worker, the streams that are suspect, and what the diagnosis says.
func (c *session) printSpin() {
	e := c.server.options.Engine
	for _, w := range e.Workers() {
		c.printWorker(&w)
	}
	suspects := 0
	stuck := e.Visit(func(v *engine.StreamView) bool {
		if v.Suspicious() {
			suspects++
			c.printSuspect(v)
		}
		return !c.failed()
	})
	fmt.Fprintf(c.out, "suspects: %d\n", suspects)
	c.printStuck(stuck)
	if c.server.options.Spin == nil {
		fmt.Fprintln(c.out, "findings: none, there is no diagnosis")
		return
	}
	c.server.options.Spin.ShowSpin(&noEmptyLines{to: c.out})
}

// printWorker writes the ledger of one worker.
func (c *session) printWorker(w *engine.WorkerView) {
	fmt.Fprintf(c.out, "worker %d: thread=%d epoll_fd=%d streams=%d due=%d idle=%.0f%%",
		w.Index, w.TID, w.EpollFD, w.Streams, w.Queue, 100*w.Idle)
	fmt.Fprintf(c.out, " wakeups=%d no_progress=%d late=%d unnamed=%d timers=%d events=%d stale=%d",
		w.Wakeups, w.Charged, w.Late, w.Unnamed, w.Timers, w.Events, w.Stale)
	fmt.Fprintf(c.out, " stuck=%v\n", w.Stuck.Truncate(time.Millisecond))
	for timeout := range evidence.TimeoutUnknown {
		of := &w.Waits[timeout]
		fmt.Fprintf(c.out, "  waits timeout=%s: none=%d events=%d error=%d\n", timeout,
			of[evidence.ResultNone], of[evidence.ResultEvents], of[evidence.ResultError])
	}
	for _, io := range [...]struct {
		name string
		of   *evidence.IO
	}{{"read", &w.Read}, {"write", &w.Write}} {
		n := io.of
		fmt.Fprintf(c.out, "  %s: calls=%d bytes=%d tiny=%d zero=%d",
			io.name, n.Calls, n.Bytes, n.Tiny, n.Zero)
		fmt.Fprintf(c.out, " eagain=%d econnreset=%d epipe=%d errors=%d\n",
			n.Again, n.Reset, n.Pipe, n.Errors)
	}
}

// printSuspect writes what convicts a stream: its row of wakeups without progress.
func (c *session) printSuspect(v *engine.StreamView) {
	a := &v.Account
	fmt.Fprintf(c.out, "stream %s: worker=%d client=%s server=%s fd=%d,%d wakeups=%d consecutive=%d rate=%d",
		v.ID, v.Worker, v.ClientState, v.ServerState, v.Ends[stream.Client].FD, v.Ends[stream.Server].FD,
		a.Calls, a.Consecutive, uint64(a.Rate()))
	fmt.Fprintf(c.out, " cause=%s timer=%s exp=%s suspect=%d orphan=%d\n", dashed(a.Cause.String()), v.Timer,
		expiry(v.Deadline, v.At), oneIf(a.Suspect), oneIf(v.Orphaned))
}

// noEmptyLines passes text on without its empty lines: an empty line ends an answer.
type noEmptyLines struct {
	to      io.Writer
	midLine bool // the last byte did not end a line
}

func (w *noEmptyLines) Write(p []byte) (int, error) {
	kept := make([]byte, 0, len(p))
	for _, b := range p {
		if b == '\n' && !w.midLine {
			continue
		}
		w.midLine = b != '\n'
		kept = append(kept, b)
	}
	if _, err := w.to.Write(kept); err != nil {
		return 0, err
	}
	return len(p), nil
}
