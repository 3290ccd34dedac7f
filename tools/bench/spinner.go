package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/freeport"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/sys"
)

// The founding case in small, on a frontend of its own: two servers, one of which does not answer, and
// clients that leave around the connect timeout. A client that leaves in the very wakeup in which the proxy
// sees the timeout makes an orphan; it spins from the tunnel timeout on.
const (
	connectTimeout = 100 * time.Millisecond
	tunnelTimeout  = 400 * time.Millisecond
	leaving        = 40 // clients in each wave
	maxWaves       = 400
)

// spinConfig is what the faulty proxy runs with: whyspin's own default of workers unless a number is given.
const spinConfig = `
global
    stats socket %s mode 600 level admin
    log stdout len 65535 format raw local0
    whyspin.fault redispatch-after-abort
%s
defaults
    mode tcp
    option redispatch
    retries 3
    timeout connect %dms
    timeout client 10m
    timeout server 10m

listen idle
    bind 127.0.0.1:%d
    server s1 %s

listen founding
    timeout tunnel %dms
    bind 127.0.0.1:%d
    server silent %s
    server s1 %s
`

// spinner is a whyspin with the founding fault.
type spinner struct {
	*contestant        // its address is that of the idle connections
	founding    string // where the clients that leave go
	server      *echo
	silent      *silent
	mu          sync.Mutex
	findings    []logged
}

// logged is a line of the log with a finding, and when it was read.
type logged struct {
	at   ktime.Time
	line string
}

// startSpinner starts the faulty proxy; workers 0 leaves their number to it.
func (b *bench) startSpinner(workers int) (s *spinner, err error) {
	s = &spinner{contestant: &contestant{name: whyspinName, control: filepath.Join(b.directory, "spin.sock")}}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.server, err = newEcho(); err != nil {
		return s, err
	}
	if s.silent, err = newSilent(); err != nil {
		return s, err
	}
	var ports [2]int
	for i := range ports {
		if ports[i], err = freeport.Get(); err != nil {
			return s, err
		}
	}
	var more []string
	if workers > 0 {
		more = append(more, fmt.Sprintf("nbthread %d", workers))
	}
	s.address, s.founding = fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.1:%d", ports[1])
	text := fmt.Sprintf(spinConfig, s.control, indented(more), connectTimeout.Milliseconds(), ports[0],
		s.server.address, tunnelTimeout.Milliseconds(), ports[1], s.silent.address, s.server.address)
	file := filepath.Join(b.directory, "spin.cfg")
	if err = os.WriteFile(file, []byte(text), 0o600); err != nil {
		return s, fmt.Errorf("writing the configuration of the spinner: %w", err)
	}
	s.proxy, err = b.start("the spinning whyspin", b.whyspin, s.read, "run", "--allow-faults", "-f", file)
	if err != nil {
		return s, err
	}
	return s, b.listens(s.proxy, s.address)
}

func (s *spinner) close() {
	if s.proxy != nil {
		s.proxy.stop(syscall.SIGKILL)
	}
	if s.server != nil {
		s.server.close()
	}
	if s.silent != nil {
		s.silent.close()
	}
}

// read takes a line of the log.
func (s *spinner) read(line string) {
	now := sys.Now()
	if !strings.Contains(line, "finding ") {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.findings = append(s.findings, logged{now, line})
}

// found returns the findings so far, and forgets them.
func (s *spinner) found() []logged {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.findings
	s.findings = nil
	return f
}

// orphans are the streams that the founding fault has made.
func (b *bench) orphans(s *spinner) ([]evidence.Stream, *evidence.Snapshot, error) {
	if err := s.proxy.alive(); err != nil {
		return nil, nil, err
	}
	state, err := s.state(b.ctx)
	if err != nil {
		return nil, nil, err
	}
	var all []evidence.Stream
	for _, v := range state.Streams {
		if v.ClientState == "CLO" && v.ServerState == "EST" && v.Request.OutShut && v.Response.OutShut {
			all = append(all, v)
		}
	}
	return all, state, nil
}

// spin makes orphans until as many workers as are asked for have one, 0 for all, and waits until these
// spin. It returns the orphans.
func (b *bench) spin(s *spinner, workers int) ([]evidence.Stream, error) {
	for range maxWaves {
		if err := b.wave(s); err != nil {
			return nil, err
		}
		orphans, state, err := b.orphans(s)
		if err != nil {
			return nil, err
		}
		wanted := workers
		if wanted == 0 {
			wanted = len(state.Workers)
		}
		if hit := workersOf(orphans); len(hit) >= wanted {
			return b.awaitSpin(s, wanted)
		}
	}
	return nil, fmt.Errorf("%d clients left around the connect timeout, and too few in its wakeup",
		maxWaves*leaving)
}

func workersOf(streams []evidence.Stream) map[int]bool {
	set := map[int]bool{}
	for _, v := range streams {
		set[v.Worker] = true
	}
	return set
}

// wave opens clients and closes each within a millisecond or two of its connect timeout.
func (b *bench) wave(s *spinner) error {
	var clients sync.WaitGroup
	failures := make([]error, leaving)
	for i := range leaving {
		clients.Go(func() {
			var c net.Conn
			if c, failures[i] = dial(s.founding); failures[i] != nil {
				return
			}
			defer c.Close()
			_ = b.pause(connectTimeout + time.Duration(rand.Int64N(int64(2*time.Millisecond))))
		})
		// Not all at once: each has a moment of its own.
		if err := b.pause(time.Duration(rand.Int64N(int64(time.Millisecond)))); err != nil {
			return err
		}
	}
	clients.Wait()
	for _, err := range failures {
		if err != nil {
			return fmt.Errorf("connecting to the spinner: %w", err)
		}
	}
	return b.ctx.Err()
}

// awaitSpin waits until the timers of the orphans have passed on so many workers.
func (b *bench) awaitSpin(s *spinner, workers int) (spinning []evidence.Stream, err error) {
	err = until(b.ctx, startPatience, "the orphans to spin", func() (bool, error) {
		orphans, state, err := b.orphans(s)
		if err != nil {
			return false, err
		}
		spinning = spinning[:0]
		for _, v := range orphans {
			if _, overdue := v.Overdue(state.At); overdue && v.NoProgress.Or(0) > 1 {
				spinning = append(spinning, v)
			}
		}
		// An orphan that does not spin yet would change what is measured when it begins to.
		return len(workersOf(spinning)) >= workers && len(spinning) == len(orphans), nil
	})
	return spinning, err
}

// heal ends every orphan.
func (b *bench) heal(s *spinner) error {
	return until(b.ctx, startPatience, "the orphans to end", func() (bool, error) {
		orphans, _, err := b.orphans(s)
		if err != nil {
			return false, err
		}
		for _, v := range orphans {
			if _, err := s.ask(b.ctx, "shutdown session "+v.ID); err != nil {
				return false, err
			}
		}
		return len(orphans) == 0, nil
	})
}

// silent is a server whose accept queue is full: its kernel drops connection attempts, so they get no
// answer.
type silent struct {
	address string
	fds     []int
}

// newSilent listens with a queue of length 0 and fills it. One connection fits into such a queue; the
// second one stays unanswered.
func newSilent() (*silent, error) {
	at := sys.Address{IP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)}
	fd, err := sys.Listen(at, sys.ListenOptions{UID: -1, GID: -1})
	if err != nil {
		return nil, fmt.Errorf("starting the silent server: %w", err)
	}
	kernel := sys.Linux{}
	address := kernel.LocalAddress(fd)
	s := &silent{address: address.String(), fds: []int{fd}}
	for range 2 {
		filler, errno := kernel.Connect(address, false)
		if errno != 0 && errno != sys.EINPROGRESS {
			s.close()
			return nil, fmt.Errorf("filling the queue of the silent server: %w", errno)
		}
		s.fds = append(s.fds, filler)
	}
	return s, nil
}

func (s *silent) close() {
	for _, fd := range s.fds {
		sys.Linux{}.Close(fd)
	}
}
