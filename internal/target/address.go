package target

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrAddress is the error for a text that cannot be the address of a stats socket.
var ErrAddress = errors.New("it is neither the path of a socket nor host:port")

// ParseAddress returns the address of a stats socket, given as HAProxy's configuration or a person writes
// it, in the form that API takes: an absolute path, "@" and an abstract name, or host:port.
func ParseAddress(text string) (string, error) {
	rest := text
	for _, prefix := range []string{"unix@", "ipv4@", "ipv6@"} {
		rest = strings.TrimPrefix(rest, prefix)
	}
	if name, ok := strings.CutPrefix(text, "abns@"); ok {
		rest = "@" + name
	}
	info, err := os.Stat(rest)
	switch {
	case len(rest) > 1 && rest[0] == '@':
		return rest, nil
	case strings.Contains(rest, "/"), strings.HasPrefix(text, "unix@"),
		err == nil && info.Mode().Type() == os.ModeSocket:
		path, err := filepath.Abs(rest)
		if err != nil {
			return "", fmt.Errorf("socket %q: %w", text, err)
		}
		return path, nil
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return "", fmt.Errorf("socket %q: %w", text, ErrAddress)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("socket %q: the port must be a number from 1 to 65535", text)
	}
	if host == "" || host == "*" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// ListenerOf returns the process that listens on the address of an API. What a proxy calls its own id is a
// number of its own pid namespace, so it only narrows the search; with 0 every proxy is looked at. It fails
// with ErrNotFound when the kernel shows no such process, and with ErrAmbiguous for several.
func ListenerOf(address string, own int) (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, fmt.Errorf("looking for the process behind %s: %w", address, err)
	}
	var found []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		directory := filepath.Join("/proc", e.Name())
		if own != 0 && OwnID(pid) != own || own == 0 && !isProxyName(comm(directory)) {
			continue
		}
		if readListening(directory).on(address) {
			found = append(found, pid)
		}
	}
	switch {
	case len(found) == 0:
		return 0, fmt.Errorf("looking for the process behind %s: %w", address, ErrNotFound)
	case len(found) > 1:
		return 0, fmt.Errorf("looking for the process behind %s: %w: choose one with --pid: %s", address,
			ErrAmbiguous, numbers(found))
	}
	return found[0], nil
}

func isProxyName(name string) bool { return name == "whyspin" || namedHAProxy(name) }

// on reports whether something listens on the address. Of a path the base name counts: directories may be
// mounted elsewhere.
func (l listening) on(address string) bool {
	if strings.HasPrefix(address, "/") || strings.HasPrefix(address, "@") {
		return slices.ContainsFunc(l.paths, func(p string) bool {
			if strings.HasPrefix(address, "@") {
				return p == address
			}
			return strings.HasPrefix(p, "/") && filepath.Base(p) == filepath.Base(address)
		})
	}
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	port, err := strconv.Atoi(text)
	return err == nil && slices.Contains(l.ports, port)
}
