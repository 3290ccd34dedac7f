package sys

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ClockOptions say what a CPU clock records with each sample.
type ClockOptions struct {
	// Period is the time between two samples.
	Period time.Duration
	// Registers are those of the program that are recorded, as bits of asm/perf_regs.h. StackBytes is how
	// much of its stack is: a multiple of 8.
	Registers  uint64
	StackBytes uint32
}

// Clock is a perf event that samples whatever runs on one CPU: PERF_COUNT_SW_CPU_CLOCK of perf_event_open(2).
// It is used by one goroutine at a time.
type Clock struct {
	event *os.File
	ring  []byte // nil while it is not mapped
	// scratch holds a record that goes over the end of the ring.
	scratch []byte
}

// PerfRecordSample is the kind of a sample: enum perf_event_type in include/uapi/linux/perf_event.h.
const PerfRecordSample = unix.PERF_RECORD_SAMPLE

// OpenClock opens the clock of a CPU. It stands still until Start.
func OpenClock(cpu int, o ClockOptions) (*Clock, error) {
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Sample: uint64(o.Period),
		Sample_type: unix.PERF_SAMPLE_TID | unix.PERF_SAMPLE_CALLCHAIN | unix.PERF_SAMPLE_REGS_USER |
			unix.PERF_SAMPLE_STACK_USER,
		Read_format: unix.PERF_FORMAT_LOST, // 6.0
		Bits:        unix.PerfBitDisabled | unix.PerfBitExcludeIdle,

		Sample_regs_user: o.Registers, Sample_stack_user: o.StackBytes,
	}
	attr.Size = uint32(unsafe.Sizeof(attr))
	fd, err := unix.PerfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("opening the clock of CPU %d: %w", cpu, err)
	}
	return &Clock{event: os.NewFile(uintptr(fd), "perf_event")}, nil
}

// FD is the descriptor of the event, to which a BPF program can be linked.
func (c *Clock) FD() int { return int(c.event.Fd()) }

// Map makes room for samples: a ring of that many bytes, a power of two of at least a page. It is locked
// memory, and counted as such.
func (c *Clock) Map(size int) error {
	ring, err := unix.Mmap(c.FD(), 0, os.Getpagesize()+size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mapping %d bytes for samples: %w", size, err)
	}
	c.ring = ring
	return nil
}

// Unmap gives the ring back, with what is in it.
func (c *Clock) Unmap() {
	if c.ring != nil {
		_ = unix.Munmap(c.ring)
		c.ring = nil
	}
}

// Start lets the clock run, Stop halts it.
func (c *Clock) Start() error { return c.control(unix.PERF_EVENT_IOC_ENABLE, "starting") }

// Stop halts the clock. When it returns, no sample is being written.
func (c *Clock) Stop() error { return c.control(unix.PERF_EVENT_IOC_DISABLE, "stopping") }

func (c *Clock) control(request uint, doing string) error {
	if err := unix.IoctlSetInt(c.FD(), request, 0); err != nil {
		return fmt.Errorf("%s a CPU clock: %w", doing, err)
	}
	return nil
}

// Lost is how many samples found the ring full since the clock was opened.
func (c *Clock) Lost() (uint64, error) {
	// struct read_format with PERF_FORMAT_LOST: value, lost
	var values [16]byte
	if _, err := c.event.Read(values[:]); err != nil {
		return 0, fmt.Errorf("reading a CPU clock: %w", err)
	}
	return binary.NativeEndian.Uint64(values[8:]), nil
}

// Drain calls f with every record in the ring, and makes room for others. What f gets is good until it
// returns.
func (c *Clock) Drain(f func(kind uint32, body []byte)) {
	if c.ring == nil {
		return
	}
	const header = 8 // struct perf_event_header: u32 type, u16 misc, u16 size
	control := (*unix.PerfEventMmapPage)(unsafe.Pointer(&c.ring[0]))
	data := c.ring[control.Data_offset:][:control.Data_size]
	// The kernel writes head after the records, and reads tail before it writes over them.
	head, tail := atomic.LoadUint64(&control.Data_head), control.Data_tail
	for head-tail >= header {
		at := tail % uint64(len(data))
		size := uint64(binary.NativeEndian.Uint16(data[at+6:]))
		if size < header || size > head-tail {
			tail = head // it cannot be; what follows cannot be read
			break
		}
		record := data[at:]
		if at+size > uint64(len(data)) {
			c.scratch = append(append(c.scratch[:0], record...), data[:at+size-uint64(len(data))]...)
			record = c.scratch
		}
		f(binary.NativeEndian.Uint32(record), record[header:size])
		tail += size
	}
	atomic.StoreUint64(&control.Data_tail, tail)
	runtime.KeepAlive(c)
}

// Close closes the event.
func (c *Clock) Close() error {
	c.Unmap()
	if err := c.event.Close(); err != nil {
		return fmt.Errorf("closing a CPU clock: %w", err)
	}
	return nil
}
