package probe

import (
	"debug/buildinfo"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/target"
)

// This file finds the epoll set of the Go runtime. netpollinit in src/runtime/netpoll_epoll.go registers an
// eventfd, before Go 1.22 a pipe, with the address of a variable of the runtime as data; the variable holds
// the descriptor. A program may have sets of its own with eventfds in them, and addresses as data, too: of
// something that it has allocated, or of something that does not begin with the descriptor.

// wakeup is a registration that may be the runtime's.
type wakeup struct {
	fd      uint32
	address uint64
}

// firstAddress is below every variable of a program: sysctl vm.mmap_min_addr, 64 KiB by default.
const firstAddress = 64 << 10

// maybeRuntimes tells whether a registration has the form of the runtime's.
func (t *fileTable) maybeRuntimes(r *filesRegistrationRecord) bool {
	if uint32(r.Data) == r.Fd || r.Data%8 != 0 || r.Data < firstAddress {
		return false
	}
	f := t.find(int(int32(r.FoundFd)))
	return f != nil && (f.is(filesFileKindFILE_PIPE) || f.anonymousName() == "eventfd")
}

// goProgram is what is known of the runtime of a process.
type goProgram struct {
	directory string
	// is tells whether there is one; not observed when the executable may not be read.
	is evidence.Observed[bool]
	// known are the registrations that were looked into, and whether they are the runtime's: it never makes
	// another.
	known map[wakeup]bool
}

func openGoProgram(pid int) goProgram {
	directory, err := target.Directory(pid)
	if err != nil {
		return goProgram{}
	}
	p := goProgram{directory: directory, known: map[wakeup]bool{}}
	file, err := os.Open(filepath.Join(directory, "exe"))
	if err != nil {
		return p
	}
	defer func() { _ = file.Close() }()
	_, err = buildinfo.Read(file)
	p.is = evidence.Know(err == nil)
	return p
}

// owns tells whether an epoll set is the runtime's.
func (p *goProgram) owns(s *epollSet) bool {
	return p.is.Or(false) && slices.ContainsFunc(s.wakeups, p.made)
}

// made tells whether the runtime made a registration. When the memory of the process may not be read its form
// has to do.
func (p *goProgram) made(w wakeup) bool {
	made, known := p.known[w]
	if !known {
		made = p.holds(w)
		p.known[w] = made
	}
	return made
}

// holds tells whether the data of a registration are the address of a variable that holds its descriptor.
func (p *goProgram) holds(w wakeup) bool {
	maps, err := os.ReadFile(filepath.Join(p.directory, "maps"))
	if err != nil || len(maps) == 0 {
		return true
	}
	executable, err := os.Readlink(filepath.Join(p.directory, "exe"))
	if err != nil {
		return true
	}
	if !inImage(string(maps), executable, w.address) {
		return false
	}
	memory, err := os.Open(filepath.Join(p.directory, "mem"))
	if err != nil {
		return true
	}
	defer func() { _ = memory.Close() }()
	var word [8]byte
	if _, err := memory.ReadAt(word[:], int64(w.address)); err != nil {
		return errors.Is(err, fs.ErrPermission)
	}
	return binary.NativeEndian.Uint64(word[:]) == uint64(w.fd)
}

// inImage tells whether an address is in what is mapped of the executable, or in the memory directly behind
// it, where variables are that begin as zero. maps is in the form of proc_pid_maps(5).
func inImage(maps, executable string, address uint64) bool {
	end := uint64(0) // of the image so far
	for line := range strings.Lines(maps) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		low, high, _ := strings.Cut(fields[0], "-")
		from, err1 := strconv.ParseUint(low, 16, 64)
		to, err2 := strconv.ParseUint(high, 16, 64)
		if err1 != nil || err2 != nil {
			continue
		}
		name := strings.TrimSpace(strings.Join(fields[5:], " "))
		if name != executable && (from != end || name != "" && name != "[heap]") {
			continue
		}
		end = to
		if address >= from && address < to {
			return true
		}
	}
	return false
}
