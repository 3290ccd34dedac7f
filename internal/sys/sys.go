// Package sys is the operating system as whyspin uses it: epoll, sockets, clocks, threads, and the raw
// helpers that the library for eBPF lacks. It is the only package that imports golang.org/x/sys/unix.
//
// Calls on proxied descriptors never block and enter the kernel without telling the Go scheduler (raw),
// because they return within microseconds; waits that may be long tell it.
package sys

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Errno is an error number of the kernel; 0 is success.
type Errno = syscall.Errno

// The error numbers that whyspin tells apart.
const (
	EAGAIN        = unix.EAGAIN
	EINTR         = unix.EINTR
	EINPROGRESS   = unix.EINPROGRESS
	EMFILE        = unix.EMFILE
	ENFILE        = unix.ENFILE
	ENOBUFS       = unix.ENOBUFS
	ENOMEM        = unix.ENOMEM
	EPIPE         = unix.EPIPE
	ECONNRESET    = unix.ECONNRESET
	ECONNABORTED  = unix.ECONNABORTED
	ECONNREFUSED  = unix.ECONNREFUSED
	ETIMEDOUT     = unix.ETIMEDOUT
	EADDRNOTAVAIL = unix.EADDRNOTAVAIL
	EINVAL        = unix.EINVAL
	EBADF         = unix.EBADF
	EPERM         = unix.EPERM
)

// The event bits of epoll.
const (
	EventIn        = unix.EPOLLIN
	EventPri       = unix.EPOLLPRI
	EventOut       = unix.EPOLLOUT
	EventErr       = unix.EPOLLERR
	EventHup       = unix.EPOLLHUP
	EventRdHup     = unix.EPOLLRDHUP
	EventEdge      = uint32(unix.EPOLLET & 0xffffffff)
	EventExclusive = unix.EPOLLEXCLUSIVE
)

// Event is one epoll event. Its layout is the kernel's.
type Event unix.EpollEvent

// Data returns the 64 bits that were registered with the descriptor.
func (e *Event) Data() uint64 { return uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32 }

// SetData sets the 64 bits.
func (e *Event) SetData(data uint64) { e.Fd, e.Pad = int32(uint32(data)), int32(uint32(data>>32)) }

// Linux is the kernel of the machine. It has no state; all descriptors belong to the caller.
type Linux struct{}

// EpollCreate returns a new epoll set.
func (Linux) EpollCreate() (int, error) { return unix.EpollCreate1(unix.EPOLL_CLOEXEC) }

// EpollAdd registers a descriptor.
func (Linux) EpollAdd(set, fd int, events uint32, data uint64) Errno {
	return epollControl(set, unix.EPOLL_CTL_ADD, fd, events, data)
}

// EpollModify changes what a registered descriptor is watched for.
func (Linux) EpollModify(set, fd int, events uint32, data uint64) Errno {
	return epollControl(set, unix.EPOLL_CTL_MOD, fd, events, data)
}

func epollControl(set, operation, fd int, events uint32, data uint64) Errno {
	e := Event{Events: events}
	e.SetData(data)
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(set), uintptr(operation), uintptr(fd),
		uintptr(unsafe.Pointer(&e)), 0, 0)
	return errno
}

// EpollDelete removes a descriptor.
func (Linux) EpollDelete(set, fd int) Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(set), unix.EPOLL_CTL_DEL, uintptr(fd), 0, 0,
		0)
	return errno
}

// Replace gives the number of one epoll set to another, which has no number of its own any more; the first
// one is closed by that.
func (k Linux) Replace(set, by int) Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_DUP3, uintptr(by), uintptr(set), unix.O_CLOEXEC)
	if errno != 0 {
		return errno
	}
	return k.Close(by)
}

// EpollWait waits for events for at most timeout milliseconds, without limit if it is negative. With park
// the Go scheduler knows that the thread may sleep; without, the thread keeps its place in the scheduler,
// which is cheaper but may last only a few milliseconds.
func (Linux) EpollWait(set int, events []Event, timeout int, park bool) (int, Errno) {
	call := unix.RawSyscall6
	if park {
		call = unix.Syscall6
	}
	n, _, errno := call(unix.SYS_EPOLL_PWAIT, uintptr(set), uintptr(unsafe.Pointer(&events[0])),
		uintptr(len(events)), uintptr(timeout), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// HasEvents reports whether a wait on the set would return events at once. It takes none, and may be called
// from any thread.
func (Linux) HasEvents(set int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(set), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}

// NewWaker returns a descriptor that becomes readable when Wake is called on it.
func (Linux) NewWaker() (int, error) { return unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC) }

// Wake makes a waker readable. It may be called from any thread.
func (Linux) Wake(waker int) {
	one := uint64(1)
	// It can fail only when 2^64-2 wakeups are pending, and then the waker is readable anyhow.
	unix.RawSyscall(unix.SYS_WRITE, uintptr(waker), uintptr(unsafe.Pointer(&one)), 8)
}

// DrainWaker makes a waker unreadable again.
func (Linux) DrainWaker(waker int) {
	var n uint64
	unix.RawSyscall(unix.SYS_READ, uintptr(waker), uintptr(unsafe.Pointer(&n)), 8)
}

// Read reads from a socket without blocking. 0 bytes without an error is the end of file.
func (Linux) Read(fd int, p []byte) (int, Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])),
			uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
		if errno == EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}

// Write writes to a socket without blocking and without a signal. p must not be empty. last tells that the
// socket's write direction is shut right after: then the bytes and the end leave in one packet.
func (Linux) Write(fd int, p []byte, last bool) (int, Errno) {
	flags := uintptr(unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL)
	if last {
		flags |= unix.MSG_MORE
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])),
			uintptr(len(p)), flags, 0, 0)
		if errno == EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(n), 0
	}
}

// ShutdownWrite shuts the write direction of a socket.
func (Linux) ShutdownWrite(fd int) Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	return errno
}

// Yield gives the processor to another thread that wants it.
func (Linux) Yield() { unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// Duplicate returns another descriptor for the same socket. As long as one is open, the other's registrations
// stay in their epoll sets, though it is closed.
func (Linux) Duplicate(fd int) (int, Errno) {
	again, _, errno := unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(again), 0
}

// Close closes a descriptor. It leaves every epoll set by that, unless it was duplicated.
func (Linux) Close(fd int) Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	return errno
}

// CloseReset closes a TCP socket so that the peer gets a reset.
func (k Linux) CloseReset(fd int) Errno {
	linger := unix.Linger{Onoff: 1, Linger: 0}
	unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER,
		uintptr(unsafe.Pointer(&linger)), unsafe.Sizeof(linger), 0)
	return k.Close(fd)
}

// Unread returns how many bytes a socket has received that were not read.
func (Linux) Unread(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return 0
	}
	return n
}

// SocketError returns and clears the pending error of a socket: the result of a connect, or why it is broken.
func (Linux) SocketError(fd int) Errno {
	var value int32
	size := uint32(unsafe.Sizeof(value))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR,
		uintptr(unsafe.Pointer(&value)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return Errno(value)
}
