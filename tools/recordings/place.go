package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/whyspin/whyspin/internal/freeport"
)

// patience bounds every wait for a condition.
const patience = 30 * time.Second

// place is where a scene is brought about: its processes and files, which go with it.
type place struct {
	ctx         context.Context
	programs    string
	directory   string
	running     []*exec.Cmd
	connections []net.Conn
}

// clear waits for the end of everything, once the context has ended.
func (p *place) clear() {
	for _, c := range p.running {
		_ = c.Wait()
	}
	for _, c := range p.connections {
		c.Close()
	}
	os.RemoveAll(p.directory)
}

// start runs a program until the scene ends. What it prints on its standard output can be read.
func (p *place) start(name string, arguments ...string) (*exec.Cmd, *bufio.Reader, error) {
	c := exec.CommandContext(p.ctx, name, arguments...)
	// Asked politely they end what they have started themselves.
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = patience
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p.running = append(p.running, c)
	return c, bufio.NewReader(out), nil
}

// load runs a program that keeps a server busy.
func (p *place) load(name string, arguments ...string) error {
	_, out, err := p.start(name, arguments...)
	if err == nil {
		go func() { _, _ = io.Copy(io.Discard, out) }()
	}
	return err
}

// until waits for a condition.
func (p *place) until(what string, condition func() bool) error {
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(10 * time.Millisecond) {
		if p.ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("waited in vain for %s", what)
		}
	}
	return nil
}

func (p *place) listens(address string) error {
	return p.until("somebody to listen on "+address, func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// write writes a configuration.
func (p *place) write(name, text string) (string, error) {
	name = filepath.Join(p.directory, name)
	return name, os.WriteFile(name, []byte(text), 0o600)
}

// freePort returns a port that was free a moment ago.
func freePort() (string, error) {
	port, err := freeport.Get()
	return strconv.Itoa(port), err
}

// find waits for a line with a number that a pattern captures, and lets the rest be printed for nobody.
func find(out *bufio.Reader, pattern string) (int, error) {
	expression := regexp.MustCompile(pattern)
	for {
		line, err := out.ReadString('\n')
		if err != nil {
			return 0, fmt.Errorf("it ended before it printed %s: %w", pattern, err)
		}
		if m := expression.FindStringSubmatch(line); m != nil {
			go func() { _, _ = io.Copy(io.Discard, out) }()
			return strconv.Atoi(m[1])
		}
	}
}

// busyTicks is how much of a CPU a program has used, in ticks of 10 ms, when it counts as loaded.
const busyTicks = 20

// worked waits until a loaded process has worked for a while.
func (p *place) worked(pid int, loaded bool) error {
	if !loaded {
		return nil
	}
	before := ticks(pid)
	return p.until("the process to work", func() bool { return ticks(pid) >= before+busyTicks })
}

// afterName are the fields of /proc/PID/stat behind the name: user and system time are the 14th and 15th.
var afterName = regexp.MustCompile(`\) \S+(?: -?\d+){10} (\d+) (\d+) `)

func ticks(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	m := afterName.FindStringSubmatch(string(text))
	if m == nil {
		return 0
	}
	user, _ := strconv.Atoi(m[1])
	system, _ := strconv.Atoi(m[2])
	return user + system
}
