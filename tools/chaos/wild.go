package main

import (
	"io"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// wild is a client or a server that behaves badly. What it meets with on its way is no error: it asks for it.
type wild struct {
	crew *crew
	r    *rand.Rand
	conn net.Conn
	gone bool // it has nothing more to do with the connection
}

// manners are the ways in which the wild behave: steps on a connection that is open, after which it is
// closed. Clients and servers have the same.
var manners = []struct {
	name  string
	steps func(*wild)
}{
	{"leaves at once", func(w *wild) {}},
	{"sends and leaves", func(w *wild) { w.send(w.r.IntN(20_000)) }},
	{"resets at once", func(w *wild) { w.reset() }},
	{"sends and resets", func(w *wild) { w.send(1 + w.r.IntN(200_000)); w.reset() }},
	{"resets in the middle of an answer", func(w *wild) {
		w.send(1 + w.r.IntN(2000))
		w.receive(1+w.r.IntN(2000), 50*time.Millisecond)
		w.reset()
	}},
	{"stalls", func(w *wild) {
		w.send(w.r.IntN(2000))
		w.receive(1<<30, 5*time.Second) // until the proxy has had enough
	}},
	{"half-closes and goes on reading", func(w *wild) {
		w.send(w.r.IntN(50_000))
		w.halfClose()
		w.receive(1<<30, 3*time.Second)
	}},
	{"half-closes and resets", func(w *wild) {
		w.send(w.r.IntN(50_000))
		w.halfClose()
		w.wait(30)
		w.reset()
	}},
	{"trickles", func(w *wild) {
		for range 1 + w.r.IntN(100) {
			w.send(1 + w.r.IntN(3))
			w.wait(5)
		}
	}},
	{"floods and does not read", func(w *wild) {
		w.send(8 << 20)
		w.wait(500)
	}},
	{"reads with a small window", func(w *wild) {
		if c, ok := w.conn.(*net.TCPConn); ok {
			_ = c.SetReadBuffer(2048)
		}
		w.send(w.r.IntN(300_000))
		for range w.r.IntN(100) {
			w.receive(1+w.r.IntN(500), 2*time.Millisecond)
		}
	}},
	{"sends urgent data", func(w *wild) {
		w.send(w.r.IntN(2000))
		w.urgent()
		w.send(w.r.IntN(2000))
		w.receive(w.r.IntN(2000), 20*time.Millisecond)
	}},
	{"disappears", func(w *wild) {
		w.send(w.r.IntN(2000))
		w.wait(20)
		w.disappear()
	}},
	{"disappears in the middle of a flood", func(w *wild) {
		w.send(1 << 20)
		w.disappear()
	}},
	{"sends back", func(w *wild) {
		_ = w.conn.SetDeadline(time.Now().Add(2 * time.Second))
		_, _ = io.CopyN(w.conn, w.conn, 1<<20)
	}},
	{"does anything", (*wild).anything},
}

// anything takes steps at random.
func (w *wild) anything() {
	steps := []func(){
		func() { w.send(w.r.IntN(100)) }, func() { w.send(w.r.IntN(100_000)) },
		func() { w.receive(w.r.IntN(100), 10*time.Millisecond) },
		func() { w.receive(w.r.IntN(100_000), 50*time.Millisecond) },
		func() { w.wait(10) }, func() { w.wait(300) }, w.urgent, w.halfClose,
	}
	for range w.r.IntN(12) {
		if w.gone || w.crew.ctx.Err() != nil {
			return
		}
		steps[w.r.IntN(len(steps))]()
	}
	switch w.r.IntN(4) {
	case 0:
		w.reset()
	case 1:
		w.disappear()
	}
}

// behave behaves in one of the ways, and closes the connection.
func (c *crew) behave(who string, conn net.Conn, r *rand.Rand) {
	w := &wild{crew: c, r: r, conn: conn}
	m := &manners[r.IntN(len(manners))]
	c.note(who + " " + m.name)
	m.steps(w)
	conn.Close()
}

// junk is what the wild send.
var junk = make([]byte, 64<<10)

// send sends bytes, for as long as the other side takes them.
func (w *wild) send(n int) {
	_ = w.conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	for n > 0 && !w.gone {
		sent, err := w.conn.Write(junk[:min(n, len(junk))])
		if n -= sent; err != nil {
			return
		}
	}
}

// receive reads up to so many bytes, for so long.
func (w *wild) receive(n int, over time.Duration) {
	if !w.gone {
		_ = w.conn.SetReadDeadline(time.Now().Add(over))
		_, _ = io.CopyN(io.Discard, w.conn, int64(n))
	}
}

// wait waits up to so many milliseconds.
func (w *wild) wait(milliseconds int) {
	w.crew.pause(time.Duration(w.r.IntN(milliseconds)) * time.Millisecond)
}

func (w *wild) halfClose() {
	if c, ok := w.conn.(interface{ CloseWrite() error }); ok {
		_ = c.CloseWrite()
	}
}

func (w *wild) reset() {
	if c, ok := w.conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	w.leave()
}

func (w *wild) leave() {
	w.conn.Close()
	w.gone = true
}

func (w *wild) urgent() {
	w.control(func(fd int) error { return unix.Sendto(fd, junk[:1], unix.MSG_OOB|unix.MSG_DONTWAIT, nil) })
}

// disappear ends the connection without a word to the other side, as a machine does that loses its power: a
// socket in repair mode is closed like that (tcp_disconnect in net/ipv4/tcp.c). It needs CAP_NET_ADMIN.
func (w *wild) disappear() {
	w.control(func(fd int) error {
		err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1)
		if err == unix.EPERM {
			w.crew.note("could not disappear: that needs CAP_NET_ADMIN")
		}
		return err
	})
	w.leave()
}

// control does something with the descriptor of a TCP connection that is open.
func (w *wild) control(do func(fd int) error) {
	c, ok := w.conn.(*net.TCPConn)
	if !ok || w.gone {
		return
	}
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = do(int(fd)) })
	}
}
