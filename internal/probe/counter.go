package probe

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/sys"
)

// The kernel side sorts into the classes of evidence; these do not compile if the two orders differ.
var (
	_ = [1]struct{}{}[int(evidence.TimeoutZero)-int(syscallTimeoutClassTIMEOUT_ZERO)]
	_ = [1]struct{}{}[int(evidence.TimeoutPositive)-int(syscallTimeoutClassTIMEOUT_POSITIVE)]
	_ = [1]struct{}{}[int(evidence.TimeoutInfinite)-int(syscallTimeoutClassTIMEOUT_INFINITE)]
	_ = [1]struct{}{}[int(evidence.TimeoutUnknown)-int(syscallTimeoutClassTIMEOUT_UNKNOWN)]
	_ = [1]struct{}{}[int(evidence.ResultNone)-int(syscallResultClassRESULT_NONE)]
	_ = [1]struct{}{}[int(evidence.ResultEvents)-int(syscallResultClassRESULT_EVENTS)]
	_ = [1]struct{}{}[int(evidence.ResultError)-int(syscallResultClassRESULT_ERROR)]
)

// counter is level 2 in the kernel: the maps that bpf/syscall.bpf.c counts in, mapped into memory, and
// the programs in each of the ways they can be attached.
type counter struct {
	collection *ebpf.Collection // the maps
	hooks      []*hook          // in order of preference; those that did not load have an error
	mappings   [][]byte

	descriptors  []syscallDescriptor // by descriptor number
	threads      []syscallThread
	waitSets     []syscallWaitSet
	savedCalls   []syscallSavedCall
	destinations []syscallDestination
	globals      *syscallCountGlobals
}

// hook is one way to attach the counter.
type hook struct {
	try      Try
	programs []string
	loaded   *ebpf.Collection // the programs; nil when they did not load
	// load loads them; nil when that has been tried.
	load func()
	// tracepoints are the ids of the classic tracepoints for the programs, in the same order.
	tracepoints []uint64
}

// newHooks returns the ways to see the exit of a system call, best first.
func newHooks() []*hook {
	return []*hook{
		{try: Try{Hook: "tp_btf", On: "sys_exit"}, programs: []string{syscallProgOnSysExit}},
		{try: Try{Hook: "raw_tp", On: "sys_exit"}, programs: []string{syscallProgOnRawSysExit}},
		{try: Try{Hook: "tracepoint", On: "raw_syscalls:sys_enter, raw_syscalls:sys_exit",
			Loses: "what calls are about that were under way when the window began"},
			programs: []string{syscallProgOnTpSysEnter, syscallProgOnTpSysExit}},
	}
}

// failCounter returns hooks that all failed for one reason.
func failCounter(err error) []*hook {
	hooks := newHooks()
	for _, h := range hooks {
		h.try.Err = hookError(loading, h.try.Hook+"/"+h.try.On, err)
	}
	return hooks
}

// loadCounter loads the maps and every program that loads. Its errors are in the hooks; the counter is
// nil when none of them can be used. When sparing it leaves those behind the first that loads for when they
// are needed.
func loadCounter(descriptors int, level uint32, sparing bool, cache *btf.Cache) (*counter, []*hook) {
	spec, err := loadSyscall()
	if err != nil {
		return nil, failCounter(err)
	}
	spec.Variables = nil // reached through the mapping of .bss, which can be undone
	spec.Maps[syscallMapDescriptors].MaxEntries = uint32(descriptors)
	spec.Maps[syscallMapRegistrations].MaxEntries = uint32(2 * descriptors)

	maps := spec.Copy()
	maps.Programs = nil
	collection, err := ebpf.NewCollectionWithOptions(maps, ebpf.CollectionOptions{Cache: cache})
	if err != nil {
		return nil, failCounter(err)
	}
	c := &counter{collection: collection, hooks: newHooks()}
	if err := c.mapMemory(); err != nil {
		c.close()
		return nil, failCounter(err)
	}
	c.globals.Control.Level = level
	usable := false
	for _, h := range c.hooks {
		h.load = func() {
			h.load = nil
			var err error
			h.loaded, err = loadPrograms(spec, h.programs, collection.Maps, cache)
			if err == nil && h.try.Hook == "tracepoint" {
				h.tracepoints, err = tracepointIDs("raw_syscalls/sys_enter", "raw_syscalls/sys_exit")
			}
			h.try.Err = hookError(loading, h.try.Hook+"/"+h.try.On, err)
		}
		if usable && sparing {
			continue // attach loads it when the others cannot be attached
		}
		h.load()
		usable = usable || h.try.Err == nil
	}
	if !usable {
		hooks := c.hooks
		c.close()
		return nil, hooks
	}
	return c, c.hooks
}

// loadPrograms loads the named programs of a spec on maps that exist already.
func loadPrograms(spec *ebpf.CollectionSpec, names []string, maps map[string]*ebpf.Map, cache *btf.Cache) (
	*ebpf.Collection, error) {
	part := spec.Copy()
	for name := range part.Programs {
		if !slices.Contains(names, name) {
			delete(part.Programs, name)
		}
	}
	return ebpf.NewCollectionWithOptions(part, ebpf.CollectionOptions{MapReplacements: maps, Cache: cache})
}

// errNoTracefs is the error for a classic tracepoint without the file system that numbers them.
var errNoTracefs = errors.New("tracefs is not mounted at " + tracefs + ", or may not be read")

// tracepointIDs returns the numbers of classic tracepoints. They are read when loading, because /sys may
// be out of reach later.
func tracepointIDs(names ...string) ([]uint64, error) {
	ids := make([]uint64, 0, len(names))
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(tracefs, "events", name, "id"))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoTracefs, err)
		}
		id, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("reading the number of tracepoint %s: %w", name, err)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// mapMemory maps the counters into memory.
func (c *counter) mapMemory() error {
	var err error
	if c.descriptors, err = mapArray[syscallDescriptor](c, syscallMapDescriptors); err != nil {
		return err
	}
	if c.threads, err = mapArray[syscallThread](c, syscallMapThreads); err != nil {
		return err
	}
	if c.waitSets, err = mapArray[syscallWaitSet](c, syscallMapWaitSets); err != nil {
		return err
	}
	if c.savedCalls, err = mapArray[syscallSavedCall](c, syscallMapSavedCalls); err != nil {
		return err
	}
	if c.destinations, err = mapArray[syscallDestination](c, syscallMapDestinations); err != nil {
		return err
	}
	c.globals, err = mapVariable[syscallCountGlobals](&c.mappings, c.collection, syscallVarGlobals,
		loadSyscall)
	return err
}

// mapArray maps an array map, whose values have the type T, as a slice.
func mapArray[T any](c *counter, name string) ([]T, error) {
	m := c.collection.Maps[name]
	n := int(m.MaxEntries())
	memory, err := sys.MapShared(m.FD(), n*int(unsafe.Sizeof(*new(T))))
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", name, err)
	}
	c.mappings = append(c.mappings, memory)
	return unsafe.Slice((*T)(unsafe.Pointer(&memory[0])), n), nil
}

// mapVariable maps the section of global variables and returns a pointer to one of them, whose type is T.
func mapVariable[T any](mappings *[][]byte, collection *ebpf.Collection, name string,
	load func() (*ebpf.CollectionSpec, error)) (*T, error) {
	spec, err := load()
	if err != nil {
		return nil, err
	}
	variable := spec.Variables[name]
	m := collection.Maps[variable.SectionName]
	memory, err := sys.MapShared(m.FD(), int(m.ValueSize()))
	if err != nil {
		return nil, fmt.Errorf("variable %s: %w", name, err)
	}
	*mappings = append(*mappings, memory)
	return (*T)(unsafe.Pointer(&memory[variable.Offset])), nil
}

// reset forgets everything counted. Nothing may be attached.
func (c *counter) reset() error {
	for block, touched := range c.globals.Touched {
		if touched == 0 {
			continue
		}
		from := block * int(syscallLimitTOUCHED_BLOCK)
		clear(c.descriptors[from:min(from+int(syscallLimitTOUCHED_BLOCK), len(c.descriptors))])
	}
	clear(c.globals.Touched[:])
	clear(c.threads)
	clear(c.waitSets)
	clear(c.savedCalls)
	err := c.resetMaps()
	c.globals.Losses = syscallLosses{}
	return err
}

// follow makes the attached programs follow what happens to the registrations and descriptors of the
// process with that global id, without counting.
func (c *counter) follow(tgid uint32) {
	atomic.StoreUint32(&c.globals.Control.Counting, 0)
	atomic.StoreUint32(&c.globals.Control.Tgid, tgid)
}

// count makes the attached programs count the process with that global id; 0 makes them stop.
func (c *counter) count(tgid uint32) {
	atomic.StoreUint32(&c.globals.Control.Counting, 1)
	atomic.StoreUint32(&c.globals.Control.Tgid, tgid)
}

// attach attaches the first hook that can be, and notes in the others why they cannot.
func (c *counter) attach() (*hook, []io.Closer, error) {
	var errs []error
	for _, h := range c.hooks {
		if h.load != nil && h.try.Err == nil {
			h.load()
		}
		if h.try.Err != nil {
			errs = append(errs, h.try.Err)
			continue
		}
		links, err := h.attach()
		if err == nil {
			return h, links, nil
		}
		failed := hookError(attaching, h.try.Hook+"/"+h.try.On, err)
		if !transient(err) {
			h.try.Err = failed // it will not be otherwise the next time
		}
		errs = append(errs, failed)
	}
	return nil, nil, errors.Join(errs...)
}

// transient reports whether an error says that something is short at the moment, which must not end the
// probes for the life of the process.
func transient(err error) bool {
	return slices.ContainsFunc([]error{syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.EAGAIN,
		syscall.EINTR, syscall.EBUSY}, func(short error) bool { return errors.Is(err, short) })
}

// attach attaches the programs of one hook. Closing what it returns detaches them.
func (h *hook) attach() (links []io.Closer, err error) {
	defer func() {
		if err != nil {
			closeAll(links)
			links = nil
		}
	}()
	for i, name := range h.programs {
		program := h.loaded.Programs[name]
		var l link.Link
		switch h.try.Hook {
		case "tp_btf":
			l, err = link.AttachTracing(link.TracingOptions{Program: program})
		case "raw_tp":
			l, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: h.try.On, Program: program})
		case "tracepoint":
			var event *os.File
			if event, err = sys.OpenTracepoint(h.tracepoints[i]); err == nil {
				l, err = link.AttachRawLink(link.RawLinkOptions{Target: int(event.Fd()), Program: program,
					Attach: ebpf.AttachPerfEvent})
				_ = event.Close() // the link holds it
			}
		default:
			panic("BUG: unknown hook " + h.try.Hook)
		}
		if err != nil {
			return links, err
		}
		links = append(links, l)
	}
	return links, nil
}

// misses is how often the kernel did not run a program of the hook because one was running already.
func (h *hook) misses() uint64 {
	var sum uint64
	for _, program := range h.loaded.Programs {
		// Without statistics from the kernel there is nothing to be said; it has them since 5.12.
		if stats, err := program.Stats(); err == nil {
			sum += stats.RecursionMisses
		}
	}
	return sum
}

func closeAll(closers []io.Closer) {
	for _, c := range closers {
		_ = c.Close()
	}
}

// close releases programs, maps and memory.
func (c *counter) close() {
	for _, h := range c.hooks {
		if h.loaded != nil {
			h.loaded.Close()
			h.loaded = nil
		}
	}
	for _, memory := range c.mappings {
		_ = sys.UnmapShared(memory)
	}
	c.mappings, c.descriptors, c.threads, c.waitSets, c.savedCalls = nil, nil, nil, nil, nil
	c.destinations, c.globals = nil, nil
	c.collection.Close()
}
