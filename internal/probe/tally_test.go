//go:build amd64

package probe

import (
	"syscall"
	"unsafe"

	"github.com/whyspin/whyspin/internal/evidence"
)

// System calls that package syscall does not number.
const (
	sysEpollPwait2 = 441
	sysDup3        = 292
	sysAccept4     = 288
)

// tallyDescriptors bounds the descriptor numbers of a tally; everything is allocated in advance, because
// an allocation may make a system call.
const (
	tallyDescriptors = 4096
	tallySets        = 16
)

// tally makes raw system calls on a locked thread and keeps its own account of them: what the probe is to
// see, told by the process that did it.
//
// Nothing in it allocates, and nothing in it can be preempted: both would make the Go runtime call the
// kernel on this thread. A function without a stack check, nosplit, is one that the scheduler does not
// interrupt as long as asynchronous preemption is off. Such functions have a few hundred bytes of stack
// between them, so what a call needs is kept here.
type tally struct {
	TID    int
	Calls  uint64
	Beyond uint64
	Compat uint64
	Sets   [tallySets]setTally
	FDs    [tallyDescriptors]fdTally
	limit  int // descriptors from here on are beyond the probe's table
	sets   int
	buffer [4096]byte
	ready  [512]syscall.EpollEvent
	usage  syscall.Rusage
	iov    vector
	msg    message
	event  syscall.EpollEvent
	linger syscall.Linger
	offset int64
	scrap  fdTally
}

// vector and message are struct iovec and struct msghdr with addresses as numbers, which are stored
// without a write barrier.
type vector struct{ base, size uintptr }

type message struct {
	name           uintptr
	nameSize, _    uint32
	vectors, count uintptr
	control        [2]uintptr
	flags, _       uint32
}

type setTally struct {
	FD     int
	Used   bool
	Waits  evidence.Waits
	Slept  uint64
	Events uint64
}

type fdTally struct {
	Used          bool
	Epoll         int // the set that delivered it last, 0 when none did
	Read, Write   evidence.IO
	Accepts       uint64
	AcceptErrors  uint64
	Connects      uint64
	Closes        uint64
	Shutdowns     uint64
	Controls      uint64
	Dups          uint64
	Deliveries    [64]uint64
	DeliveredMask [64]uint32
}

// clear forgets everything counted.
func (t *tally) clear() {
	t.Calls, t.Beyond, t.Compat, t.sets = 0, 0, 0, 0
	t.Sets = [tallySets]setTally{}
	t.FDs = [tallyDescriptors]fdTally{}
}

// at is the account of a descriptor number; a scrap for those that are none, or beyond the table.
//
//go:nosplit
//go:norace
func (t *tally) at(fd int) *fdTally {
	switch {
	case fd < 0:
		return &t.scrap
	case fd >= t.limit:
		t.Beyond++
		return &t.scrap
	}
	t.FDs[fd].Used = true
	return &t.FDs[fd]
}

//go:nosplit
//go:norace
func (t *tally) call(nr, a, b, c, d, e, f uintptr) (int, syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(nr, a, b, c, d, e, f)
	t.Calls++
	return int(r), errno
}

//go:nosplit
//go:norace
func countIO(io *evidence.IO, n int, errno syscall.Errno, moves bool) {
	io.Calls++
	switch {
	case errno == syscall.EAGAIN:
		io.Again++
	case errno == syscall.ECONNRESET:
		io.Reset++
	case errno == syscall.EPIPE:
		io.Pipe++
	case errno != 0:
		io.Errors++
	case n == 0:
		io.Zero++
	case moves:
		io.Bytes += uint64(n)
		if n <= 16 {
			io.Tiny++
		}
	}
}

//go:nosplit
//go:norace
func (t *tally) read(fd, n int) (int, syscall.Errno) {
	r, errno := t.call(syscall.SYS_READ, uintptr(fd), t.address(), uintptr(n), 0, 0, 0)
	countIO(&t.at(fd).Read, r, errno, true)
	return r, errno
}

//go:nosplit
//go:norace
func (t *tally) address() uintptr { return uintptr(unsafe.Pointer(&t.buffer)) }

// vector prepares one vector of n bytes, and a message with it.
//
//go:nosplit
//go:norace
func (t *tally) vector(n int) {
	t.iov = vector{base: t.address(), size: uintptr(n)}
	t.msg = message{vectors: uintptr(unsafe.Pointer(&t.iov)), count: 1}
}

//go:nosplit
//go:norace
func (t *tally) message() uintptr { return uintptr(unsafe.Pointer(&t.msg)) }

//go:nosplit
//go:norace
func (t *tally) readv(fd, n int) {
	t.vector(n)
	r, errno := t.call(syscall.SYS_READV, uintptr(fd), uintptr(unsafe.Pointer(&t.iov)), 1, 0, 0, 0)
	countIO(&t.at(fd).Read, r, errno, true)
}

//go:nosplit
//go:norace
func (t *tally) recv(fd, n, flags int) (int, syscall.Errno) {
	r, errno := t.call(syscall.SYS_RECVFROM, uintptr(fd), t.address(), uintptr(n), uintptr(flags), 0, 0)
	countIO(&t.at(fd).Read, r, errno, flags&syscall.MSG_PEEK == 0)
	return r, errno
}

//go:nosplit
//go:norace
func (t *tally) recvmsg(fd, n, flags int) {
	t.vector(n)
	r, errno := t.call(syscall.SYS_RECVMSG, uintptr(fd), t.message(), uintptr(flags), 0, 0, 0)
	countIO(&t.at(fd).Read, r, errno, flags&syscall.MSG_PEEK == 0)
}

//go:nosplit
//go:norace
func (t *tally) write(fd, n int) (int, syscall.Errno) {
	r, errno := t.call(syscall.SYS_WRITE, uintptr(fd), t.address(), uintptr(n), 0, 0, 0)
	countIO(&t.at(fd).Write, r, errno, true)
	return r, errno
}

//go:nosplit
//go:norace
func (t *tally) writev(fd, n int) {
	t.vector(n)
	r, errno := t.call(syscall.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&t.iov)), 1, 0, 0, 0)
	countIO(&t.at(fd).Write, r, errno, true)
}

//go:nosplit
//go:norace
func (t *tally) send(fd, n, flags int) (int, syscall.Errno) {
	r, errno := t.call(syscall.SYS_SENDTO, uintptr(fd), t.address(), uintptr(n),
		uintptr(flags|syscall.MSG_NOSIGNAL), 0, 0)
	countIO(&t.at(fd).Write, r, errno, true)
	return r, errno
}

//go:nosplit
//go:norace
func (t *tally) sendmsg(fd, n int) {
	t.vector(n)
	r, errno := t.call(syscall.SYS_SENDMSG, uintptr(fd), t.message(), syscall.MSG_NOSIGNAL, 0, 0, 0)
	countIO(&t.at(fd).Write, r, errno, true)
}

//go:nosplit
//go:norace
func (t *tally) splice(in, out, n, flags int) {
	r, errno := t.call(syscall.SYS_SPLICE, uintptr(in), 0, uintptr(out), 0, uintptr(n), uintptr(flags))
	countIO(&t.at(in).Read, r, errno, true)
	countIO(&t.at(out).Write, r, errno, true)
}

//go:nosplit
//go:norace
func (t *tally) sendfile(out, in, n int) {
	t.offset = 0
	r, errno := t.call(syscall.SYS_SENDFILE, uintptr(out), uintptr(in), uintptr(unsafe.Pointer(&t.offset)),
		uintptr(n), 0, 0)
	countIO(&t.at(in).Read, r, errno, true)
	countIO(&t.at(out).Write, r, errno, true)
}

//go:nosplit
//go:norace
func (t *tally) accept(fd int, nr uintptr) int {
	r, errno := t.call(nr, uintptr(fd), 0, 0, 0, 0, 0)
	if errno != 0 {
		t.at(fd).AcceptErrors++
		return -1
	}
	t.at(fd).Accepts++
	return r
}

// socket makes no account but of the call.
//
//go:nosplit
//go:norace
func (t *tally) socket() int {
	r, _ := t.call(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_STREAM, 0, 0, 0, 0)
	return r
}

//go:nosplit
//go:norace
func (t *tally) connect(fd int, to *syscall.RawSockaddrInet4) syscall.Errno {
	_, errno := t.call(syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(to)), unsafe.Sizeof(*to),
		0, 0, 0)
	t.at(fd).Connects++
	return errno
}

//go:nosplit
//go:norace
func (t *tally) close(fd int) {
	_, _ = t.call(syscall.SYS_CLOSE, uintptr(fd), 0, 0, 0, 0, 0)
	t.at(fd).Closes++
}

// resetOnClose makes the next close of a TCP socket send a reset.
//
//go:nosplit
//go:norace
func (t *tally) resetOnClose(fd int) {
	t.linger = syscall.Linger{Onoff: 1}
	_, _ = t.call(syscall.SYS_SETSOCKOPT, uintptr(fd), syscall.SOL_SOCKET, syscall.SO_LINGER,
		uintptr(unsafe.Pointer(&t.linger)), unsafe.Sizeof(t.linger), 0)
}

//go:nosplit
//go:norace
func (t *tally) shutdown(fd, how int) {
	_, _ = t.call(syscall.SYS_SHUTDOWN, uintptr(fd), uintptr(how), 0, 0, 0, 0)
	t.at(fd).Shutdowns++
}

//go:nosplit
//go:norace
func (t *tally) control(set, op, fd int, mask uint32) {
	t.event = syscall.EpollEvent{Events: mask, Fd: int32(fd), Pad: 7}
	_, _ = t.call(syscall.SYS_EPOLL_CTL, uintptr(set), uintptr(op), uintptr(fd),
		uintptr(unsafe.Pointer(&t.event)), 0, 0)
	t.at(fd).Controls++
}

//go:nosplit
//go:norace
func (t *tally) dup(fd int) int {
	r, _ := t.call(syscall.SYS_DUP, uintptr(fd), 0, 0, 0, 0, 0)
	t.at(fd).Dups++
	return r
}

//go:nosplit
//go:norace
func (t *tally) dupTo(nr uintptr, fd, to int) {
	_, _ = t.call(nr, uintptr(fd), uintptr(to), 0, 0, 0, 0)
	t.at(fd).Dups++
}

//go:nosplit
//go:norace
func (t *tally) set(fd int) *setTally {
	for i := range t.Sets[:t.sets] {
		if t.Sets[i].FD == fd {
			return &t.Sets[i]
		}
	}
	s := &t.Sets[t.sets]
	s.FD, s.Used = fd, true
	t.sets++
	return s
}

// switches is the number of voluntary context switches of the thread.
//
//go:nosplit
//go:norace
func (t *tally) switches() int64 {
	const thread = 1 // RUSAGE_THREAD
	_, _ = t.call(syscall.SYS_GETRUSAGE, thread, uintptr(unsafe.Pointer(&t.usage)), 0, 0, 0, 0)
	return t.usage.Nvcsw
}

// wait makes a wait with one of the three calls. Whether it slept is taken from the thread's own switch
// counter.
//
//go:nosplit
//go:norace
func (t *tally) wait(nr uintptr, set, most int, timeout uintptr, class evidence.TimeoutClass) int {
	before := t.switches()
	r, _, errno := syscall.RawSyscall6(nr, uintptr(set), uintptr(unsafe.Pointer(&t.ready)), uintptr(most),
		timeout, 0, 8)
	slept := t.switches() != before
	s := t.set(set)
	if slept {
		s.Slept++
	}
	switch {
	case errno != 0:
		s.Waits[class][evidence.ResultError]++
		return 0
	case r == 0:
		s.Waits[class][evidence.ResultNone]++
		return 0
	}
	s.Waits[class][evidence.ResultEvents]++
	s.Events += uint64(r)
	for i := range t.ready[:r] {
		e := &t.ready[i]
		d := t.at(int(e.Fd))
		d.Epoll = set
		index := e.Events&0x1f | (e.Events&0x2000)>>8
		d.Deliveries[index]++
		d.DeliveredMask[index] = e.Events
	}
	return int(r)
}

//go:nosplit
//go:norace
func (t *tally) epollWait(set, most, timeout int) int {
	return t.wait(syscall.SYS_EPOLL_WAIT, set, most, uintptr(timeout), timeoutClass(timeout))
}

//go:nosplit
//go:norace
func (t *tally) epollPwait(set, most, timeout int) int {
	return t.wait(syscall.SYS_EPOLL_PWAIT, set, most, uintptr(timeout), timeoutClass(timeout))
}

//go:nosplit
//go:norace
func timeoutClass(ms int) evidence.TimeoutClass {
	switch {
	case ms < 0:
		return evidence.TimeoutInfinite
	case ms == 0:
		return evidence.TimeoutZero
	}
	return evidence.TimeoutPositive
}

//go:nosplit
//go:norace
func (t *tally) epollPwait2(set, most int, timeout *syscall.Timespec) int {
	class := evidence.TimeoutPositive
	switch {
	case timeout == nil:
		class = evidence.TimeoutInfinite
	case timeout.Sec < 0 || timeout.Nsec < 0:
		class = evidence.TimeoutUnknown
	case timeout.Sec == 0 && timeout.Nsec == 0:
		class = evidence.TimeoutZero
	}
	return t.wait(sysEpollPwait2, set, most, uintptr(unsafe.Pointer(timeout)), class)
}

// epollPwait2Fault passes a timespec that cannot be read.
//
//go:nosplit
//go:norace
func (t *tally) epollPwait2Fault(set int) int {
	return t.wait(sysEpollPwait2, set, 1, 8, evidence.TimeoutUnknown)
}
