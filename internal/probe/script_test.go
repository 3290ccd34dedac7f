package probe

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

func init() { children["script"] = runScript }

// script is a child that does with its descriptors what the test tells it, one line at a time.
type script struct {
	*child
	in  io.Writer
	out *bufio.Reader
}

func startScript(t testing.TB) *script {
	t.Helper()
	return startScriptIn(t, 0)
}

// startScriptIn starts a script in new namespaces.
func startScriptIn(t testing.TB, namespaces uintptr) *script {
	t.Helper()
	s := &script{}
	s.child = startChild(t, "script", func(cmd *exec.Cmd) {
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdout = nil
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		s.in, s.out = in, bufio.NewReader(out)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces}
	})
	return s
}

// do has one line executed and returns the number that it came to.
func (s *script) do(format string, args ...any) int {
	s.t.Helper()
	line := fmt.Sprintf(format, args...)
	if _, err := io.WriteString(s.in, line+"\n"); err != nil {
		s.t.Fatalf("%s: %v", line, err)
	}
	answer, err := s.out.ReadString('\n')
	if err != nil {
		s.t.Fatalf("%s: %v: %s", line, err, s.errs.String())
	}
	var n int
	if _, err := fmt.Sscanf(answer, "ok %d", &n); err != nil {
		s.t.Fatalf("%s: %s", line, answer)
	}
	return n
}

func runScript() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		args := make([]int, 5)
		for i, w := range words[1:] {
			if _, err := fmt.Sscan(w, &args[i]); err != nil {
				panic(err)
			}
		}
		run, ok := commands[words[0]]
		if !ok {
			panic("no command " + words[0])
		}
		n, err := run(args)
		if err != nil {
			fmt.Printf("error %s: %v\n", lines.Text(), err)
			continue
		}
		fmt.Printf("ok %d\n", n)
	}
}

// commands are what a script can do; each has up to five numbers as arguments.
var commands = map[string]func(a []int) (int, error){
	"listen":  func(a []int) (int, error) { return bindListen(syscall.AF_INET) },
	"listen6": func(a []int) (int, error) { return bindListen(syscall.AF_INET6) },
	"port": func(a []int) (int, error) {
		name, err := syscall.Getsockname(a[0])
		return int(portOf(name)), err
	},
	"connect": func(a []int) (int, error) { return dial(a[0]) },
	"try-connect": func(a []int) (int, error) {
		fd, err := dial(a[0])
		if err != nil {
			return 0, nil
		}
		return fd, nil
	},
	"accept": func(a []int) (int, error) {
		fd, _, err := syscall.Accept(a[0])
		return fd, err
	},
	"send":  func(a []int) (int, error) { return syscall.Write(a[0], make([]byte, a[1])) },
	"close": func(a []int) (int, error) { return 0, syscall.Close(a[0]) },
	"reset": func(a []int) (int, error) { return 0, resetClose(a[0]) },
	"dup":   func(a []int) (int, error) { return syscall.Dup(a[0]) },
	"cookie": func(a []int) (int, error) {
		const soCookie = 57
		var cookie uint64
		size := uint32(8)
		_, _, errno := syscall.Syscall6(syscall.SYS_GETSOCKOPT, uintptr(a[0]), syscall.SOL_SOCKET, soCookie,
			uintptr(unsafe.Pointer(&cookie)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			return 0, errno
		}
		return int(cookie), nil
	},
	"epoll": func(a []int) (int, error) { return syscall.EpollCreate1(0) },
	// set, descriptor, mask, generation
	"register": func(a []int) (int, error) {
		event := syscall.EpollEvent{Events: uint32(a[2]), Fd: int32(a[1]), Pad: int32(a[3])}
		return 0, syscall.EpollCtl(a[0], syscall.EPOLL_CTL_ADD, a[1], &event)
	},
	// set, descriptor, mask, data
	"register-data": func(a []int) (int, error) {
		event := syscall.EpollEvent{Events: uint32(a[2]), Fd: int32(a[3])}
		return 0, syscall.EpollCtl(a[0], syscall.EPOLL_CTL_ADD, a[1], &event)
	},
	// set, operation, descriptor, mask, data
	"control": func(a []int) (int, error) {
		event := syscall.EpollEvent{Events: uint32(a[3]), Fd: int32(uint32(a[4])), Pad: int32(a[4] >> 32)}
		return 0, syscall.EpollCtl(a[0], a[1], a[2], &event)
	},
	"wait": func(a []int) (int, error) {
		return syscall.EpollWait(a[0], make([]syscall.EpollEvent, 4096), a[1])
	},
	"wait-many": func(a []int) (int, error) {
		return syscall.EpollWait(a[0], make([]syscall.EpollEvent, a[1]), 0)
	},
	"eventfd": func(a []int) (int, error) {
		fd, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, uintptr(a[0]), syscall.O_NONBLOCK, 0)
		if errno != 0 {
			return 0, errno
		}
		return int(fd), nil
	},
	"timerfd": func(a []int) (int, error) {
		fd, _, errno := syscall.RawSyscall(syscall.SYS_TIMERFD_CREATE, 1, 0, 0)
		if errno != 0 {
			return 0, errno
		}
		return int(fd), nil
	},
	"pipe": func(a []int) (int, error) {
		var p [2]int
		err := syscall.Pipe2(p[:], syscall.O_NONBLOCK)
		return p[0], err
	},
	"udp":  func(a []int) (int, error) { return syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0) },
	"unix": func(a []int) (int, error) { return syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0) },
	"directory": func(a []int) (int, error) {
		return syscall.Open("/", syscall.O_RDONLY|syscall.O_DIRECTORY, 0)
	},
	"file": func(a []int) (int, error) { return syscall.Open("/etc/passwd", syscall.O_RDONLY, 0) },
}

func bindListen(family int) (int, error) {
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err != nil {
		return 0, err
	}
	var to syscall.Sockaddr = &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if family == syscall.AF_INET6 {
		to = &syscall.SockaddrInet6{}
	}
	if err := syscall.Bind(fd, to); err != nil {
		return 0, err
	}
	return fd, syscall.Listen(fd, 64)
}

func portOf(name syscall.Sockaddr) uint16 {
	switch name := name.(type) {
	case *syscall.SockaddrInet4:
		return uint16(name.Port)
	case *syscall.SockaddrInet6:
		return uint16(name.Port)
	}
	return 0
}

// dial connects to a port on this machine.
func dial(port int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return 0, err
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1},
		Port: port}); err != nil {
		_ = syscall.Close(fd)
		return 0, err
	}
	return fd, nil
}

// resetClose closes a TCP socket with a reset.
func resetClose(fd int) error {
	now := &syscall.Linger{Onoff: 1}
	if err := syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, now); err != nil {
		return err
	}
	return syscall.Close(fd)
}

// ends returns the local and remote address of a socket of this process as evidence prints them.
func ends(t *testing.T, fd int) (local, remote string) {
	t.Helper()
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := syscall.Getpeername(fd)
	if err != nil {
		t.Fatal(err)
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	local = netip.AddrPortFrom(loopback, portOf(name)).String()
	return local, netip.AddrPortFrom(loopback, portOf(peer)).String()
}
