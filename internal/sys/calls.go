package sys

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// IsEpollWait reports whether a system call of this machine waits on an epoll set, which is then its first
// argument.
func IsEpollWait(number int) bool {
	// epoll_wait itself is one of the calls that newer architectures do not have any more.
	const epollWaitX86 = 232
	switch number {
	case unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2:
		return true
	case epollWaitX86:
		return runtime.GOARCH == "amd64"
	}
	return false
}
