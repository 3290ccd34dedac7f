package control

import (
	"fmt"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/engine"
)

// printStuck names the workers that did not come back to their loop, so that their part of a dump is
// missing, and where each is. The lines begin with a '#', which no line of a dump does.
func (c *session) printStuck(stuck []engine.Stuck) {
	for i := range stuck {
		k := &stuck[i]
		fmt.Fprintf(c.out, "# worker %d (thread %d) is missing here: it has been in one turn of its loop for",
			k.Worker, k.TID)
		fmt.Fprintf(c.out, " %v. It had %d streams when it last told. It is at:\n",
			k.For.Truncate(time.Millisecond), k.Streams)
		for line := range strings.Lines(k.Stack) {
			if line = strings.TrimRight(line, "\r\n"); line != "" {
				fmt.Fprintf(c.out, "#   %s\n", line)
			}
		}
	}
}

// workerShift is where the worker is in a stream's id.
const workerShift = 24

// workerOf returns the number of the worker that has, or would have, the stream of that id.
func workerOf(id uint64) int { return int(id>>workerShift&0xff) + 1 }

// explainStuck answers a command about a stream that was not found with the reason, if the worker that would
// have it does not give its lock: then nothing is known of the stream. It reports whether that is so.
func (c *session) explainStuck(id uint64) bool {
	index := workerOf(id)
	for _, w := range c.server.options.Engine.Workers() {
		if w.Index != index || w.Stuck <= 0 {
			continue
		}
		c.message(severityError, "Worker %d has been in one turn of its loop for %v and does not answer for"+
			" its sessions (use 'show spin').\n", index, w.Stuck.Truncate(time.Millisecond))
		return true
	}
	return false
}
