package sim

import "github.com/whyspin/whyspin/internal/sys"

// pipe is bytes on their way through the kernel. size is how many it holds; since what arrives in pieces
// takes a slot each, it may be full before.
type pipe struct {
	held []byte
	size int
}

// pipeSize is the size of a scenario's pipes: more than the least buffers, less than what peers send.
const pipeSize = 2048

// Pipe opens a pipe.
func (w *World) Pipe(size int) (from, to int, errno sys.Errno) {
	w.call()
	if w.strikes(NoPipe) {
		return -1, -1, []sys.Errno{sys.EMFILE, sys.EPERM}[w.random.IntN(2)]
	}
	p := &pipe{size: size}
	return w.open(file{outlet: p}), w.open(file{inlet: p}), 0
}

// Splice moves bytes from a socket into a pipe, or out of one into a socket.
func (w *World) Splice(from, to, n int) (int, sys.Errno) {
	w.call()
	if p := w.file(to).inlet; p != nil {
		s := w.file(from).socket
		if n, errno := w.spliceIn(s, p, n); n > 0 || errno != 0 {
			return s.note(n, n, errno, true)
		}
		return 0, 0 // which need not be the end: a read will tell
	}
	return w.spliceOut(w.file(from).outlet, w.file(to).socket, n)
}

// spliceIn reads as tcp_splice_read does: what is urgent it does not pass, and then it says that there is
// nothing, or, behind the peer's shutdown, that it was all.
func (w *World) spliceIn(s *socket, p *pipe, n int) (int, sys.Errno) {
	if len(p.held) > 0 {
		w.fail("pipes", "%s is spliced into a pipe that holds %d bytes: EAGAIN would mean nothing",
			w.describe(s.fd), len(p.held))
	}
	s.mayReset()
	if s.withheld || s.withholds() {
		return 0, sys.EAGAIN
	}
	from := s.receive
	if s.urgent >= 0 {
		from = from[:s.urgent]
	}
	switch {
	case s.state == connecting:
		return 0, sys.EAGAIN
	case len(from) > 0:
	case s.err != 0:
		err := s.err
		s.err = 0
		return 0, err
	case s.fin || s.broken:
		return 0, 0
	default:
		return 0, sys.EAGAIN
	}
	n = w.splices(min(n, len(from), p.size))
	p.held = append(p.held, from[:n]...)
	s.receive = s.receive[n:]
	if s.urgent > 0 {
		s.urgent -= n
	}
	if s.peer.tls != nil {
		w.fail("pipes", "%s is spliced, and has TLS", w.describe(s.fd))
	}
	s.peer.taken += n
	return n, 0
}

// spliceOut writes. It may stop anywhere, though there is room.
func (w *World) spliceOut(p *pipe, s *socket, n int) (int, sys.Errno) {
	if len(p.held) == 0 {
		w.fail("pipes", "%s is to get what an empty pipe holds", w.describe(s.fd))
		return 0, sys.EAGAIN
	}
	n, errno := w.deliver(s, p.held[:w.splices(min(n, len(p.held)))])
	p.held = p.held[n:]
	return n, errno
}

// splices is how many bytes of n are moved: all, or as many as the slots of the pipe have room for.
func (w *World) splices(n int) int {
	if n > 1 && w.strikes(ShortSplice) {
		return 1 + w.random.IntN(n-1)
	}
	return n
}
