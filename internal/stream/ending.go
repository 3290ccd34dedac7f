package stream

// ConnectError says why a connection attempt failed.
type ConnectError uint8

const (
	// ConnectRefused: the server or the network said no.
	ConnectRefused ConnectError = iota
	// ConnectResource: this machine had no descriptor, port or memory for it.
	ConnectResource
	// ConnectInternal: the connection could not even be tried.
	ConnectInternal
)

// Killer says who ordered the end of a stream.
type Killer uint8

const (
	// KillAdmin is the operator's "shutdown session".
	KillAdmin Killer = iota
	// KillSpin is whyspin.spin-action.
	KillSpin
)

// Ending is why a stream ended: the two characters of the termination state in the log, as in HAProxy's
// configuration manual, section 8.5. The zero Ending is "not ended with an error", printed as "--".
type Ending struct {
	// By is who or what ended it: C client, S server, c client timeout, s server timeout, R resource
	// exhausted here, I internal error or spin, K killed by the operator, P refused by a rule.
	By byte
	// During is what was going on: R before a server was wanted, Q in the queue, C connecting, D data, L
	// last data towards the client, - nothing worth saying.
	During byte
}

// String returns the two characters.
func (e Ending) String() string {
	if e.By == 0 {
		return "--"
	}
	return string([]byte{e.By, e.During})
}

// noPhase stands for a phase that says nothing: HAProxy logs "K-" for a stream that the operator ends once
// it has reached its server.
const noPhase = '-'

// endBy records who ended the stream and in which phase, unless that is known already: the first error
// counts.
func (s *Stream) endBy(by byte) {
	if s.ending.By != 0 {
		return
	}
	s.ending = Ending{By: by, During: s.phase()}
}

// phase returns the second character of the termination state.
func (s *Stream) phase() byte {
	switch s.server.state {
	case Initial:
		return 'R'
	case Request:
		// Wanting a server again after a failed attempt is still the connection phase.
		return 'C'
	case Queued:
		return 'Q'
	case TurnAround, Assigned, Connecting, Failed:
		return 'C'
	case Established:
		return 'D'
	case Closed:
		if s.times.Connected.IsSet() {
			return 'L'
		}
		return 'C'
	}
	panic("BUG: server state out of range")
}
