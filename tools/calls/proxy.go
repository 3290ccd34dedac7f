package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/whyspin/whyspin/internal/freeport"
	"github.com/whyspin/whyspin/tools/selfsigned"
)

// patience bounds every wait for a peer, pollEvery is how often a condition is looked at.
const (
	patience  = 30 * time.Second
	pollEvery = 5 * time.Millisecond
)

// configuration is read by both proxies. The connections are kept alive longer than anything here lasts.
const configuration = `
global
    nbthread 1
    whyspin.tracing off
defaults
    mode tcp
    timeout connect 1m
    timeout client 10m
    timeout server 10m
listen calls
    bind %s
    bind %s ssl crt %s
    server s1 %s
`

// proxy is a running proxy.
type proxy struct {
	command *exec.Cmd
	output  bytes.Buffer
	address string
	secure  string // the address for clients that speak TLS
	// opened are all connections, so that none is closed by the garbage collector in the middle of a work.
	opened []net.Conn
	ended  chan struct{}
	err    error // of the process, once ended is closed
}

// startProxy starts a proxy in front of a server.
func startProxy(directory, server, program string, arguments ...string) (*proxy, error) {
	port, err1 := freeport.Get()
	secure, err2 := freeport.Get()
	certificate := filepath.Join(directory, "certificate.pem")
	_, err3 := selfsigned.Write(certificate, selfsigned.ECDSA)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	p := &proxy{address: fmt.Sprintf("127.0.0.1:%d", port), secure: fmt.Sprintf("127.0.0.1:%d", secure),
		ended: make(chan struct{})}
	text := fmt.Sprintf(configuration, p.address, p.secure, certificate, server)
	if filepath.Base(program) == "haproxy" {
		text = strings.ReplaceAll(text, "    whyspin.tracing off\n", "")
	}
	file := filepath.Join(directory, fmt.Sprintf("%d.cfg", port))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	p.command = exec.Command(program, append(arguments, file)...)
	p.command.Stdout, p.command.Stderr = &p.output, &p.output
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	go func() {
		p.err = p.command.Wait()
		close(p.ended)
	}()
	if err := p.listens(); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func (p *proxy) pid() int { return p.command.Process.Pid }

func (p *proxy) stop() {
	_ = p.command.Process.Kill()
	<-p.ended
}

// listens waits until the proxy accepts connections.
func (p *proxy) listens() error {
	for end := time.Now().Add(patience); ; time.Sleep(pollEvery) {
		c, err := net.Dial("tcp", p.address)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s has ended (%w) and said:\n%s", p.command.Path, p.err, &p.output)
		default:
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s does not listen: %w", p.command.Path, err)
		}
	}
}

// workers returns the threads that carry the work: those that call themselves so, or the first one.
func (p *proxy) workers() ([]int, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/comm", p.pid()))
	if err != nil {
		return nil, err
	}
	var found []int
	for _, file := range files {
		name, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has just ended
		}
		if err != nil {
			return nil, fmt.Errorf("reading the name of a thread: %w", err)
		}
		if strings.HasPrefix(string(name), "worker/") {
			thread, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				return nil, err
			}
			found = append(found, thread)
		}
	}
	if len(found) == 0 {
		return []int{p.pid()}, nil
	}
	return found, nil
}
