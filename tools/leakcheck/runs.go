package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// targetVariable makes this program run as a target.
const targetVariable = "LEAKCHECK_TARGET"

// target is a process to diagnose.
type target struct {
	command *exec.Cmd
	life    io.Closer // the target ends when it is closed
}

// startTarget starts a target and waits until it works.
func startTarget(ctx context.Context) (*target, error) {
	c := exec.CommandContext(ctx, "/proc/self/exe")
	c.Env = append(os.Environ(), targetVariable+"=1")
	c.Stderr = os.Stderr
	life, err := c.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting a target: %w", err)
	}
	ready, err := c.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting a target: %w", err)
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("starting a target: %w", err)
	}
	if _, err := io.ReadFull(ready, make([]byte, 1)); err != nil {
		return nil, fmt.Errorf("waiting for a target: %w", err)
	}
	return &target{command: c, life: life}, nil
}

func (t *target) pid() int { return t.command.Process.Pid }

func (t *target) stop() {
	_ = t.life.Close()
	_ = t.command.Process.Kill()
	_ = t.command.Wait()
}

// runTarget sends a few bytes over a connection of its own, a thousand times a second, until its standard
// input ends.
func runTarget() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c) }()
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() {
		message := make([]byte, 8)
		for range time.Tick(time.Millisecond) {
			if _, err := c.Write(message); err != nil {
				return
			}
			if _, err := io.ReadFull(c, message); err != nil {
				return
			}
		}
	}()
	_, _ = os.Stdout.Write([]byte{'.'})
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// runner makes the diagnoses.
type runner struct {
	program   string
	target    *target
	temporary string
	// usual is how long an undisturbed run takes, in nanoseconds; the moments of the disturbances are
	// spread over it.
	usual atomic.Int64
}

// The ways in which runs end. Of ten runs seven are left alone.
type ending string

const (
	endsWell    ending = "ended well"
	endsByError ending = "ended by error"
	interrupted ending = "were interrupted"
	killed      ending = "were killed"
)

var endings = [10]ending{endsWell, endsByError, endsWell, endsWell, killed, endsWell, interrupted, endsWell,
	endsWell, endsWell}

// atOnce is how many runs go on at a time: their objects live beside one another.
const atOnce = 2

// all makes the runs and counts how they ended.
func (r *runner) all(ctx context.Context, runs int) (string, error) {
	// The first run is left alone: it tells how long one takes.
	if err := r.one(ctx, endsWell, 0); err != nil {
		return "", err
	}
	var mu sync.Mutex
	counts := map[ending]int{endsWell: 1}
	var errs []error
	numbers := make(chan int)
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for i := range numbers {
				e := endings[i%len(endings)]
				err := r.one(ctx, e, i)
				mu.Lock()
				counts[e]++
				if err != nil {
					errs = append(errs, fmt.Errorf("run %d: %w", i, err))
				}
				mu.Unlock()
			}
		})
	}
	for i := 1; i < runs && ctx.Err() == nil; i++ {
		numbers <- i
	}
	close(numbers)
	all.Wait()
	if len(errs) > 5 {
		errs = append(errs[:5], fmt.Errorf("and %d runs more", len(errs)-5))
	}
	var parts []string
	for _, e := range []ending{endsWell, endsByError, interrupted, killed} {
		parts = append(parts, fmt.Sprintf("%d %s", counts[e], e))
	}
	return strings.Join(parts, ", "), errors.Join(append(errs, ctx.Err())...)
}

// one makes one run and checks that it ended as it was to.
func (r *runner) one(ctx context.Context, e ending, number int) error {
	t := r.target
	if e == endsByError {
		// A target of its own, which ends while it is watched.
		own, err := startTarget(ctx)
		if err != nil {
			return err
		}
		defer own.stop()
		t = own
	}
	var output bytes.Buffer
	c := exec.CommandContext(ctx, r.program, "diagnose", "--pid", fmt.Sprint(t.pid()), "--for", "50ms")
	c.Env = append(os.Environ(), "TMPDIR="+r.temporary)
	c.Stdout, c.Stderr = &output, &output
	began := time.Now()
	if err := c.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", r.program, err)
	}
	if e != endsWell {
		// A moment of its own for each, anywhere in the run.
		const moments = 97
		time.Sleep(time.Duration(r.usual.Load() * int64(number*31%moments) / moments))
		switch e {
		case endsByError:
			t.stop()
		case interrupted:
			_ = c.Process.Signal(syscall.SIGINT)
		case killed:
			_ = c.Process.Kill()
		}
	}
	err := c.Wait()
	if e == endsWell && number == 0 {
		r.usual.Store(int64(time.Since(began)))
	}
	return judge(e, c.ProcessState, err, output.String())
}

// unseenVerdict begins the report on a target that found no CPU within the window, as happens on a machine
// that is busy with other things. It is a report like any other.
const unseenVerdict = "NOT OBSERVED: "

// verdictCodes are the exit codes of a diagnosis that came to a verdict: healthy, a spin, something else.
var verdictCodes = map[int]bool{0: true, 3: true, 4: true}

// judge checks how a run ended. One that was disturbed in its last moments may have ended well before.
func judge(e ending, state *os.ProcessState, err error, output string) error {
	status, ok := state.Sys().(syscall.WaitStatus)
	switch {
	case !ok:
		return err
	case verdictCodes[state.ExitCode()] && strings.Contains(output, "no probes"):
		return fmt.Errorf("it had no probes, so there was nothing to leave behind: %s", output)
	case verdictCodes[state.ExitCode()], strings.HasPrefix(output, unseenVerdict) && state.ExitCode() == 1:
		return nil
	case e == killed && status.Signaled() && status.Signal() == syscall.SIGKILL:
		return nil
	// Before the program listens to it, an interrupt ends it like any other.
	case e == interrupted && status.Signaled() && status.Signal() == syscall.SIGINT:
		return nil
	case e == interrupted && state.ExitCode() == 1:
		return nil
	case e == endsByError && state.ExitCode() == 1:
		return nil
	}
	return fmt.Errorf("it was to be one of those that %s, and ended with %v: %s", e, state, output)
}
