// Command epoll_go is an echo server with epoll by hand in Go, on a thread of its own beside the runtime's
// poller, with one defect: see ../epoll_c/server.c, of which it is the sister, for the words and the rules.
// Its epoll data is the descriptor and a generation above it; that of its eventfd is the address of what it
// keeps for it, as libraries do it, which makes its set look like the runtime's.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	longestLife = 2 * time.Minute
	mostEvents  = 64
	fewFiles    = 24 // F5: the limit that is soon reached
	timerDelay  = 20 * time.Millisecond
	readPause   = 5 * time.Millisecond // F7: the thread that may act takes its time
	readEvents  = unix.EPOLLIN | unix.EPOLLRDHUP
)

type connection struct {
	fd, generation int32
	interest       uint32
	culprit        bool        // met the defect
	paused         bool        // nobody reads from it now
	ready          bool        // cached: a read may find something
	eof            bool        // the peer has ended
	client         *connection // for whom we try to connect; nil when we do not
	local, peer    string
	deadline       time.Time
	output         []byte
}

type server struct {
	defect    string
	epoll     int
	listener  *connection
	upstream  unix.SockaddrInet4
	table     map[int32]*connection
	announced atomic.Bool
	made      int32
	wakeup    *wakeup
	// owned is the descriptor that belongs to the first loop alone (F7), 0 for none; shared is held by the
	// loop that serves.
	owned  atomic.Int32
	shared sync.Mutex
	// locked is a lock of the kind that is asked for again and again (B2).
	locked atomic.Bool
}

// wakeup is by what others wake the loop up.
type wakeup struct{ fd uint64 }

// must ends the program: it is a tool of tests, and what fails here is the machine's fault.
func must(what string, err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

func address(a unix.Sockaddr, err error) string {
	if v4, ok := a.(*unix.SockaddrInet4); ok && err == nil {
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), uint16(v4.Port)).String()
	}
	return ""
}

// announce says who the culprit is, once.
func (s *server) announce(c *connection, function string) {
	if s.announced.Swap(true) {
		return
	}
	truth := map[string]any{
		"class": s.defect, "fd": c.fd, "tid": unix.Gettid(),
		"listener": s.listener.local,
	}
	if c != s.listener {
		truth["local"], truth["peer"] = c.local, c.peer
	}
	if s.defect == "C1" {
		truth["destination"] = address(&s.upstream, nil)
	}
	if function != "" {
		truth["function"] = function
	}
	must("announcing", json.NewEncoder(os.Stdout).Encode(truth))
}

func (s *server) control(operation int, c *connection, interest uint32) {
	e := unix.EpollEvent{Events: interest, Fd: c.fd, Pad: c.generation}
	must("epoll_ctl", unix.EpollCtl(s.epoll, operation, int(c.fd), &e))
	c.interest = interest
}

func (s *server) want(c *connection, interest uint32) {
	if interest != c.interest {
		s.control(unix.EPOLL_CTL_MOD, c, interest)
	}
}

func (s *server) add(fd int, interest uint32) *connection {
	s.made++
	c := &connection{
		fd: int32(fd), generation: s.made,
		local: address(unix.Getsockname(fd)), peer: address(unix.Getpeername(fd)),
	}
	s.table[c.fd] = c
	s.control(unix.EPOLL_CTL_ADD, c, interest)
	return c
}

func (s *server) shut(c *connection) {
	s.control(unix.EPOLL_CTL_DEL, c, 0)
	must("close", unix.Close(int(c.fd)))
	delete(s.table, c.fd)
	s.want(s.listener, unix.EPOLLIN)
}

func (s *server) acceptAll() {
	for {
		fd, _, err := unix.Accept4(int(s.listener.fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			s.add(fd, readEvents)
			continue
		case err == unix.EMFILE && s.defect == "F5":
			s.announce(s.listener, "") // defect F5: the listener stays armed
		case err == unix.EMFILE:
			s.want(s.listener, 0)
		}
		return
	}
}

// flush sends what waits to be sent.
func (s *server) flush(c *connection) {
	if len(c.output) > 0 {
		n, err := unix.SendmsgN(int(c.fd), c.output, nil, nil, unix.MSG_NOSIGNAL)
		if err != nil {
			return
		}
		c.output = c.output[n:]
	}
	if len(c.output) > 0 {
		return
	}
	if s.defect == "F1" && c.culprit {
		s.announce(c, "") // defect F1: nothing is left to send, the interest stays
		return
	}
	s.want(c, c.interest&^unix.EPOLLOUT)
}

// scanField looks for the end of a field.
//
//go:noinline
func scanField(text []byte) int {
	at := 0
	//lint:ignore SA5002 that it spins is what it is for
	for text[at] != '\n' { // defect B1: it never advances
	}
	return at
}

// takeTableLock waits for the lock of the table.
//
//go:noinline
func (s *server) takeTableLock() {
	for !s.locked.CompareAndSwap(false, true) {
		_, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // defect B2: the holder sleeps
	}
}

func (s *server) connectUpstream(client *connection) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must("socket", err)
	client.deadline = time.Time{}
	switch err := unix.Connect(fd, &s.upstream); err {
	case unix.EINPROGRESS:
		s.add(fd, unix.EPOLLOUT).client = client
	case unix.ECONNREFUSED:
		must("close", unix.Close(fd))
		s.upstreamFailed(client)
	default:
		must("connecting to the upstream, which should refuse", errors.Join(err, errors.ErrUnsupported))
	}
}

// upstreamAnswers is an event on a connection that was being made.
func (s *server) upstreamAnswers(c *connection) {
	code, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	must("getsockopt", err)
	if syscall.Errno(code) != unix.ECONNREFUSED {
		must("connecting to the upstream, which should refuse", syscall.Errno(code))
	}
	s.shut(c)
	s.upstreamFailed(c.client)
}

// upstreamFailed tries again.
func (s *server) upstreamFailed(client *connection) {
	s.announce(client, "")
	client.deadline = time.Now() // defect C1: no delay before the next attempt
}

// meet is what happens to the connection of which the defect makes a culprit.
func (s *server) meet(c *connection) {
	c.culprit = true
	switch s.defect {
	case "T1", "C1":
		c.deadline = time.Now().Add(timerDelay)
	case "F7":
		s.owned.Store(c.fd)
	case "F2":
		c.paused = true
		s.announce(c, "") // defect F2: the interest in reading stays
	case "F4":
		c.paused = true
		s.want(c, 0) // defect F4: an empty mask does not keep ERR and HUP away
	case "F8":
		c.paused = true
		s.want(c, unix.EPOLLIN|unix.EPOLLONESHOT)
	case "F6":
		s.announce(c, "")
		_, err := unix.FcntlInt(uintptr(c.fd), unix.F_DUPFD_CLOEXEC, 0) // somebody keeps a copy
		must("copying a descriptor", err)
		must("close", unix.Close(int(c.fd))) // defect F6: without EPOLL_CTL_DEL
		delete(s.table, c.fd)
	}
}

// receive reads once and sends back what it got.
func (s *server) receive(c *connection) {
	var input [4096]byte
	room := input[:]
	if s.defect == "F7" && c.culprit {
		room = room[:1]
	}
	n, _, err := unix.Recvfrom(int(c.fd), room, 0)
	stale := s.defect == "T6" && c.culprit
	switch {
	case err == unix.EAGAIN:
		if stale {
			s.announce(c, "") // defect T6: the cached flag stays
		}
		c.ready = stale
		return
	case err == nil && n == 0 && s.defect == "F3" && c.culprit:
		if c.eof {
			s.announce(c, "")
		}
		c.ready, c.eof = false, true // defect F3: noted, and the interest stays
		return
	case err != nil || n == 0:
		s.shut(c)
		return
	}
	c.ready = stale || n == len(input)
	switch {
	case c.culprit && s.defect == "F7":
		return
	case c.culprit && s.defect == "B1":
		s.announce(c, "main.scanField")
		scanField([]byte("name: value"))
	case c.culprit && s.defect == "B2":
		s.announce(c, "main.(*server).takeTableLock")
		s.takeTableLock()
	}
	c.output = append(c.output, input[:n]...)
	s.want(c, c.interest|unix.EPOLLOUT)
	meets := input[0] == '!' && !c.culprit
	c.culprit = c.culprit || meets && s.defect == "F1"
	s.flush(c)
	if meets {
		s.meet(c)
	}
}

func (s *server) handle(e unix.EpollEvent) {
	c := s.table[e.Fd]
	switch {
	case c == nil || c.generation != e.Pad: // nothing known of it any more
	case c == s.listener:
		s.acceptAll()
	case c.client != nil:
		s.upstreamAnswers(c)
	case c.paused && s.defect == "F4" && e.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0:
		s.announce(c, "")
	case c.paused && s.defect == "F8":
		s.announce(c, "")
		s.control(unix.EPOLL_CTL_MOD, c, c.interest) // defect F8: nothing was consumed
	case c.paused:
	case e.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0:
		s.shut(c)
	default:
		if e.Events&unix.EPOLLOUT != 0 {
			s.flush(c)
		}
		c.ready = c.ready || e.Events&readEvents != 0
	}
}

// runDue runs what is due and returns for how many milliseconds the loop may sleep.
func (s *server) runDue() int {
	timeout := -1
	for _, c := range s.table {
		if c.ready {
			s.receive(c)
		}
		if wait := time.Until(c.deadline); !c.deadline.IsZero() && wait > 0 && timeout < 0 {
			timeout = int(wait.Milliseconds()) + 1
		} else if !c.deadline.IsZero() && wait <= 0 && s.defect == "C1" {
			s.connectUpstream(c)
			timeout = 0
		} else if !c.deadline.IsZero() && wait <= 0 {
			s.announce(c, "") // defect T1: the deadline stays
			timeout = 0
		}
		if c.ready {
			timeout = 0
		}
	}
	return timeout
}

// share waits on the set that other loops wait on, too. Any of them may serve any connection, but the culprit
// belongs to the first one, which takes its time.
func (s *server) share(first bool) {
	runtime.LockOSThread()
	events := make([]unix.EpollEvent, mostEvents)
	for {
		n, err := unix.EpollWait(s.epoll, events, -1)
		if err != unix.EINTR {
			must("epoll_wait", err)
		}
		for _, e := range events[:max(n, 0)] {
			owned := e.Fd == s.owned.Load()
			if owned && !first {
				if !s.announced.Load() {
					s.serve(func() { s.announce(s.table[e.Fd], "") })
				}
				continue // defect F7: nothing keeps the event from coming again
			}
			if owned {
				time.Sleep(readPause)
			}
			s.serve(func() {
				s.handle(e)
				if c := s.table[e.Fd]; c != nil && c.ready {
					s.receive(c)
				}
			})
		}
	}
}

// serve does what only one loop may do at a time.
func (s *server) serve(what func()) {
	s.shared.Lock()
	defer s.shared.Unlock()
	what()
}

// wakeable registers an eventfd, which nobody uses.
func (s *server) wakeable() {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	must("eventfd", err)
	s.wakeup = &wakeup{uint64(fd)}
	at := uint64(uintptr(unsafe.Pointer(s.wakeup)))
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(at), Pad: int32(at >> 32)}
	must("epoll_ctl", unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &e))
}

func (s *server) run() {
	events := make([]unix.EpollEvent, mostEvents)
	for {
		n, err := unix.EpollWait(s.epoll, events, s.runDue())
		if err != unix.EINTR {
			must("epoll_wait", err)
		}
		for _, e := range events[:max(n, 0)] {
			s.handle(e)
		}
	}
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintf(os.Stderr, "usage: %s CLASS PORT-OF-THE-UPSTREAM\n", os.Args[0])
		os.Exit(2)
	}
	time.AfterFunc(longestLife, func() { os.Exit(0) })
	runtime.LockOSThread()
	loopback := [4]byte{127, 0, 0, 1}
	port, err := strconv.Atoi(os.Args[2])
	must("the port of the upstream", err)
	s := &server{
		defect: os.Args[1], table: map[int32]*connection{},
		upstream: unix.SockaddrInet4{Addr: loopback, Port: port},
	}
	s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	must("epoll_create1", err)
	s.wakeable()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must("socket", err)
	must("bind", unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback}))
	must("listen", unix.Listen(fd, 128))
	s.listener = s.add(fd, unix.EPOLLIN)
	if s.defect == "F5" {
		must("setrlimit", unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: fewFiles, Max: fewFiles}))
	}
	listening := map[string]string{"listener": s.listener.local}
	must("announcing", json.NewEncoder(os.Stdout).Encode(listening))
	switch s.defect {
	case "B2":
		s.takeTableLock() // and never gives it back
	case "F7":
		go s.share(false)
		go s.share(false)
		s.share(true)
	}
	s.run()
}
