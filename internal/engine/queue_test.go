package engine

import (
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
)

// TestStreamsLeaveTheQueueWhileSlotsAreGranted lets streams of two workers queue for one slot and leave
// when they like, so that a slot is granted by one worker to a stream that ends at another in the same
// moment. It is for the race detector as much as for the accounts.
func TestStreamsLeaveTheQueueWhileSlotsAreGranted(t *testing.T) {
	p := start(t, settings{workers: 2, change: func(_ *config.Config, p *config.Proxy) {
		p.Servers[0].MaxConn = 1
		p.Timeouts.Queue = 2 * time.Millisecond
	}}, serve(t, func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }))
	const clients, connections = 24, 150
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range connections {
				c, err := net.Dial("tcp", p.address)
				if err != nil {
					t.Error(err)
					return
				}
				for range rand.IntN(20) {
					runtime.Gosched()
				}
				c.Close()
			}
		})
	}
	all.Wait()
	p.ended(clients * connections)
	if taken, queued := p.engine.Slots(); taken != 0 || queued != 0 {
		t.Errorf("%d slots and %d places in the queue are taken at the end", taken, queued)
	}
}
