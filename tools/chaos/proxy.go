package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/whyspin/whyspin/internal/target"
	"github.com/whyspin/whyspin/tools/tracer"
)

// patience bounds every wait for a condition. It measures nothing: who reaches it has hung.
const patience = 30 * time.Second

// pollEvery is how often a condition is looked at.
const pollEvery = 10 * time.Millisecond

// proxy is a private whyspin.
type proxy struct {
	command *exec.Cmd
	api     target.API
	http    *http.Client // of its HTTP endpoints
	output  tail
	ended   chan struct{}
	err     error // of the process, once ended is closed
	rests   int   // how many descriptors it has when nobody is connected
}

// tail keeps the end of what a process prints, for when it fails.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailBytes = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-tailBytes):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}

// globalSection is that of every proxy here.
const globalSection = `
global
    nbthread %d
    maxconn 4000
    stats socket %s mode 600 level admin
    whyspin.admin unix@%s
    log %s local0
`

// startProxy runs whyspin with a configuration and waits until it answers. Its files' names begin with stem.
// It dies with this process.
func startProxy(ctx context.Context, program, stem, log string, workers int, sections string) (*proxy,
	error) {
	stats, admin, file := stem+"-stats.sock", stem+"-admin.sock", stem+".cfg"
	text := fmt.Sprintf(globalSection, workers, stats, admin, log) + sections
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	p := &proxy{command: exec.Command(program, "run", "-f", file), api: target.API{Address: stats},
		ended: make(chan struct{})}
	// Each request has a connection of its own, so that none is open when descriptors are counted.
	p.http = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", admin)
		}}}
	p.command.Stdout, p.command.Stderr = &p.output, &p.output
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("starting the proxy: %w", err)
	}
	go func() {
		p.err = p.command.Wait()
		close(p.ended)
	}()
	err := p.until(ctx, "the proxy to answer on its stats socket", func() (bool, error) {
		_, err := p.api.Info(ctx)
		return err == nil, nil
	})
	if err == nil {
		// What the first use of an endpoint opens for good is no leak.
		_, err = p.liveHeap(ctx)
	}
	if err == nil {
		p.rests, err = p.restingDescriptors(ctx)
	}
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func (p *proxy) pid() int { return p.command.Process.Pid }

// alive reports why the proxy has ended, nil while it runs.
func (p *proxy) alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("the proxy has ended (%v) and said:\n%s", p.err, &p.output)
	default:
		return nil
	}
}

// stop ends the proxy and says what was wrong with its end.
func (p *proxy) stop() error {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		if p.err != nil {
			return fmt.Errorf("the proxy was told to end: %w; it said:\n%s", p.err, &p.output)
		}
		return nil
	case <-time.After(patience):
		_ = p.command.Process.Kill()
		<-p.ended
		return fmt.Errorf("the proxy did not end within %v of being told to", patience)
	}
}

// leave has the proxy take no more connections, and waits until it has ended with the last of its streams.
func (p *proxy) leave(ctx context.Context) error {
	if err := p.command.Process.Signal(syscall.SIGUSR1); err != nil {
		return fmt.Errorf("telling the proxy to leave: %w", err)
	}
	select {
	case <-p.ended:
		if p.err != nil {
			return fmt.Errorf("the proxy was told to leave: %w; it said:\n%s", p.err, &p.output)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(patience):
		return fmt.Errorf("the proxy has not left within %v", patience)
	}
}

// until waits for a condition, as long as the proxy runs.
func (p *proxy) until(ctx context.Context, what string, condition func() (bool, error)) error {
	for late := time.After(patience); ; {
		done, err := condition()
		if done || err != nil {
			return err
		}
		if err := p.alive(); err != nil {
			return err
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return fmt.Errorf("waited %v in vain for %s", patience, what)
		}
	}
}

// order gives an order to the runtime API. An answer that is late is asked for again: two seconds may be too
// short on a machine that is as busy as it is made here.
func (p *proxy) order(ctx context.Context, line string) (string, error) {
	var answer string
	err := p.until(ctx, "an answer to "+line, func() (bool, error) {
		var err error
		answer, err = p.api.Order(ctx, line)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false, nil
		}
		return true, err
	})
	return answer, err
}

// info returns the numbers of "show info".
func (p *proxy) info(ctx context.Context) (map[string]int64, error) {
	text, err := p.order(ctx, "show info")
	if err != nil {
		return nil, err
	}
	numbers := map[string]int64{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			numbers[name] = n
		}
	}
	return numbers, nil
}

// descriptors is how many descriptors the proxy has open.
func (p *proxy) descriptors() (int, error) {
	names, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid()))
	if err != nil {
		return 0, fmt.Errorf("counting the descriptors of the proxy: %w", err)
	}
	return len(names), nil
}

// restingDescriptors is the number of descriptors that the proxy comes down to when left alone.
func (p *proxy) restingDescriptors(ctx context.Context) (int, error) {
	const steady = 10
	same, least := 0, -1
	err := p.until(ctx, "the descriptors of the proxy to settle", func() (bool, error) {
		n, err := p.descriptors()
		if n != least {
			same, least = 0, n
		}
		same++
		return same >= steady, err
	})
	return least, err
}

// liveHeap is how many bytes of the heap are in use after garbage collections: what a pool keeps survives
// one, and a finalizer runs after one.
func (p *proxy) liveHeap(ctx context.Context) (bytes int64, err error) {
	for range 3 {
		text, err := p.get(ctx, "/debug/pprof/heap?gc=1&debug=1")
		if err != nil {
			return 0, err
		}
		_, after, found := strings.Cut(text, "\n# HeapAlloc = ")
		number, _, _ := strings.Cut(after, "\n")
		if bytes, err = strconv.ParseInt(number, 10, 64); !found || err != nil {
			return 0, fmt.Errorf("the heap profile of the proxy has no line HeapAlloc:\n%.200s", text)
		}
	}
	return bytes, nil
}

// goroutines is how many there are, coroutines of handshakes included, and those that answer this question.
func (p *proxy) goroutines(ctx context.Context) (n int, err error) {
	text, err := p.get(ctx, "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscanf(text, "goroutine profile: total %d", &n); err != nil {
		return 0, fmt.Errorf("reading the profile of the proxy's goroutines: %w:\n%.200s", err, text)
	}
	return n, nil
}

// get returns a page of the HTTP endpoints.
func (p *proxy) get(ctx context.Context, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://proxy"+path, nil)
	if err != nil {
		return "", err
	}
	answer, err := p.http.Do(request)
	if err != nil {
		return "", fmt.Errorf("asking the proxy for %s: %w", path, errors.Join(err, p.alive()))
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("asking the proxy for %s: %s (%v)", path, answer.Status, err)
	}
	return string(body), nil
}

// memory is how many bytes the process has written in RAM that it shares with nobody.
func (p *proxy) memory() (sum int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid()))
	if err != nil {
		return 0, fmt.Errorf("reading the memory of the proxy: %w", err)
	}
	_, after, found := strings.Cut(string(text), "\nPrivate_Dirty:")
	number, _, _ := strings.Cut(strings.TrimSpace(after), " ")
	kilobytes, err := strconv.ParseInt(number, 10, 64)
	if !found || err != nil {
		return 0, fmt.Errorf("the memory of the proxy has no line Private_Dirty:\n%s", text)
	}
	return kilobytes << 10, nil
}

// cpu is the CPU time that the proxy has used.
func (p *proxy) cpu() (time.Duration, error) { return tracer.CPU(p.pid()) }
