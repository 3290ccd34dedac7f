package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// logPort is where the syslog server is, frontPort where the proxy listens. Servers have the ports after it.
const (
	logPort   = 5140
	frontPort = 8000
)

// configuration returns the file that both proxies read. Timeouts that a scenario does not set are so long
// that no step can meet them.
func (s *scenario) configuration(at place) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("global\n    nbthread 1\n    maxconn 100\n    log %s local0", at.text(ipv4, logPort))
	line("    stats socket %s level admin", at.statsSocket())
	for _, l := range s.global {
		line("    %s", l)
	}
	line("defaults\n    mode tcp\n    log global\n    option tcplog")
	line("    timeout connect 1m\n    timeout client 1m\n    timeout server 1m")
	line("listen front\n    bind %s", at.text(s.front, frontPort))
	for _, l := range s.proxy {
		line("    %s", l)
	}
	for i, v := range s.servers {
		line("    server s%d %s %s", i+1, at.text(s.back, frontPort+i+1), v.options)
	}
	return b.String()
}

// proxy is a running proxy.
type proxy struct {
	name    string
	command *exec.Cmd
	output  bytes.Buffer
	halted  bool // by a signal
	leaving bool // it was told to end when its streams have ended
	ended   chan struct{}
	err     error // of the process, once ended is closed
}

// startProxy starts a proxy and waits until it listens. It dies with the thread that calls this.
func startProxy(name string, listens func() (bool, error), program string, arguments ...string) (*proxy,
	error) {
	p := &proxy{name: name, command: exec.Command(program, arguments...), ended: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = &p.output, &p.output
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		p.err = p.command.Wait()
		close(p.ended)
	}()
	for end := time.Now().Add(patience); ; time.Sleep(pause) {
		ready, err := listens()
		if err == nil {
			err = p.alive()
		}
		if err == nil && time.Now().After(end) {
			err = fmt.Errorf("%s does not listen", name)
		}
		if err != nil {
			p.stop()
			return nil, err
		}
		if ready {
			return p, nil
		}
	}
}

// alive reports why the proxy has ended, nil while it runs, or when it was told to end and did so in order.
func (p *proxy) alive() error {
	select {
	case <-p.ended:
		if p.leaving && p.err == nil {
			return nil
		}
		return fmt.Errorf("%s has ended (%v) and said:\n%s", p.name, p.err, p.output.String())
	default:
		return nil
	}
}

// stop ends the proxy.
func (p *proxy) stop() {
	_ = p.command.Process.Kill()
	<-p.ended
}

// hasEnded reports whether the process has ended.
func (p *proxy) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// leave tells the proxy to take no more connections and to end with its last stream.
func (p *proxy) leave(int) error {
	p.leaving = true
	return p.command.Process.Signal(syscall.SIGUSR1)
}

// halt stops the proxy where it is: what happens then it will find all at once.
func (p *proxy) halt(int) error {
	p.halted = true
	return p.command.Process.Signal(syscall.SIGSTOP)
}

// proceed lets a halted proxy go on.
func (p *proxy) proceed(int) error {
	p.halted = false
	return p.command.Process.Signal(syscall.SIGCONT)
}

// lapse lets milliseconds pass, so that a timer that was armed before has certainly passed after.
func (p *proxy) lapse(milliseconds int) error {
	time.Sleep(time.Duration(milliseconds) * time.Millisecond)
	return nil
}

// rests reports whether every thread of the proxy sleeps (or is halted), and none ran while that was looked
// at: then it has seen to everything that was there for it.
func (p *proxy) rests() bool {
	if p.hasEnded() {
		return true
	}
	before, asleep := p.threads()
	if !asleep {
		return false
	}
	after, asleep := p.threads()
	return asleep && before == after
}

// threads returns how often each thread of the proxy was switched to another, as text, and whether all of
// them sleep, or are halted when the proxy is.
func (p *proxy) threads() (switches string, asleep bool) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.command.Process.Pid))
	if err != nil || len(files) == 0 {
		return "", false
	}
	state := []byte("\nState:\tS")
	if p.halted {
		state = []byte("\nState:\tT")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			return "", false // a thread has just ended
		}
		if !bytes.Contains(text, state) {
			return "", false
		}
		if i := bytes.Index(text, []byte("\nvoluntary_ctxt_switches")); i >= 0 {
			switches += string(text[i:])
		}
	}
	return switches, true
}
