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
	sysTee         = 276
	sysVmsplice    = 278
	sysPreadv      = 295
	sysPwritev     = 296
	sysRecvmmsg    = 299
	sysSendmmsg    = 307
	sysCopyRange   = 326
	sysPreadv2     = 327
	sysPwritev2    = 328
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
	TID   int
	Calls uint64
	// Progress, Yields, Futexes and Polls are as in evidence.Thread.
	Progress, Yields, Futexes uint64
	Polls                     evidence.Waits
	Beyond                    uint64
	Compat                    uint64
	Sets                      [tallySets]setTally
	FDs                       [tallyDescriptors]fdTally
	limit                     int // descriptors from here on are beyond the probe's table
	sets                      int
	buffer                    [4096]byte
	ready                     [512]syscall.EpollEvent
	usage                     syscall.Rusage
	iov                       vector
	batch                     [2]batched
	msg                       message
	event                     syscall.EpollEvent
	linger                    syscall.Linger
	offset                    int64
	scrap                     fdTally
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

// batched is struct mmsghdr.
type batched struct {
	message
	length, _ uint32
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
	t.Progress, t.Yields, t.Futexes, t.Polls = 0, 0, 0, evidence.Waits{}
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

// io counts a call of one direction. A call that moved bytes is progress.
//
//go:nosplit
//go:norace
func (t *tally) io(io *evidence.IO, n int, errno syscall.Errno, moves bool) {
	countIO(io, n, errno, moves)
	if errno == 0 && n > 0 && moves {
		t.Progress++
	}
}

//go:nosplit
//go:norace
func (t *tally) read(fd, n int) (int, syscall.Errno) {
	r, errno := t.call(syscall.SYS_READ, uintptr(fd), t.address(), uintptr(n), 0, 0, 0)
	t.io(&t.at(fd).Read, r, errno, true)
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
	t.io(&t.at(fd).Read, r, errno, true)
}

//go:nosplit
//go:norace
func (t *tally) recv(fd, n, flags int) (int, syscall.Errno) {
	r, errno := t.call(syscall.SYS_RECVFROM, uintptr(fd), t.address(), uintptr(n), uintptr(flags), 0, 0)
	t.io(&t.at(fd).Read, r, errno, flags&syscall.MSG_PEEK == 0)
	return r, errno
}

//go:nosplit
//go:norace
func (t *tally) recvmsg(fd, n, flags int) {
	t.vector(n)
	r, errno := t.call(syscall.SYS_RECVMSG, uintptr(fd), t.message(), uintptr(flags), 0, 0, 0)
	t.io(&t.at(fd).Read, r, errno, flags&syscall.MSG_PEEK == 0)
}

//go:nosplit
//go:norace
func (t *tally) write(fd, n int) (int, syscall.Errno) {
	r, errno := t.call(syscall.SYS_WRITE, uintptr(fd), t.address(), uintptr(n), 0, 0, 0)
	t.io(&t.at(fd).Write, r, errno, true)
	return r, errno
}

//go:nosplit
//go:norace
func (t *tally) writev(fd, n int) {
	t.vector(n)
	r, errno := t.call(syscall.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&t.iov)), 1, 0, 0, 0)
	t.io(&t.at(fd).Write, r, errno, true)
}

//go:nosplit
//go:norace
func (t *tally) send(fd, n, flags int) (int, syscall.Errno) {
	r, errno := t.call(syscall.SYS_SENDTO, uintptr(fd), t.address(), uintptr(n),
		uintptr(flags|syscall.MSG_NOSIGNAL), 0, 0)
	t.io(&t.at(fd).Write, r, errno, true)
	return r, errno
}

//go:nosplit
//go:norace
func (t *tally) sendmsg(fd, n int) {
	t.vector(n)
	r, errno := t.call(syscall.SYS_SENDMSG, uintptr(fd), t.message(), syscall.MSG_NOSIGNAL, 0, 0, 0)
	t.io(&t.at(fd).Write, r, errno, true)
}

//go:nosplit
//go:norace
func (t *tally) splice(in, out, n, flags int) {
	r, errno := t.call(syscall.SYS_SPLICE, uintptr(in), 0, uintptr(out), 0, uintptr(n), uintptr(flags))
	countIO(&t.at(in).Read, r, errno, true)
	t.io(&t.at(out).Write, r, errno, true)
}

//go:nosplit
//go:norace
func (t *tally) sendfile(out, in, n int) {
	t.offset = 0
	r, errno := t.call(syscall.SYS_SENDFILE, uintptr(out), uintptr(in), uintptr(unsafe.Pointer(&t.offset)),
		uintptr(n), 0, 0)
	countIO(&t.at(in).Read, r, errno, true)
	t.io(&t.at(out).Write, r, errno, true)
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
	t.Progress++
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
	if errno == 0 {
		t.Progress++
	}
	return errno
}

//go:nosplit
//go:norace
func (t *tally) close(fd int) {
	if _, errno := t.call(syscall.SYS_CLOSE, uintptr(fd), 0, 0, 0, 0, 0); errno == 0 {
		t.Progress++
	}
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

// readAt reads from the start of a file in every way that takes a position.
//
//go:nosplit
//go:norace
func (t *tally) readAt(fd, n int) {
	r, errno := t.call(syscall.SYS_PREAD64, uintptr(fd), t.address(), uintptr(n), 0, 0, 0)
	t.io(&t.at(fd).Read, r, errno, true)
	t.vector(n)
	iov := uintptr(unsafe.Pointer(&t.iov))
	r, errno = t.call(sysPreadv, uintptr(fd), iov, 1, 0, 0, 0)
	t.io(&t.at(fd).Read, r, errno, true)
	r, errno = t.call(sysPreadv2, uintptr(fd), iov, 1, 0, 0, 0)
	t.io(&t.at(fd).Read, r, errno, true)
}

// writeAt writes to the start of a file likewise.
//
//go:nosplit
//go:norace
func (t *tally) writeAt(fd, n int) {
	r, errno := t.call(syscall.SYS_PWRITE64, uintptr(fd), t.address(), uintptr(n), 0, 0, 0)
	t.io(&t.at(fd).Write, r, errno, true)
	t.vector(n)
	iov := uintptr(unsafe.Pointer(&t.iov))
	r, errno = t.call(sysPwritev, uintptr(fd), iov, 1, 0, 0, 0)
	t.io(&t.at(fd).Write, r, errno, true)
	r, errno = t.call(sysPwritev2, uintptr(fd), iov, 1, 0, 0, 0)
	t.io(&t.at(fd).Write, r, errno, true)
}

// copyRange copies within a file.
//
//go:nosplit
//go:norace
func (t *tally) copyRange(fd, n int) {
	t.offset = 2048
	r, errno := t.call(sysCopyRange, uintptr(fd), 0, uintptr(fd), uintptr(unsafe.Pointer(&t.offset)),
		uintptr(n), 0)
	countIO(&t.at(fd).Read, r, errno, true)
	t.io(&t.at(fd).Write, r, errno, true)
}

// batches prepares two messages of n bytes each.
//
//go:nosplit
//go:norace
func (t *tally) batches(n int) uintptr {
	t.vector(n)
	t.batch[0] = batched{message: t.msg}
	t.batch[1] = batched{message: t.msg}
	return uintptr(unsafe.Pointer(&t.batch))
}

// moved is what two messages moved: the call returned their number.
//
//go:nosplit
//go:norace
func (t *tally) moved(messages int, errno syscall.Errno) int {
	if errno != 0 {
		return messages
	}
	n := 0
	for i := range t.batch[:messages] {
		n += int(t.batch[i].length)
	}
	return n
}

//go:nosplit
//go:norace
func (t *tally) sendmmsg(fd, n int) {
	r, errno := t.call(sysSendmmsg, uintptr(fd), t.batches(n), 2, syscall.MSG_NOSIGNAL, 0, 0)
	t.io(&t.at(fd).Write, t.moved(r, errno), errno, true)
}

//go:nosplit
//go:norace
func (t *tally) recvmmsg(fd, n int) {
	r, errno := t.call(sysRecvmmsg, uintptr(fd), t.batches(n), 2, syscall.MSG_DONTWAIT, 0, 0)
	t.io(&t.at(fd).Read, t.moved(r, errno), errno, true)
}

//go:nosplit
//go:norace
func (t *tally) tee(in, out, n int) {
	const nonblock = 2
	r, errno := t.call(sysTee, uintptr(in), uintptr(out), uintptr(n), nonblock, 0, 0)
	countIO(&t.at(in).Read, r, errno, false)
	t.io(&t.at(out).Write, r, errno, true)
}

//go:nosplit
//go:norace
func (t *tally) vmsplice(out, n int) {
	const nonblock = 2
	t.vector(n)
	r, errno := t.call(sysVmsplice, uintptr(out), uintptr(unsafe.Pointer(&t.iov)), 1, nonblock, 0, 0)
	t.io(&t.at(out).Write, r, errno, true)
}

// idle makes the calls with which threads pass the time: yields, futexes that nobody waits for, and polls of
// nothing.
//
//go:nosplit
//go:norace
func (t *tally) idle() {
	const wake = 1
	_, _ = t.call(syscall.SYS_SCHED_YIELD, 0, 0, 0, 0, 0, 0)
	t.Yields++
	_, _ = t.call(syscall.SYS_FUTEX, uintptr(unsafe.Pointer(&t.scrap)), wake, 1, 0, 0, 0)
	t.Futexes++
	_, _ = t.call(syscall.SYS_POLL, 0, 0, 0, 0, 0, 0)
	t.Polls[evidence.TimeoutZero][evidence.ResultNone]++
	_, _ = t.call(syscall.SYS_POLL, 0, 0, 1, 0, 0, 0)
	t.Polls[evidence.TimeoutPositive][evidence.ResultNone]++
	_, _ = t.call(syscall.SYS_POLL, 8, 1, 0, 0, 0, 0) // EFAULT
	t.Polls[evidence.TimeoutZero][evidence.ResultError]++
}
