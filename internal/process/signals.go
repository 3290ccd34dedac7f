package process

import (
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/whyspin/whyspin/internal/sys"
)

const (
	// signalQueue is how many signals may wait to be carried out; more of the same kind add nothing.
	signalQueue = 16
	// streamsPoll is how often a soft stop looks whether the last stream has ended.
	streamsPoll = 100 * time.Millisecond
	// stopPatience is how long a stop waits for the workers to return. One that is stuck in a handler never
	// does, and must not keep the process from ending.
	stopPatience = 3 * time.Second
)

// Signals are the signals that the process has caught and not yet carried out.
type Signals struct{ caught chan os.Signal }

// CatchSignals catches the signals from now on. SIGPIPE is ignored: a write to a closed pipe, also to the
// standard output, is an error and not the end of the process.
func CatchSignals() *Signals {
	s := &Signals{make(chan os.Signal, signalQueue)}
	signal.Ignore(syscall.SIGPIPE)
	signal.Notify(s.caught, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGHUP, syscall.SIGQUIT)
	if onTerminal() {
		// The terminal sends them for each write of a background job, and a write that a handler interrupts
		// is made again: it would never come to an end. Ignored, the write goes through.
		signal.Ignore(syscall.SIGTTOU, syscall.SIGTTIN)
	} else {
		signal.Notify(s.caught, syscall.SIGTTOU, syscall.SIGTTIN)
	}
	return s
}

// onTerminal reports whether a standard stream leads to a terminal.
func onTerminal() bool {
	for fd := range 3 {
		if sys.IsTerminal(fd) {
			return true
		}
	}
	return false
}

// Proxy is what signals stop: the engine.
type Proxy interface {
	StopListening()
	Stop()
	Streams() int
}

// RunOptions say what signals act on.
type RunOptions struct {
	Proxy Proxy
	// HardStopAfter ends a soft stop that takes longer; 0 never.
	HardStopAfter time.Duration
	// State is one line about the process, for SIGHUP and SIGQUIT.
	State func() string
	// Log takes messages about what is done.
	Log func(format string, args ...any)
	// Stopping is called once, when the process begins to stop; nil for nobody.
	Stopping func()
}

// Run carries out signals until the proxy has stopped:
//
//	SIGTERM, SIGINT  stop now
//	SIGUSR1          soft stop: no new clients, and stop when the last stream has ended;
//	                 a second one adds nothing
//	SIGHUP, SIGQUIT  write the state to the log
//	SIGTTOU, SIGTTIN nothing but a line in the log: HAProxy pauses and resumes its listeners,
//	                 which is not supported yet
//
// It reports whether the proxy stopped in order: false means that a worker did not come back to its loop and
// was left behind.
func (s *Signals) Run(o RunOptions) bool {
	r := &run{RunOptions: o}
	for {
		select {
		case sig := <-s.caught:
			switch sig {
			case syscall.SIGHUP, syscall.SIGQUIT:
				o.Log("state: %s", o.State())
			case syscall.SIGTTOU, syscall.SIGTTIN:
				o.Log("%v is ignored: pausing and resuming the listeners is not supported yet", sig)
			case syscall.SIGUSR1:
				r.softStop()
			default:
				r.stopping()
				o.Log("stopping on %v with %d streams", sig, o.Proxy.Streams())
				return r.stop()
			}
		case <-r.poll:
			if o.Proxy.Streams() == 0 {
				o.Log("stopping: the last stream has ended")
				return r.stop()
			}
		case <-r.hard:
			o.Log("stopping: hard-stop-after %v is over with %d streams", o.HardStopAfter, o.Proxy.Streams())
			return r.stop()
		}
	}
}

// run is a Run in progress. The channels are nil, and never ready, before the soft stop.
type run struct {
	RunOptions
	soft bool
	poll <-chan time.Time
	hard <-chan time.Time
}

func (r *run) stopping() {
	if r.Stopping != nil {
		r.Stopping()
		r.Stopping = nil
	}
}

func (r *run) softStop() {
	if r.soft {
		return
	}
	r.soft = true
	r.stopping()
	r.Log("soft stop: no new clients, waiting for %d streams", r.Proxy.Streams())
	r.Proxy.StopListening()
	r.poll = time.Tick(streamsPoll)
	if r.HardStopAfter > 0 {
		r.hard = time.After(r.HardStopAfter)
	}
}

// stop stops the proxy and reports whether it did within stopPatience.
func (r *run) stop() bool {
	stopped := make(chan struct{})
	go func() {
		r.Proxy.Stop()
		close(stopped)
	}()
	select {
	case <-stopped:
		return true
	case <-time.After(stopPatience):
		r.Log("a worker has not come back to its loop within %v and is left behind", stopPatience)
		return false
	}
}
