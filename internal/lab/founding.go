package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// The founding case in small: the timeouts of the production proxy were a second and hours.
const (
	connectTimeout = 300 * time.Millisecond
	tunnelTimeout  = 1500 * time.Millisecond
	leaving        = 40 // clients in each wave that leaves around the connect timeout
	maxWaves       = 200
)

// leavers are clients that leave around the connect timeout, in waves, until one of them does in the very
// wakeup in which the proxy sees that timeout.
type leavers struct {
	address string // where they connect
	proxy   *proxy
	clients []string // the addresses of those of the last wave
	count   int
}

// hit sends waves until there is an orphan and returns its id.
func (l *leavers) hit(ctx context.Context) (orphan string, err error) {
	for range maxWaves {
		if err := l.wave(ctx); err != nil {
			return "", err
		}
		ids, err := orphans(ctx, l.proxy)
		if err != nil {
			return "", err
		}
		if len(ids) > 0 {
			return ids[0], nil
		}
	}
	return "", fmt.Errorf("none of %d clients left in the wakeup of the connect timeout", l.count)
}

// wave opens clients and closes each within a millisecond or two of its connect timeout.
func (l *leavers) wave(ctx context.Context) error {
	var clients sync.WaitGroup
	var mu sync.Mutex
	var failed error
	l.clients = nil
	for range leaving {
		clients.Go(func() {
			c, err := net.Dial("tcp", l.address)
			mu.Lock()
			if err != nil {
				failed = err
				mu.Unlock()
				return
			}
			l.clients = append(l.clients, c.LocalAddr().String())
			mu.Unlock()
			defer c.Close()
			// The proxy starts its timer a little after this moment, and its timers are up to a millisecond
			// late.
			select {
			case <-time.After(connectTimeout + time.Duration(rand.Int64N(int64(2*time.Millisecond)))):
			case <-ctx.Done():
			}
		})
		// Not all at once: each has a moment of its own.
		select {
		case <-time.After(time.Duration(rand.Int64N(int64(time.Millisecond)))):
		case <-ctx.Done():
		}
	}
	clients.Wait()
	l.count += leaving
	if failed != nil {
		return fmt.Errorf("connecting to the proxy: %w", failed)
	}
	return ctx.Err()
}

// orphans returns the ids of the streams that the proxy itself lists as half-states.
func orphans(ctx context.Context, p *proxy) ([]string, error) {
	state, err := p.state(ctx)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, s := range state.Streams {
		if s.ClientState == "CLO" && s.Request.OutShut && s.Response.OutShut {
			ids = append(ids, s.ID)
		}
	}
	return ids, nil
}

// awaitOverdue waits until a timer of the stream has passed on which nobody acts.
func awaitOverdue(ctx context.Context, p *proxy, id string) error {
	return until(ctx, tunnelTimeout+patience, "the orphan's timer to pass", func() (bool, error) {
		state, err := p.state(ctx)
		if err != nil {
			return false, err
		}
		for _, s := range state.Streams {
			if _, overdue := s.Overdue(state.At); overdue && s.ID == id {
				return true, nil
			}
		}
		return false, nil
	})
}
