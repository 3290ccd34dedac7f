package target

import (
	"bufio"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// listening is what a process listens on, as the kernel's tables say.
type listening struct {
	// known is true exactly when the tables could be read.
	known bool
	// paths are the names of unix sockets, with "@" for a NUL byte; ports are those of TCP sockets.
	paths []string
	ports []int
	// byFD is where a descriptor listens, a path or an address to dial.
	byFD map[int]string
}

// temporary is how HAProxy names a unix socket until it is listening: the kernel goes on to show that
// name, and after a reload that of the first process.
var temporary = regexp.MustCompile(`\.[0-9]+\.tmp$`)

// maxListening bounds the descriptors that are looked at: about 3 us each.
const maxListening = 1 << 20

// readListening finds what a process listens on.
func readListening(directory string) listening {
	l := listening{byFD: map[int]string{}}
	if directory == "" {
		return l
	}
	entries, err := os.ReadDir(filepath.Join(directory, "fd"))
	if err != nil {
		return l
	}
	l.known = true
	descriptors := map[string][]int{} // by inode
	for _, e := range entries[:min(len(entries), maxListening)] {
		link, err := os.Readlink(filepath.Join(directory, "fd", e.Name()))
		inode, ok := strings.CutPrefix(link, "socket:[")
		if fd, numeric := strconv.Atoi(e.Name()); err == nil && ok && numeric == nil {
			inode = strings.TrimSuffix(inode, "]")
			descriptors[inode] = append(descriptors[inode], fd)
		}
	}
	l.readUnix(filepath.Join(directory, "net/unix"), descriptors)
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		l.readTCP(filepath.Join(directory, table), descriptors)
	}
	return l
}

// rows calls each for every row of a table in /proc/PID/net but the heading.
func rows(path string, each func(columns []string)) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for heading := true; lines.Scan(); heading = false {
		if !heading {
			each(strings.Fields(lines.Text()))
		}
	}
	return lines.Err() == nil
}

// readUnix reads the table of unix sockets: address, references, protocol, flags, type, state, inode, path.
func (l *listening) readUnix(path string, descriptors map[string][]int) {
	// A listening socket has the flag __SO_ACCEPTCON, include/linux/net.h.
	const accepts = 0x10000
	ok := rows(path, func(c []string) {
		if len(c) < 8 {
			return
		}
		flags, err := strconv.ParseUint(c[3], 16, 64)
		owned := descriptors[c[6]]
		if err != nil || flags&accepts == 0 || len(owned) == 0 {
			return
		}
		name := temporary.ReplaceAllString(c[7], "")
		l.paths = append(l.paths, name)
		for _, fd := range owned {
			l.byFD[fd] = name
		}
	})
	l.known = l.known && ok
}

// readTCP reads a table of TCP sockets: the second column is the local address, the fourth the state, the
// tenth the inode. Tables without IPv6 are missing, which is no harm.
func (l *listening) readTCP(path string, descriptors map[string][]int) {
	const listen = "0A" // TCP_LISTEN, include/net/tcp_states.h
	rows(path, func(c []string) {
		if len(c) < 10 || c[3] != listen || len(descriptors[c[9]]) == 0 {
			return
		}
		_, text, _ := strings.Cut(c[1], ":")
		port, err := strconv.ParseUint(text, 16, 16)
		if err != nil {
			return
		}
		l.ports = append(l.ports, int(port))
		for _, fd := range descriptors[c[9]] {
			l.byFD[fd] = "127.0.0.1:" + strconv.Itoa(int(port))
		}
	})
}
