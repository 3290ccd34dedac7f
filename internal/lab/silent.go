package lab

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/whyspin/whyspin/internal/sys"
)

// silentServer is a server whose accept queue is full: its kernel drops connection attempts, so they get no
// answer.
type silentServer struct {
	address string
	fds     []int
}

// startSilentServer listens with a queue of length 0 and fills it. One connection fits into such a queue;
// the second one stays unanswered.
func startSilentServer() (*silentServer, error) {
	at := sys.Address{IP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)}
	fd, err := sys.Listen(at, sys.ListenOptions{UID: -1, GID: -1})
	if err != nil {
		return nil, fmt.Errorf("starting the silent server: %w", err)
	}
	kernel := sys.Linux{}
	address := kernel.LocalAddress(fd)
	s := &silentServer{address: address.String(), fds: []int{fd}}
	for range 2 {
		filler, errno := kernel.Connect(address, false)
		if errno != 0 && !errors.Is(errno, sys.EINPROGRESS) {
			s.close()
			return nil, fmt.Errorf("filling the queue of the silent server: %w", errno)
		}
		s.fds = append(s.fds, filler)
	}
	return s, nil
}

func (s *silentServer) close() {
	for _, fd := range s.fds {
		sys.Linux{}.Close(fd)
	}
}
