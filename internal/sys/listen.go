package sys

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ListenOptions say how to listen.
type ListenOptions struct {
	Backlog int
	// V6Only and V4V6 set or clear IPV6_V6ONLY; both false leaves the system's default.
	V6Only, V4V6 bool
	KeepAlive    bool
	// Replace lets the socket take the place of one on which another process listens: it shares the port if
	// the other does (SO_REUSEPORT), and the file of a unix socket becomes its own.
	Replace bool
	// Mode, UID and GID are the permission bits and owner of a unix socket file; 0, -1 and -1 leave them.
	Mode     uint32
	UID, GID int
}

// Listen opens a listening socket that does not block. What accepted sockets inherit is set on it:
// TCP_NODELAY, and SO_KEEPALIVE if asked for. A unix socket file that nobody listens on any more is
// replaced; one that is in use is an error, and so is any other kind of file in its place. A port can be
// shared by a later process that wants to replace this one, and by no other of its kind.
func Listen(at Address, o ListenOptions) (fd int, err error) {
	var s socketAddress
	family, err := at.encode(&s)
	if err != nil {
		return -1, fmt.Errorf("listening on %s: %w", at, err)
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("listening on %s: creating a socket: %w", at, err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
			fd = -1
		}
	}()
	if family == unix.AF_UNIX {
		return fd, listenUnix(fd, at, &s, o)
	}
	options := []struct {
		level, option int
		value         int32
		wanted        bool
	}{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, true},
		{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, o.Replace},
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, true},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1, o.KeepAlive},
		{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1, o.V6Only && family == unix.AF_INET6},
		{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0, o.V4V6 && family == unix.AF_INET6},
	}
	for _, p := range options {
		if !p.wanted {
			continue
		}
		if errno := setOption(fd, p.level, p.option, p.value); errno != 0 {
			return -1, fmt.Errorf("listening on %s: setting socket option %d/%d: %w", at, p.level, p.option,
				errno)
		}
	}
	if err := bind(fd, &s); err != nil {
		return -1, fmt.Errorf("listening on %s: %w", at, err)
	}
	if err := unix.Listen(fd, o.Backlog); err != nil {
		return -1, fmt.Errorf("listening on %s: %w", at, err)
	}
	// Who binds without the option does not get the port, so that a second start by mistake is noticed; who
	// wants to replace this process has it.
	setOption(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	return fd, nil
}

func bind(fd int, s *socketAddress) error {
	_, _, errno := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&s.any)),
		uintptr(s.size))
	if errno != 0 {
		return errno
	}
	return nil
}

// listenUnix binds under a temporary name, sets owner and mode, and renames, so that nobody finds the
// socket before it listens with the right permissions.
func listenUnix(fd int, at Address, s *socketAddress, o ListenOptions) error {
	abstract := len(at.Path) > 0 && at.Path[0] == '@'
	if abstract {
		if err := bind(fd, s); err != nil {
			return fmt.Errorf("listening on %s: %w", at, err)
		}
		return listenOn(fd, at, o)
	}
	if err := replaceable(at, o.Replace); err != nil {
		return err
	}
	temporary := Address{Path: fmt.Sprintf("%s.%d.tmp", at.Path, os.Getpid())}
	if len(temporary.Path) > maxUnixPath {
		return fmt.Errorf("listening on %s: the path leaves no room for a temporary name of at most %d bytes",
			at, maxUnixPath)
	}
	_ = unix.Unlink(temporary.Path)
	if _, err := temporary.encode(s); err != nil {
		return err
	}
	if err := bind(fd, s); err != nil {
		return fmt.Errorf("listening on %s: %w", at, err)
	}
	err := publish(fd, temporary, at, o)
	if err != nil {
		_ = unix.Unlink(temporary.Path)
	}
	return err
}

func publish(fd int, temporary, at Address, o ListenOptions) error {
	if o.Mode != 0 {
		if err := unix.Chmod(temporary.Path, o.Mode); err != nil {
			return fmt.Errorf("listening on %s: setting mode %o: %w", at, o.Mode, err)
		}
	}
	if o.UID >= 0 || o.GID >= 0 {
		if err := unix.Chown(temporary.Path, o.UID, o.GID); err != nil {
			return fmt.Errorf("listening on %s: setting owner %d:%d: %w", at, o.UID, o.GID, err)
		}
	}
	if err := listenOn(fd, at, o); err != nil {
		return err
	}
	if err := unix.Rename(temporary.Path, at.Path); err != nil {
		return fmt.Errorf("listening on %s: %w", at, err)
	}
	return nil
}

func listenOn(fd int, at Address, o ListenOptions) error {
	if err := unix.Listen(fd, o.Backlog); err != nil {
		return fmt.Errorf("listening on %s: %w", at, err)
	}
	return nil
}

// replaceable reports as an error why a unix socket cannot take the place of what is there: something that
// is not a socket, or, unless that is what is to be replaced, a socket on which another process still
// listens.
func replaceable(at Address, inUse bool) error {
	var st unix.Stat_t
	err := unix.Lstat(at.Path, &st)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return fmt.Errorf("listening on %s: %w", at, err)
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return fmt.Errorf("listening on %s: the file exists and is not a socket", at)
	case inUse:
		return nil
	}
	fd, errno := Linux{}.Connect(at, false)
	if errno == 0 || errno == EINPROGRESS || errno == EAGAIN {
		if fd >= 0 {
			unix.Close(fd)
		}
		return fmt.Errorf("listening on %s: another process listens there: %w", at, unix.EADDRINUSE)
	}
	return nil
}

// InheritedListener checks that a descriptor given by the parent process ("fd@N") is a listening stream
// socket and makes it fit: it does not block and is closed on exec.
func InheritedListener(fd int) error {
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return fmt.Errorf("inherited descriptor %d: not a socket: %w", fd, err)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return fmt.Errorf("inherited descriptor %d: %w", fd, err)
	}
	if kind != unix.SOCK_STREAM || listening == 0 {
		return fmt.Errorf("inherited descriptor %d: not a listening stream socket", fd)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("inherited descriptor %d: %w", fd, err)
	}
	unix.CloseOnExec(fd)
	setOption(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	return nil
}

// Relisten makes a listening socket that another process has opened as the options say, as far as that can be
// changed later: the length of its queue, and what accepted sockets inherit.
func Relisten(fd int, o ListenOptions) error {
	if err := InheritedListener(fd); err != nil {
		return err
	}
	keepAlive := int32(0)
	if o.KeepAlive {
		keepAlive = 1
	}
	setOption(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, keepAlive)
	return unix.Listen(fd, o.Backlog)
}
