// Package probe loads the eBPF programs of bpf/, attaches what the machine allows, and turns what they
// count into evidence. It says of everything that it could not see why not.
//
// A Probe watches one process. Loading needs privileges and attaches nothing; attaching works after they
// are dropped, also after chroot(2), because every map, program and number it takes is in hand by then.
package probe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/sys"
	"github.com/whyspin/whyspin/internal/target"
)

// defaultDescriptors is the size of the descriptor table when the process may have more: 65536 entries of
// 512 bytes are 32 MiB of kernel memory. Calls on higher numbers are counted as lost.
const defaultDescriptors = 65536

// minDescriptors spares a process with an odd limit from a table that its standard streams would not fit.
const minDescriptors = 64

// Options say what to watch.
type Options struct {
	// PID is the process, in the caller's pid namespace.
	PID int
	// DirectSets are descriptors of epoll sets of the process known to keep the descriptor in the low 32
	// bits of epoll data. They may be declared later, too. When none is, every window begins with a look
	// at the process's sets.
	DirectSets []int
	// MaxDescriptors is the size of the descriptor table; 0 takes the process's limit at the time of
	// loading, at most 65536. The largest possible is 1048576.
	MaxDescriptors int
	// Samples is true to prepare for samples, which BeginSampling takes: a perf event for each CPU.
	Samples bool
	// Traffic asks for what goes through each socket in every window that ends with End. It costs 60 to
	// 120 ns for each call on a socket, so a process that keeps a ledger of its own does without.
	Traffic bool
	// Sparing is true to load the hooks that stand in for another one only when that cannot be attached,
	// which saves 20 ms of CPU: for who begins windows with the privileges of now.
	Sparing bool

	// only makes every hook of the counter fail but this, procOnly the iterator over descriptors; for tests.
	only     string
	procOnly bool
}

// ErrClosed is the error of a Probe after Close.
var ErrClosed = errors.New("the probe is closed")

// ErrRecording is the error for what cannot be done during a window.
var ErrRecording = errors.New("a window is being recorded")

// Probe watches one process. Everything that the kernel would take away when it is no longer referenced
// hangs on it: the library closes links, maps and programs that the garbage collector finds unused. Its
// methods may be called by any goroutine.
type Probe struct {
	pid     int
	tgid    uint32 // in the machine's own pid namespace
	runtime goProgram
	// procOnly makes the descriptors come from /proc though the iterator loaded; for tests.
	procOnly bool

	mu        sync.Mutex
	closed    bool
	scheduler *target.Scheduler // nil when /proc does not show the process
	reader    *reader           // nil when the iterators did not load
	watcher   *watcher          // nil when the programs did not load
	counter   *counter          // nil when no hook of it loaded
	sampler   *sampler          // nil when samples cannot be taken, or are not wanted
	traffic   *traffic          // nil when it is not wanted or did not load
	ways      []*trafficWay     // nil when it is not wanted
	signals   []*Signal         // all but syscall, whose tries are in hooks
	hooks     []*hook           // the counter's
	direct    map[int]bool
	recording *Recording
	sets      map[int]*epollSet // as the last pass over the descriptors saw them, nil before the first
}

// Names of signals.
const (
	signalSyscall  = "syscall"
	signalResets   = "resets"
	signalOutgoing = "outgoing"
	signalFiles    = "files"
	signalThreads  = "threads"
	signalSamples  = "samples"
)

// Load loads every program and map for one process and attaches nothing. It fails only when the process
// does not exist or nothing at all can be seen of it; what is missing otherwise is in the Plan.
func Load(o Options) (*Probe, error) {
	p := &Probe{pid: o.PID, direct: map[int]bool{}, procOnly: o.procOnly}
	for _, fd := range o.DirectSets {
		p.direct[fd] = true
	}
	var threads error
	p.scheduler, threads = target.OpenScheduler(o.PID)
	if errors.Is(threads, target.ErrGone) {
		return nil, fmt.Errorf("loading probes for process %d: %w", o.PID, threads)
	}
	if threads != nil {
		threads = &HookError{Doing: opening, Hook: "/proc", Reason: threads.Error(), cause: threads}
	}
	p.runtime = openGoProgram(o.PID)

	cache := btf.NewCache() // shared, so that the kernel's types are decoded once
	var resets, outgoing, files error
	p.watcher, resets, outgoing = loadWatcher(cache)
	var marks *ebpf.Map
	if p.watcher != nil {
		marks = p.watcher.collection.Maps[socketMapMarks]
	}
	p.reader, files = loadReader(marks, cache)
	level, err := p.identify(o.PID)
	switch {
	case errors.Is(err, os.ErrNotExist):
		p.release()
		return nil, fmt.Errorf("loading probes for process %d: %w", o.PID, target.ErrGone)
	case err != nil:
		p.hooks = failCounter(err)
		if o.Traffic {
			p.ways = failTraffic(err)
		}
		if outgoing == nil {
			outgoing = hookError(loading, "tp_btf/"+hookOutgoing, err)
		}
	default:
		p.counter, p.hooks = loadCounter(tableSize(o), level, o.Sparing, cache)
		p.restrict(o.only)
		if o.Traffic {
			p.traffic, p.ways = loadTrafficCounter(cache)
		}
	}
	if o.procOnly {
		files = &HookError{Doing: loading, Hook: hookFiles, Reason: "not wanted"}
	}
	p.signals = newSignals(resets, outgoing, files, threads, readableProc(o.PID))
	if o.Samples {
		p.loadSampler(o.PID, cache)
	}
	if p.scheduler == nil && p.reader == nil && p.watcher == nil && p.counter == nil {
		err := fmt.Errorf("loading probes for process %d: nothing can be seen of it: %w", o.PID, threads)
		p.release()
		return nil, err
	}
	return p, nil
}

func newSignals(resets, outgoing, files, threads, proc error) []*Signal {
	return []*Signal{
		{
			Name:    signalResets,
			Shows:   "TCP resets sent and received on sockets of the process",
			Tries:   []Try{{Hook: "tp_btf", On: hookResets, Err: resets}},
			Missing: "TCP resets are not seen",
		}, {
			Name:    signalOutgoing,
			Shows:   "which sockets the process connected",
			Tries:   []Try{{Hook: "tp_btf", On: hookOutgoing, Err: outgoing}},
			Missing: "resets on connections that the process makes from now on are not seen",
		}, {
			Name:  signalFiles,
			Shows: "descriptors, sockets with their queues, epoll registrations and ready lists",
			Tries: []Try{{Hook: "iter", On: "task_file", Err: files},
				{Hook: "proc", On: "fd, fdinfo", Err: proc,
					Loses: "ready lists; reading a large epoll set holds the process up"}},
			Missing: "what the descriptors are, and what the epoll sets hold, is not seen",
		}, {
			Name:    signalThreads,
			Shows:   "time on a CPU, time waiting for one and context switches of every thread",
			Tries:   []Try{{Hook: "procfs", On: "schedstat, status", Err: threads}},
			Missing: "whether the threads sleep is not seen",
		},
	}
}

// readableProc returns why the descriptors of a process cannot be read from /proc, nil when they can.
func readableProc(pid int) error {
	directory, err := target.Directory(pid)
	if err == nil {
		_, err = os.ReadDir(filepath.Join(directory, "fd"))
	}
	if err == nil {
		return nil
	}
	reason := err.Error()
	if errors.Is(err, os.ErrPermission) && !sys.HasCapability(sys.CapPtrace) {
		reason += ": this process lacks CAP_SYS_PTRACE"
	}
	return &HookError{Doing: opening, Hook: hookProc, Reason: reason, cause: err}
}

// restrict makes every hook of the counter but one fail.
func (p *Probe) restrict(only string) {
	for _, h := range p.hooks {
		if only != "" && h.try.Hook != only && h.try.Err == nil {
			h.try.Err = &HookError{Doing: loading, Hook: h.try.Hook, Reason: "not wanted"}
		}
	}
}

// Plan returns what can be seen of the process on this machine, how, and what cannot and why.
func (p *Probe) Plan() []Signal {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.plan()
}

func (p *Probe) plan() []Signal {
	syscall := Signal{
		Name:    signalSyscall,
		Shows:   "waits with timeout and result, delivered events and I/O calls by descriptor",
		Missing: "system calls are not seen: neither waits nor events nor I/O",
	}
	for _, h := range p.hooks {
		syscall.Tries = append(syscall.Tries, h.try)
	}
	plan := []Signal{syscall}
	for _, s := range p.signals {
		plan = append(plan, *s)
	}
	return append(plan, p.trafficPlan()...)
}

// fail notes in the plan that a signal with a single try cannot be had after all.
func (p *Probe) fail(name string, err error) {
	for _, s := range p.signals {
		if s.Name == name {
			s.Tries[0].Err = err
		}
	}
}

func (p *Probe) available(name string) bool {
	for _, s := range p.signals {
		if s.Name == name {
			_, ok := s.Taken()
			return ok
		}
	}
	return false
}

// initialPIDNamespace is the inode of the machine's own pid namespace: PROC_PID_INIT_INO in
// include/linux/proc_ns.h.
const initialPIDNamespace = "pid:[4026531836]"

// identify finds the id of the process in the machine's own pid namespace, in which the programs see it,
// and returns the level of the caller's.
func (p *Probe) identify(pid int) (level uint32, err error) {
	if p.reader != nil {
		if p.tgid, _, err = p.reader.identity(pid); err != nil {
			return 0, err
		}
		_, level, err = p.reader.identity(os.Getpid())
		return level, err
	}
	// Without the iterator it is known only where the two namespaces are one.
	if name, err := os.Readlink("/proc/self/ns/pid"); err == nil && name == initialPIDNamespace {
		p.tgid = uint32(pid)
		return 0, nil
	}
	return 0, errors.New("inside a pid namespace the process cannot be told from others without " + hookTasks)
}

// tableSize is the number of descriptors to count for.
func tableSize(o Options) int {
	if o.MaxDescriptors > 0 {
		return min(o.MaxDescriptors, int(syscallLimitMAX_DESCRIPTORS))
	}
	limit, err := descriptorLimit(o.PID)
	if err != nil {
		return defaultDescriptors
	}
	return max(minDescriptors, min(limit, defaultDescriptors))
}

// descriptorLimit reads the soft limit of open files of a process: proc_pid_limits(5).
func descriptorLimit(pid int) (int, error) {
	directory, err := target.Directory(pid)
	if err != nil {
		return 0, err
	}
	text, err := os.ReadFile(filepath.Join(directory, "limits"))
	if err != nil {
		return 0, fmt.Errorf("reading the descriptor limit: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, "Max open files")
		if !ok {
			continue
		}
		if fields := strings.Fields(rest); len(fields) > 0 {
			n, err := strconv.Atoi(fields[0])
			if err != nil {
				break // "unlimited"
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("reading the descriptor limit of process %d: there is none", pid)
}

// DeclareDirect says of epoll sets of the process that their data hold the descriptor in the low 32 bits.
// It holds from the next window on.
func (p *Probe) DeclareDirect(sets ...int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, fd := range sets {
		p.direct[fd] = true
	}
}

// WatchResets starts to count resets on the sockets of the process and goes on until Close: those that
// exist, those that its listeners accept from now on, and those that it connects. It fails when resets
// cannot be seen; when some sockets cannot be marked, the Plan says so. Calling it again marks anew what
// exists.
func (p *Probe) WatchResets() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	if p.watcher == nil || !p.available(signalResets) {
		return p.unavailable(signalResets)
	}
	if !p.watcher.attached() {
		resets, outgoing := p.watcher.attach(p.tgid)
		if outgoing != nil {
			p.fail(signalOutgoing, outgoing)
		}
		if resets != nil {
			p.fail(signalResets, resets)
			return resets
		}
	}
	if !p.iterates() {
		return nil // every window and Resets say that existing sockets are not marked
	}
	if _, err := p.readFiles(); err != nil {
		return fmt.Errorf("marking the sockets of process %d: %w", p.pid, err)
	}
	return nil
}

func (p *Probe) unavailable(name string) error {
	for _, s := range p.plan() {
		if s.Name == name && len(s.Tries) > 0 && s.Tries[0].Err != nil {
			return s.Tries[0].Err
		}
	}
	return fmt.Errorf("the signal %q is not to be had", name)
}

// readFiles looks at the descriptors of the process, which also marks its sockets while resets are watched.
// Where the iterator cannot be used it asks /proc.
func (p *Probe) readFiles() (*fileTable, error) {
	if !p.available(signalFiles) {
		return nil, p.unavailable(signalFiles)
	}
	var table *fileTable
	var err error
	if p.iterates() {
		table, err = p.reader.read(p.pid, p.watcher != nil && p.watcher.attached())
	} else {
		table, err = readProc(p.pid)
	}
	if err != nil {
		return nil, err
	}
	p.sets = table.epollSets()
	return table, nil
}

// iterates tells whether the iterator over descriptors can be used.
func (p *Probe) iterates() bool { return p.reader != nil && !p.procOnly }

// MarkListener marks a listening socket of this very process, and so all that it accepts. The descriptor
// is only used during the call.
func (p *Probe) MarkListener(fd int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return ErrClosed
	case p.watcher == nil:
		return p.unavailable(signalResets)
	}
	return p.watcher.mark(fd, socketSideSIDE_CLIENT)
}

// Resets returns how many resets there were since WatchResets, and the most recent of them, oldest first.
func (p *Probe) Resets() (ResetTotals, []evidence.Reset, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return ResetTotals{}, nil, ErrClosed
	case p.watcher == nil:
		return ResetTotals{}, nil, p.unavailable(signalResets)
	}
	if err := p.watcher.drain(); err != nil {
		return p.watcher.totals(), nil, err
	}
	return p.watcher.totals(), append([]evidence.Reset(nil), p.watcher.recent...), nil
}

// Close detaches and releases everything, and ends a window that is being recorded. Only the first call
// does anything.
func (p *Probe) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	if p.recording != nil {
		p.recording.abandon()
	}
	return p.release()
}

func (p *Probe) release() error {
	var err error
	if p.counter != nil {
		p.counter.close()
	}
	if p.reader != nil {
		p.reader.close()
	}
	if p.watcher != nil {
		p.watcher.close()
	}
	if p.sampler != nil {
		p.sampler.close()
	}
	if p.traffic != nil {
		p.traffic.close()
	}
	if p.scheduler != nil {
		err = p.scheduler.Close()
	}
	p.counter, p.reader, p.watcher, p.scheduler, p.sampler, p.hooks = nil, nil, nil, nil, nil, nil
	p.traffic, p.ways = nil, nil
	return err
}
