package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Pipe returns the two ends of a new pipe that never block, with room for at least size bytes in pages. It
// fails with EPERM when the user has as much in pipes as pipe-user-pages-soft or -hard allow, or size is over
// pipe-max-size and the process lacks CAP_SYS_RESOURCE.
func (k Linux) Pipe(size int) (from, to int, errno Errno) {
	var ends [2]int32
	_, _, errno = unix.RawSyscall(unix.SYS_PIPE2, uintptr(unsafe.Pointer(&ends)),
		unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errno != 0 {
		return -1, -1, errno
	}
	from, to = int(ends[0]), int(ends[1])
	_, _, errno = unix.RawSyscall(unix.SYS_FCNTL, uintptr(to), unix.F_SETPIPE_SZ, uintptr(size))
	if errno != 0 {
		k.Close(from)
		k.Close(to)
		return -1, -1, errno
	}
	return from, to, 0
}

// Splice moves at most n bytes between a pipe and a stream socket without copying them, and without
// blocking. 0 bytes out of a socket without an error is the end of file. EAGAIN is of either: an empty source
// or a full sink; so it is the socket's only when the pipe is empty, or holds bytes, respectively. Out of a
// TCP socket it stops before urgent data and does not pass it, which Read does.
//
// The kernel has no flag against SIGPIPE here; the Go runtime takes the signal and goes on.
func (Linux) Splice(from, to, n int) (int, Errno) {
	for {
		moved, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n),
			unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if errno == EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(moved), 0
	}
}
