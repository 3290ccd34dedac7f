package engine

import (
	"cmp"
	"slices"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
)

const (
	// flightMoments is how many moments a worker's recorder keeps, 1.5 MB of them. A stream takes about five
	// from its begin to its end, so this is a second at 6000 connections a second and half a minute at 200.
	flightMoments = 1 << 15
	// historyMoments is how many moments of one stream are told at most, the latest.
	historyMoments = 32
)

// flightRecorder keeps what the wakeups of a worker's streams came to, in a ring: what was before a finding
// can be asked after it. Wakeups that leave a stream as it was are one moment with a count, however many they
// are, so that neither bulk traffic nor a spin displaces what came before.
type flightRecorder struct {
	ring []moment
	next uint64 // the number of the next moment; they count from 1
}

// moment is one wakeup of a stream, or a row of wakeups that left it as it was.
type moment struct {
	id          uint64
	before      uint64 // the number of the stream's moment before this one, 0 for none
	first, last ktime.Time
	posture     stream.Posture
	count       uint32
	cause       stream.Cause // of the first
	idle        bool         // they neither consumed their cause nor brought progress
	tls         [2]tlsWait   // after the last, by stream.Side
}

// newFlightRecorder returns a recorder of that many moments, of flightMoments for 0.
func newFlightRecorder(moments int) flightRecorder {
	if moments == 0 {
		moments = flightMoments
	}
	return flightRecorder{ring: make([]moment, moments), next: 1}
}

// at returns the moment of that number, nil when it is none or has been overwritten.
func (r *flightRecorder) at(number uint64) *moment {
	if number == 0 || number+uint64(len(r.ring)) < r.next {
		return nil
	}
	return &r.ring[number%uint64(len(r.ring))]
}

// record enters a wakeup of a stream.
func (r *flightRecorder) record(c *conn, now ktime.Time, idle bool) {
	posture := c.stream.Posture()
	m := r.at(c.moment)
	if m != nil && m.posture == posture && m.idle == idle && (!idle || m.cause == c.cause) {
		m.last, m.tls = now, c.tlsWaits()
		if m.count+1 > m.count {
			m.count++
		}
		return
	}
	number := r.next
	r.next++
	r.ring[number%uint64(len(r.ring))] = moment{
		id: c.id, before: c.moment, first: now, last: now, posture: posture, count: 1, cause: c.cause,
		idle: idle, tls: c.tlsWaits(),
	}
	c.moment = number
}

// history returns the latest moments of a stream as far back as they are kept, the oldest first.
func (r *flightRecorder) history(c *conn) []moment {
	var found []moment
	for m := r.at(c.moment); m != nil && m.id == c.id && len(found) < historyMoments; m = r.at(m.before) {
		found = append(found, *m)
	}
	slices.Reverse(found)
	return found
}

// pin keeps the history of a stream that has become suspect: by the time that somebody asks, others may have
// overwritten it.
func (w *worker) pin(c *conn) { c.pinned = w.flight.history(c) }

// historyOf returns what was pinned, with what has become of the last moment and what came after it.
func (w *worker) historyOf(c *conn) []evidence.Moment {
	moments := w.flight.history(c)
	if n := len(c.pinned); n > 0 {
		// What is still in the ring begins with, or after, a moment that was pinned.
		keep := n
		if len(moments) > 0 {
			keep, _ = slices.BinarySearchFunc(c.pinned, moments[0].before, func(m moment, before uint64) int {
				return cmp.Compare(m.before, before)
			})
		}
		moments = append(slices.Clone(c.pinned[:keep]), moments...)
	}
	told := make([]evidence.Moment, len(moments))
	for i := range moments {
		told[i] = moments[i].tell()
	}
	return told
}

// tell puts a moment into the words of a diagnosis.
func (m *moment) tell() evidence.Moment {
	p := &m.posture
	return evidence.Moment{
		At: m.first, Until: m.last, Count: uint64(m.count), Cause: m.cause.String(), NoProgress: m.idle,
		ClientState: p.Client.String(), ServerState: p.Server.String(),
		RequestIn: p.RequestIn.String(), RequestOut: p.RequestOut.String(),
		ResponseIn: p.ResponseIn.String(), ResponseOut: p.ResponseOut.String(),
		Retries: int(p.Retries), Redispatched: p.Redispatched, Handshake: p.Handshake,
		ClientTLS: m.tls[stream.Client].String(), ServerTLS: m.tls[stream.Server].String(),
	}
}
