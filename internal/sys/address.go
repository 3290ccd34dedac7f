package sys

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Address is a socket address: IP and port, or a unix socket. The zero Address is none, or an unnamed unix
// socket.
type Address struct {
	IP netip.AddrPort
	// Path is the file of a unix socket; a leading '@' stands for the NUL of the abstract namespace.
	Path string
}

// IsUnix reports whether the address is not one of IP.
func (a Address) IsUnix() bool { return !a.IP.IsValid() }

// String prints "address:port", "[address]:port" for IPv6, or "unix:path".
func (a Address) String() string {
	if a.IsUnix() {
		return "unix:" + a.Path
	}
	return a.IP.String()
}

// socketAddress is an Address in the kernel's form.
type socketAddress struct {
	any  unix.RawSockaddrAny
	size uint32
}

// maxUnixPath is the longest path of a unix socket: sun_path has 108 bytes and a terminating NUL.
const maxUnixPath = 107

func (a Address) encode(to *socketAddress) (family int, err error) {
	switch {
	case a.IsUnix():
		if len(a.Path) > maxUnixPath {
			return 0, fmt.Errorf("unix socket path %q is longer than %d bytes", a.Path, maxUnixPath)
		}
		raw := (*unix.RawSockaddrUnix)(unsafe.Pointer(&to.any))
		*raw = unix.RawSockaddrUnix{Family: unix.AF_UNIX}
		for i := range len(a.Path) {
			raw.Path[i] = int8(a.Path[i])
		}
		to.size = uint32(unsafe.Offsetof(raw.Path)) + uint32(len(a.Path))
		if len(a.Path) > 0 && a.Path[0] == '@' {
			raw.Path[0] = 0
		} else {
			to.size++
		}
		return unix.AF_UNIX, nil
	case a.IP.Addr().Is4() || a.IP.Addr().Is4In6():
		raw := (*unix.RawSockaddrInet4)(unsafe.Pointer(&to.any))
		*raw = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: a.IP.Addr().As4()}
		setPort(&raw.Port, a.IP.Port())
		to.size = uint32(unsafe.Sizeof(*raw))
		return unix.AF_INET, nil
	default:
		raw := (*unix.RawSockaddrInet6)(unsafe.Pointer(&to.any))
		*raw = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: a.IP.Addr().As16()}
		setPort(&raw.Port, a.IP.Port())
		if zone := a.IP.Addr().Zone(); zone != "" {
			raw.Scope_id, err = zoneIndex(zone)
		}
		to.size = uint32(unsafe.Sizeof(*raw))
		return unix.AF_INET6, err
	}
}

func setPort(field *uint16, port uint16) {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(field))[:], port)
}

func getPort(field *uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(field))[:])
}

func (s *socketAddress) decode() Address {
	switch s.any.Addr.Family {
	case unix.AF_INET:
		raw := (*unix.RawSockaddrInet4)(unsafe.Pointer(&s.any))
		return Address{IP: netip.AddrPortFrom(netip.AddrFrom4(raw.Addr), getPort(&raw.Port))}
	case unix.AF_INET6:
		raw := (*unix.RawSockaddrInet6)(unsafe.Pointer(&s.any))
		ip := netip.AddrFrom16(raw.Addr)
		if ip.Is4In6() {
			ip = ip.Unmap()
		} else if raw.Scope_id != 0 {
			ip = ip.WithZone(fmt.Sprint(raw.Scope_id))
		}
		return Address{IP: netip.AddrPortFrom(ip, getPort(&raw.Port))}
	case unix.AF_UNIX:
		raw := (*unix.RawSockaddrUnix)(unsafe.Pointer(&s.any))
		n := int(s.size) - int(unsafe.Offsetof(raw.Path))
		if n <= 0 {
			return Address{}
		}
		path := make([]byte, 0, n)
		for i, c := range raw.Path[:min(n, len(raw.Path))] {
			if c == 0 && i > 0 {
				break
			}
			path = append(path, byte(c))
		}
		if path[0] == 0 {
			path[0] = '@'
		}
		return Address{Path: string(path)}
	}
	return Address{}
}

func (s *socketAddress) reset() { s.size = uint32(unsafe.Sizeof(s.any)) }

// LocalAddress returns the address that a socket is bound to, the zero Address if that cannot be told.
func (Linux) LocalAddress(fd int) Address {
	var s socketAddress
	s.reset()
	_, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&s.any)),
		uintptr(unsafe.Pointer(&s.size)))
	if errno != 0 {
		return Address{}
	}
	return s.decode()
}

// Accept takes a connection from a listening socket. The new descriptor does not block.
func (Linux) Accept(listener int) (fd int, peer Address, errno Errno) {
	var s socketAddress
	s.reset()
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&s.any)),
		uintptr(unsafe.Pointer(&s.size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, Address{}, errno
	}
	return int(n), s.decode(), 0
}

// Connect starts a connection on a new socket that does not block. EINPROGRESS is its normal result; then
// the socket becomes writable when the connection is established or has failed. With any other error there
// is no socket.
func (k Linux) Connect(to Address, keepAlive bool) (int, Errno) {
	var s socketAddress
	family, err := to.encode(&s)
	if err != nil {
		return -1, EINVAL
	}
	n, _, errno := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family),
		unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return -1, errno
	}
	fd := int(n)
	if keepAlive {
		setOption(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	}
	for {
		_, _, errno = unix.RawSyscall(unix.SYS_CONNECT, n, uintptr(unsafe.Pointer(&s.any)), uintptr(s.size))
		switch errno {
		case EINTR:
			continue
		case 0, EINPROGRESS:
			return fd, errno
		}
		k.Close(fd)
		return -1, errno
	}
}

// NoDelay has every further write to a TCP socket sent at once.
func (Linux) NoDelay(fd int) { setOption(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) }

// Acknowledge sends the acknowledgement that is due on a TCP socket now, instead of up to 40 ms later.
func (Linux) Acknowledge(fd int) { setOption(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) }

func setOption(fd, level, option int, value int32) Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
	return errno
}
