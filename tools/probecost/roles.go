package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// roleVariable makes this program run as one of the processes that are watched.
const roleVariable = "PROBECOST_ROLE"

var roles = map[string]func() error{"server": server, "neighbour": neighbour, "crowd": crowd}

func runRole(role string) {
	runtime.LockOSThread()
	run, ok := roles[role]
	if !ok {
		fmt.Fprintf(os.Stderr, "there is no role %q\n", role)
		os.Exit(2)
	}
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", role, err)
		os.Exit(1)
	}
}

// child is a process in a role: it is told what to do in lines and answers each with one.
type child struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

func startRole(role string, arguments ...string) (*child, error) {
	c := &child{command: exec.Command("/proc/self/exe", arguments...)}
	c.command.Env = append(os.Environ(), roleVariable+"="+role)
	c.command.Stderr = os.Stderr
	c.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	if c.in, err = c.command.StdinPipe(); err != nil {
		return nil, fmt.Errorf("starting the %s: %w", role, err)
	}
	out, err := c.command.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting the %s: %w", role, err)
	}
	c.out = bufio.NewReader(out)
	if err := c.command.Start(); err != nil {
		return nil, fmt.Errorf("starting the %s: %w", role, err)
	}
	return c, nil
}

func (c *child) pid() int { return c.command.Process.Pid }

func (c *child) stop() {
	_ = c.command.Process.Kill()
	_ = c.command.Wait()
}

// answer reads one line and takes numbers out of it.
func (c *child) answer(numbers ...any) error {
	line, err := c.out.ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, numbers...)
	}
	if err != nil {
		return fmt.Errorf("reading what process %d says: %q: %w", c.pid(), line, err)
	}
	return nil
}

// ask sends a line and reads the answer.
func (c *child) ask(line string, numbers ...any) error {
	if _, err := io.WriteString(c.in, line+"\n"); err != nil {
		return fmt.Errorf("asking process %d: %w", c.pid(), err)
	}
	return c.answer(numbers...)
}

// call makes a system call that tells nobody but the kernel: nothing else of the process's runs for it.
func call(nr uintptr, a ...uintptr) (uintptr, syscall.Errno) {
	a = append(a, 0, 0, 0, 0, 0, 0)
	n, _, errno := syscall.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	return n, errno
}

const messageBytes = 16

// server prints its port and then answers every message on every connection: one wait, and for each event
// one recvfrom and one sendto.
func server() error {
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	if err := unix.Listen(l, 2*connections); err != nil {
		return err
	}
	name, err := unix.Getsockname(l)
	if err != nil {
		return err
	}
	set, err := unix.EpollCreate1(0)
	if err != nil {
		return err
	}
	add := func(fd int) error {
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		return unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &event)
	}
	if err := add(l); err != nil {
		return err
	}
	fmt.Println(name.(*unix.SockaddrInet4).Port)
	var events [64]unix.EpollEvent
	var message [messageBytes]byte
	for {
		n, err := unix.EpollWait(set, events[:], -1)
		if err != nil && err != unix.EINTR {
			return err
		}
		for i := range max(0, n) {
			fd := int(events[i].Fd)
			if fd == l {
				c, _, err := unix.Accept4(l, unix.SOCK_NONBLOCK)
				if err != nil {
					continue // gone again
				}
				if err := add(c); err != nil {
					return err
				}
				continue
			}
			at := uintptr(unsafe.Pointer(&message))
			got, errno := call(unix.SYS_RECVFROM, uintptr(fd), at, messageBytes)
			if errno != 0 || got == 0 {
				_ = unix.Close(fd)
				continue
			}
			_, _ = call(unix.SYS_SENDTO, uintptr(fd), at, got, unix.MSG_NOSIGNAL)
		}
	}
}

// neighbour does what it is told: "call N" makes N calls that do nothing, "socket N" N calls on a socket.
func neighbour() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	var message [messageBytes]byte
	at := uintptr(unsafe.Pointer(&message))
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var what string
		var n int
		if _, err := fmt.Sscan(lines.Text(), &what, &n); err != nil {
			return err
		}
		before := threadCPU()
		for i := 0; i < n; i++ {
			if what == "call" {
				_, _ = call(unix.SYS_GETPPID)
				continue
			}
			_, _ = call(unix.SYS_SENDTO, uintptr(pair[0]), at, messageBytes, 0)
			_, _ = call(unix.SYS_RECVFROM, uintptr(pair[1]), at, messageBytes, 0)
			i++
		}
		fmt.Println(threadCPU() - before)
	}
	return lines.Err()
}

// threadCPU is the CPU time of the calling thread in nanoseconds.
func threadCPU() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		panic(fmt.Sprintf("BUG: reading the CPU time of a thread: %v", err))
	}
	return t.Nano()
}

// crowd has as many descriptors as its argument says in one epoll set, one of them always ready, and waits
// waitsPerSecond times a second without sleeping. For each line that it reads it prints how often it waited
// and the longest time between two returns, in nanoseconds, since the last line.
func crowd() error {
	descriptors := 0
	if _, err := fmt.Sscan(strings.Join(os.Args[1:], " "), &descriptors); err != nil {
		return err
	}
	limit := unix.Rlimit{Cur: uint64(descriptors + 100), Max: uint64(descriptors + 100)}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	set, err := unix.EpollCreate1(0)
	if err != nil {
		return err
	}
	for i := range descriptors {
		initial := uint(0)
		if i == descriptors/2 {
			initial = 1 // ready, and nobody reads it
		}
		fd, err := unix.Eventfd(initial, unix.EFD_NONBLOCK)
		if err != nil {
			return err
		}
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if err := unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			return err
		}
	}
	var waits, longest atomic.Int64
	go answerForCrowd(&waits, &longest)
	fmt.Println(set)
	var events [64]unix.EpollEvent
	last := time.Now()
	for next := last; ; next = next.Add(time.Second / waitsPerSecond) {
		// Too late is not made good: a pause must not look like haste.
		if now := time.Now(); now.After(next.Add(time.Millisecond)) {
			next = now
		}
		for time.Now().Before(next) {
		}
		_, _ = call(unix.SYS_EPOLL_PWAIT, uintptr(set), uintptr(unsafe.Pointer(&events)), 64, 0)
		now := time.Now()
		if gap := int64(now.Sub(last)); gap > longest.Load() {
			longest.Store(gap)
		}
		waits.Add(1)
		last = now
	}
}

// waitsPerSecond is how often the crowd waits.
const waitsPerSecond = 100000

func answerForCrowd(waits, longest *atomic.Int64) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fmt.Println(waits.Swap(0), longest.Swap(0))
	}
	os.Exit(0)
}
