package main

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller is an epoll set for a load generator that runs on one thread, so that generating the load costs
// little and is always the same: the machine has few cores, and the proxy needs one of them.
type poller struct {
	set    int
	events [256]unix.EpollEvent
}

func newPoller() (*poller, error) {
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("creating an epoll set: %w", err)
	}
	return &poller{set: set}, nil
}

func (p *poller) close() { unix.Close(p.set) }

// add registers a descriptor, level-triggered; events are told by id.
func (p *poller) add(fd int, id int32, events uint32) error {
	err := unix.EpollCtl(p.set, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: id})
	if err != nil {
		return fmt.Errorf("registering a connection: %w", err)
	}
	return nil
}

// wait waits for events until the moment at most. It waits with the precision of the clock, which
// epoll_wait(2) with its milliseconds cannot.
func (p *poller) wait(until time.Time) ([]unix.EpollEvent, error) {
	left := max(0, time.Until(until))
	timeout := unix.NsecToTimespec(int64(left))
	call := unix.RawSyscall6
	if left > 0 {
		call = unix.Syscall6
	}
	n, _, errno := call(unix.SYS_EPOLL_PWAIT2, uintptr(p.set), uintptr(unsafe.Pointer(&p.events[0])),
		uintptr(len(p.events)), uintptr(unsafe.Pointer(&timeout)), 0, 0)
	switch {
	case errno == unix.EINTR:
		return nil, nil
	case errno != 0:
		return nil, fmt.Errorf("waiting for events: %w", errno)
	}
	return p.events[:n], nil
}

// generatorSlack is the timer slack of a generator's thread. The default of 50 us would be most of the
// latency that is measured.
const generatorSlack = time.Microsecond

// onThread runs a load generator on a thread of its own.
func onThread[T any](f func() (T, error)) (T, error) {
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome)
	go func() {
		// Not unlocked: the thread ends with the goroutine, and its timer slack with it.
		runtime.LockOSThread()
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(generatorSlack), 0, 0, 0)
		value, err := f()
		done <- outcome{value, err}
	}()
	o := <-done
	return o.value, o.err
}

// socketAddress turns "127.0.0.1:80" into what connect(2) takes.
func socketAddress(address string) (*unix.SockaddrInet4, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("reading the address %q: %w", address, err)
	}
	return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}, nil
}

// connect begins a connection. It is established when the socket can be written to; on the loopback
// interface that is mostly so at once.
func connect(to *unix.SockaddrInet4) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("creating a socket: %w", err)
	}
	err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err == nil {
		err = unix.Connect(fd, to)
	}
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		unix.Close(fd)
		return -1, fmt.Errorf("connecting: %w", err)
	}
	return fd, nil
}

// established waits until a connection is there.
func established(fd int) error {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(poll, int(dialPatience.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("connecting: %w", err)
		case n == 0:
			return fmt.Errorf("connecting: no answer within %v", dialPatience)
		}
		failed, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && failed != 0 {
			err = unix.Errno(failed)
		}
		if err != nil {
			return fmt.Errorf("connecting: %w", err)
		}
		return nil
	}
}
