package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/whyspin/whyspin/internal/target"
)

// network is what connections are made by.
type network uint8

const (
	ipv4 network = iota
	ipv6
	unixSocket
)

var networkNames = []string{"ipv4", "ipv6", "unix"}

// place is where a scenario is played: an address of the loopback network that is its alone, so that its
// ports are free; ports of ::1, of which there is one only; and a directory for unix sockets.
type place struct {
	ip        [4]byte
	shift     int // of the ports of ::1
	directory string
}

func newPlace(directory string) place {
	return place{
		ip:        [4]byte{127, byte(1 + rand.IntN(254)), byte(rand.IntN(256)), byte(1 + rand.IntN(254))},
		shift:     10 * (200 + rand.IntN(2000)), // up to port 30000: the kernel gives others from 32768 on
		directory: directory,
	}
}

// text is the address of a port as a configuration has it.
func (p place) text(n network, port int) string {
	switch n {
	case ipv6:
		return fmt.Sprintf("::1:%d", port+p.shift)
	case unixSocket:
		return "unix@" + p.path(port)
	case ipv4:
	}
	return fmt.Sprintf("%d.%d.%d.%d:%d", p.ip[0], p.ip[1], p.ip[2], p.ip[3], port)
}

func (p place) path(port int) string { return filepath.Join(p.directory, fmt.Sprintf("%d.sock", port)) }

// socket is the address of a port as the kernel takes it.
func (p place) socket(n network, port int) unix.Sockaddr {
	switch n {
	case ipv6:
		return &unix.SockaddrInet6{Port: port + p.shift, Addr: [16]byte{15: 1}}
	case unixSocket:
		return &unix.SockaddrUnix{Name: p.path(port)}
	case ipv4:
	}
	return &unix.SockaddrInet4{Port: port, Addr: p.ip}
}

// listens reports whether somebody listens on the front port.
func (p place) listens(n network) (bool, error) {
	file := "/proc/net/" + [...]string{ipv4: "tcp", ipv6: "tcp6", unixSocket: "unix"}[n]
	text, err := os.ReadFile(file)
	if err != nil {
		return false, fmt.Errorf("looking for the listener: %w", err)
	}
	if n == unixSocket {
		// HAProxy listens under another name, which it then changes in the directory only. The flags are
		// SO_ACCEPTCON, the type is SOCK_STREAM.
		pattern := ` 00010000 0001 \S+ +\d+ ` + regexp.QuoteMeta(p.path(frontPort))
		listening, err := regexp.Match(pattern, text)
		_, missing := os.Stat(p.path(frontPort))
		return listening && missing == nil, err
	}
	// The address as the kernel prints it, an empty one for the other side, and the state LISTEN.
	address := fmt.Sprintf("%02X%02X%02X%02X:%04X", p.ip[3], p.ip[2], p.ip[1], p.ip[0], frontPort)
	if n == ipv6 {
		address = fmt.Sprintf("%024d01000000:%04X", 0, frontPort+p.shift)
	}
	pattern := regexp.MustCompile(` ` + address + ` 0+:0000 0A `)
	return pattern.Match(text), nil
}

func (p place) statsSocket() string { return filepath.Join(p.directory, "stats.sock") }

// order gives an order to the runtime API of the proxy at the place.
func (p place) order(line string) (string, error) {
	return target.API{Address: p.statsSocket()}.Order(context.Background(), line)
}

// kill has the proxy end the stream of a client.
func (p place) kill(c *peer) error {
	text, err := p.order("show sess")
	if err != nil {
		return err
	}
	source := fmt.Sprintf(":%d fe=front ", c.port)
	for line := range strings.Lines(text) {
		if id, rest, _ := strings.Cut(line, ": "); strings.Contains(rest, source) {
			answer, err := p.order("shutdown session " + id)
			if err == nil && len(bytes.TrimSpace([]byte(answer))) > 0 {
				err = fmt.Errorf("the answer to the order to kill is %q", answer)
			}
			return err
		}
	}
	return fmt.Errorf("show sess has no stream of %s (%s):\n%s", c.name, source, text)
}
