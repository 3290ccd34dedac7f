package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// logSocket is the syslog server of a play.
type logSocket struct {
	fd    int
	lines []logLine
	told  int
}

// logLine is what is compared of a line of "option tcplog".
type logLine struct {
	client int    // the client's port
	end    string // the termination state
	bytes  string
	facts  string // the rest
}

func newLogSocket(at place) (*logSocket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("making a syslog socket: %w", err)
	}
	if err := unix.Bind(fd, at.socket(ipv4, logPort)); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("binding the syslog socket: %w", err)
	}
	return &logSocket{fd: fd}, nil
}

func (l *logSocket) close() { unix.Close(l.fd) }

// linePattern is a line of "option tcplog" as HAProxy's manual has it, section 8.2.2: client, date,
// frontend, backend/server, Tw/Tc/Tt, bytes, termination state, five counts of connections, positions in the
// two queues. Lines of a stream that was not logged in this format have no match.
var linePattern = regexp.MustCompile(`: \S+?:(\d+) \[[^]]*\] \S+ (\S+) (\S+)/(\S+)/(\S+) (\S+) (\S\S) ` +
	`\S+/\S+/\S+/\S+/(\S+) (\S+)$`)

// read takes what lines there are and reports whether there were any.
func (l *logSocket) read() (moved bool) {
	data := make([]byte, chunk)
	for {
		n, _, err := unix.Recvfrom(l.fd, data, unix.MSG_DONTWAIT)
		if err != nil {
			return moved
		}
		moved = true
		m := linePattern.FindStringSubmatch(strings.TrimSpace(string(data[:n])))
		if m == nil {
			continue
		}
		port, _ := strconv.Atoi(m[1])
		l.lines = append(l.lines, logLine{port, m[7], m[6], fmt.Sprintf(
			"server %s, %s retries, queues %s, waited %s, connected %s",
			m[2], m[8], m[9], passed(m[3]), passed(m[4]))})
	}
}

// passed tells only whether a time was taken: -1 says that the stream did not come so far.
func passed(duration string) string {
	if duration == "-1" {
		return "no"
	}
	return "yes"
}

// has reports whether the stream of the client with a port was logged.
func (l *logSocket) has(port int) bool {
	for _, line := range l.lines {
		if line.client == port {
			return true
		}
	}
	return false
}

// tell returns the lines since the last time, with the names of the clients.
func (l *logSocket) tell(clients []*peer, counted bool) []string {
	var lines []string
	for _, line := range l.lines[l.told:] {
		name := "somebody"
		for _, c := range clients {
			if c.port == line.client {
				name = c.name
			}
		}
		text := fmt.Sprintf("log of %s: %s, %s", name, line.end, line.facts)
		if counted {
			text += ", " + line.bytes + " bytes"
		}
		lines = append(lines, text)
	}
	l.told = len(l.lines)
	return lines
}
