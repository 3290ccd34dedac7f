package haproxy

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/ktime"
)

// Dumps joins two dumps of one process, one at each end of a window. A single dump only ranks suspects; the
// calls that a stream's task makes between two convict it. All that is kept of the streams of the first is
// 24 bytes each, and in full those that are suspect.
type Dumps struct {
	seen          []trace
	before, after *evidence.Snapshot
	// locals are the process's own addresses on the server side of the streams in after, by id.
	locals map[string]string
	// beyond counts the streams of the first dump that found no place.
	beyond int
}

// trace is what is kept of a session between the dumps.
type trace struct {
	address     uint64
	number      uint32 // tells two sessions apart that had the same address one after the other
	calls       uint32
	fingerprint uint64
}

// wasRunning is the bit of a trace's number that says that the session was in the run queue.
const wasRunning = 1 << 31

func numberOf(s *Session) uint32 { return uint32(s.Number) &^ wasRunning }

// maxTraces is how many sessions are followed from dump to dump: 24 MB worth, and five times the largest
// process that was thought of.
const maxTraces = 1 << 20

// maxSuspects is how many streams are told in full. A process in which more are suspect has one and the
// same thing happen to all of them, and they are counted.
const maxSuspects = 1000

// restlessRate is how many runs per second without any change make a stream suspect that is not overdue. A
// task without progress that is in order runs when a timer or an event says so, a few times a second; one
// that spins ran 3 to 4 million times a second alone, and thousands of times among a thousand like it.
const restlessRate = 100

// leastRuns is how many runs without any change it takes at least: a stream that ends makes a few.
const leastRuns = 20

// ErrNoDump is the error for an answer that holds no session, not even the one that asked.
var ErrNoDump = errors.New("the answer to \"show sess all\" holds no session")

// failure is why a dump cannot be used, nil when it can.
func (s *Summary) failure(err error) error {
	switch {
	case err != nil:
		return fmt.Errorf("reading its sessions: %w", err)
	case s.Sessions == 0 && strings.HasPrefix(s.Begin, "Permission denied"): // cli_has_level() in src/cli.c
		return fmt.Errorf("%w: %q; it takes a stats socket of level operator or admin", ErrNoDump, s.Begin)
	case s.Sessions == 0 && s.Begin != "":
		return fmt.Errorf("%w: it begins with %q", ErrNoDump, s.Begin)
	case s.Sessions == 0:
		return ErrNoDump
	}
	return nil
}

// First reads the dump at the begin of a window. now is when it was asked for, by the clock of ktime.
func (d *Dumps) First(r io.Reader, info Info, now ktime.Time) (*evidence.Snapshot, error) {
	snap := snapshot(info, now)
	k := &keeper{snap: snap, info: info}
	sum, err := ReadSessions(r, func(s *Session) {
		d.remember(s)
		if s.OfRuntimeAPI() {
			return
		}
		snap.StreamCount++
		if e := s.Stream(now); suspect(&e, now) {
			k.keep(e)
		}
	})
	if err := sum.failure(err); err != nil {
		return nil, err
	}
	slices.SortFunc(d.seen, func(a, b trace) int {
		switch {
		case a.address < b.address:
			return -1
		case a.address > b.address:
			return 1
		}
		return 0
	})
	k.close(sum)
	d.before = snap
	return snap, nil
}

func (d *Dumps) remember(s *Session) {
	if len(d.seen) >= maxTraces {
		d.beyond++
		return
	}
	number := numberOf(s)
	if s.Running {
		number |= wasRunning
	}
	d.seen = append(d.seen, trace{hexadecimal([]byte(s.ID)), number, s.Calls, s.fingerprint()})
}

// Second reads the dump at the end of a window. It adds to the snapshot of First those streams that became
// suspect only by what they did in between.
func (d *Dumps) Second(r io.Reader, info Info, now ktime.Time) (*evidence.Snapshot, error) {
	if d.before == nil {
		panic("BUG: a second dump without a first")
	}
	snap := snapshot(info, now)
	k := &keeper{snap: snap, info: info}
	listed := map[string]bool{}
	d.locals = map[string]string{}
	for i := range d.before.Streams {
		listed[d.before.Streams[i].ID] = true
	}
	window := now.Sub(d.before.At).Seconds()
	sum, err := ReadSessions(r, func(s *Session) {
		old, known := d.find(s)
		// The session that asked is a new one each time. One of an earlier asker is like any other, but
		// it is no stream of the proxy.
		if s.OfRuntimeAPI() && !known {
			return
		}
		if !s.OfRuntimeAPI() {
			snap.StreamCount++
		}
		climbed := s.Calls - old.calls
		frozen := known && old.fingerprint == s.fingerprint()
		restless := frozen && float64(climbed) >= max(leastRuns, restlessRate*window)
		e := s.Stream(now)
		if !restless && (!suspect(&e, now) || known && !frozen && !orphaned(&e)) {
			return
		}
		if known {
			e.Calls = uint64(old.calls) + uint64(climbed)
		}
		if frozen {
			e.NoProgress = evidence.Know(uint64(climbed))
		}
		if k.keep(e) {
			d.locals[e.ID] = s.LocalAddress
			d.complete(&e, listed, known, frozen, old)
		}
	})
	if err := sum.failure(err); err != nil {
		return nil, err
	}
	if d.beyond > 0 {
		snap.Unknown = append(snap.Unknown, fmt.Sprintf(
			"what %d of its streams did in the window: %d are followed at most", d.beyond, maxTraces))
	}
	k.close(sum)
	d.after = snap
	return snap, nil
}

// find returns what the first dump said of a session.
func (d *Dumps) find(s *Session) (trace, bool) {
	address := hexadecimal([]byte(s.ID))
	at, ok := slices.BinarySearchFunc(d.seen, address, func(t trace, address uint64) int {
		switch {
		case t.address < address:
			return -1
		case t.address > address:
			return 1
		}
		return 0
	})
	if !ok || d.seen[at].number&^wasRunning != numberOf(s) {
		return trace{}, false
	}
	return d.seen[at], true
}

// complete sees to it that the first snapshot lists a stream that the second lists, as it was: in the same
// state, when nothing has changed. One that has changed is not listed, because how it was is not kept.
func (d *Dumps) complete(e *evidence.Stream, listed map[string]bool, known, frozen bool, old trace) {
	switch {
	case listed[e.ID] && !known:
		// Another stream had this address when the window began.
		d.before.Streams = slices.DeleteFunc(d.before.Streams,
			func(b evidence.Stream) bool { return b.ID == e.ID })
	case !listed[e.ID] && frozen:
		was := *e
		was.Calls, was.NoProgress = uint64(old.calls), evidence.Observed[uint64]{}
		was.Runnable = old.number&wasRunning != 0
		d.before.Streams = append(d.before.Streams, was)
	}
}

// suspect reports whether a stream is worth a look by what a single dump says of it.
func suspect(e *evidence.Stream, now ktime.Time) bool {
	_, overdue := e.Overdue(now)
	return overdue || orphaned(e)
}

func snapshot(info Info, now ktime.Time) *evidence.Snapshot {
	return &evidence.Snapshot{
		At:          now,
		Process:     evidence.Process{PID: info.PID, Kind: evidence.KindHAProxy, Version: info.Version},
		BusyPolling: info.BusyPolling.Or(false), Stopping: info.Stopping.Or(false),
	}
}

// keeper adds streams to a snapshot and counts those that find no place.
type keeper struct {
	snap   *evidence.Snapshot
	info   Info
	beyond int
}

func (k *keeper) keep(e evidence.Stream) bool {
	if len(k.snap.Streams) >= maxSuspects {
		k.beyond++
		return false
	}
	// Some 3.x development versions print an age of 49 days for a stream of this second. No stream is older
	// than its process.
	if uptime, ok := k.info.Uptime.Get(); ok {
		e.Age = min(e.Age, uptime)
	}
	k.snap.Streams = append(k.snap.Streams, e)
	return true
}

// close says what the dump as a whole leaves open.
func (k *keeper) close(sum Summary) {
	if k.beyond > 0 {
		k.snap.Unknown = append(k.snap.Unknown, fmt.Sprintf(
			"%d more of its streams are suspect: %d are told in full at most", k.beyond, maxSuspects))
	}
	if !sum.Complete {
		k.snap.Unknown = append(k.snap.Unknown, fmt.Sprintf(
			"the streams behind the first %d: the dump is cut short", sum.Sessions))
	}
}
