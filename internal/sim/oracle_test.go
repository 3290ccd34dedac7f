package sim

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// TestWhatTheOracleAdmits: for each thing that can happen to a stream the oracle admits the one termination
// code that tells it, and no other.
func TestWhatTheOracleAdmits(t *testing.T) {
	const later = epoch + 1_000_000_000
	scenario := &Scenario{Retries: 1, Servers: []ServerScript{{}}, ServerMaxConn: 1}
	scenario.Timeouts = Timeouts{
		Connect: time.Second, Client: time.Second, Server: time.Second, Queue: time.Second,
	}
	reaches := func(p *peer) {
		p.facts.before, p.facts.attempts = stream.Established, 1
		p.facts.attempt = &peer{socket: &socket{}}
		p.facts.attempt.socket.peer = p.facts.attempt
		p.facts.attempt.socket.told.arrives(epoch)
	}
	tries := func(p *peer, attempts int, errno sys.Errno) {
		p.facts.before, p.facts.attempts, p.facts.began = stream.Connecting, attempts, later
		p.facts.failure = errno
	}
	waits := func(p *peer) { p.facts.before, p.facts.queued = stream.Queued, epoch }
	lively := func(s *socket) { s.told.moved, s.told.wrote = later, later }
	for _, tt := range []struct {
		name   string
		happen func(p *peer)
		want   string
	}{
		{"nothing", func(*peer) {}, ""},
		{"reset at once", func(p *peer) { p.socket.told.err = sys.ECONNRESET }, "CR"},
		{"left in the queue", func(p *peer) {
			waits(p)
			p.facts.queued, p.socket.told.eof = later, true
		}, "CQ"},
		{"too long in the queue", func(p *peer) { waits(p); p.taken = 1 }, "sQ"},
		{"left while connecting", func(p *peer) { tries(p, 1, 0); p.socket.told.eof = true }, "CC"},
		{"sent its end behind bytes", func(p *peer) {
			tries(p, 1, 0)
			p.socket.told.eof, p.taken = true, 1
		}, ""},
		{"refused, with a retry left", func(p *peer) { tries(p, 1, sys.ECONNREFUSED); p.taken = 1 }, ""},
		{"refused", func(p *peer) { tries(p, 2, sys.ECONNREFUSED); p.taken = 1 }, "SC"},
		{"no port", func(p *peer) { tries(p, 2, sys.EADDRNOTAVAIL); p.taken = 1 }, "RC"},
		{"no answer yet", func(p *peer) { tries(p, 2, 0); p.taken = 1 }, ""},
		{"no answer", func(p *peer) { tries(p, 2, 0); p.facts.began, p.taken = epoch, 1 }, "sC"},
		{"client silent while connecting", func(p *peer) { tries(p, 1, 0); p.facts.accepted = epoch }, "cC"},
		{"client reset", func(p *peer) {
			reaches(p)
			lively(p.socket)
			lively(p.facts.server())
			p.socket.told.err = sys.ECONNRESET
		}, "CD"},
		{"server reset", func(p *peer) {
			reaches(p)
			lively(p.socket)
			lively(p.facts.server())
			p.facts.server().told.err = sys.EPIPE
		}, "SD"},
		{"client silent", func(p *peer) { reaches(p); lively(p.facts.server()) }, "cD"},
		{"server silent", func(p *peer) { reaches(p); lively(p.socket) }, "sD"},
		{"its handshake failed", func(p *peer) { p.tls, p.socket.told.bad = &tlsPeer{}, true }, "CR"},
		{"its handshake was cut", func(p *peer) { p.tls, p.socket.told.eof = &tlsPeer{}, true }, "CR"},
		{"its handshake takes too long", func(p *peer) {
			p.tls = &tlsPeer{}
			p.facts.accepted = epoch
		}, "cR"},
		{"a record cannot be read", func(p *peer) {
			reaches(p)
			lively(p.socket)
			lively(p.facts.server())
			p.facts.server().told.bad = true
		}, "SD"},
		{"the last attempt's handshake may have failed", func(p *peer) {
			tries(p, 2, 0)
			p.facts.attempt = &peer{socket: &socket{told: told{doubt: true, connected: ktime.Never}}}
			p.taken = 1
		}, "SC"},
		{"killed in the queue", func(p *peer) {
			waits(p)
			p.facts.queued, p.facts.killed = later, true
		}, "KQ"},
		{"killed while connecting", func(p *peer) { tries(p, 1, 0); p.facts.killed = true }, "KC"},
		{"killed", func(p *peer) {
			reaches(p)
			lively(p.socket)
			lively(p.facts.server())
			p.facts.killed = true
		}, "K-"},
	} {
		r := &run{world: newWorld(scenario)}
		p := &peer{socket: &socket{told: newTold(epoch)}}
		p.facts.accepted, p.facts.queued = later, ktime.Never
		tt.happen(p)
		p.socket.peer = p
		s := stream.New(&stream.Policy{}, 0, epoch)
		var admitted []string
		for _, by := range "CcSsRIKx" {
			for _, during := range "RQCDL-x" {
				e := stream.Ending{By: byte(by), During: byte(during)}
				if r.objection(p, &s, e, later) == "" {
					admitted = append(admitted, e.String())
				}
			}
		}
		if diff := cmp.Diff(tt.want, strings.Join(admitted, " ")); diff != "" {
			t.Errorf("%s: admitted are, besides what should be:\n%s", tt.name, diff)
		}
	}
}
