package engine

import (
	"errors"
	"fmt"

	"github.com/whyspin/whyspin/internal/stream"
)

// check verifies, for one stream after its wakeup, the rules that concern the engine: 5, conditions that
// cannot be masked were acted on, and 6, no wakeup is lost, as well as the agreement between the engine's
// structures and the stream.
func (w *worker) check(c *conn) error {
	var wrong []error
	bad := func(is bool, format string, args ...any) {
		if is {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	s := &c.stream
	for side := range c.ends {
		end := &c.ends[side]
		name := stream.Side(side)
		// What reading can still find is rule 6's; once the end was read, nothing but a look at the error
		// will show that the connection is broken.
		bad(end.ready.has(hungUp) && !end.ready.has(connecting) && end.fd >= 0 && s.InShut(name) && !c.due,
			"rule 5: the %s hung up (descriptor %d) and nobody looks at it", name, end.fd)
		bad(end.ready.has(connectResult) && !c.due,
			"rule 5: the connect of descriptor %d has ended and nobody asks how", end.fd)
		bad(!c.due && !end.ready.has(connecting) && end.fd >= 0 &&
			(end.ready.has(readable) && c.want.Has(readWant[side]) ||
				end.ready.has(writable) && c.want.Has(writeWant[side])),
			"rule 6: the %s is ready (%s), wanted (%s), and the stream is not due", name, end.ready, c.want)
		bad(!c.due && end.fd >= 0 && end.tls != nil && end.tls.due(end),
			"rule 6: the TLS of the %s has something to do (%s), and the stream is not due", name, end.ready)
		bad(!c.due && side == int(stream.Client) && c.awaits(),
			"rule 6: bytes of a header have come (%s), and the stream is not due", end.ready)
		bad(end.fd < 0 && end.tls != nil, "the %s has TLS and no connection", name)
		bad(end.fd >= 0 && w.descriptors[end.fd].conn != c,
			"descriptor %d of the %s is registered for another",
			end.fd, name)
	}
	for from, channel := range [...]stream.ChannelView{s.Request(), s.Response()} {
		held := 0
		if b := c.buffers[from]; b != nil {
			held = b.buffered()
		}
		if s := c.ends[1-from].tls; s != nil {
			held += s.plain
		}
		bad(held != channel.Buffered, "the buffer from the %s holds %d bytes, the stream counts %d",
			stream.Side(from), held, channel.Buffered)
	}
	deadline, _ := s.Deadline()
	inHeap := c.heapIndex >= 0 && w.timers.entries[c.heapIndex].conn == c &&
		w.timers.entries[c.heapIndex].at <= deadline
	bad(!s.Ended() && deadline.IsSet() && !inHeap,
		"the deadline is set and the worker's timers do not know it")
	hasClient, hasServer := c.ends[stream.Client].fd >= 0, c.ends[stream.Server].fd >= 0
	wantsServer := s.ServerState() == stream.Connecting || s.ServerState() == stream.Established
	bad(hasClient != (s.ClientState() == stream.Established), "client state %s with descriptor %d",
		s.ClientState(), c.ends[stream.Client].fd)
	// A connect that fails at once leaves no descriptor; a stream whose share of the turn is used up by then
	// hears of it in the next.
	failed := s.ServerState() == stream.Connecting && !hasServer && c.due
	bad(hasServer != wantsServer && !failed, "server state %s with descriptor %d", s.ServerState(),
		c.ends[stream.Server].fd)
	return errors.Join(wrong...)
}
