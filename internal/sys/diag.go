package sys

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Socket is one socket of this network namespace, as sock_diag(7) describes it.
type Socket struct {
	Family, Protocol, State uint8
	// Local and Remote are addresses, IPv4 in the first four bytes, and ports in host order. Unix sockets
	// have none.
	Local, Remote         [16]byte
	LocalPort, RemotePort uint16
	// ReceiveQueue and SendQueue are in bytes; of a listener they are the connections that wait and the most
	// that may.
	ReceiveQueue, SendQueue uint32
	Inode                   uint32
	Cookie                  uint64
}

// What sock_diag tells apart: include/linux/socket.h, include/uapi/linux/in.h.
const (
	FamilyUnix  = unix.AF_UNIX
	FamilyINET  = unix.AF_INET
	FamilyINET6 = unix.AF_INET6
	ProtocolTCP = unix.IPPROTO_TCP
	ProtocolUDP = unix.IPPROTO_UDP
)

// The layouts of include/uapi/linux/inet_diag.h and unix_diag.h, in bytes.
const (
	sockDiagByFamily = 20 // SOCK_DIAG_BY_FAMILY
	inetRequestBytes = 56 // struct inet_diag_req_v2
	unixRequestBytes = 24 // struct unix_diag_req
	inetMessageBytes = 72 // struct inet_diag_msg
	unixMessageBytes = 16 // struct unix_diag_msg
	everyState       = 0xffffffff
	diagBuffer       = 64 << 10 // the kernel fills at most 32 KiB at a time
)

// ErrTooMany is the error for a list that was cut off.
var ErrTooMany = errors.New("there are more of them than are read")

// Sockets lists the sockets of this network namespace of one family and protocol, at most limit. With
// ErrTooMany the list is good and not complete. Sockets that are neither bound nor connected are in no list
// of the kernel's. It needs no privilege.
func Sockets(family, protocol uint8, limit int) ([]Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("listing sockets: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if err := unix.Sendto(fd, diagRequest(family, protocol), 0, kernel); err != nil {
		return nil, fmt.Errorf("listing sockets: %w", err)
	}
	var list []Socket
	buffer := make([]byte, diagBuffer)
	for {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return list, fmt.Errorf("listing sockets: %w", err)
		}
		done, err := eachMessage(buffer[:n], func(kind uint16, body []byte) error {
			s, ok := parseSocket(body, family, protocol)
			if kind != sockDiagByFamily || !ok {
				return nil
			}
			if len(list) == limit {
				return ErrTooMany
			}
			list = append(list, s)
			return nil
		})
		if done || err != nil {
			return list, err
		}
	}
}

func diagRequest(family, protocol uint8) []byte {
	size := inetRequestBytes
	if family == FamilyUnix {
		size = unixRequestBytes
	}
	request := make([]byte, unix.NLMSG_HDRLEN+size)
	binary.NativeEndian.PutUint32(request, uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	body := request[unix.NLMSG_HDRLEN:]
	body[0] = family
	if family != FamilyUnix {
		body[1] = protocol
	}
	binary.NativeEndian.PutUint32(body[4:], everyState)
	return request
}

// eachMessage calls f for every message of a netlink datagram and tells whether the last was the end of
// the list.
func eachMessage(datagram []byte, f func(kind uint16, body []byte) error) (done bool, err error) {
	for len(datagram) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(datagram))
		if size < unix.NLMSG_HDRLEN || size > len(datagram) {
			return true, errors.New("listing sockets: the kernel's answer has an unknown form")
		}
		kind, body := binary.NativeEndian.Uint16(datagram[4:]), datagram[unix.NLMSG_HDRLEN:size]
		switch kind {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return true, errors.New("listing sockets: the kernel's error has an unknown form")
			}
			number := unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
			return true, fmt.Errorf("listing sockets: %w", number)
		}
		if err := f(kind, body); err != nil {
			return true, err
		}
		datagram = datagram[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(datagram)):]
	}
	return false, nil
}

// parseSocket reads a struct unix_diag_msg or inet_diag_msg.
func parseSocket(body []byte, family, protocol uint8) (s Socket, ok bool) {
	s = Socket{Family: family, Protocol: protocol}
	cookie := func(at int) uint64 {
		low, high := binary.NativeEndian.Uint32(body[at:]), binary.NativeEndian.Uint32(body[at+4:])
		return uint64(low) | uint64(high)<<32
	}
	if family == FamilyUnix {
		if len(body) < unixMessageBytes {
			return s, false
		}
		s.State, s.Inode, s.Cookie = body[2], binary.NativeEndian.Uint32(body[4:]), cookie(8)
		return s, true
	}
	if len(body) < inetMessageBytes {
		return s, false
	}
	s.State = body[1]
	s.LocalPort, s.RemotePort = binary.BigEndian.Uint16(body[4:]), binary.BigEndian.Uint16(body[6:])
	s.Local, s.Remote = [16]byte(body[8:24]), [16]byte(body[24:40])
	s.Cookie = cookie(44)
	s.ReceiveQueue = binary.NativeEndian.Uint32(body[56:])
	s.SendQueue = binary.NativeEndian.Uint32(body[60:])
	s.Inode = binary.NativeEndian.Uint32(body[68:])
	return s, true
}

// Inode returns the inode number of what a path leads to: for a link in /proc/PID/fd, of the open file.
func Inode(path string) (uint64, error) {
	var status unix.Stat_t
	if err := unix.Stat(path, &status); err != nil {
		return 0, fmt.Errorf("looking at %s: %w", path, err)
	}
	return status.Ino, nil
}

// SameFile reports whether two paths lead to one file.
func SameFile(a, b string) (bool, error) {
	var first, second unix.Stat_t
	if err := unix.Stat(a, &first); err != nil {
		return false, fmt.Errorf("looking at %s: %w", a, err)
	}
	if err := unix.Stat(b, &second); err != nil {
		return false, fmt.Errorf("looking at %s: %w", b, err)
	}
	return first.Dev == second.Dev && first.Ino == second.Ino, nil
}
