package probe

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/sys"
)

// reader is the iterators of bpf/task_file.bpf.c.
type reader struct {
	files    *ebpf.Collection
	tasks    *ebpf.Collection
	mappings [][]byte
	control  *filesPassControl
}

const (
	hookFiles = "iter/task_file"
	hookTasks = "iter/task"
)

// loadReader loads the iterators. marks is the map of the watcher, nil when there is none.
func loadReader(marks *ebpf.Map, cache *btf.Cache) (*reader, error) {
	spec, err := loadFiles()
	if err != nil {
		return nil, hookError(loading, hookFiles, err)
	}
	spec.Variables = nil
	shared := map[string]*ebpf.Map{}
	if marks != nil {
		shared[filesMapMarks] = marks
	}
	r := &reader{}
	if r.files, err = loadPrograms(spec, []string{filesProgOnTaskFile}, shared, cache); err != nil {
		return nil, hookError(loading, hookFiles, err)
	}
	if r.tasks, err = loadPrograms(spec, []string{filesProgOnTask}, r.files.Maps, cache); err != nil {
		r.close()
		return nil, hookError(loading, hookTasks, err)
	}
	r.control, err = mapVariable[filesPassControl](&r.mappings, r.files, filesVarControl, loadFiles)
	if err != nil {
		r.close()
		return nil, hookError(loading, hookFiles, err)
	}
	return r, nil
}

func (r *reader) close() {
	for _, memory := range r.mappings {
		_ = sys.UnmapShared(memory)
	}
	r.mappings, r.control = nil, nil
	for _, c := range []*ebpf.Collection{r.files, r.tasks} {
		if c != nil {
			c.Close()
		}
	}
}

// identity returns the id of a process in the machine's own pid namespace, and the level of the namespace
// in which the process was created.
func (r *reader) identity(pid int) (tgid, level uint32, err error) {
	raw, err := sys.IterateTask(r.tasks.Programs[filesProgOnTask].FD(), pid, true)
	if err != nil {
		return 0, 0, hookError(opening, hookTasks, err)
	}
	var task filesTaskRecord
	if len(raw) < int(unsafe.Sizeof(task)) {
		return 0, 0, fmt.Errorf("looking up process %d: %w", pid, os.ErrNotExist)
	}
	task = *(*filesTaskRecord)(unsafe.Pointer(&raw[0]))
	return task.Tgid, task.Level, nil
}

// fileTable is what a process has open, as one pass saw it.
type fileTable struct {
	files         []filesFileRecord // by descriptor
	registrations []filesRegistrationRecord
	// ready is what the process's own epoll sets have on their ready lists.
	ready []filesRegistrationRecord
	// byProc is true exactly when the table is from /proc; unknown says what could then not be read.
	byProc  bool
	unknown []string
	sets    map[uint64]int // the descriptor of each epoll set by the name it has in this pass
}

// noDescriptor stands where a file has no number in the process.
const noDescriptor = ^uint32(0)

// read looks at the descriptors of a process. With mark it marks the TCP sockets on the way.
//
// What is ready in a set but was not found through any file is either registered for a file that only
// another process has open, or came after its file's turn. A second pass tells the two apart.
func (r *reader) read(pid int, mark bool) (*fileTable, error) {
	table, err := r.pass(pid, mark)
	if err != nil {
		return nil, err
	}
	elsewhere := table.unfound()
	if len(elsewhere) == 0 {
		return table, nil
	}
	if table, err = r.pass(pid, mark); err != nil {
		return nil, err
	}
	for e, record := range table.unfound() {
		if _, both := elsewhere[e]; both {
			record.FoundFd = noDescriptor
			table.registrations = append(table.registrations, record)
		}
	}
	return table, nil
}

// entry names an entry of an epoll set: the kernel does not allow two that agree in all three.
type entry struct {
	set, file uint64
	fd        uint32
}

func entryOf(r *filesRegistrationRecord) entry { return entry{r.Set, r.File, r.Fd} }

// unfound returns what is ready in the process's own sets but was not found through an open file.
func (t *fileTable) unfound() map[entry]filesRegistrationRecord {
	var unfound map[entry]filesRegistrationRecord
	if len(t.ready) == 0 {
		return unfound
	}
	found := make(map[entry]bool, len(t.registrations))
	for i := range t.registrations {
		found[entryOf(&t.registrations[i])] = true
	}
	for _, r := range t.ready {
		if e := entryOf(&r); !found[e] && t.orphaned(&r) {
			if unfound == nil {
				unfound = map[entry]filesRegistrationRecord{}
			}
			unfound[e] = r
		}
	}
	return unfound
}

// pass makes one pass over the descriptors of a process.
func (r *reader) pass(pid int, mark bool) (*fileTable, error) {
	r.control.Mark = 0
	if mark {
		r.control.Mark = 1
	}
	// The first thread's table is the process's. Asked for every thread, Linux 6.1 shows that table twice.
	program := r.files.Programs[filesProgOnTaskFile].FD()
	raw, err := sys.IterateTask(program, pid, true)
	if err == nil && len(raw) == 0 {
		// The first thread has ended; any other has the same table.
		raw, err = sys.IterateTask(program, pid, false)
	}
	if err != nil {
		return nil, hookError(opening, hookFiles, err)
	}
	return parseFiles(raw)
}

func parseFiles(raw []byte) (*fileTable, error) {
	t := &fileTable{sets: map[uint64]int{}}
	for at := 0; at < len(raw); {
		rest := raw[at:]
		var size uintptr
		switch filesRecordType(*(*uint32)(unsafe.Pointer(&rest[0]))) {
		case filesRecordTypeRECORD_FILE:
			if size = unsafe.Sizeof(filesFileRecord{}); uintptr(len(rest)) >= size {
				t.files = append(t.files, *(*filesFileRecord)(unsafe.Pointer(&rest[0])))
			}
		case filesRecordTypeRECORD_REGISTRATION, filesRecordTypeRECORD_READY:
			if size = unsafe.Sizeof(filesRegistrationRecord{}); uintptr(len(rest)) >= size {
				t.add((*filesRegistrationRecord)(unsafe.Pointer(&rest[0])))
			}
		}
		if size == 0 || uintptr(len(rest)) < size {
			return nil, fmt.Errorf("reading the descriptors: a record at byte %d of %d cannot be read", at,
				len(raw))
		}
		at += int(size)
	}
	t.compact()
	for i := range t.files {
		if f := &t.files[i]; f.Set != 0 {
			if _, ok := t.sets[f.Set]; !ok {
				t.sets[f.Set] = int(f.Fd)
			}
		}
	}
	return t, nil
}

func (t *fileTable) add(r *filesRegistrationRecord) {
	if filesRecordType(r.Type) == filesRecordTypeRECORD_READY {
		t.ready = append(t.ready, *r)
		return
	}
	t.registrations = append(t.registrations, *r)
}

// compact sorts by descriptor and drops what was seen more than once. It normally finds everything in
// order.
func (t *fileTable) compact() {
	byFD := func(a, b filesFileRecord) int { return cmp.Compare(a.Fd, b.Fd) }
	if !slices.IsSortedFunc(t.files, byFD) {
		slices.SortStableFunc(t.files, byFD)
	}
	before := len(t.files)
	t.files = slices.CompactFunc(t.files, func(a, b filesFileRecord) bool { return a.Fd == b.Fd })
	if len(t.files) == before {
		return
	}
	type found struct {
		entry
		fd uint32
	}
	seen := make(map[found]bool, len(t.registrations))
	t.registrations = slices.DeleteFunc(t.registrations, func(r filesRegistrationRecord) bool {
		e := found{entryOf(&r), r.FoundFd}
		again := seen[e]
		seen[e] = true
		return again
	})
}

// orphaned tells whether the file of a registration is no longer open under the number it was registered
// under.
func (t *fileTable) orphaned(r *filesRegistrationRecord) bool {
	f := t.find(int(r.Fd))
	return f == nil || f.File != r.File
}

// epollSet is an epoll set as its registrations show it.
type epollSet struct {
	fd            int
	registrations int
	// direct is true exactly when the low 32 bits of every registration's data are its descriptor.
	direct bool
	// wakeups are those registrations that have the form of the one that the Go runtime makes.
	wakeups []wakeup
}

// epollSets describes the epoll sets by descriptor.
func (t *fileTable) epollSets() map[int]*epollSet {
	sets := make(map[int]*epollSet, len(t.sets))
	for _, fd := range t.sets {
		sets[fd] = &epollSet{fd: fd}
	}
	for i := range t.registrations {
		r := &t.registrations[i]
		fd, ok := t.sets[r.Set]
		if !ok {
			continue
		}
		s := sets[fd]
		isDirect := uint32(r.Data) == r.Fd
		s.direct = isDirect && (s.direct || s.registrations == 0)
		s.registrations++
		if t.maybeRuntimes(r) {
			s.wakeups = append(s.wakeups, wakeup{r.Fd, r.Data})
		}
	}
	return sets
}

func (t *fileTable) find(fd int) *filesFileRecord {
	i, ok := slices.BinarySearchFunc(t.files, fd, func(f filesFileRecord,
		fd int) int {
		return int(f.Fd) - fd
	})
	if !ok {
		return nil
	}
	return &t.files[i]
}

func (f *filesFileRecord) is(kind filesFileKind) bool { return f.Kind == uint32(kind) }

// anonymousName returns what "[eventfd]" has between its brackets, "" for other files.
func (f *filesFileRecord) anonymousName() string {
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&f.Name[0])), len(f.Name))
	name, _, _ := bytes.Cut(raw, []byte{0})
	return strings.TrimPrefix(strings.Trim(string(name), "[]"), "anon_inode:")
}

// unmarked is the number of sockets that the pass could not mark.
func (t *fileTable) unmarked() (n uint64) {
	for i := range t.files {
		n += uint64(t.files[i].Unmarked)
	}
	return n
}

// tcpStates are the names of include/net/tcp_states.h, as ss(8) has them, written out.
var tcpStates = [...]string{1: "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT",
	"CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV"}

// kindText names the kind of a file as evidence.Socket has it.
func (f *filesFileRecord) kindText() string {
	switch filesFileKind(f.Kind) {
	case filesFileKindFILE_REGULAR:
		return "file"
	case filesFileKindFILE_DIRECTORY:
		return "directory"
	case filesFileKindFILE_CHARACTER:
		return "character device"
	case filesFileKindFILE_BLOCK:
		return "block device"
	case filesFileKindFILE_PIPE:
		return "pipe"
	case filesFileKindFILE_EPOLL:
		return "epoll"
	case filesFileKindFILE_TCP:
		return "tcp"
	case filesFileKindFILE_UDP:
		return "udp"
	case filesFileKindFILE_UNIX:
		return "unix"
	case filesFileKindFILE_SOCKET:
		return "socket"
	case filesFileKindFILE_ANONYMOUS:
		return f.anonymousName()
	}
	return "other"
}

// sockets describes every descriptor that is open, and those that are closed but still registered under
// their number.
func (t *fileTable) sockets() map[int]evidence.Socket {
	sockets := make(map[int]evidence.Socket, len(t.files))
	for i := range t.files {
		f := &t.files[i]
		s := evidence.Socket{
			Kind:         f.kindText(),
			Cookie:       f.Cookie,
			ReceiveQueue: f.ReceiveBytes,
			SendQueue:    f.SendBytes,
			Backlog:      f.Backlog,
		}
		if f.is(filesFileKindFILE_TCP) || f.is(filesFileKindFILE_UDP) {
			s.Local = addressText(f.Family, f.Local, f.LocalPort)
			s.Remote = addressText(f.Family, f.Remote, f.RemotePort)
		}
		if f.is(filesFileKindFILE_TCP) && int(f.State) < len(tcpStates) {
			s.State = tcpStates[f.State]
		}
		sockets[int(f.Fd)] = s
	}
	t.addRegistrations(sockets)
	return sockets
}

// addRegistrations notes which descriptors the process's own epoll sets hold.
func (t *fileTable) addRegistrations(sockets map[int]evidence.Socket) {
	// A file that is open under several numbers shows its registrations under each.
	current := make(map[entry]bool, len(t.registrations))
	for i := range t.registrations {
		r := &t.registrations[i]
		e := entryOf(r)
		current[e] = current[e] || r.FoundFd == r.Fd
	}
	for i := range t.registrations {
		r := &t.registrations[i]
		if _, ours := t.sets[r.Set]; !ours {
			continue
		}
		s, open := sockets[int(r.Fd)]
		if !open {
			s.Kind = evidence.SocketClosed
		}
		switch {
		case current[entryOf(r)]:
			s.Registered = true
			s.Interest |= evidence.EventMask(r.Mask)
		default:
			s.Orphaned = true
			if r.FoundFd != noDescriptor && (s.Copy == 0 || int(r.FoundFd) < s.Copy) {
				s.Copy = int(r.FoundFd)
			}
		}
		s.Ready = s.Ready || r.Ready != 0
		sockets[int(r.Fd)] = s
	}
}

// ioURing returns the descriptors that are io_uring instances.
func (t *fileTable) ioURing() (fds []int) {
	for i := range t.files {
		if t.files[i].anonymousName() == "io_uring" {
			fds = append(fds, int(t.files[i].Fd))
		}
	}
	return fds
}
