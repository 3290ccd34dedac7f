package correlate

import (
	"fmt"
	"testing"

	"github.com/whyspin/whyspin/internal/evidence"
)

// TestTrafficLoop flips what decides: how many of the streams lead back, and to whom.
func TestTrafficLoop(t *testing.T) {
	const own, other = "127.0.0.1:25", "192.0.2.9:25"
	for _, tt := range []struct {
		name          string
		to, listener  string
		hops, streams int
		stateless     bool
		verdict       Verdict
	}{
		{"every stream leads back", own, own, 100, 108, false, TrafficLoop},
		{"to a listener on every address", own, "0.0.0.0:25", 100, 108, false, TrafficLoop},
		{"a frontend whose server is the other frontend", own, own, 100, 200, false, Healthy},
		{"to somebody else", other, own, 100, 108, false, Healthy},
		{"a few checks of one's own", own, own, 9, 9, false, Healthy},
		{"idle connections to itself, which no stream has", own, own, 20, 0, false, Healthy},
		{"idle ones to itself, and streams that lead out", own, own, 20, 10, false, Healthy},
		{"the streams are not observed", own, own, 100, 108, true, Healthy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := ours()
			healthyStream(c)
			quiet(c)
			c.After.StreamCount = tt.streams
			c.Window.Descriptors = nil
			for i, address := range []string{tt.listener, "127.0.0.1:9090"} {
				c.Window.Descriptors = append(c.Window.Descriptors, evidence.Descriptor{
					FD: 10 + i, EpollFD: 5,
					Socket: evidence.Know(evidence.Socket{Kind: "tcp", State: "LISTEN", Local: address}),
				})
			}
			for i := range tt.hops {
				from := fmt.Sprintf("127.0.0.1:%d", 40_000+i)
				c.Window.Descriptors = append(c.Window.Descriptors,
					evidence.Descriptor{FD: 20 + 2*i, EpollFD: 5, Socket: connection(from, tt.to)},
					evidence.Descriptor{FD: 21 + 2*i, EpollFD: 5, Socket: connection(tt.to, from)})
			}
			if tt.stateless {
				c.Before, c.After = nil, nil
			}
			d := Correlate(c)
			if d.Verdict != tt.verdict {
				t.Fatalf("the verdict is %q, should be %q: %+v", d.Verdict, tt.verdict, d.Findings)
			}
			if tt.verdict != TrafficLoop {
				return
			}
			if f := &d.Findings[0]; f.Listener == nil || f.Listener.Address != tt.listener || f.Spins() {
				t.Errorf("it blames %+v", f)
			}
		})
	}
}
