package target

import (
	"bytes"
	"strconv"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/sys"
)

// waitsOn returns the epoll set on which a thread sleeps, -1 when it does something else. A thread that
// slept all through a window makes no call that a probe could see, so it has to be asked for. Reading
// /proc/PID/task/TID/syscall takes the right to trace the process (CAP_SYS_PTRACE for another user's).
func (s *Scheduler) waitsOn(base string, state State) evidence.Observed[int] {
	const sleeping = 'S'
	switch state {
	case stateRunnable:
		return evidence.Know(-1)
	case sleeping:
	default:
		return evidence.Observed[int]{}
	}
	text, err := s.readFile(base + "syscall")
	if err != nil {
		return evidence.Observed[int]{}
	}
	return parseSyscall(text)
}

// parseSyscall reads /proc/PID/syscall: the number of the call and its arguments in hexadecimal, "running",
// or -1 for a thread that sleeps outside of a call (proc_pid_syscall(5)).
func parseSyscall(text []byte) evidence.Observed[int] {
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		if len(fields) == 1 && string(fields[0]) == "running" {
			return evidence.Know(-1)
		}
		return evidence.Observed[int]{}
	}
	call, err := strconv.Atoi(string(fields[0]))
	if err != nil {
		return evidence.Observed[int]{}
	}
	if !sys.IsEpollWait(call) {
		return evidence.Know(-1)
	}
	set, err := strconv.ParseUint(string(fields[1]), 0, 64)
	if err != nil {
		return evidence.Observed[int]{}
	}
	return evidence.Know(int(int32(set)))
}
