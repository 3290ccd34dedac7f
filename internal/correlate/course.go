package correlate

import (
	"fmt"
	"strings"

	"github.com/whyspin/whyspin/internal/evidence"
)

// course is what a stream did between the two looks at it.
type course struct {
	*evidence.Stream
	// wakeups is how often it was woken. fruitless is true exactly when nearly none of these wakeups brought
	// progress; frozen when no byte was read or written and the buffers hold what they held.
	wakeups   uint64
	fruitless bool
	frozen    bool
	// requeued is how many of the wakeups it asked for itself, attempts how often it tried to reach a server.
	requeued, attempts evidence.Observed[uint64]
	sides              [2]sideCourse // client, server
}

// sideCourse is what was done on one side of it.
type sideCourse struct {
	name string
	fd   int
	now  evidence.Side
	// known is true exactly when the side was described in both looks. Then the others are calls in between.
	known                                  bool
	reads, writes, readsAgain, writesAgain uint64
}

// courseOf compares the two looks at a stream; false when it was listed in one only, or has begun anew.
func (in *input) courseOf(s *evidence.Stream) (*course, bool) {
	before := in.listedBefore(s.ID)
	if before == nil || before.Calls > s.Calls {
		return nil, false
	}
	c := &course{Stream: s, wakeups: s.Calls - before.Calls}
	c.fruitless = in.chargedAlways(s, c.wakeups)
	if n, ok := since(s.Fruitless, before.Fruitless).Get(); ok {
		c.fruitless = n*10 >= c.wakeups*9
	}
	c.frozen = s.Request == before.Request && s.Response == before.Response
	c.requeued, c.attempts = since(s.Requeued, before.Requeued), since(s.Attempts, before.Attempts)
	c.sides = [2]sideCourse{
		compareSides(evidence.SideClient, s.ClientFD, s.ClientSide, before.ClientSide),
		compareSides(evidence.SideServer, s.ServerFD, s.ServerSide, before.ServerSide),
	}
	return c, true
}

func (in *input) listedBefore(id string) *evidence.Stream {
	if in.Before == nil {
		return nil
	}
	for i := range in.Before.Streams {
		if in.Before.Streams[i].ID == id {
			return &in.Before.Streams[i]
		}
	}
	return nil
}

// since is how much a counter has grown; not observed when it was not in both looks.
func since(now, before evidence.Observed[uint64]) evidence.Observed[uint64] {
	n, ok1 := now.Get()
	b, ok2 := before.Get()
	if !ok1 || !ok2 || n < b {
		return evidence.Observed[uint64]{}
	}
	return evidence.Know(n - b)
}

func compareSides(name string, fd int, now, before evidence.Observed[evidence.Side]) sideCourse {
	c := sideCourse{name: name, fd: fd}
	b, ok := before.Get()
	if c.now, c.known = now.Get(); !c.known || !ok || b.Reads > c.now.Reads || b.Writes > c.now.Writes {
		c.known = false
		return c
	}
	c.reads, c.writes = c.now.Reads-b.Reads, c.now.Writes-b.Writes
	c.readsAgain, c.writesAgain = c.now.ReadsAgain-b.ReadsAgain, c.now.WritesAgain-b.WritesAgain
	return c
}

// courses returns what the streams did that were woken all through the window.
func (in *input) courses() []*course {
	if in.After == nil {
		return nil
	}
	var found []*course
	for i := range in.After.Streams {
		if c, ok := in.courseOf(&in.After.Streams[i]); ok && c.wakeups >= in.leastClimb() {
			found = append(found, c)
		}
	}
	return found
}

// wakesItself reports whether it was due again the moment it had run, nearly each time. A process that does
// not count that says it by being runnable at both looks.
func (in *input) wakesItself(c *course) bool {
	if n, ok := c.requeued.Get(); ok {
		return n*10 >= c.wakeups*9
	}
	before := in.listedBefore(c.ID)
	return before != nil && before.Runnable && c.Runnable
}

// byTimer reports whether its latest wakeup was one by a timer.
func (c *course) byTimer() bool { return strings.HasPrefix(c.Cause, "timer") }

// channels returns the channel that leads to each side, and where its bytes come from.
func (c *course) channels() [2]channel {
	return [2]channel{
		{&c.Response, &c.sides[1], &c.sides[0]}, {&c.Request, &c.sides[0], &c.sides[1]},
	}
}

// channel is one direction of a stream with its two ends.
type channel struct {
	*evidence.Channel
	from, to *sideCourse
}

// calls is how many reads and writes were made on both sides, not observed when one was not described.
func (c *course) calls() evidence.Observed[uint64] {
	var n uint64
	for i := range c.sides {
		switch s := &c.sides[i]; {
		case s.fd < 0:
		case !s.known:
			return evidence.Observed[uint64]{}
		default:
			n += s.reads + s.writes
		}
	}
	return evidence.Know(n)
}

// concerns begins a finding about a stream in which one side is to blame.
func (in *input) concerns(class Class, c *course, side *sideCourse) Finding {
	f := in.finding(class, c.Stream)
	if side.fd >= 0 {
		f.FD = in.describe(side.fd)
		f.FD.Side = side.name
	}
	return f
}

// addCourse adds how the stream was woken.
func (in *input) addCourse(f *Finding, c *course) {
	in.addClimb(f, c.Stream)
	if n, ok := c.requeued.Get(); ok {
		f.add(Fact{Text: "of these it asked for itself, by being due again the moment it had run",
			Count: evidence.Know(n), Source: sourceLedger})
	}
}

// heldFact says that bytes wait in a channel for a side that takes none.
func heldFact(ch *channel) Fact {
	state := "is noted as not writable"
	if ch.to.now.Writable {
		state = "is noted as writable"
	}
	return Fact{
		Text: fmt.Sprintf("bytes wait to be written to the %s, whose descriptor %d %s", ch.to.name, ch.to.fd,
			state),
		Count: evidence.Know(uint64(max(0, ch.Buffered))), Source: sourceState, Weight: 0.5,
	}
}
