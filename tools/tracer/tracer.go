// Package tracer runs the tools that others use to see what whyspin's level 2 shows, so that their cost can
// be measured beside it: strace, perf trace and bpftrace, each told to count the calls of one process.
package tracer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Tool is one such program.
type Tool struct {
	Name    string
	program string
	// arguments have %d for the process and %s for a file for the output.
	arguments []string
	// ready is what it prints once it sees the process; empty when the kernel shows a tracer.
	ready string
	// calls takes the number of calls of one kind out of a line of its report.
	calls func(line, call string) (uint64, bool)
}

// All returns the tools. Each counts recvfrom, sendto and epoll_wait; strace and perf every other call, too.
func All() []Tool {
	return []Tool{
		{Name: "strace", program: "strace", arguments: []string{"-f", "-c", "-p", "%d", "-o", "%s"},
			calls: callsOfStrace},
		{Name: "perf trace", program: "perf", arguments: []string{"trace", "-s", "-p", "%d", "-o", "%s"},
			calls: callsOfPerf},
		{Name: "bpftrace", program: "bpftrace", arguments: []string{"-B", "line", "-e",
			`BEGIN { printf("ready\n"); }
tracepoint:syscalls:sys_enter_recvfrom,tracepoint:syscalls:sys_enter_sendto /pid == %d/ {
	@calls[probe, args->fd] = count(); }
tracepoint:syscalls:sys_exit_epoll_wait /pid == %d/ { @waits[args->ret] = count(); }`},
			ready: "ready", calls: callsOfBpftrace},
	}
}

// Listing returns strace, told to list every call of every thread instead of counting them.
func Listing() Tool {
	return Tool{Name: "strace", program: "strace",
		arguments: []string{"-f", "-e", "signal=none", "-p", "%d", "-o", "%s"}}
}

// Calls adds up how many calls of one kind the tool's report has.
func (t Tool) Calls(report, call string) uint64 {
	var sum uint64
	for line := range strings.Lines(report) {
		if n, ok := t.calls(line, call); ok {
			sum += n
		}
	}
	return sum
}

// "% time, seconds, usecs/call, calls, errors, syscall", where errors may be empty.
func callsOfStrace(line, call string) (uint64, bool) {
	fields := strings.Fields(line)
	if len(fields) < 5 || fields[len(fields)-1] != call {
		return 0, false
	}
	return number(fields[3])
}

// "syscall, calls, errors, ..." for each thread.
func callsOfPerf(line, call string) (uint64, bool) {
	fields := strings.Fields(line)
	if len(fields) < 3 || fields[0] != call {
		return 0, false
	}
	return number(fields[1])
}

// "@calls[tracepoint:syscalls:sys_enter_CALL, descriptor]: calls"
func callsOfBpftrace(line, call string) (uint64, bool) {
	key, value, ok := strings.Cut(line, "]: ")
	if !ok || !strings.Contains(key, ":sys_enter_"+call+",") {
		return 0, false
	}
	return number(strings.TrimSpace(value))
}

func number(text string) (uint64, bool) {
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil
}

// Running is a tool that sees its process.
type Running struct {
	tool    Tool
	command *exec.Cmd
	output  buffer
	file    string
	ended   chan struct{}
	err     error // once ended is closed
}

// buffer is written by the tool while it is read here.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Patience: how long a tool may take to attach and to end. perf trace tells nobody when it has attached, so
// it is given perfAttach.
const (
	attachPatience = 20 * time.Second
	stopPatience   = 20 * time.Second
	perfAttach     = time.Second
	pollEvery      = 5 * time.Millisecond
)

// Start starts the tool on a process and returns when it sees it. Files go to the directory. It dies with
// the thread that started it, so the caller is locked to one. The error wraps exec.ErrNotFound when the
// tool is not installed.
func (t Tool) Start(ctx context.Context, directory string, pid int) (*Running, error) {
	r := &Running{tool: t, file: filepath.Join(directory, t.program+".report"), ended: make(chan struct{})}
	arguments := make([]string, len(t.arguments))
	for i, a := range t.arguments {
		arguments[i] = strings.ReplaceAll(strings.ReplaceAll(a, "%d", strconv.Itoa(pid)), "%s", r.file)
	}
	r.command = exec.Command(t.program, arguments...)
	r.command.Stdout, r.command.Stderr = &r.output, &r.output
	r.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", t.Name, err)
	}
	go func() {
		r.err = r.command.Wait()
		close(r.ended)
	}()
	if err := r.attached(ctx, pid); err != nil {
		_, stopErr := r.Stop()
		return nil, errors.Join(err, stopErr)
	}
	return r, nil
}

// attached waits until the tool sees the process.
func (r *Running) attached(ctx context.Context, pid int) error {
	if r.tool.program == "perf" {
		select {
		case <-time.After(perfAttach):
		case <-ctx.Done():
			return ctx.Err()
		}
		return r.Alive()
	}
	ctx, cancel := context.WithTimeout(ctx, attachPatience)
	defer cancel()
	tracer := fmt.Sprintf("TracerPid:\t%d\n", r.command.Process.Pid)
	for {
		if err := r.Alive(); err != nil {
			return err
		}
		if r.tool.ready != "" && strings.Contains(r.output.String(), r.tool.ready) {
			return nil
		}
		traced, err := threadsHave(pid, tracer)
		if err != nil {
			return fmt.Errorf("waiting for %s to attach: %w", r.tool.Name, err)
		}
		if r.tool.ready == "" && traced {
			return nil
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to attach: %w: %s", r.tool.Name, ctx.Err(), r.output.String())
		}
	}
}

// threadsHave reports whether the status of every thread of a process has a line. Tools attach to one thread
// after the other.
func threadsHave(pid int, line string) (bool, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("process %d: %w", pid, os.ErrNotExist)
	}
	if err != nil {
		return false, err
	}
	for _, file := range files {
		status, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has just ended
		}
		if err != nil || !strings.Contains(string(status), line) {
			return false, err
		}
	}
	return true, nil
}

// Alive reports why the tool has ended, nil while it runs.
func (r *Running) Alive() error {
	select {
	case <-r.ended:
		return fmt.Errorf("%s has ended (%v) and said:\n%s", r.tool.Name, r.err, r.output.String())
	default:
		return nil
	}
}

// CPU is the CPU time of the tool since its start.
func (r *Running) CPU() (time.Duration, error) { return CPU(r.command.Process.Pid) }

// Stop has the tool end, and returns its report: what it printed, and what it wrote to its file.
func (r *Running) Stop() (report string, err error) {
	_ = r.command.Process.Signal(syscall.SIGINT)
	select {
	case <-r.ended:
	case <-time.After(stopPatience):
		_ = r.command.Process.Kill()
		<-r.ended
		err = fmt.Errorf("%s did not end within %v", r.tool.Name, stopPatience)
	}
	text, readErr := os.ReadFile(r.file)
	if readErr != nil && !errors.Is(readErr, os.ErrNotExist) { // absent when it writes to its output
		err = errors.Join(err, readErr)
	}
	return r.output.String() + string(text), err
}

// CPU is the CPU time, user and system, of a process since its start: the clock that clock_getres(2) and
// clock_getcpuclockid(3) describe. It is the sum over all threads, those that have ended among them, of
// what the scheduler writes to schedstat, in nanoseconds; /proc/PID/stat counts the same in ticks of 10 ms.
func CPU(pid int) (time.Duration, error) {
	// MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) in include/linux/posix-timers_types.h.
	const clockScheduler = 2
	clock := int32(^uint32(pid)<<3 | clockScheduler)
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("reading the CPU time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}
