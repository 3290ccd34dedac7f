package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// server is a server of the play: a port, and the connections that came to it.
type server struct {
	number      int
	at          unix.Sockaddr
	fd          int     // bound, and listening unless it refuses
	fillers     []*peer // what keeps the accept queue of a silent server full
	answer      answer
	connections []*peer
}

func newServer(number int, at unix.Sockaddr, a answer) (*server, error) {
	s := &server{number: number, at: at, fd: -1}
	if err := s.become(a); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// become makes the server answer otherwise than before. A silent one that opens keeps its queue and takes
// what is in it away, so that the next packet of a waiting attempt finds room.
func (s *server) become(a answer) error {
	if s.answer == silent && a == accepts && s.fd >= 0 {
		for range s.fillers {
			fd, _, err := unix.Accept4(s.fd, unix.SOCK_CLOEXEC)
			if err != nil {
				return fmt.Errorf("opening server %d: %w", s.number, err)
			}
			unix.Close(fd)
		}
		s.dropFillers()
		s.answer = a
		return nil
	}
	s.end()
	s.answer = a
	var err error
	if s.fd, err = streamSocket(s.at); err != nil {
		return err
	}
	if path, ok := s.at.(*unix.SockaddrUnix); ok {
		_ = unix.Unlink(path.Name) // of the answer that it had before
	}
	if err = unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
		err = unix.Bind(s.fd, s.at)
	}
	backlog := 100
	if a == silent {
		backlog = 0
	}
	if err == nil && a != refuses {
		err = unix.Listen(s.fd, backlog)
	}
	if err == nil && a == silent {
		err = s.fill()
	}
	if err != nil {
		return fmt.Errorf("server %d at %+v: %w", s.number, s.at, err)
	}
	return nil
}

// fill puts as many connections into the accept queue as it takes: one, with a backlog of 0. From then on
// the kernel drops every attempt.
func (s *server) fill() error {
	c, err := dialPeer(s.at, "filler")
	if err == nil {
		s.fillers = append(s.fillers, c)
	}
	return err
}

// accept takes what connections there are.
func (s *server) accept() (moved bool, err error) {
	for s.answer == accepts {
		fd, _, err := unix.Accept4(s.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			name := fmt.Sprintf("server %d #%d", s.number, len(s.connections)+1)
			s.connections = append(s.connections, &peer{name: name, fd: fd, port: portOf(fd),
				events: []string{"connected"}})
			moved = true
		case unix.EAGAIN:
			return moved, nil
		default:
			return moved, fmt.Errorf("server %d accepts: %w", s.number, err)
		}
	}
	return moved, nil
}

func (s *server) dropFillers() {
	for _, c := range s.fillers {
		c.drop()
	}
	s.fillers = nil
}

// end stops listening; the connections stay.
func (s *server) end() {
	s.dropFillers()
	if s.fd >= 0 {
		unix.Close(s.fd)
		s.fd = -1
	}
}
