package probe

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/whyspin/whyspin/internal/sys"
)

// Cost is what level 2 adds to a system call on this machine while a window is open: medians over
// interleaved rounds, exact to a few nanoseconds.
type Cost struct {
	// Hook is the hook that was measured.
	Hook string
	// Neighbour is added to every call of every other process.
	Neighbour time.Duration
	// Call is added to a call of the watched process that is about no descriptor, IO to a read or write,
	// and Wait to a wait that delivers one event.
	Call, IO, Wait time.Duration
}

// The measurement: in each round every load runs costCalls calls with nothing attached, then attached for
// nobody, then counted. Odd, so that there is a median. Altogether some 200 ms.
const (
	costRounds = 7
	costCalls  = 8000
)

// Cost measures what a window costs, on the calling thread. It fails with ErrRecording while one is open.
func (p *Probe) Cost() (Cost, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return Cost{}, ErrClosed
	case p.recording != nil:
		return Cost{}, ErrRecording
	case p.counter == nil:
		return Cost{}, p.unavailable(signalSyscall)
	case p.reader == nil:
		return Cost{}, p.unavailable(signalFiles) // the programs would not know this process
	}
	self, _, err := p.reader.identity(os.Getpid())
	if err != nil {
		return Cost{}, fmt.Errorf("measuring the cost of a window: %w", err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l, err := newLoads()
	if err != nil {
		return Cost{}, err
	}
	defer l.close()

	var neighbour, counted [loadKinds][]time.Duration
	var used string
	for range costRounds {
		off := l.run()
		if err := p.counter.reset(); err != nil {
			return Cost{}, fmt.Errorf("measuring the cost of a window: %w", err)
		}
		p.counter.declareDirect(l.set)
		hook, links, err := p.counter.attach()
		if err != nil {
			return Cost{}, fmt.Errorf("measuring the cost of a window: %w", err)
		}
		used = hook.try.Hook
		idle := l.run()
		p.counter.count(self)
		busy := l.run()
		p.counter.count(0)
		closeAll(links)
		for kind := range loadKinds {
			neighbour[kind] = append(neighbour[kind], idle[kind]-off[kind])
			counted[kind] = append(counted[kind], busy[kind]-off[kind])
		}
	}
	_ = sys.AwaitPrograms()
	return Cost{
		Hook:      used,
		Neighbour: median(neighbour[loadCall]),
		Call:      median(counted[loadCall]),
		IO:        median(counted[loadIO]),
		Wait:      median(counted[loadWait]),
	}, nil
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return max(0, d[len(d)/2])
}

// The kinds of calls that are timed.
const (
	loadCall = iota
	loadIO
	loadWait
	loadKinds
)

// loads are descriptors to make calls on: an eventfd that is always ready, and an epoll set that says so.
type loads struct {
	kernel     sys.Linux
	set, event int
	events     [1]sys.Event
}

func newLoads() (*loads, error) {
	l := &loads{set: -1, event: -1}
	var err error
	if l.set, err = l.kernel.EpollCreate(); err != nil {
		return nil, fmt.Errorf("creating an epoll set to measure with: %w", err)
	}
	if l.event, err = l.kernel.NewWaker(); err != nil {
		l.close()
		return nil, fmt.Errorf("creating an eventfd to measure with: %w", err)
	}
	l.kernel.Wake(l.event)
	if errno := l.kernel.EpollAdd(l.set, l.event, sys.EventIn, uint64(l.event)); errno != 0 {
		l.close()
		return nil, fmt.Errorf("filling an epoll set to measure with: %w", errno)
	}
	return l, nil
}

func (l *loads) close() {
	for _, fd := range []int{l.set, l.event} {
		if fd >= 0 {
			l.kernel.Close(fd)
		}
	}
}

// run times every kind of call and returns the time of one.
func (l *loads) run() (each [loadKinds]time.Duration) {
	var one [1]byte
	calls := [loadKinds]func(){
		loadCall: func() { _, _, _ = syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0) },
		// Too short a buffer for an eventfd: EINVAL, with nothing done in between.
		loadIO:   func() { _, _ = l.kernel.Read(l.event, one[:]) },
		loadWait: func() { _, _ = l.kernel.EpollWait(l.set, l.events[:], 0, false) },
	}
	for kind, call := range calls {
		start := time.Now()
		for range costCalls {
			call()
		}
		each[kind] = time.Since(start) / costCalls
	}
	return each
}
