package correlate

import (
	"fmt"
	"strings"

	"github.com/whyspin/whyspin/internal/evidence"
)

// leastHops is how many connections of a proxy to itself make a circle at least: fewer may be a test, or a
// health check.
const leastHops = 10

// trafficLoop is the rule for traffic that is routed in a circle (look-alike L15): a proxy whose server is
// one of its own listeners. The deciding fact is that more of its streams lead to its own listeners than can
// in any order of them: where traffic passes each of n listeners once at most, one stream of n leads out.
func trafficLoop(in *input) []Finding {
	if in.Window == nil || in.After == nil {
		return nil
	}
	listeners := in.listeners()
	hops, most := map[int]uint64{}, -1
	var total, connections uint64
	for i := range in.Window.Descriptors {
		s, known := in.Window.Descriptors[i].Socket.Get()
		if !known || s.Kind != "tcp" || s.State != "ESTABLISHED" {
			continue
		}
		connections++
		for _, l := range listeners {
			if !listensAt(l, s.Remote) {
				continue
			}
			total++
			if hops[l.FD]++; most < 0 || hops[l.FD] > hops[most] {
				most = l.FD
			}
			break
		}
	}
	n, streams := uint64(len(listeners)), uint64(in.After.StreamCount)
	// A stream has two connections at most. Those beyond are kept for streams to come, and lead nowhere.
	idle := max(connections, 2*streams) - 2*streams
	if total < leastHops || (total-min(total, idle))*n <= streams*(n-1) {
		return nil
	}
	f := Finding{Class: L15, FD: in.describe(most)}
	f.Listener = in.listenerOf(most, in.descriptor(most).Socket)
	f.Destination = f.Listener.Address
	f.add(Fact{
		Text: fmt.Sprintf("connections of the process to its own listeners, %d of them to descriptor %d",
			hops[most], most),
		Count: evidence.Know(total), Source: sourceFiles, Weight: 0.8,
	})
	f.add(Fact{
		Text: fmt.Sprintf("streams in all; with %d listeners and no circle, one of %d at least leads out", n,
			n),
		Count: evidence.Know(streams), Source: sourceState, Weight: 0.6,
	})
	f.Remedy = fmt.Sprintf("take the server out of the configuration that leads back to %s, which is a"+
		" listener of the process itself", f.Destination)
	return []Finding{f}
}

// listeners returns the listening TCP sockets of the process.
func (in *input) listeners() (all []*evidence.Descriptor) {
	for i := range in.Window.Descriptors {
		d := &in.Window.Descriptors[i]
		if s, known := d.Socket.Get(); known && s.Kind == "tcp" && s.State == listening {
			all = append(all, d)
		}
	}
	return all
}

// listensAt reports whether connections to an address come to a listener.
func listensAt(l *evidence.Descriptor, address string) bool {
	s, _ := l.Socket.Get()
	host, port, _ := cutLast(s.Local, ':')
	_, to, _ := cutLast(address, ':')
	return s.Local == address || port == to && (host == "0.0.0.0" || host == "[::]") && ownAddress(address)
}

// ownAddress reports whether an address is of this machine for certain: one of loopback.
func ownAddress(address string) bool {
	return strings.HasPrefix(address, "127.") || strings.HasPrefix(address, "[::1]")
}
