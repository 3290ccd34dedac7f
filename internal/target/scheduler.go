// Package target reads another process, or this one: what its scheduler data say now, and where its files
// are in /proc.
package target

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// maxThreads is the number of threads of one process that are read. At about 30 us a thread it keeps a
// reading under half a second; the rest is counted in Reading.Unread.
const maxThreads = 16384

// fileBytes is more than any file read here has. The longest is status, which prints the sets of CPUs and
// memory nodes in hexadecimal: under 2 KiB on small machines, under 8 KiB on the largest.
const fileBytes = 16 << 10

// ErrGone is the error for a process that does not exist, or no longer.
var ErrGone = errors.New("no such process")

// Directory returns the directory of a process in /proc. The process with the id of the caller is always
// found; another one only if /proc shows the pid namespace of the caller, because otherwise the same
// number is some other process.
func Directory(pid int) (string, error) {
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return "", fmt.Errorf("looking for process %d: /proc does not show this process: %w", pid, err)
	}
	if pid == os.Getpid() {
		return "/proc/self", nil
	}
	if self != strconv.Itoa(os.Getpid()) {
		return "", fmt.Errorf("looking for process %d: /proc belongs to another pid namespace: it shows"+
			" this process as %s", pid, self)
	}
	return filepath.Join("/proc", strconv.Itoa(pid)), nil
}

// Scheduler reads how the threads of one process are scheduled. It holds /proc/PID open as a directory,
// so it works after chroot(2) and never mistakes a later process with the same id for its own. It needs
// no privilege for processes of the same user. It may be used by one goroutine at a time.
type Scheduler struct {
	pid  int
	root *os.Root
	// translate is true exactly when /proc numbers threads otherwise than this process's pid namespace
	// does.
	translate bool
	buffer    []byte
}

// OpenScheduler prepares to read the process with that id. It fails with ErrGone if there is none. The
// caller closes it.
func OpenScheduler(pid int) (*Scheduler, error) {
	directory, err := Directory(pid)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(directory)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("opening %s: %w", directory, ErrGone)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the process: %w", err)
	}
	s := &Scheduler{pid: pid, root: root, buffer: make([]byte, fileBytes)}
	if self, err := os.Readlink("/proc/self"); err == nil {
		s.translate = self != strconv.Itoa(os.Getpid())
	}
	return s, nil
}

// Close releases the directory.
func (s *Scheduler) Close() error {
	if err := s.root.Close(); err != nil {
		return fmt.Errorf("closing the directory of process %d: %w", s.pid, err)
	}
	return nil
}

// State is the letter that /proc gives for the state of a process.
type State byte

// The states that matter for a verdict; every other letter is a process that can run.
const (
	stateRunnable State = 'R' // on a CPU, or waiting for one

	StateStopped State = 'T' // by a signal: it makes no calls because it may not
	StateTraced  State = 't' // stopped by a tracer
	StateZombie  State = 'Z' // ended, not yet waited for
	StateDead    State = 'X'
)

// Runs reports whether a process in this state can run at all.
func (s State) Runs() bool {
	return s != StateStopped && s != StateTraced && s != StateZombie && s != StateDead
}

// Reading is the scheduler's account of a process at one moment: for each thread what it used since it
// was born.
type Reading struct {
	// State is the state of the first thread of the process. Threads may outlive it, as 'Z'.
	State State
	// Unread is the number of threads beyond the limit of a reading.
	Unread  int
	threads map[int]account
}

// Runs reports whether any thread of the process can run at all. The first thread may have ended before the
// others.
func (r *Reading) Runs() bool {
	for _, a := range r.threads {
		if a.state.Runs() {
			return true
		}
	}
	return false
}

// account is what one thread used since it was born.
type account struct {
	name    string
	state   State
	started uint64 // clock ticks since boot; tells a thread from a later one with the same id
	run     evidence.Observed[time.Duration]
	queued  evidence.Observed[time.Duration]

	voluntary   evidence.Observed[uint64]
	involuntary evidence.Observed[uint64]
	waitsOn     evidence.Observed[int]

	user   evidence.Observed[time.Duration]
	system evidence.Observed[time.Duration]
}

// Read reads all threads of the process. It fails with ErrGone when the process has ended.
func (s *Scheduler) Read() (*Reading, error) {
	task, err := s.root.Open("task")
	if err != nil {
		return nil, fmt.Errorf("reading the threads of process %d: %w", s.pid, gone(err))
	}
	names, err := task.Readdirnames(maxThreads + 1)
	_ = task.Close()
	if err != nil {
		return nil, fmt.Errorf("reading the threads of process %d: %w", s.pid, gone(err))
	}
	reading := &Reading{threads: make(map[int]account, len(names))}
	if len(names) > maxThreads {
		reading.Unread = s.countThreads() - maxThreads
		names = names[:maxThreads]
	}
	for _, name := range names {
		tid, a, ok := s.readThread(name)
		if ok {
			reading.threads[tid] = a
		}
	}
	reading.State = s.state()
	if len(reading.threads) == 0 {
		return nil, fmt.Errorf("reading the threads of process %d: %w", s.pid, ErrGone)
	}
	return reading, nil
}

// gone turns the errors that /proc gives for a process that ended into ErrGone.
func gone(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return ErrGone
	}
	return err
}

func (s *Scheduler) countThreads() int {
	entries, err := s.readFile("status")
	if err != nil {
		return maxThreads
	}
	n, err := strconv.Atoi(string(statusField(entries, "Threads")))
	if err != nil {
		return maxThreads
	}
	return n
}

func (s *Scheduler) state() State {
	text, err := s.readFile("stat")
	if err != nil {
		return StateDead
	}
	_, state, _, ok := parseStat(text)
	if !ok {
		return StateDead
	}
	return state
}

// readThread reads one thread by its name in /proc/PID/task. It is not ok when the thread has ended.
func (s *Scheduler) readThread(directory string) (tid int, a account, ok bool) {
	tid, err := strconv.Atoi(directory)
	if err != nil {
		return 0, account{}, false
	}
	base := "task/" + directory + "/"
	// First the switches, then the state: a thread that is runnable after they were counted has to add one
	// before it sleeps.
	status, unread := s.readFile(base + "status")
	if unread == nil {
		a.voluntary = number(statusField(status, "voluntary_ctxt_switches"))
		a.involuntary = number(statusField(status, "nonvoluntary_ctxt_switches"))
	}
	if s.translate {
		// The ids of the thread from /proc's namespace down to its own, which is this process's.
		ids := bytes.Fields(statusField(status, "NSpid"))
		if unread != nil || len(ids) == 0 {
			return 0, account{}, false
		}
		if tid, err = strconv.Atoi(string(ids[len(ids)-1])); err != nil {
			return 0, account{}, false
		}
	}
	stat, err := s.readFile(base + "stat")
	if err != nil {
		return 0, account{}, false
	}
	if a.name, a.state, a.started, ok = parseStat(stat); !ok {
		return 0, account{}, false
	}
	a.user, a.system = parseTimes(stat)
	if text, err := s.readFile(base + "schedstat"); err == nil {
		a.run, a.queued = parseSchedstat(text)
	}
	a.waitsOn = s.waitsOn(base, a.state)
	return tid, a, true
}

// readFile returns the start of a file, up to fileBytes. The bytes are good until the next call.
func (s *Scheduler) readFile(name string) ([]byte, error) {
	file, err := s.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	// /proc hands a small file over in one piece to whoever asks for enough.
	n, err := file.Read(s.buffer)
	if err != nil {
		return nil, err
	}
	return s.buffer[:n], nil
}

// Since returns what every thread used between the earlier reading and this one, sorted by id. A thread
// born in between counts from its birth. A thread that ended is listed with nothing observed: what it
// used last is not known.
func (r *Reading) Since(earlier *Reading) []evidence.Thread {
	threads := make([]evidence.Thread, 0, len(r.threads))
	for _, tid := range slices.Sorted(maps.Keys(r.threads)) {
		now := r.threads[tid]
		before, ok := earlier.threads[tid]
		if !ok || before.started != now.started {
			before = account{run: evidence.Know(time.Duration(0)), queued: evidence.Know(time.Duration(0)),
				voluntary: evidence.Know(uint64(0)), involuntary: evidence.Know(uint64(0)),
				user: evidence.Know(time.Duration(0)), system: evidence.Know(time.Duration(0))}
		}
		threads = append(threads, evidence.Thread{
			TID:                 tid,
			Name:                now.name,
			Run:                 difference(now.run, before.run),
			Queued:              difference(now.queued, before.queued),
			VoluntarySwitches:   difference(now.voluntary, before.voluntary),
			InvoluntarySwitches: difference(now.involuntary, before.involuntary),
			Runnable:            before.state == stateRunnable,
			WaitsOn:             now.waitsOn,
			User:                difference(now.user, before.user),
			System:              difference(now.system, before.system),
		})
	}
	for _, tid := range slices.Sorted(maps.Keys(earlier.threads)) {
		if _, ok := r.threads[tid]; !ok {
			threads = append(threads, evidence.Thread{TID: tid, Name: earlier.threads[tid].name})
		}
	}
	slices.SortFunc(threads, func(a, b evidence.Thread) int { return a.TID - b.TID })
	return threads
}

// difference is how much a counter grew. A counter that shrank is not one counter, and nothing is known.
func difference[T time.Duration | uint64](now, before evidence.Observed[T]) evidence.Observed[T] {
	n, ok1 := now.Get()
	b, ok2 := before.Get()
	if !ok1 || !ok2 || n < b {
		return evidence.Observed[T]{}
	}
	return evidence.Know(n - b)
}

// parseStat takes name, state and start time from /proc/PID/stat: proc_pid_stat(5), fields 2, 3 and 22.
// The name stands in parentheses and may itself contain some.
func parseStat(text []byte) (name string, state State, started uint64, ok bool) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return "", 0, 0, false
	}
	fields := bytes.Fields(text[end+1:])
	if len(fields) < 20 || len(fields[0]) != 1 {
		return "", 0, 0, false
	}
	started, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return "", 0, 0, false
	}
	return string(text[open+1 : end]), State(fields[0][0]), started, true
}

// parseTimes takes the time in the program and in the kernel from /proc/PID/stat: proc_pid_stat(5), fields 14
// and 15. The kernel divides the exact run time in the proportion of its ticks, and prints whole ticks.
func parseTimes(text []byte) (user, system evidence.Observed[time.Duration]) {
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return user, system
	}
	times := [2]evidence.Observed[time.Duration]{}
	for i := range times {
		n, err := strconv.ParseInt(string(fields[11+i]), 10, 64)
		if err != nil {
			return user, system
		}
		times[i] = evidence.Know(time.Duration(n) * (time.Second / ticksPerSecond))
	}
	return times[0], times[1]
}

// parseSchedstat takes the time on a CPU and the time waiting for one, in nanoseconds:
// Documentation/scheduler/sched-stats.rst. A kernel without the accounting has zeros only, for a thread
// that surely ran.
func parseSchedstat(text []byte) (run, queued evidence.Observed[time.Duration]) {
	fields := strings.Fields(string(text))
	if len(fields) < 3 {
		return run, queued
	}
	values := make([]int64, 3)
	for i := range values {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return run, queued
		}
		values[i] = n
	}
	if values[0] == 0 && values[1] == 0 && values[2] == 0 {
		return run, queued
	}
	return evidence.Know(time.Duration(values[0])), evidence.Know(time.Duration(values[1]))
}

// statusField returns the value of a line "name:\tvalue" of /proc/PID/status, nil when there is none.
func statusField(status []byte, name string) []byte {
	for line := range bytes.Lines(status) {
		if value, ok := bytes.CutPrefix(line, []byte(name+":")); ok {
			return bytes.TrimSpace(value)
		}
	}
	return nil
}

func number(text []byte) evidence.Observed[uint64] {
	n, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return evidence.Observed[uint64]{}
	}
	return evidence.Know(n)
}

// Alive returns ErrGone when the process has ended, even if another has taken its id since.
func (s *Scheduler) Alive() error {
	if _, err := s.readFile("stat"); err != nil {
		return fmt.Errorf("looking at process %d: %w", s.pid, gone(err))
	}
	return nil
}
