package engine

import (
	"time"

	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// A direction that has filled more than the first buffer at once goes through a pipe: splice(2) hands over
// the pages of the socket's queue, so that no byte is copied. Small pipes lose what that wins, because every
// page of a file that the server sends takes one of the pipe's slots (measured, CPU per GB against buffers of
// 256 KiB: pipes of 64 KiB 0.9, of 256 KiB 0.7, of 1 MiB 0.6).
const (
	// pipeBytes is the size of a pipe, as far as the kernel grants it, and leastPipe the size below which
	// buffers are better.
	pipeBytes = 1 << 20
	leastPipe = 256 << 10
	// pipeShare is how many of the pipes that there may be are kept when nobody needs them, one of so many,
	// and that only as long as the worker has streams: without any, no descriptor is left open.
	pipeShare = 4
	// pipePause is for how long no further pipe is asked for after one was refused.
	pipePause = 10 * time.Second
)

// pipe is the two ends of a pipe, and for how many bytes it was made.
type pipe struct{ from, to, size int }

// pipePool gives out a worker's pipes, as buffers without memory of their own. A pipe is taken only to be
// filled at once, it is filled only when it is empty, and it is given back when it is empty again. So EAGAIN
// when filling it means that the socket is empty, EAGAIN when emptying it that the socket is full, and bytes
// of two streams never meet.
type pipePool struct {
	kernel Kernel
	free   []*buffer
	size   int
	// used is how many are in use, limit how many there may be, and of them kept without use.
	used, limit, kept int
	refused           uint64     // pipes that the kernel did not grant
	retry             ktime.Time // before this moment no further one is asked for
}

// newPipePool makes the pool of the worker of that index, with its share of the pipes.
func newPipePool(k Kernel, o *Options, index int) pipePool {
	p := pipePool{kernel: k, size: pipeBytes, limit: o.MaxPipes / o.Workers}
	if index < o.MaxPipes%o.Workers {
		p.limit++
	}
	if o.PipeSize > 0 {
		p.size = o.PipeSize
	}
	p.kept = (p.limit + pipeShare - 1) / pipeShare
	return p
}

// take returns an empty pipe, nil when there is none to be had.
func (p *pipePool) take(now ktime.Time) *buffer {
	if n := len(p.free); n > 0 {
		b := p.free[n-1]
		p.free = p.free[:n-1]
		p.used++
		return b
	}
	if p.used >= p.limit || now < p.retry {
		return nil
	}
	for size := p.size; ; size /= 2 {
		from, to, errno := p.kernel.Pipe(size)
		if errno == 0 {
			p.used++
			p.size = size
			return &buffer{pipe: &pipe{from: from, to: to, size: size}}
		}
		if errno != sys.EPERM || size/2 < leastPipe {
			p.refused++
			p.retry = now.Add(pipePause)
			return nil
		}
	}
}

// give takes a pipe back. One that holds bytes, because its stream has ended, is closed with them.
func (p *pipePool) give(b *buffer) {
	p.used--
	if b.buffered() > 0 || len(p.free) >= p.kept {
		p.closePipe(b.pipe)
		return
	}
	p.free = append(p.free, b)
}

// close closes the pipes that nobody has.
func (p *pipePool) close() {
	for _, b := range p.free {
		p.closePipe(b.pipe)
	}
	p.free = nil
}

func (p *pipePool) closePipe(v *pipe) {
	p.kernel.Close(v.from)
	p.kernel.Close(v.to)
}

// takeBuffer returns an empty buffer for what comes from a side: a pipe when the last ones were filled and
// bytes can go through one.
func (w *worker) takeBuffer(c *conn, from stream.Side) *buffer {
	class := c.classes[from]
	if class < pipeClass {
		return w.buffers.take(class)
	}
	if w.mayUsePipe(c, from) && w.buffers.hasRoom(w.pipes.size) {
		if b := w.pipes.take(w.now); b != nil {
			w.buffers.enter(b.size())
			return b
		}
	}
	return w.buffers.take(w.buffers.largest)
}

// dropBuffer gives a buffer back with what it holds.
func (w *worker) dropBuffer(c *conn, from stream.Side) {
	b := c.buffers[from]
	if b == nil {
		return
	}
	c.buffers[from] = nil
	if b.pipe == nil {
		w.buffers.give(b)
		return
	}
	w.buffers.leave(b.size())
	w.pipes.give(b)
}

// mayUsePipe reports whether what comes from a side may go through a pipe. From a descriptor that was
// delivered with more than plain readability it is read, since only reading passes urgent data; from a unix
// socket, too, where a read stops at descriptors that were sent along. Streams with a fault are read: most
// faults are about that.
func (w *worker) mayUsePipe(c *conn, from stream.Side) bool {
	source, sink := &c.ends[from], &c.ends[1-from]
	return source.tls == nil && sink.tls == nil && !source.unix && !sink.unix &&
		source.ready&(drain|finished) == 0 && c.faults == 0
}
