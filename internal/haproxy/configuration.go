package haproxy

import (
	"slices"
	"strconv"
	"strings"

	"github.com/whyspin/whyspin/internal/config"
)

// Configuration is what a diagnosis wants to know of a configuration.
type Configuration struct {
	// Sockets are the addresses of the "stats socket" lines, those of level user last: these may not show
	// sessions.
	Sockets []Socket
	// BusyPolling is true exactly when it asks for busy polling outside of any condition.
	BusyPolling bool
}

// Socket is the address of a runtime API.
type Socket struct {
	Kind SocketKind
	// Path is the file of a unix socket, or the name of an abstract one.
	Path string
	// Padded is true exactly when an abstract name is filled up with NUL bytes to the longest possible.
	Padded bool
	// Host and Port are those of a TCP socket. Host is empty for every address of the machine.
	Host string
	Port int
	// FD is the number of an inherited descriptor.
	FD int
}

// SocketKind is the family of a Socket.
type SocketKind uint8

// The kinds of sockets.
const (
	SocketUnix SocketKind = iota
	SocketAbstract
	SocketTCP
	SocketDescriptor
)

// maxVariable is the longest value that a variable may get in a configuration, in bytes: a variable that is
// made of itself twice, over and over, would take all memory.
const maxVariable = 64 << 10

// ScanConfiguration finds what it looks for in configuration files by the words of their lines alone:
// files with keywords that nobody here knows still say where the socket is. Branches of conditions are
// all taken for sockets, because whoever asks a socket has to find out anyway whose it is. environment is
// that which the process was started with, files the text of the files in their order.
func ScanConfiguration(files [][]byte, environment map[string]string) Configuration {
	var c Configuration
	variables := map[string]string{}
	for name, value := range environment {
		variables[name] = value
	}
	lookup := func(name string) (string, bool) { value, ok := variables[name]; return value, ok }
	conditions := 0
	var humble []Socket
	for _, text := range files {
		for line := range strings.Lines(string(text)) {
			words, err := config.Words(strings.TrimRight(line, "\r\n"), lookup)
			if err != nil || len(words) == 0 {
				continue
			}
			word := func(i int) string {
				if i < len(words) {
					return words[i]
				}
				return ""
			}
			switch words[0] {
			case ".if":
				conditions++
			case ".endif":
				conditions = max(0, conditions-1)
			case "setenv", "presetenv":
				_, set := variables[word(1)]
				if (!set || words[0] == "setenv") && len(word(2)) <= maxVariable {
					variables[word(1)] = word(2)
				}
			case "unsetenv":
				for _, name := range words[1:] {
					delete(variables, name)
				}
			case "busy-polling":
				c.BusyPolling = conditions == 0
			case "no":
				if word(1) == "busy-polling" {
					c.BusyPolling = false
				}
			case "stats":
				to := &c.Sockets
				if at := slices.Index(words, "level"); at > 0 && word(at+1) == "user" {
					to = &humble
				}
				if word(1) == "socket" {
					*to = append(*to, ParseSockets(word(2))...)
				}
			}
		}
	}
	c.Sockets = append(c.Sockets, humble...)
	return c
}

// ParseSockets reads the address of a "stats socket" line or of the option -S, as documented in section
// 11 of HAProxy's configuration manual. Addresses that nobody else can reach, such as pairs of sockets
// within the process, are left out.
func ParseSockets(text string) []Socket {
	var all []Socket
	for part := range strings.SplitSeq(text, ",") {
		if s, ok := parseSocket(part); ok {
			all = append(all, s)
		}
	}
	return all
}

func parseSocket(text string) (Socket, bool) {
	family, rest, ok := strings.Cut(text, "@")
	if !ok {
		family, rest = "", text
	}
	switch family {
	case "unix", "uxst":
		return Socket{Kind: SocketUnix, Path: rest}, rest != ""
	case "abns":
		return Socket{Kind: SocketAbstract, Path: rest, Padded: true}, rest != ""
	case "abnsz":
		return Socket{Kind: SocketAbstract, Path: rest}, rest != ""
	case "fd":
		n, err := strconv.Atoi(rest)
		return Socket{Kind: SocketDescriptor, FD: n}, err == nil && n >= 0
	case "", "ipv4", "ipv6", "tcp", "tcp4", "tcp6":
	default:
		return Socket{}, false
	}
	if family == "" && strings.HasPrefix(rest, "/") {
		return Socket{Kind: SocketUnix, Path: rest}, true
	}
	at := strings.LastIndexByte(rest, ':')
	if at < 0 {
		return Socket{}, false
	}
	// Of a range of ports the first is as good as any.
	first, _, _ := strings.Cut(rest[at+1:], "-")
	port, ok := portNumber(first)
	host := strings.Trim(rest[:at], "[]")
	switch host {
	case "*", "0.0.0.0", "::":
		host = ""
	}
	return Socket{Kind: SocketTCP, Host: host, Port: int(port)}, ok
}
