package probe

import (
	"github.com/whyspin/whyspin/internal/sys"
	"github.com/whyspin/whyspin/internal/target"
)

// This file stands in for the iterators where they cannot be used: the same table from /proc and sock_diag.

const hookProc = "/proc/PID/fd"

// procKinds are the kinds of files by their names in evidence.Socket.
var procKinds = map[string]filesFileKind{
	"file":             filesFileKindFILE_REGULAR,
	"directory":        filesFileKindFILE_DIRECTORY,
	"character device": filesFileKindFILE_CHARACTER,
	"block device":     filesFileKindFILE_BLOCK,
	"pipe":             filesFileKindFILE_PIPE,
	"epoll":            filesFileKindFILE_EPOLL,
	"tcp":              filesFileKindFILE_TCP,
	"udp":              filesFileKindFILE_UDP,
	"unix":             filesFileKindFILE_UNIX,
	"socket":           filesFileKindFILE_SOCKET,
	"other":            filesFileKindFILE_OTHER,
}

// readProc describes the descriptors of a process without the iterators. Files are told apart by their
// inodes, which all eventfds, timerfds and epoll sets have in common; of what is ready nothing is known.
func readProc(pid int) (*fileTable, error) {
	open, err := target.ReadFiles(pid)
	if err != nil {
		return nil, &HookError{Doing: opening, Hook: hookProc, Reason: err.Error(), cause: err}
	}
	t := &fileTable{sets: map[uint64]int{}, byProc: true, unknown: open.Unknown}
	t.unknown = append(t.unknown, "which descriptors are ready is not known: /proc does not show it")
	numbers := map[uint64]uint32{} // a number of each file that can be told from others
	for i := range open.Files {
		r := procRecord(&open.Files[i])
		t.files = append(t.files, r)
		if r.Set != 0 {
			t.sets[r.Set] = int(r.Fd)
		}
		if _, known := numbers[r.File]; !known && !r.is(filesFileKindFILE_ANONYMOUS) && r.Set == 0 {
			numbers[r.File] = r.Fd
		}
	}
	for _, r := range open.Registrations {
		entry := filesRegistrationRecord{Fd: uint32(r.FD), FoundFd: noDescriptor, Set: setName(r.Set),
			File: r.Inode, Data: r.Data, Mask: r.Mask}
		if fd, ok := numbers[r.Inode]; ok {
			entry.FoundFd = fd
		}
		if !t.orphaned(&entry) {
			entry.FoundFd = entry.Fd
		}
		t.registrations = append(t.registrations, entry)
	}
	return t, nil
}

// setName names the epoll set under a descriptor.
func setName(fd int) uint64 { return uint64(fd) + 1 }

func procRecord(f *target.File) filesFileRecord {
	r := filesFileRecord{Fd: uint32(f.FD), File: f.Inode}
	kind, named := procKinds[f.Kind]
	if !named {
		kind = filesFileKindFILE_ANONYMOUS
		for i, c := range []byte(f.Kind[:min(len(f.Kind), len(r.Name))]) {
			r.Name[i] = int8(c)
		}
	}
	r.Kind = uint32(kind)
	if kind == filesFileKindFILE_EPOLL {
		r.Set = setName(f.FD)
	}
	s := f.Socket
	if s == nil {
		return r
	}
	r.Family, r.Cookie = uint16(s.Family), s.Cookie
	r.Local, r.Remote, r.LocalPort, r.RemotePort = s.Local, s.Remote, s.LocalPort, s.RemotePort
	if s.Protocol != sys.ProtocolTCP || s.Family == sys.FamilyUnix {
		return r
	}
	r.State, r.ReceiveBytes, r.SendBytes = uint32(s.State), s.ReceiveQueue, s.SendQueue
	const listening = 10 // TCP_LISTEN of include/net/tcp_states.h
	if s.State == listening {
		r.SendBytes, r.Backlog = 0, s.SendQueue
	}
	return r
}
