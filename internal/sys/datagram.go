package sys

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ENOTCONN is what a datagram socket says whose peer is gone.
const ENOTCONN = unix.ENOTCONN

// Datagram sends datagrams to one address and never blocks. It is for one goroutine.
type Datagram struct {
	fd        int
	to        socketAddress
	connected bool
}

// OpenDatagram returns a socket that sends to the address.
//
// A unix socket is connected: it then reaches its peer after a change of the root directory too, and fails
// with ECONNREFUSED once the peer has closed its end. One of IP is not connected, because the kernel would
// report a peer that was down for a while by refusing a datagram that comes long after.
func OpenDatagram(to Address) (*Datagram, error) {
	d := &Datagram{fd: -1}
	family, err := to.encode(&d.to)
	if err != nil {
		return nil, fmt.Errorf("opening a datagram socket to %s: %w", to, err)
	}
	if d.fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("opening a datagram socket to %s: %w", to, err)
	}
	if family != unix.AF_UNIX {
		return d, nil
	}
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(d.fd), uintptr(unsafe.Pointer(&d.to.any)),
		uintptr(d.to.size))
	if errno != 0 {
		d.Close()
		return nil, fmt.Errorf("connecting a datagram socket to %s: %w", to, errno)
	}
	d.connected = true
	return d, nil
}

// Send sends one datagram, which must not be empty. EAGAIN means that there was no room for it.
func (d *Datagram) Send(p []byte) Errno {
	for {
		var errno Errno
		if d.connected {
			_, _, errno = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(d.fd), uintptr(unsafe.Pointer(&p[0])),
				uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		} else {
			_, _, errno = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(d.fd), uintptr(unsafe.Pointer(&p[0])),
				uintptr(len(p)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, uintptr(unsafe.Pointer(&d.to.any)),
				uintptr(d.to.size))
		}
		if errno != EINTR {
			return errno
		}
	}
}

// Close closes the socket.
func (d *Datagram) Close() { _ = unix.Close(d.fd) }

// WriteDescriptor writes all of p to a descriptor of any kind, waiting for room if the descriptor blocks.
// It returns the first error; part of p may then have been written.
func WriteDescriptor(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("writing to descriptor %d: %w", fd, err)
		}
		p = p[n:]
	}
	return nil
}
