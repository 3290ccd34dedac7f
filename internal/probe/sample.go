package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/symbol"
	"github.com/whyspin/whyspin/internal/sys"
)

// Level 3 is a clock on each CPU and a program that keeps the samples of one process. The other way, a perf
// event for each thread, needs one for each pair of thread and CPU, because only then do threads born later
// inherit a ring: 6400 descriptors for a hundred threads on 64 CPUs. A clock on each CPU costs the neighbours
// an interrupt and a comparison 99 times a second, sees every thread whenever it was born, and knows the
// process by its id in the machine's own pid namespace, while the kernel numbers the threads as the
// observer's namespace does. The kernel copies registers and stack itself (PERF_SAMPLE_REGS_USER,
// PERF_SAMPLE_STACK_USER), with more care for pages that are not there than a program could.

// samplePeriod is the time between two samples of one CPU: 99 in a second, which does not beat with timers
// that go off a hundred times.
const samplePeriod = time.Second / 99

// stackBytes is how much of the stack is copied with a sample: 8 KiB hold every frame of 96 to 99 % of the
// stacks of HAProxy and nginx.
const stackBytes = 8 << 10

// The rings of one CPU and of all: 512 KiB hold 60 samples, 0.6 s, and with a page of control are what
// kernel.perf_event_mlock_kb allows everybody by default. On machines with many CPUs they are smaller, down
// to 0.15 s, which is longer than drainEvery.
const (
	ringBytes    = 512 << 10
	minRingBytes = 128 << 10
	allRingBytes = 64 << 20
)

// drainEvery is how often the rings are emptied: 10 samples of each busy CPU.
const drainEvery = 100 * time.Millisecond

// maxStacks is the number of distinct stacks that one window holds, about 1 KiB each. Samples with others are
// counted as lost.
const maxStacks = 16384

// hookClock is what samples are taken on.
const hookClock = "cpu-clock"

// sampler takes samples of one process. Everything that needs a privilege is done when it is loaded; the
// rings exist only during a window.
type sampler struct {
	collection *ebpf.Collection
	mappings   [][]byte
	globals    *sampleClockGlobals
	clocks     []*sys.Clock
	links      []io.Closer
	process    *symbol.Process
	kernel     *symbol.Kernel

	// The rest is of the window that is being recorded. While it is, the goroutine that drains owns all of
	// it but stop and done.
	stop   chan struct{}
	done   sync.WaitGroup
	stacks map[string]*sampledStack
	lost   uint64   // that found no room among the stacks
	before []uint64 // each clock's count of lost samples at the begin
	failed error    // why samples may be missing
}

// sampledStack is a distinct stack of a thread.
type sampledStack struct {
	tid    int
	count  uint64
	kernel []uint64
	user   symbol.Trace
}

// loadSampler opens the clocks and loads the program.
func loadSampler(pid int, cache *btf.Cache) (s *sampler, err error) {
	s = &sampler{}
	defer func() {
		if err != nil {
			s.close()
			s = nil
		}
	}()
	spec, err := loadSample()
	if err != nil {
		return s, err
	}
	spec.Variables = nil
	s.collection, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Cache: cache})
	if err != nil {
		return s, err
	}
	s.globals, err = mapVariable[sampleClockGlobals](&s.mappings, s.collection, sampleVarGlobals, loadSample)
	if err != nil {
		return s, err
	}
	cpus, err := onlineCPUs()
	if err != nil {
		return s, err
	}
	for _, cpu := range cpus {
		clock, err := sys.OpenClock(cpu, sys.ClockOptions{Period: samplePeriod,
			Registers: symbol.PerfRegisters, StackBytes: stackBytes})
		if err != nil {
			return s, err
		}
		s.clocks = append(s.clocks, clock)
		l, err := link.AttachRawLink(link.RawLinkOptions{Target: clock.FD(),
			Program: s.collection.Programs[sampleProgOnCpuClock], Attach: ebpf.AttachPerfEvent})
		if err != nil {
			return s, err
		}
		s.links = append(s.links, l)
	}
	if s.process, err = symbol.Open(pid); err != nil {
		return s, err
	}
	s.kernel = symbol.OpenKernel()
	return s, nil
}

// loadSampler prepares for samples, and notes in the plan what that came to.
func (p *Probe) loadSampler(pid int, cache *btf.Cache) {
	err := errUnnamed
	if p.tgid != 0 {
		p.sampler, err = loadSampler(pid, cache)
	}
	p.signals = append(p.signals, &Signal{
		Name:    signalSamples,
		Shows:   "the functions in which the threads spend their CPU time",
		Tries:   []Try{{Hook: "perf_event", On: hookClock, Err: sampleError(err)}},
		Missing: "no stacks are sampled",
	})
}

// errUnnamed is the error for a process whose number in the machine's own pid namespace is not known.
var errUnnamed = errors.New("inside a pid namespace the process cannot be told from others without " +
	hookTasks)

// sampleError words why samples cannot be taken.
func sampleError(err error) error {
	if err == nil {
		return nil
	}
	const paranoia = "/proc/sys/kernel/perf_event_paranoid"
	const refusing = 3 // a level that Debian adds
	text, readErr := os.ReadFile(paranoia)
	level, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	if isRefused(err) && len(lacking()) == 0 && readErr == nil && level >= refusing &&
		!sys.HasCapability(sys.CapAdmin) {
		return &HookError{Doing: opening, Hook: "perf_event/" + hookClock, cause: err, Reason: fmt.Sprintf(
			"permission denied: kernel.perf_event_paranoid is %d, which refuses it even to CAP_PERFMON:"+
				" it takes 2, or CAP_SYS_ADMIN", level)}
	}
	return hookError(opening, "perf_event/"+hookClock, err)
}

// onlineCPUs returns the numbers of the CPUs that are in use, as in "0-3,8".
func onlineCPUs() ([]int, error) {
	const path = "/sys/devices/system/cpu/online"
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("looking for CPUs: %w", err)
	}
	var cpus []int
	for part := range strings.SplitSeq(strings.TrimSpace(string(text)), ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("looking for CPUs: %s says %q", path, text)
		}
		for n := first; n <= last; n++ {
			cpus = append(cpus, n)
		}
	}
	return cpus, nil
}

// ringSize is the size of each ring on a machine with so many CPUs.
func ringSize(cpus int) int {
	size := ringBytes
	for size > minRingBytes && size*cpus > allRingBytes {
		size /= 2
	}
	return size
}

// start begins to take samples of the process with that global id.
func (s *sampler) start(tgid uint32) error {
	s.stacks, s.lost, s.failed, s.before = map[string]*sampledStack{}, 0, nil, nil
	size := ringSize(len(s.clocks))
	for _, c := range s.clocks {
		lost, err := c.Lost()
		if err == nil {
			err = c.Map(size)
		}
		if err != nil {
			s.unmap()
			return err
		}
		s.before = append(s.before, lost)
	}
	atomic.StoreUint32(&s.globals.Control.Tgid, tgid)
	for _, c := range s.clocks {
		if err := c.Start(); err != nil {
			s.halt()
			s.unmap()
			return err
		}
	}
	s.stop = make(chan struct{})
	s.done.Go(s.drainUntil)
	return nil
}

// drainUntil empties the rings again and again until the window ends, and then once more.
func (s *sampler) drainUntil() {
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.drain()
		case <-s.stop:
			s.drain()
			return
		}
	}
}

// halt stops the clocks.
func (s *sampler) halt() {
	atomic.StoreUint32(&s.globals.Control.Tgid, 0)
	for _, c := range s.clocks {
		if err := c.Stop(); err != nil {
			s.failed = err
		}
	}
}

func (s *sampler) unmap() {
	for _, c := range s.clocks {
		c.Unmap()
	}
}

// finish ends the window that halt has ended and returns the samples.
func (s *sampler) finish() *evidence.Samples {
	if s.stop == nil {
		return nil
	}
	close(s.stop)
	s.done.Wait()
	s.stop = nil
	samples := s.build()
	s.unmap()
	s.stacks = nil
	s.process.Forget()
	return samples
}

// drain takes over what is in the rings.
func (s *sampler) drain() {
	s.process.Changed()
	for _, c := range s.clocks {
		c.Drain(func(kind uint32, body []byte) {
			if kind == sys.PerfRecordSample {
				s.add(body)
			}
		})
	}
}

// errSample is the error for a record that does not have the form that was asked for.
var errSample = errors.New("a sample has an unknown form")

// add takes over one sample.
func (s *sampler) add(body []byte) {
	raw, ok := parseSample(body)
	if !ok {
		s.failed = errSample
		return
	}
	stack := sampledStack{tid: int(raw.tid), count: 1, kernel: raw.kernel}
	if raw.inProgram() {
		stack.user = s.process.Unwind(&raw.user)
	}
	key := stack.key()
	switch known := s.stacks[key]; {
	case known != nil:
		known.count++
	case len(s.stacks) == maxStacks:
		s.lost++
	default:
		stack.kernel = slices.Clone(stack.kernel) // it is in the ring
		s.stacks[key] = &stack
	}
}

// key is the same for samples with the same stack.
func (k *sampledStack) key() string {
	b := binary.NativeEndian.AppendUint32(nil, uint32(k.tid))
	for _, a := range k.kernel {
		b = binary.NativeEndian.AppendUint64(b, a)
	}
	for _, p := range k.user.Places {
		name := ""
		if p.Object != nil {
			name = p.Object.Name
		}
		b = append(binary.NativeEndian.AppendUint64(b, p.Address), name...)
	}
	return string(b)
}

// rawSample is a sample as the kernel wrote it.
type rawSample struct {
	tid    uint32
	kernel []uint64
	user   symbol.Sample
}

func (r *rawSample) inProgram() bool { return len(r.user.Registers) > 0 || len(r.user.Chain) > 0 }

// Markers in a call chain: enum perf_callchain_context in include/uapi/linux/perf_event.h.
const (
	contextKernel = ^uint64(128 - 1)
	contextUser   = ^uint64(512 - 1)
	contextMax    = ^uint64(4095 - 1)
)

// The ABIs of registers: enum perf_sample_regs_abi.
const registers64 = 2

// parseSample takes a record apart: thread, call chain, registers and stack, in the order that
// perf_event_open(2) gives them.
func parseSample(body []byte) (r rawSample, ok bool) {
	word := func() uint64 {
		if len(body) < 8 {
			ok = false
			return 0
		}
		n := binary.NativeEndian.Uint64(body)
		body = body[8:]
		return n
	}
	ok = true
	ids := word()
	var halves [8]byte
	binary.NativeEndian.PutUint64(halves[:], ids)
	r.tid = binary.NativeEndian.Uint32(halves[4:])

	context := uint64(0)
	for n := word(); n > 0 && ok; n-- {
		switch a := word(); {
		case a >= contextMax:
			context = a
		case context == contextKernel:
			r.kernel = append(r.kernel, a)
		case context == contextUser:
			r.user.Chain = append(r.user.Chain, a)
		}
	}
	if abi := word(); abi == registers64 {
		for range registerCount {
			r.user.Registers = append(r.user.Registers, word())
		}
	} else if abi != 0 {
		for range registerCount {
			word() // a 32-bit program: its stack is not unwound
		}
	}
	size := word()
	if size > uint64(len(body)) {
		return r, false
	}
	copied := body[:size]
	body = body[size:]
	if size > 0 {
		r.user.Stack = copied[:min(word(), size)]
	}
	return r, ok
}

// registerCount is how many registers a sample has.
var registerCount = func() (n int) {
	for mask := uint64(symbol.PerfRegisters); mask != 0; mask &= mask - 1 {
		n++
	}
	return n
}()

// build names what was sampled.
func (s *sampler) build() *evidence.Samples {
	all := &evidence.Samples{Period: samplePeriod, Lost: s.lost}
	var inKernel []uint64
	for _, k := range s.stacks {
		inKernel = append(inKernel, k.kernel...)
	}
	kernel, unnamed := s.kernel.Names(inKernel)
	for _, key := range slices.Sorted(maps.Keys(s.stacks)) {
		k := s.stacks[key]
		stack := evidence.Stack{TID: k.tid, Count: k.count,
			Truncated: len(k.user.Places) > 0 && !k.user.Complete}
		for _, a := range k.kernel {
			stack.Kernel = append(stack.Kernel, kernel[a])
		}
		for _, p := range k.user.Places {
			stack.User = append(stack.User, s.process.Name(p))
		}
		all.Stacks = append(all.Stacks, stack)
	}
	slices.SortStableFunc(all.Stacks, func(a, b evidence.Stack) int {
		if a.TID != b.TID {
			return a.TID - b.TID
		}
		return int(b.Count) - int(a.Count)
	})
	for i, c := range s.clocks {
		lost, err := c.Lost()
		if err != nil {
			s.failed = err
			continue
		}
		all.Lost += lost - s.before[i]
	}
	all.Unknown = s.process.Unknown()
	if unnamed != nil {
		all.Unknown = append(all.Unknown, unnamed.Error())
	}
	if s.failed != nil {
		all.Unknown = append(all.Unknown, fmt.Sprintf("samples may be missing: %v", s.failed))
	}
	return all
}

// close releases everything.
func (s *sampler) close() {
	if s.stop != nil {
		s.halt()
		s.finish()
	}
	closeAll(s.links)
	for _, c := range s.clocks {
		_ = c.Close()
	}
	for _, memory := range s.mappings {
		_ = sys.UnmapShared(memory)
	}
	if s.collection != nil {
		s.collection.Close()
	}
	if s.process != nil {
		s.process.Close()
	}
	if s.kernel != nil {
		s.kernel.Close()
	}
	s.links, s.clocks, s.mappings, s.globals = nil, nil, nil, nil
}
