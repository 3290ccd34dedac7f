package main

import (
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// logbook is the syslog server of the proxy. It counts how streams ended.
type logbook struct {
	socket net.PacketConn
	ended  chan struct{}

	mu   sync.Mutex
	ends map[string]int // by the termination state in the log, or what it says instead
	// warnings are the first lines of level warning and above: suspicions, findings, alerts.
	warnings []string
}

// keptWarnings bounds what is kept of the warnings.
const keptWarnings = 10

// warningPattern finds the text of a line whose level is warning or above, by the priority in front: the
// facility local0 times 8, plus the level, RFC 3164.
var warningPattern = regexp.MustCompile(`^<(?:12[89]|13[0-2])>\S+ +\S+ \S+ (.*)`)

// endPattern finds the termination state of a line of "option tcplog", or what a line says of a handshake.
var endPattern = regexp.MustCompile(
	`(?: (\S\S) \d+/\d+/\d+/\d+/\+?\d+ \d+/\d+|: ([A-Z][a-z ]* SSL handshake|SSL handshake failure))\s*$`)

func newLogbook() (*logbook, error) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting the syslog server: %w", err)
	}
	l := &logbook{socket: socket, ended: make(chan struct{}), ends: map[string]int{}}
	go l.read()
	return l, nil
}

func (l *logbook) address() string { return l.socket.LocalAddr().String() }

func (l *logbook) read() {
	defer close(l.ended)
	line := make([]byte, 4096)
	for {
		n, _, err := l.socket.ReadFrom(line)
		if err != nil {
			return
		}
		l.mu.Lock()
		if m := endPattern.FindSubmatch(line[:n]); m != nil {
			l.ends[string(m[1])+string(m[2])]++
		} else if m := warningPattern.FindSubmatch(line[:n]); m != nil && len(l.warnings) < keptWarnings {
			l.warnings = append(l.warnings, string(m[1]))
		}
		l.mu.Unlock()
	}
}

func (l *logbook) close() {
	l.socket.Close()
	<-l.ended
}

// warned returns the first warnings.
func (l *logbook) warned() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.warnings)
}

// counts returns how many streams ended in each termination state.
func (l *logbook) counts() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.ends)
}

// String lists the ends, the most frequent first.
func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return listed(l.ends)
}

// listed lists what was counted, the most frequent first.
func listed(counts map[string]int) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		if d := counts[b] - counts[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, counts[name])
	}
	return strings.Join(names, ", ")
}
