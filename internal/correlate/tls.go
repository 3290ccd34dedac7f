package correlate

import "github.com/whyspin/whyspin/internal/evidence"

// addTLS adds what the TLS of the descriptor of a finding has to do with it, as far as its process says so.
// For F1 that is TLS that waits for bytes of the peer while the descriptor is reported as writable; for any
// class an error that the TLS layer has read from the socket, which tells it once, and has kept to itself.
func (f *Finding) addTLS() {
	t := f.tls()
	switch {
	case t == nil:
	case t.Error != "":
		f.add(errorKept(t))
	case f.Class == F1 && t.WantsRead && !t.WantsWrite:
		rest := "the peer's part of the handshake"
		if t.Incomplete {
			rest = "the rest of a record"
		}
		f.add(Fact{
			Text:   "TLS: the layer waits for " + rest + ", and the descriptor is armed for write",
			Source: sourceState, Weight: 0.7,
		})
	}
}

// errorKept is the fact that TLS has read an error of which the stream was not told.
func errorKept(t *evidence.TLS) Fact {
	return Fact{
		Text:   "TLS: an error was seen by the TLS layer (" + t.Error + ") and not passed up to the stream",
		Source: sourceState, Weight: 0.7,
	}
}

// keepsError reports whether the TLS of a side has read such an error.
func keepsError(s *evidence.Side) bool { return s.TLS != nil && s.TLS.Error != "" }

// tls returns the TLS of the connection that the finding is about, nil when there is none.
func (f *Finding) tls() *evidence.TLS {
	if f.Stream == nil || f.FD == nil {
		return nil
	}
	side := f.Stream.ServerSide
	if f.FD.Number == f.Stream.ClientFD {
		side = f.Stream.ClientSide
	}
	return side.Or(evidence.Side{}).TLS
}
