package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/whyspin/whyspin/tools/tracer"
)

// Patience bounds the life cycle of what is started, and pollEvery is how often a condition is looked at.
const (
	startPatience = 20 * time.Second
	stopPatience  = 5 * time.Second
	pollEvery     = 5 * time.Millisecond
)

// process is a child.
type process struct {
	name    string
	command *exec.Cmd
	output  *tail
	ended   chan struct{}
	err     error // of the process, once ended is closed
}

// tail keeps the end of what a process prints, for when it fails, and shows whole lines to a listener.
type tail struct {
	mu   sync.Mutex
	text []byte
	line []byte            // what has come of the present line
	each func(line string) // called for each line; nil for nobody
}

const tailBytes = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - tailBytes; over > 0 {
		t.text = t.text[over:]
	}
	if t.each == nil {
		return len(p), nil
	}
	t.line = append(t.line, p...)
	for {
		line, rest, whole := bytes.Cut(t.line, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		t.each(string(line))
		t.line = rest
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}

// start runs a program. It dies with this process, however that ends: the kernel kills it when the thread
// that started it goes, which is why the rows run locked to one thread.
func (b *bench) start(name, program string, each func(line string), arguments ...string) (*process, error) {
	p := &process{name: name, output: &tail{each: each}, ended: make(chan struct{})}
	p.command = exec.Command(program, arguments...)
	p.command.Dir = b.directory
	p.command.Stdout, p.command.Stderr = p.output, p.output
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		p.err = p.command.Wait()
		close(p.ended)
	}()
	b.children = append(b.children, p)
	return p, nil
}

func (p *process) pid() int { return p.command.Process.Pid }

// alive reports why the process has ended, nil while it runs.
func (p *process) alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s has ended (%v) and said:\n%s", p.name, p.err, p.output)
	default:
		return nil
	}
}

// stop ends the process with a signal, and after a while with force.
func (p *process) stop(signal syscall.Signal) {
	_ = p.command.Process.Signal(signal)
	select {
	case <-p.ended:
	case <-time.After(stopPatience):
		_ = p.command.Process.Kill()
		<-p.ended
	}
}

// stopAll ends what the row started, the last first.
func (b *bench) stopAll() {
	for i := len(b.children) - 1; i >= 0; i-- {
		b.children[i].stop(syscall.SIGKILL)
	}
	b.children = nil
}

// cpu is the CPU time of the process since its start.
func (p *process) cpu() (time.Duration, error) {
	used, err := tracer.CPU(p.pid())
	if err != nil {
		return 0, fmt.Errorf("%s: %w", p.name, errors.Join(err, p.alive()))
	}
	return used, nil
}

// memory is how many bytes the process has written in RAM that it shares with nobody. What it only has read,
// of its program and its libraries, is not counted: that becomes another's, too, when that one starts.
func (p *process) memory() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid()))
	if err != nil {
		return 0, fmt.Errorf("reading the memory of %s: %w", p.name, err)
	}
	var sum int64
	for line := range strings.SplitSeq(string(text), "\n") {
		key, value, _ := strings.Cut(line, ":")
		if key != "Private_Dirty" {
			continue
		}
		kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading the memory of %s: %q: %w", p.name, line, err)
		}
		sum += kilobytes << 10
	}
	if sum == 0 {
		return 0, fmt.Errorf("reading the memory of %s: the kernel shows none", p.name)
	}
	return sum, nil
}

// descriptors is how many descriptors the process has open.
func (p *process) descriptors() (int, error) {
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid()))
	if err != nil {
		return 0, fmt.Errorf("counting the descriptors of %s: %w", p.name, err)
	}
	return len(names), nil
}

// idleDescriptors is how many descriptors the process has open when nobody is connected to it: the number
// that it comes down to when left alone.
func (p *process) idleDescriptors(ctx context.Context) (int, error) {
	const steady = 10
	same, least := 0, -1
	err := until(ctx, startPatience, "the descriptors of "+p.name+" to settle", func() (bool, error) {
		n, err := p.descriptors()
		if n != least {
			same, least = 0, n
		}
		same++
		return same >= steady, err
	})
	return least, err
}

// find returns the path of a program.
func find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err == nil {
		return path, nil
	}
	// Debian puts servers where a user's PATH does not look.
	for _, directory := range [...]string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path := filepath.Join(directory, program); executable(path) {
			return path, nil
		}
	}
	return "", &missingError{program}
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// missingError is the error for what is not on this machine.
type missingError struct{ what string }

func (e *missingError) Error() string { return e.what + " is not installed" }

// until waits for a condition.
func until(ctx context.Context, patience time.Duration, what string, condition func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		done, err := condition()
		if done || err != nil {
			return err
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return fmt.Errorf("waited %v in vain for %s", patience, what)
		}
	}
}

// pause waits, as part of a measurement.
func (b *bench) pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
}

// listens waits until somebody accepts connections on the address.
func (b *bench) listens(p *process, address string) error {
	return until(b.ctx, startPatience, p.name+" to listen on "+address, func() (bool, error) {
		if err := p.alive(); err != nil {
			return false, err
		}
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil, nil
	})
}
