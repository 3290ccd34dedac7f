// Package freeport finds TCP ports for programs that are started with a port in their configuration: by the
// lab, the tools and the tests.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// The ports are below those that Linux gives to connections of its own accord (32768 to 60999 by default):
// one of these may be taken between the moment when it is found and the moment when the program listens, and
// a port asked for twice may come twice.
const (
	first = 10000
	last  = 32767
)

var (
	mu    sync.Mutex
	given = map[int]bool{}
)

// Get returns a port of 127.0.0.1 on which nobody listens. The process gets no port twice.
func Get() (int, error) {
	mu.Lock()
	defer mu.Unlock()
	var failed error
	for range last - first {
		port := first + rand.IntN(last-first+1)
		if given[port] {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			failed = err
			continue
		}
		given[port] = true
		return port, l.Close()
	}
	return 0, fmt.Errorf("looking for a free port: %w", failed)
}
