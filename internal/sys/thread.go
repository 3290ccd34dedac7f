package sys

import (
	"fmt"
	"net"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/whyspin/whyspin/internal/ktime"
)

// epoch ties the monotonic clock that the Go runtime reads without a system call to CLOCK_MONOTONIC. The
// two advance together; only their zero differs.
var epoch = func() (e struct {
	at   time.Time
	time ktime.Time
}) {
	e.at = time.Now()
	var ts unix.Timespec
	// It cannot fail: the clock exists on every kernel and the pointer is good.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	e.time = ktime.Time(ts.Nano())
	return e
}()

// Now returns the current time.
func Now() ktime.Time { return epoch.time.Add(time.Since(epoch.at)) }

// WallTime returns the wall-clock time of a moment, as the clock stands now.
func WallTime(t ktime.Time) time.Time { return time.Now().Add(-Now().Sub(t)) }

// Now returns the current time.
func (Linux) Now() ktime.Time { return Now() }

// ThreadID returns the id of the calling thread in its pid namespace. It means something only for a
// goroutine that is locked to its thread.
func ThreadID() int { return unix.Gettid() }

// NameThread gives the calling thread a name, cut to 15 bytes, that top -H and /proc show. The main thread
// keeps its name, which is that of the process.
func NameThread(name string) error {
	if unix.Gettid() == unix.Getpid() {
		return nil
	}
	var buffer [16]byte
	copy(buffer[:15], name)
	_, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NAME, uintptr(unsafe.Pointer(&buffer)), 0,
		0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("naming thread %q: %w", name, errno)
	}
	return nil
}

// OpenFileLimit returns the soft limit of descriptors of this process.
func OpenFileLimit() (uint64, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("reading the descriptor limit: %w", err)
	}
	return limit.Cur, nil
}

// RaiseOpenFileLimit raises the soft limit of descriptors to at least n, as far as the hard limit allows,
// and the hard limit too where the process may. It returns the soft limit that then holds.
func RaiseOpenFileLimit(n uint64) (uint64, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("reading the descriptor limit: %w", err)
	}
	if limit.Cur >= n {
		return limit.Cur, nil
	}
	raised := unix.Rlimit{Cur: n, Max: max(n, limit.Max)}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
		return n, nil
	}
	raised = unix.Rlimit{Cur: min(n, limit.Max), Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err != nil {
		return limit.Cur, fmt.Errorf("raising the descriptor limit from %d to %d: %w", limit.Cur,
			raised.Cur, err)
	}
	return raised.Cur, nil
}

// zoneIndex returns the index of the network interface that an IPv6 zone names by name or number.
func zoneIndex(zone string) (uint32, error) {
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, fmt.Errorf("network interface %q of an IPv6 address: %w", zone, err)
	}
	return uint32(i.Index), nil
}

// ThreadCPU returns the CPU time that a thread of this process has used. It needs neither /proc nor
// permission.
func ThreadCPU(tid int) (time.Duration, error) {
	// The clock of a thread: MAKE_THREAD_CPUCLOCK(tid, CPUCLOCK_SCHED), include/linux/posix-timers.h.
	const perThread, scheduler = 4, 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^tid<<3|perThread|scheduler), &t); err != nil {
		return 0, fmt.Errorf("reading the CPU time of thread %d: %w", tid, err)
	}
	return time.Duration(t.Nano()), nil
}
