package engine

import (
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/sys"
)

// Kernel is what the engine asks of the operating system. sys.Linux is the real one; the simulator is
// another, so that the production engine runs unchanged on a seeded world.
//
// No call besides EpollWait may block. Wake and Now are called from any goroutine, everything else from the
// worker that owns the descriptor or while its lock is held.
type Kernel interface {
	Poller
	Sockets
	// Yield gives the processor to another thread.
	Yield()
	// Now reads the monotonic clock.
	Now() ktime.Time
}

// Poller is epoll and the means to interrupt its wait.
type Poller interface {
	EpollCreate() (set int, err error)
	EpollAdd(set, fd int, events uint32, data uint64) sys.Errno
	// EpollModify changes what a registered descriptor is watched for. What holds at that moment is
	// delivered again, to an edge-triggered registration, too.
	EpollModify(set, fd int, events uint32, data uint64) sys.Errno
	EpollDelete(set, fd int) sys.Errno
	// Replace gives the number of one epoll set to another, which has no number of its own any more; the
	// first one is closed by that.
	Replace(set, by int) sys.Errno
	// EpollWait waits at most timeout milliseconds, without limit if it is negative. See sys.Linux for park.
	EpollWait(set int, events []sys.Event, timeout int, park bool) (n int, errno sys.Errno)
	// HasEvents reports whether a wait on the set would return events at once. It takes none.
	HasEvents(set int) bool
	NewWaker() (fd int, err error)
	Wake(waker int)
	DrainWaker(waker int)
}

// Sockets are stream sockets that never block.
type Sockets interface {
	Accept(listener int) (fd int, peer sys.Address, errno sys.Errno)
	// Connect returns 0 or EINPROGRESS with a descriptor; with every other error there is none. The end of a
	// connect is an event: EPOLLERR or EPOLLHUP exactly when it has failed.
	Connect(to sys.Address, keepAlive bool) (fd int, errno sys.Errno)
	SocketError(fd int) sys.Errno
	Read(fd int, p []byte) (n int, errno sys.Errno)
	// Write writes. last tells that the direction is shut right after, so that the bytes may wait for that.
	Write(fd int, p []byte, last bool) (n int, errno sys.Errno)
	// NoDelay has what was written to a TCP socket and every further write sent at once (TCP_NODELAY).
	NoDelay(fd int)
	// Acknowledge sends at once what a TCP socket has to acknowledge (TCP_QUICKACK).
	Acknowledge(fd int)
	// Pipe and Splice are described at sys.Linux.
	Pipe(size int) (from, to int, errno sys.Errno)
	Splice(from, to, n int) (moved int, errno sys.Errno)
	ShutdownWrite(fd int) sys.Errno
	// Duplicate returns another descriptor for the same socket.
	Duplicate(fd int) (int, sys.Errno)
	Close(fd int) sys.Errno
	CloseReset(fd int) sys.Errno
	LocalAddress(fd int) sys.Address
	// Unread returns how many bytes have been received and not read, 0 when that cannot be known.
	Unread(fd int) int
}
