package target

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/whyspin/whyspin/internal/sys"
)

// maxRegistrations is the number of open descriptors up to which the epoll sets of a process are read.
// Reading /proc/PID/fdinfo of a set holds the set's lock, and with it every thread that waits on it, in
// proportion to what it holds: a pause of 23 to 28 ms with 15 000 entries. With 2000 it is under 5 ms.
const maxRegistrations = 2000

// maxSockets is the number of sockets of the machine that are read to describe those of one process.
const maxSockets = 200_000

// File is one open descriptor of a process.
type File struct {
	FD int
	// Kind is as in evidence.Socket; "socket" for a socket of which nothing more is known.
	Kind  string
	Inode uint64
	// Socket describes a socket, nil for what is none or could not be found.
	Socket *sys.Socket
}

// Registration is one entry of an epoll set. Inode is that of the registered file, which need not be what
// is open under the number now.
type Registration struct {
	Set, FD int
	Mask    uint32
	Data    uint64
	Inode   uint64
}

// Files is what a process has open, as /proc and sock_diag show it. It takes no probes. What is ready it
// does not show.
type Files struct {
	Files         []File // by descriptor
	Registrations []Registration
	// Unknown are sentences about what could not be read.
	Unknown []string
}

// ReadFiles reads what a process has open. For a process of another user it takes CAP_SYS_PTRACE.
func ReadFiles(pid int) (*Files, error) {
	directory, err := Directory(pid)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(directory, "fd"))
	if err != nil {
		return nil, fmt.Errorf("reading the descriptors of process %d: %w", pid, gone(err))
	}
	f := &Files{}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		path := filepath.Join(directory, "fd", e.Name())
		link, err := os.Readlink(path)
		if err != nil {
			continue // closed meanwhile
		}
		file := File{FD: fd, Kind: kindOfLink(path, link)}
		file.Inode, _ = sys.Inode(path) // 0 when it was closed meanwhile: it agrees with nothing
		f.Files = append(f.Files, file)
	}
	slices.SortFunc(f.Files, func(a, b File) int { return a.FD - b.FD })
	f.describeSockets(directory)
	f.readSets(directory)
	return f, nil
}

func (f *Files) unknown(format string, args ...any) {
	f.Unknown = append(f.Unknown, fmt.Sprintf(format, args...))
}

// kindOfLink tells what is open from a link in /proc/PID/fd.
func kindOfLink(path, link string) string {
	if kind, ok := strings.CutPrefix(link, "anon_inode:"); ok {
		kind = strings.Trim(kind, "[]")
		if kind == "eventpoll" {
			return "epoll"
		}
		return kind
	}
	switch {
	case strings.HasPrefix(link, "socket:"):
		return "socket"
	case strings.HasPrefix(link, "pipe:"):
		return "pipe"
	}
	status, err := os.Stat(path)
	if err != nil {
		return "other"
	}
	switch mode := status.Mode(); {
	case mode.IsRegular():
		return "file"
	case mode.IsDir():
		return "directory"
	case mode&os.ModeCharDevice != 0:
		return "character device"
	case mode&os.ModeDevice != 0:
		return "block device"
	case mode&os.ModeNamedPipe != 0:
		return "pipe"
	}
	return "other"
}

// describeSockets asks the kernel for the sockets of the process's network namespace.
func (f *Files) describeSockets(directory string) {
	if !slices.ContainsFunc(f.Files, func(file File) bool { return file.Kind == "socket" }) {
		return
	}
	byInode := map[uint64]*sys.Socket{}
	why := errors.New("the process is in another network namespace")
	for _, n := range netFiles {
		var list []sys.Socket
		if sameNamespace(directory, "net") {
			list, why = sys.Sockets(n.family, n.protocol, maxSockets)
		}
		if why != nil && !errors.Is(why, sys.ErrTooMany) {
			if n.family != sys.FamilyUnix && n.protocol == sys.ProtocolTCP {
				f.unknown("the cookies and backlogs of sockets in %s are not known: %v", n.name, why)
			}
			var err error
			if list, err = n.read(directory); err != nil {
				f.unknown("some sockets in %s are not described: %v", n.name, err)
			}
		} else if why != nil {
			f.unknown("some sockets in %s are not described: %v", n.name, why)
			why = nil
		}
		for i := range list {
			byInode[uint64(list[i].Inode)] = &list[i]
		}
	}
	for i := range f.Files {
		file := &f.Files[i]
		if file.Kind != "socket" {
			continue
		}
		file.Socket = byInode[file.Inode]
		switch {
		case file.Socket == nil:
		case file.Socket.Family == sys.FamilyUnix:
			file.Kind = "unix"
		case file.Socket.Protocol == sys.ProtocolTCP:
			file.Kind = "tcp"
		case file.Socket.Protocol == sys.ProtocolUDP:
			file.Kind = "udp"
		}
	}
}

// readSets reads what the epoll sets hold.
func (f *Files) readSets(directory string) {
	for _, set := range f.Files {
		if set.Kind != "epoll" {
			continue
		}
		if len(f.Files) > maxRegistrations {
			f.unknown("what epoll set %d holds is not known: reading it could stall a process with %d"+
				" descriptors", set.FD, len(f.Files))
			continue
		}
		list, err := readSet(filepath.Join(directory, "fdinfo", strconv.Itoa(set.FD)), set.FD)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			f.unknown("what epoll set %d holds is not known: %v", set.FD, err)
		}
		f.Registrations = append(f.Registrations, list...)
	}
}

// readSet reads the entries of an epoll set: proc_pid_fdinfo(5).
func readSet(path string, set int) ([]Registration, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	var list []Registration
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		r := Registration{Set: set}
		var position int64
		// The values are in fields of fixed width, some without a space in front.
		text := strings.ReplaceAll(lines.Text(), ":", ": ")
		n, _ := fmt.Sscanf(text, "tfd: %d events: %x data: %x pos: %d ino: %x", &r.FD, &r.Mask, &r.Data,
			&position, &r.Inode)
		if n >= 3 {
			list = append(list, r)
		}
	}
	return list, lines.Err()
}
