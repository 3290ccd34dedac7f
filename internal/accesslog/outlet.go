package accesslog

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/whyspin/whyspin/internal/sys"
)

// outlet is where lines leave the process.
type outlet interface {
	// send takes one line, which it does not keep. It never blocks and reports whether the line is on its
	// way.
	send(line []byte) bool
	// close lets lines that are on their way go out until the deadline.
	close(deadline time.Time)
}

// A syslog socket that has gone is looked for again after reopenFirst, then after twice as long each time,
// up to reopenMost: a restart of the daemon costs few lines, one that never comes back costs nothing.
const (
	reopenFirst = 50 * time.Millisecond
	reopenMost  = 5 * time.Second
)

// datagramOutlet sends to a syslog server. It belongs to the logger's goroutine.
type datagramOutlet struct {
	to     sys.Address
	socket *sys.Datagram // nil while there is none
	// pause is the time between attempts to open the socket, and retry when the next is due.
	pause time.Duration
	retry time.Time
}

func (d *datagramOutlet) open() (err error) {
	d.socket, err = sys.OpenDatagram(d.to)
	if err == nil {
		return nil
	}
	d.socket = nil
	d.pause = min(max(reopenFirst, 2*d.pause), reopenMost)
	d.retry = time.Now().Add(d.pause)
	return err
}

func (d *datagramOutlet) send(line []byte) bool {
	if d.socket == nil {
		if time.Now().Before(d.retry) || d.open() != nil {
			return false
		}
	}
	errno := d.socket.Send(line)
	switch errno {
	case 0:
		d.pause = 0
		return true
	case sys.ECONNREFUSED, sys.ECONNRESET, sys.EPIPE, sys.ENOTCONN:
		// The daemon closed its end. It may have opened a new one under the same name by now.
		d.socket.Close()
		return d.open() == nil && d.socket.Send(line) == 0
	}
	return false
}

func (d *datagramOutlet) close(time.Time) {
	if d.socket != nil {
		d.socket.Close()
		d.socket = nil
	}
}

// descriptorQueue is how many lines may wait for one descriptor; at the default length of lines it is a
// megabyte.
const descriptorQueue = 1024

// descriptorOutlet writes to a descriptor, which may block: a terminal that is stopped, a pipe that nobody
// reads.
type descriptorOutlet struct {
	fd      int
	dropped *atomic.Uint64
	lines   chan []byte
	spare   sync.Pool // of *[]byte
	done    chan struct{}
}

func newDescriptorOutlet(fd int, dropped *atomic.Uint64) *descriptorOutlet {
	d := &descriptorOutlet{
		fd: fd, dropped: dropped, lines: make(chan []byte, descriptorQueue), done: make(chan struct{}),
	}
	go d.run()
	return d
}

func (d *descriptorOutlet) run() {
	defer close(d.done)
	for line := range d.lines {
		if sys.WriteDescriptor(d.fd, line) != nil {
			d.dropped.Add(1)
		}
		d.spare.Put(&line)
	}
}

func (d *descriptorOutlet) send(line []byte) bool {
	var own []byte
	if p, ok := d.spare.Get().(*[]byte); ok {
		own = (*p)[:0]
	}
	select {
	case d.lines <- append(own, line...):
		return true
	default:
		return false
	}
}

// close waits for the lines to be written. A write that blocks for longer is left behind; the descriptor is
// not ours to close.
func (d *descriptorOutlet) close(deadline time.Time) {
	close(d.lines)
	select {
	case <-d.done:
	case <-time.After(time.Until(deadline)):
	}
}
