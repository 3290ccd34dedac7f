package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// patience bounds every wait for a condition. It measures nothing: who reaches it has hung.
	patience = 30 * time.Second
	// crowd is how many connections are opened to reach a limit of 24 descriptors.
	crowd = 30
	// flood is what the peer sends at once to a program that takes it byte by byte.
	flood = 64 << 10
	// rest is the pause between two messages on a healthy connection. With it the healthy traffic is far
	// below what the program could serve, as it is where a spin goes unnoticed.
	rest = 5 * time.Millisecond
)

// truth is what a spinning program says of itself.
type truth struct {
	Class       string `json:"class"`
	FD          int    `json:"fd"`
	TID         int    `json:"tid,omitempty"` // only where the program knows it
	Local       string `json:"local,omitempty"`
	Peer        string `json:"peer,omitempty"`
	Listener    string `json:"listener"`
	Destination string `json:"destination,omitempty"`
	Function    string `json:"function,omitempty"`
}

// spinner is a running program.
type spinner struct {
	command     *exec.Cmd
	errors      bytes.Buffer
	lines       *bufio.Reader
	listener    string
	reserved    int // the socket whose port refuses connections
	connections []net.Conn
	served      atomic.Int64 // messages that came back on healthy connections
	truth       truth
}

func (s *spinner) pid() int { return s.command.Process.Pid }

// launch runs a program until it listens. Its class may be none.
func launch(ctx context.Context, command []string, class string) (*spinner, error) {
	reserved, port, err := reserve()
	if err != nil {
		return nil, err
	}
	arguments := append(command[1:len(command):len(command)], class, port)
	s := &spinner{command: exec.CommandContext(ctx, command[0], arguments...), reserved: reserved}
	s.command.Stderr = &s.errors
	s.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := s.command.StdoutPipe()
	if err == nil {
		err = s.command.Start()
	}
	if err != nil {
		unix.Close(reserved)
		return nil, fmt.Errorf("starting %s: %w", s.command, err)
	}
	s.lines = bufio.NewReader(out)
	if err := s.read(&s.truth); err != nil {
		s.stop()
		return nil, err
	}
	s.listener = s.truth.Listener
	return s, nil
}

// start runs a program with healthy connections until it spins.
func start(ctx context.Context, command []string, class string, healthy int) (*spinner, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := launch(context.WithoutCancel(ctx), command, class)
	if err != nil {
		return nil, err
	}
	// When the time is up the pipe ends, and with it the wait for what the program says.
	defer context.AfterFunc(ctx, func() { _ = s.command.Process.Kill() })()
	err = s.befriend(healthy)
	if err == nil {
		err = s.spoil(class)
	}
	if err == nil {
		err = s.read(&s.truth)
	}
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("%s: %w", class, err)
	}
	return s, nil
}

// stop ends the program and everything around it.
func (s *spinner) stop() {
	_ = s.command.Process.Kill()
	_ = s.command.Wait()
	unix.Close(s.reserved)
	for _, c := range s.connections {
		c.Close()
	}
}

// read reads what the program says next.
func (s *spinner) read(into *truth) error {
	line, err := s.lines.ReadString('\n')
	if err != nil {
		return fmt.Errorf("the program ended before it spoke: %w: %s", err, &s.errors)
	}
	if err := json.Unmarshal([]byte(line), into); err != nil {
		return fmt.Errorf("the program said %q: %w", line, err)
	}
	return nil
}

func (s *spinner) dial() (*net.TCPConn, error) {
	c, err := net.Dial("tcp", s.listener)
	if err != nil {
		return nil, err
	}
	s.connections = append(s.connections, c)
	return c.(*net.TCPConn), nil
}

// befriend opens healthy connections and keeps a conversation on each.
func (s *spinner) befriend(connections int) error {
	for range connections {
		c, err := s.dial()
		if err != nil {
			return err
		}
		if err := exchange(c, "hello"); err != nil {
			return fmt.Errorf("a healthy connection: %w", err)
		}
		go converse(c, "a message of some length", rest, &s.served)
	}
	return nil
}

// converse sends a message and reads it back, rests and does it again until the connection ends. It counts
// what has come back.
func converse(c net.Conn, message string, rest time.Duration, served *atomic.Int64) {
	for exchange(c, message) == nil {
		served.Add(1)
		time.Sleep(rest)
	}
}

// exchange sends a message and waits until it has come back.
func exchange(c net.Conn, message string) error {
	if _, err := io.WriteString(c, message); err != nil {
		return err
	}
	back := make([]byte, len(message))
	if _, err := io.ReadFull(c, back); err != nil {
		return err
	}
	if string(back) != message {
		return fmt.Errorf("%q came back as %q", message, back)
	}
	return nil
}

// spoil is the client that meets the defect.
func (s *spinner) spoil(class string) error {
	c, err := s.dial()
	if err != nil {
		return err
	}
	if err := exchange(c, "!"); err != nil {
		return fmt.Errorf("the request that meets the defect: %w", err)
	}
	switch class {
	case "T1", "F1", "C1":
		return nil // nothing more is needed
	case "F3":
		return c.CloseWrite()
	case "F4":
		if err := c.SetLinger(0); err != nil { // a reset instead of an end
			return err
		}
		return c.Close()
	case "F5":
		for range crowd {
			if _, err := s.dial(); err != nil {
				return err
			}
		}
		return nil
	case "F7":
		_, err = io.WriteString(c, strings.Repeat("x", flood))
		return err
	}
	_, err = io.WriteString(c, "one more message")
	return err
}

// reserve binds a port of loopback without listening on it: connections to it are refused, and nobody else
// is given it. It returns the socket that keeps it.
func reserve() (fd int, port string, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, "", fmt.Errorf("reserving a port: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	var name unix.Sockaddr
	if err == nil {
		name, err = unix.Getsockname(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, "", fmt.Errorf("reserving a port: %w", err)
	}
	return fd, strconv.Itoa(name.(*unix.SockaddrInet4).Port), nil
}
