package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/whyspin/whyspin/internal/haproxy"
)

// ErrNoAPI is the error for a proxy whose runtime API was not found.
var ErrNoAPI = errors.New("no stats socket was found")

// maxAbstract is the length of a name that fills the address of a unix socket: sun_path without the NUL at
// its begin.
const maxAbstract = 107

// FindAPI finds the runtime API of a proxy: it reads the configuration files on the command line of the
// process and asks each stats socket in them who is there, then the socket of its master. Only those: a
// question to any other socket that the process listens on would be a connection to whatever it proxies.
// Nor is a socket asked that, as far as the kernel says, the process does not listen on: it is another's
// by now.
func FindAPI(ctx context.Context, pid int) (API, Info, error) {
	directory, err := Directory(pid)
	if err != nil {
		return API{}, Info{}, err
	}
	if workers := workersOf(directory); len(workers) > 0 {
		return API{}, Info{}, &notFound{pid, []error{fmt.Errorf("it is a master, and does not proxy: "+
			"diagnose what it has started: %s", numbers(workers))}}
	}
	command := readCommand(directory)
	c, failed := command.scan(directory)
	// Only when something has to be compared with it: it takes a look at every descriptor.
	listens := sync.OnceValue(func() listening { return readListening(directory) })
	own := OwnID(pid)
	for _, s := range c.Sockets {
		address, err := dialable(directory, s, listens())
		if err == nil {
			var info Info
			a := API{Address: address}
			if info, err = a.infoOf(ctx, own); err == nil {
				return a, info, nil
			}
		}
		failed = append(failed, err)
	}
	for _, s := range haproxy.ParseSockets(command.master) {
		a := API{Worker: own}
		var info Info
		if a.Address, err = dialable(directory, s, readListening(parent(directory))); err == nil {
			if info, err = a.infoOf(ctx, own); err == nil {
				return a, info, nil
			}
		}
		failed = append(failed, err)
	}
	if len(c.Sockets) == 0 && (len(command.files) > 0 || isProxyName(comm(directory))) {
		if paths := listens().paths; len(paths) > 0 {
			failed = append(failed, fmt.Errorf("it listens on %s, which may be one or may not",
				strings.Join(paths[:min(len(paths), maxNamed)], ", ")))
		}
	}
	return API{}, Info{}, &notFound{pid, failed}
}

// notFound is ErrNoAPI with everything that was tried, in one sentence.
type notFound struct {
	pid    int
	failed []error
}

func (e *notFound) Error() string {
	text := fmt.Sprintf("process %d: %v", e.pid, ErrNoAPI)
	for _, err := range e.failed {
		text += "; " + err.Error()
	}
	return text
}

// Unwrap returns ErrNoAPI and what went wrong with each socket.
func (e *notFound) Unwrap() []error { return append([]error{ErrNoAPI}, e.failed...) }

// maxNamed is how many sockets an error names.
const maxNamed = 4

// BusyPolling reports whether the configuration of a HAProxy, as far as it can be read, asks for busy
// polling.
func BusyPolling(pid int) bool {
	directory, err := Directory(pid)
	if err != nil {
		return false
	}
	c, _ := readCommand(directory).scan(directory)
	return c.BusyPolling
}

// infoOf asks who is there, and takes no other process's answer than that of the one meant. A whyspin or
// HAProxy counts itself by its own pid namespace.
func (a API) infoOf(ctx context.Context, own int) (Info, error) {
	var info Info
	err := sharing(func() error {
		var err error
		if info, err = a.Info(ctx); err == nil && info.PID != 0 && info.PID != own {
			err = fmt.Errorf("asking %v: %w: process %d", a, ErrOtherProcess, info.PID)
		}
		return err
	})
	return info, err
}

// ErrNotListening is the error for an address of the configuration that the process does not listen on.
var ErrNotListening = errors.New("the process does not listen there")

// dialable returns a socket in the form that API takes.
func dialable(directory string, s haproxy.Socket, l listening) (string, error) {
	switch s.Kind {
	case haproxy.SocketDescriptor:
		path, ok := l.byFD[s.FD]
		if !ok {
			return "", fmt.Errorf("stats socket fd@%d: %w", s.FD, ErrNotListening)
		}
		return reach(directory, path), nil
	case haproxy.SocketAbstract:
		if !sameNamespace(directory, "net") {
			return "", fmt.Errorf("stats socket abns@%s: it is in another network namespace", s.Path)
		}
		name := s.Path
		if s.Padded {
			name += strings.Repeat("\x00", max(0, maxAbstract-len(name)))
		}
		if l.known && !slices.ContainsFunc(l.paths, func(p string) bool {
			return strings.TrimRight(p, "@") == "@"+s.Path
		}) {
			return "", fmt.Errorf("stats socket abns@%s: %w", s.Path, ErrNotListening)
		}
		return "@" + name, nil
	case haproxy.SocketTCP:
		host := s.Host
		if host == "" {
			host = "127.0.0.1"
		}
		address := net.JoinHostPort(host, strconv.Itoa(s.Port))
		switch {
		case !sameNamespace(directory, "net"):
			return "", fmt.Errorf("stats socket %s: it is in another network namespace", address)
		case l.known && !slices.Contains(l.ports, s.Port):
			return "", fmt.Errorf("stats socket %s: %w", address, ErrNotListening)
		}
		return address, nil
	}
	path := join(workingDirectory(directory), s.Path)
	if l.known && !slices.ContainsFunc(l.paths, func(p string) bool {
		return filepath.Base(p) == filepath.Base(path)
	}) {
		return "", fmt.Errorf("stats socket %s: %w", path, ErrNotListening)
	}
	return reach(directory, path), nil
}

func join(directory, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(directory, path)
}

// reach returns the path by which a file of a process is reached from here: as it is, or through /proc
// when the process has mounts of its own. A chroot is none: its files were opened before, and so the root
// is that of the nearest ancestor without one.
func reach(directory, path string) string {
	if !strings.HasPrefix(path, "/") || sameNamespace(directory, "mnt") {
		return path
	}
	for at := directory; at != ""; at = parent(at) {
		root, err := os.Readlink(filepath.Join(at, "root"))
		if err != nil || !shareNamespace(at, directory, "mnt") {
			break
		}
		if root == "/" {
			return filepath.Join(at, "root", path)
		}
	}
	return filepath.Join(directory, "root", path)
}

// sameNamespace reports whether a process shares a namespace with this one. When that cannot be told it is
// assumed.
func sameNamespace(directory, kind string) bool {
	return shareNamespace("/proc/self", directory, kind)
}

func shareNamespace(one, other, kind string) bool {
	a, err1 := os.Readlink(filepath.Join(one, "ns", kind))
	b, err2 := os.Readlink(filepath.Join(other, "ns", kind))
	return err1 != nil || err2 != nil || a == b
}

// parent returns the directory of the parent of a process, nothing when there is none.
func parent(directory string) string {
	status, err := os.ReadFile(filepath.Join(directory, "status"))
	if err != nil {
		return ""
	}
	n, err := strconv.Atoi(string(statusField(status, "PPid")))
	if err != nil || n == 0 {
		return ""
	}
	return filepath.Join("/proc", strconv.Itoa(n))
}

// OwnID returns the id by which a process counts itself: that of the innermost pid namespace it is in.
func OwnID(pid int) int {
	directory, err := Directory(pid)
	if err != nil {
		return pid
	}
	status, err := os.ReadFile(filepath.Join(directory, "status"))
	if err != nil {
		return pid
	}
	ids := strings.Fields(string(statusField(status, "NSpid")))
	if len(ids) == 0 {
		return pid
	}
	if n, err := strconv.Atoi(ids[len(ids)-1]); err == nil {
		return n
	}
	return pid
}

// workersOf returns the processes that a master of HAProxy has started: its children of the same program.
func workersOf(directory string) []int {
	name := comm(directory)
	if !namedHAProxy(name) {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(directory, "task", filepath.Base(directory), "children"))
	if err != nil {
		return nil
	}
	var workers []int
	for word := range strings.FieldsSeq(string(text)) {
		if n, err := strconv.Atoi(word); err == nil && comm(filepath.Join("/proc", word)) == name {
			workers = append(workers, n)
		}
	}
	return workers
}
