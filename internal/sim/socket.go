package sim

import (
	"time"

	"github.com/whyspin/whyspin/internal/sys"
)

// window is how many bytes a peer that does not read can hold before the engine's writes find no room.
const window = 4096

// soon is the longest that a hazard on a connection lasts: a write without room, bytes that cannot be read,
// the second piece of what was sent.
const soon = 2 * time.Millisecond

// soon is a time that short.
func (w *World) soon() time.Duration { return 1 + time.Duration(w.random.Int64N(int64(soon))) }

// socket is the engine's end of a connection.
type socket struct {
	world     *World
	fd        int
	peer      *peer
	interests []*interest // the registrations, in any epoll set

	state    socketState
	receive  []byte    // arrived and not read
	urgent   int       // reads stop short before receive[urgent]; -1 for no urgent data
	fin      bool      // the peer has shut its direction
	shut     bool      // the engine has shut its own
	err      sys.Errno // pending error
	broken   bool      // reset, in either direction
	noRoom   bool      // the last write found no room, so room will be an edge
	refused  bool      // the last write was not taken whole
	crowded  bool      // by a hazard: there is no room for a while
	withheld bool      // by a hazard: what has arrived cannot be read yet
	accepted bool      // taken from the backlog
	parting  bool      // what is being written are the last bytes
	lost     bool      // the last call was a write that first met with the connection's error
	// announced is the last event that was delivered; finKnown is set once one has told of the peer's end.
	announced uint32
	finKnown  bool
	told      told // what the engine knows
	morsels   int  // reads in a row that asked for next to nothing though more was there
}

type socketState uint8

const (
	connecting socketState = iota
	established
	closed
)

// mask is what poll would say.
func (s *socket) mask() uint32 {
	if s.state == connecting {
		return 0
	}
	var m uint32
	m |= when(len(s.receive) > 0 && !s.withheld || s.fin || s.broken, sys.EventIn)
	m |= when(s.fin || s.broken, sys.EventRdHup)
	m |= when(s.urgent >= 0, sys.EventPri)
	m |= when(s.broken || s.shut || s.room() > 0, sys.EventOut)
	m |= when(s.err != 0, sys.EventErr)
	m |= when(s.broken || s.fin && s.shut, sys.EventHup)
	return m
}

// room is how many bytes a write would take.
func (s *socket) room() int {
	if s.crowded {
		return 0
	}
	return window - s.peer.crowd
}

// edge tells epoll that something has changed.
func (s *socket) edge() {
	s.withheld = false
	if s.world.deaf > 0 {
		if s.world.deaf--; s.world.deaf == 0 {
			return
		}
	}
	for _, i := range s.interests {
		i.raise()
	}
}

// Accept takes a connection from the backlog.
func (w *World) Accept(fd int) (int, sys.Address, sys.Errno) {
	w.call()
	l := w.file(fd).listener
	if len(l.backlog) == 0 {
		return -1, sys.Address{}, sys.EAGAIN
	}
	if w.strikes(RefuseAccept) {
		return -1, sys.Address{}, sys.EAGAIN
	}
	if w.strikes(NoFile) {
		w.trouble = w.now
		return -1, sys.Address{}, sys.EMFILE
	}
	s := l.backlog[0]
	l.backlog = l.backlog[1:]
	if w.strikes(Aborted) {
		w.tell("%s: is gone before it is accepted", s.peer.name)
		s.state = closed
		s.peer.over, s.peer.gone = true, true
		return -1, sys.Address{}, sys.ECONNABORTED
	}
	s.accepted = true
	s.told = newTold(w.clock)
	s.peer.facts.accepted = w.clock
	s.fd = w.open(file{socket: s})
	w.byFD[s.fd] = s
	w.tell("%s: accepted", s.peer.name)
	return s.fd, s.peer.address, 0
}

// Connect starts a connection to a server.
func (w *World) Connect(to sys.Address, _ bool) (int, sys.Errno) {
	w.call()
	p, errno := w.connect(to)
	w.attempted(p, errno)
	if errno != 0 && errno != sys.EINPROGRESS {
		return -1, errno
	}
	return p.socket.fd, errno
}

func (w *World) connect(to sys.Address) (*peer, sys.Errno) {
	if w.strikes(NoPort) {
		return nil, sys.EADDRNOTAVAIL
	}
	if w.strikes(NoFile) {
		return nil, sys.EMFILE
	}
	v := w.server[to]
	answer := v.answer()
	w.count(answer)
	p := w.newPeer(v)
	if w.scenario.Unix && (answer == Refuses || answer == Silent) {
		p.over = true
		w.tell("%s: connection attempt, refused at once", p.name)
		if answer == Silent {
			return nil, sys.EAGAIN
		}
		return nil, sys.ECONNREFUSED
	}
	s := &socket{world: w, peer: p, urgent: -1, told: newTold(w.clock)}
	p.socket = s
	s.fd = w.open(file{socket: s})
	w.byFD[s.fd] = s
	w.tell("%s: connection attempt", p.name)
	if w.scenario.Unix {
		s.establish()
		if p.tls == nil {
			s.told.arrives(w.clock)
		}
		return p, 0
	}
	switch answer {
	case Accepts:
		w.after(v.script.Delay, s.establish)
	case Late:
		w.after(w.late(), s.establish)
	case Refuses:
		w.after(v.script.Delay, s.refuse)
	case Silent:
	}
	return p, sys.EINPROGRESS
}

// answer is what the server does with the next attempt.
func (v *server) answer() Answer {
	answer := v.script.Answers[min(v.attempts, len(v.script.Answers)-1)]
	v.attempts++
	if v.down {
		return Refuses
	}
	return answer
}

// count counts the hazards among the answers.
func (w *World) count(a Answer) {
	switch a {
	case Refuses:
		w.did(Refused)
	case Silent:
		w.did(Never)
	case Late:
		w.did(Slow)
	case Accepts:
	}
}

// late is about the connect timeout. A worker wakes for it up to a millisecond late, and what happens in that
// time is seen in the same wakeup.
func (w *World) late() time.Duration {
	const before, around = 200 * time.Microsecond, 1400 * time.Microsecond
	return max(0, w.scenario.Timeouts.Connect-before) + time.Duration(w.random.Int64N(int64(around)))
}

// refuse answers an attempt with a reset, unless the engine has given it up.
func (s *socket) refuse() {
	if s.state != connecting {
		return
	}
	s.world.tell("%s: refused", s.peer.name)
	s.state, s.broken, s.err = established, true, sys.ECONNREFUSED
	s.peer.over = true
	s.edge()
}

// breakDown begins or ends the outage of a server.
func (w *World) breakDown(v *server, down bool) {
	v.down = down
	if !down {
		w.tell("server %d: is up again", v.index+1)
		return
	}
	w.did(Outages)
	w.tell("server %d: goes down", v.index+1)
	for _, p := range w.peers {
		if s := p.socket; p.server == v.index && s != nil && !p.over && !p.gone {
			if s.state == connecting {
				s.refuse()
				continue
			}
			p.reset()
		}
	}
}

// establish completes the connection, unless the engine has given it up.
func (s *socket) establish() {
	if s.state != connecting {
		return
	}
	s.state = established
	s.world.tell("%s: established", s.peer.name)
	s.edge()
	s.peer.begin()
}

// SocketError returns and clears the pending error.
func (w *World) SocketError(fd int) sys.Errno {
	w.call()
	s := w.file(fd).socket
	err := s.err
	s.err = 0
	s.tell(err)
	return err
}

// Read reads what has arrived.
func (w *World) Read(fd int, p []byte) (int, sys.Errno) {
	w.call()
	s := w.file(fd).socket
	n, errno := s.read(p)
	return s.note(n, len(p), errno, true)
}

func (s *socket) read(p []byte) (int, sys.Errno) {
	w := s.world
	s.mayReset()
	if s.state == connecting || s.withheld {
		return 0, sys.EAGAIN
	}
	if s.withholds() {
		return 0, sys.EAGAIN
	}
	if len(s.receive) == 0 {
		switch {
		case s.err != 0:
			err := s.err
			s.err = 0
			return 0, err
		case s.fin || s.broken:
			return 0, 0
		}
		return 0, sys.EAGAIN
	}
	from := s.receive
	if s.urgent == 0 {
		// The urgent byte itself is not part of the stream: passing it makes the urgent state end.
		from, s.urgent = from[1:], -1
		s.receive = from
		if len(from) == 0 {
			if s.fin || s.broken {
				return 0, 0
			}
			return 0, sys.EAGAIN
		}
	}
	if s.urgent > 0 {
		from = from[:s.urgent]
	}
	w.checkRoom(s, len(p), len(from))
	n := min(len(p), len(from))
	if w.scenario.Unix && s.peer.client < 0 && n > 1 && w.random.IntN(4) == 0 {
		// What was sent with a descriptor ends a read.
		n = 1 + w.random.IntN(n-1)
	}
	copy(p, from[:n])
	s.receive = s.receive[n:]
	if s.urgent > 0 {
		s.urgent -= n
	}
	if s.peer.tls == nil {
		s.peer.taken += n
	}
	return n, 0
}

// morsel is up to how many bytes a call moves for nothing but its own cost. It is also how many reads in a
// row may ask for no more than that: as many as fill what is left of a buffer with a byte each, where reads
// stop short. Then there is no room, or half of the buffer.
const morsel = 16

// checkRoom: what is there is read at once, as far as a buffer can hold it.
func (w *World) checkRoom(s *socket, room, waiting int) {
	if room > morsel || room >= waiting {
		s.morsels = 0
		return
	}
	if s.morsels++; s.morsels > morsel {
		w.fail("morsels", "%s: %d bytes wait and the engine reads %d at a time, again and again",
			w.describe(s.fd), waiting, room)
	}
}

// Acknowledge changes nothing here: nobody waits for it.
func (w *World) Acknowledge(fd int) {
	w.call()
	if w.file(fd).socket == nil {
		w.fail("descriptors", "%d is no socket, and is to acknowledge", fd)
	}
}

// NoDelay changes nothing here: everything is sent at once.
func (w *World) NoDelay(fd int) {
	w.call()
	if w.file(fd).socket == nil {
		w.fail("descriptors", "%d is no socket, and its delay is switched off", fd)
	}
}

// Write gives bytes to the peer. The last ones before the end of the direction wait for that end, which must
// come before the worker waits again.
func (w *World) Write(fd int, p []byte, last bool) (int, sys.Errno) {
	w.call()
	s := w.file(fd).socket
	s.parting = last
	n, errno := w.deliver(s, p)
	s.parting = false
	if last && n == len(p) {
		w.held = append(w.held, s)
	}
	return n, errno
}

// deliver gives bytes to a socket's peer, as many as it has room for or fewer.
func (w *World) deliver(s *socket, p []byte) (int, sys.Errno) {
	if s.shut {
		w.fail("descriptors", "%s is written to after it was shut", w.describe(s.fd))
	}
	n, errno := s.write(p)
	return s.note(n, len(p), errno, false)
}

func (s *socket) write(p []byte) (int, sys.Errno) {
	w := s.world
	s.mayReset()
	switch {
	case s.state == connecting:
		return 0, sys.EAGAIN
	case s.err != 0:
		err := s.err
		s.err = 0
		return 0, err
	case s.broken:
		return 0, sys.EPIPE
	}
	room := s.room()
	if !s.crowded && room > 0 && w.strikes(RefuseWrite) {
		room = 0
	}
	n := min(len(p), room)
	if n > 1 && w.strikes(ShortWrite) {
		n = 1 + w.random.IntN(n-1)
	}
	if s.refused = n < len(p); s.refused {
		s.noRoom = true
		if s.room() > n {
			s.crowd()
		}
	}
	if n <= 0 {
		return 0, sys.EAGAIN
	}
	s.peer.arrive(p[:n])
	return n, 0
}

// checkHeld: what was written as the last before the end of a direction has been followed by that end.
func (w *World) checkHeld() {
	for _, s := range w.held {
		if s.state == established && !s.shut && !s.broken {
			w.fail("held", "%s: the last bytes were written and wait for an end that does not come",
				w.describe(s.fd))
		}
	}
	w.held = w.held[:0]
}

// crowd takes the socket's room away for a while.
func (s *socket) crowd() {
	s.crowded = true
	s.world.after(s.world.soon(), func() {
		s.crowded = false
		s.freed()
	})
}

// freed is the edge that there is room again after there was none.
func (s *socket) freed() {
	if s.noRoom && s.room() > 0 {
		s.noRoom = false
		s.edge()
	}
}

// withholds decides whether a read finds nothing though something has arrived, for a while.
func (s *socket) withholds() bool {
	w := s.world
	if len(s.receive) == 0 || s.fin || s.broken || s.err != 0 || s.urgent >= 0 || !w.strikes(RefuseRead) {
		return false
	}
	s.withheld = true
	w.after(w.soon(), func() {
		if s.withheld {
			s.edge()
		}
	})
	return true
}

// shortHandshake is how much more often a connection is reset in its handshake, which takes so few calls.
const shortHandshake = 5

// mayReset is the peer's reset, at any moment.
func (s *socket) mayReset() {
	h := ResetServer
	if s.peer.client >= 0 {
		h = ResetClient
	}
	most := 1
	if l := s.peer.tls; l != nil && !l.wire.shaken {
		most = shortHandshake
	}
	for range most {
		if s.state == established && !s.broken && !s.peer.over && s.world.strikes(h) {
			s.peer.reset()
		}
	}
}

// ShutdownWrite shuts the engine's direction.
func (w *World) ShutdownWrite(fd int) sys.Errno {
	w.call()
	s := w.file(fd).socket
	s.mayReset()
	if s.shut {
		w.fail("descriptors", "%s is shut twice", w.describe(fd))
	}
	s.shut = true
	s.told.stirred = w.clock
	if !s.broken {
		s.peer.end()
	}
	s.edge()
	return 0
}

// Close closes a descriptor; bytes that nobody has read make it a reset.
func (w *World) Close(fd int) sys.Errno {
	w.call()
	f := w.file(fd)
	if s := f.socket; s != nil && !w.copied(fd) {
		w.drop(s, len(s.receive) > 0)
	}
	if f.listener != nil {
		f.listener.close()
	}
	if f.set != nil {
		f.set.close()
	}
	w.close(fd, f)
	return 0
}

// CloseReset closes a descriptor with a reset.
func (w *World) CloseReset(fd int) sys.Errno {
	w.call()
	f := w.file(fd)
	if !w.copied(fd) {
		w.drop(f.socket, true)
	}
	w.close(fd, f)
	return 0
}

// copied reports whether another descriptor stands for the same.
func (w *World) copied(fd int) bool {
	if !w.copies {
		return false
	}
	f := *w.file(fd)
	for i := range w.files {
		if w.files[i] == f && firstFD+i != fd && f != (file{}) {
			return true
		}
	}
	return false
}

// Duplicate returns another descriptor for the same.
func (w *World) Duplicate(fd int) (int, sys.Errno) {
	w.call()
	w.copies = true
	return w.open(*w.file(fd)), 0
}

// close frees the number. The registrations go with the last descriptor that stands for the same.
func (w *World) close(fd int, f *file) {
	for _, other := range w.files {
		if other.set == nil || w.copied(fd) {
			continue
		}
		if i := other.set.interests[registration{fd, *f}]; i != nil {
			i.remove()
		}
		for of, i := range other.set.interests {
			if w.copies && of.file == *f {
				i.remove()
			}
		}
	}
	delete(w.byFD, fd)
	*f = file{}
	w.free = append(w.free, fd)
}

// drop tells the peer that the engine has closed.
func (w *World) drop(s *socket, reset bool) {
	was := s.state
	s.state = closed
	if l := s.peer.tls; l != nil {
		l.crowded = s.refused
		if s.lost {
			// It was word of the end just before, which the engine does not insist on.
			s.told.err, s.told.parted = 0, true
		}
	}
	switch {
	case was == connecting || s.broken:
		s.peer.over = true
	case reset:
		s.peer.broken()
	default:
		if !s.shut {
			s.peer.end()
		}
		s.peer.gone = true
	}
}
