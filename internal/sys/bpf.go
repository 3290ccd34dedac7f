package sys

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bpf(2) commands and values that the library does not pass on: include/uapi/linux/bpf.h.
const (
	bpfLinkCreate   = 28 // BPF_LINK_CREATE
	bpfIterCreate   = 33 // BPF_ITER_CREATE
	bpfTraceIter    = 28 // enum bpf_attach_type: BPF_TRACE_ITER
	iteratorBuffer  = 64 << 10
	membarrierAll   = 1 // enum membarrier_cmd: MEMBARRIER_CMD_GLOBAL
	capabilityWords = 2 // _LINUX_CAPABILITY_U32S_3
)

// Capabilities that probes need, by number: include/uapi/linux/capability.h.
const (
	CapReadSearch = 2  // CAP_DAC_READ_SEARCH
	CapPtrace     = 19 // CAP_SYS_PTRACE
	CapAdmin      = 21 // CAP_SYS_ADMIN
	CapSyslog     = 34 // CAP_SYSLOG
	CapPerfmon    = 38 // CAP_PERFMON
	CapBPF        = 39 // CAP_BPF
)

// HasCapability reports whether the calling thread has the capability in effect.
func HasCapability(capability uint) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [capabilityWords]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}

// IterateTask runs an iterator program (type tracing, attach type BPF_TRACE_ITER) for one process and
// returns all that it wrote. With thread set it visits only the task with that id, otherwise every thread
// of the process. The id is looked up in the pid namespace of the caller. Linux 6.1 and
// later.
func IterateTask(program, pid int, thread bool) ([]byte, error) {
	// union bpf_iter_link_info, member task
	info := struct{ tid, pid, pidFD, reserved uint32 }{pid: uint32(pid)}
	if thread {
		info.tid, info.pid = uint32(pid), 0
	}
	link, err := bpf(bpfLinkCreate, unsafe.Pointer(&struct {
		program, target, attachType, flags uint32
		info                               unsafe.Pointer
		infoSize, reserved                 uint32
	}{program: uint32(program), attachType: bpfTraceIter, info: unsafe.Pointer(&info),
		infoSize: uint32(unsafe.Sizeof(info))}), 32)
	runtime.KeepAlive(&info)
	if err != nil {
		return nil, fmt.Errorf("creating the iterator of process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(link) }()

	fd, err := bpf(bpfIterCreate, unsafe.Pointer(&struct{ link, flags uint32 }{link: uint32(link)}), 8)
	if err != nil {
		return nil, fmt.Errorf("opening the iterator of process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	return readAll(fd)
}

func readAll(fd int) ([]byte, error) {
	all := make([]byte, 0, iteratorBuffer)
	for {
		if cap(all)-len(all) < iteratorBuffer/2 {
			all = append(make([]byte, 0, 2*cap(all)), all...)
		}
		n, err := unix.Read(fd, all[len(all):cap(all)])
		switch {
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN):
			// EAGAIN: the kernel lets go after a million objects and asks to be called again.
		case err != nil:
			return nil, fmt.Errorf("reading the iterator: %w", err)
		case n == 0:
			return all, nil
		default:
			all = all[:len(all)+n]
		}
	}
}

func bpf(command int, attr unsafe.Pointer, size uintptr) (int, error) {
	for {
		r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR:
		default:
			return -1, errno
		}
	}
}

// MapShared maps size bytes of a BPF map into memory, readable and writable. The map lives as long as the
// mapping; UnmapShared ends it.
func MapShared(fd, size int) ([]byte, error) {
	memory, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping %d bytes of a BPF map: %w", size, err)
	}
	return memory, nil
}

// UnmapShared ends a mapping made by MapShared.
func UnmapShared(memory []byte) error {
	if err := unix.Munmap(memory); err != nil {
		return fmt.Errorf("unmapping a BPF map: %w", err)
	}
	return nil
}

// OpenTracepoint returns a perf event on the classic tracepoint with that id, to which a BPF program can
// be linked. The event is of no CPU and no process in particular: a program on it sees the whole machine.
func OpenTracepoint(id uint64) (*os.File, error) {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_TRACEPOINT, Config: id, Sample: 1, Wakeup: 1}
	attr.Size = uint32(unsafe.Sizeof(attr))
	fd, err := unix.PerfEventOpen(&attr, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("opening a perf event on tracepoint %d: %w", id, err)
	}
	return os.NewFile(uintptr(fd), "perf_event"), nil
}

// AwaitPrograms waits until no tracing program that was running when it was called still runs. It takes a
// grace period of the kernel, 8 to 30 ms, and no CPU time.
func AwaitPrograms() error {
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierAll, 0, 0); errno != 0 {
		return fmt.Errorf("waiting for running programs: %w", errno)
	}
	return nil
}
