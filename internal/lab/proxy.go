package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/target"
)

// proxy is a private whyspin, or another program in its place, run as a process of its own.
type proxy struct {
	command *exec.Cmd
	api     target.API
	foreign bool // true exactly when it is no whyspin
	output  *tail
	ended   chan struct{}
	err     error // of the process, once ended is closed
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
	if over := len(t.text) - tailBytes; over > 0 {
		t.text = t.text[over:]
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.text))
}

// startProxy runs the program with a configuration and waits until its stats socket answers.
func startProxy(ctx context.Context, program, directory, configuration, socket string) (*proxy, error) {
	file := filepath.Join(directory, "proxy.cfg")
	if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	p, err := begin(exec.Command(program, "run", "--allow-faults", "-f", file), target.API{Address: socket})
	if err != nil {
		return nil, err
	}
	err = until(ctx, startPatience, "the proxy to answer on its stats socket", func() (bool, error) {
		if err := p.alive(); err != nil {
			return false, err
		}
		_, err := p.api.Info(ctx)
		return err == nil, nil
	})
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// begin starts a process.
func begin(command *exec.Cmd, api target.API) (*proxy, error) {
	p := &proxy{command: command, api: api, output: &tail{}, ended: make(chan struct{})}
	p.command.Stdout, p.command.Stderr = p.output, p.output
	// It must not outlive this process, however that ends.
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		return nil, fmt.Errorf("starting the proxy: %w", err)
	}
	go func() {
		p.err = p.command.Wait()
		close(p.ended)
	}()
	return p, nil
}

// startPatience and stopPatience bound the life cycle of the private proxy.
const (
	startPatience = 20 * time.Second
	stopPatience  = 10 * time.Second
)

func (p *proxy) pid() int { return p.command.Process.Pid }

// alive reports why the proxy has ended, nil while it runs.
func (p *proxy) alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("the proxy has ended (%v) and said:\n%s", p.err, p.output)
	default:
		return nil
	}
}

// stop ends the proxy: politely, and after a while with force.
func (p *proxy) stop() {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopPatience):
		_ = p.command.Process.Kill()
		<-p.ended
	}
}

// cpu is the CPU time that the proxy has used.
func (p *proxy) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid()))
	if err != nil {
		return 0, fmt.Errorf("reading the CPU time of the proxy: %w", err)
	}
	// The name, in parentheses, may hold anything; the fields after it are numbered from 3.
	_, rest, ok := strings.Cut(string(text[bytes.LastIndexByte(text, ')'):]), " ")
	fields := strings.Fields(rest)
	const utime, stime = 14 - 3, 15 - 3
	if !ok || len(fields) <= stime {
		return 0, errors.New("reading the CPU time of the proxy: its stat has an unknown form")
	}
	user, err1 := strconv.ParseInt(fields[utime], 10, 64)
	system, err2 := strconv.ParseInt(fields[stime], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, fmt.Errorf("reading the CPU time of the proxy: %w", err)
	}
	const tick = time.Second / 100 // USER_HZ
	return time.Duration(user+system) * tick, nil
}

// usage is what the proxy did over a time.
type usage struct {
	cpu   float64 // of one CPU
	over  time.Duration
	waits evidence.Waits
	calls uint64 // reads and writes on proxied descriptors
	tiny  uint64 // of these, with at most 16 bytes
}

// measure watches the proxy for a while, by its CPU time and its own counters.
func (p *proxy) measure(ctx context.Context, over time.Duration) (usage, error) {
	began := time.Now()
	cpu0, err := p.cpu()
	if err != nil {
		return usage{}, err
	}
	before, err := p.state(ctx)
	if err != nil {
		return usage{}, err
	}
	select {
	case <-time.After(over):
	case <-ctx.Done():
		return usage{}, ctx.Err()
	}
	cpu1, err := p.cpu()
	if err != nil {
		return usage{}, err
	}
	after, err := p.state(ctx)
	if err != nil {
		return usage{}, err
	}
	u := usage{over: time.Since(began)}
	u.cpu = float64(cpu1-cpu0) / float64(u.over)
	for i := range after.Workers {
		a, b := &after.Workers[i], &before.Workers[i]
		for t := range a.Waits {
			for r := range a.Waits[t] {
				u.waits[t][r] += a.Waits[t][r] - b.Waits[t][r]
			}
		}
		u.calls += a.Read.Calls + a.Write.Calls - b.Read.Calls - b.Write.Calls
		u.tiny += a.Read.Tiny + a.Write.Tiny - b.Read.Tiny - b.Write.Tiny
	}
	return u, nil
}

// spins is how many waits a second asked not to sleep and found nothing.
func (u *usage) spins() float64 {
	return float64(u.waits[evidence.TimeoutZero][evidence.ResultNone]) / u.over.Seconds()
}

// state is what the proxy says of itself: nothing, when it is another program.
func (p *proxy) state(ctx context.Context) (*evidence.Snapshot, error) {
	if p.foreign {
		return &evidence.Snapshot{}, nil
	}
	return patiently(ctx, p, p.api.State)
}

// order gives an order to the proxy and returns its answer.
func (p *proxy) order(ctx context.Context, line string) (string, error) {
	return patiently(ctx, p, func(ctx context.Context) (string, error) { return p.api.Order(ctx, line) })
}

// patiently asks until there is an answer: on a machine that is busy with others, two seconds may be too
// short for one.
func patiently[T any](ctx context.Context, p *proxy, ask func(context.Context) (T, error)) (T, error) {
	var answer T
	err := until(ctx, patience, "an answer of the runtime API", func() (bool, error) {
		var err error
		if answer, err = ask(ctx); errors.Is(err, os.ErrDeadlineExceeded) {
			return false, p.alive()
		}
		return true, err
	})
	return answer, err
}

// pollEvery is how often a condition is looked at.
const pollEvery = 20 * time.Millisecond

// until waits for a condition.
func until(ctx context.Context, patience time.Duration, what string, condition func() (bool, error)) error {
	late := time.After(patience)
	for {
		done, err := condition()
		if done || err != nil {
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
