package sys

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// maxRights is how many descriptors one message carries: the kernel's SCM_MAX_FD.
const maxRights = 253

// SendDescriptors sends copies of descriptors over a unix stream socket, in order, each batch of them with
// one byte. It is for ReceiveDescriptors.
func SendDescriptors(c *net.UnixConn, fds []int) error {
	for len(fds) > 0 {
		n := min(len(fds), maxRights)
		if _, _, err := c.WriteMsgUnix([]byte{0}, unix.UnixRights(fds[:n]...), nil); err != nil {
			return fmt.Errorf("sending descriptors: %w", err)
		}
		fds = fds[n:]
	}
	return nil
}

// ReceiveDescriptors reads from a unix stream socket what is there, with the descriptors that came along.
// They are closed on exec, and the caller's, on an error too.
func ReceiveDescriptors(c *net.UnixConn, p []byte) (n int, fds []int, err error) {
	rights := make([]byte, unix.CmsgSpace(4*maxRights))
	n, size, flags, _, err := c.ReadMsgUnix(p, rights)
	if err != nil {
		return 0, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:size])
	if err != nil {
		return n, nil, fmt.Errorf("receiving descriptors: %w", err)
	}
	for i := range messages {
		some, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return n, fds, fmt.Errorf("receiving descriptors: %w", err)
		}
		fds = append(fds, some...)
	}
	if flags&unix.MSG_CTRUNC != 0 {
		return n, fds, errors.New("receiving descriptors: some are missing: no more files may be open")
	}
	return n, fds, nil
}

// PeerUser returns the user of the process at the other end of a unix stream socket, as it was when it
// connected.
func PeerUser(c *net.UnixConn) (uid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var credentials *unix.Ucred
	failed := raw.Control(func(fd uintptr) {
		credentials, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	switch {
	case failed != nil:
		return -1, failed
	case err != nil:
		return -1, fmt.Errorf("asking who the peer is: %w", err)
	}
	return int(credentials.Uid), nil
}

// CopyDescriptor returns a copy of a descriptor that is closed on exec.
func CopyDescriptor(fd int) (int, error) {
	twin, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("copying descriptor %d: %w", fd, err)
	}
	return twin, nil
}
