package process

import (
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// toy is a proxy whose streams end when the test says so.
type toy struct{ streams atomic.Int64 }

func (p *toy) StopListening() { fmt.Println("StopListening") }

func (p *toy) Streams() int { return int(p.streams.Load()) }

func (p *toy) Stop() {
	fmt.Println("Stop")
	if os.Getenv("WHYSPIN_TEST_STUCK") != "" {
		select {}
	}
}

// playSignals carries out signals and says what it does. Every line of input ends a stream.
func playSignals() {
	caught := CatchSignals()
	p := &toy{}
	p.streams.Store(2)
	go func() {
		for buffer := make([]byte, 1); ; {
			if n, err := os.Stdin.Read(buffer); err != nil || n == 0 {
				return
			}
			p.streams.Add(-1)
		}
	}()
	hard, _ := time.ParseDuration(os.Getenv("WHYSPIN_TEST_HARD"))
	fmt.Println("running")
	inOrder := caught.Run(RunOptions{
		Proxy: p, HardStopAfter: hard, State: func() string { return "fine" },
		Log:      func(format string, args ...any) { fmt.Printf(format+"\n", args...) },
		Stopping: func() { fmt.Println("Stopping") },
	})
	fmt.Println("ended", inOrder)
}

func (a *actor) says(lines ...string) {
	a.t.Helper()
	for _, want := range lines {
		if got := a.line(); got != want {
			a.t.Fatalf("the process said %q, want %q", got, want)
		}
	}
}

func TestStopNow(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		a := act(t, "signals")
		a.says("running")
		a.signal(s)
		a.says("Stopping", fmt.Sprintf("stopping on %v with 2 streams", s), "Stop", "ended true")
		if code := a.exit(); code != ExitOK {
			t.Errorf("after %v the process ended with code %d", s, code)
		}
	}
}

func TestSoftStop(t *testing.T) {
	a := act(t, "signals")
	a.says("running")
	a.signal(syscall.SIGUSR1)
	a.says("Stopping", "soft stop: no new clients, waiting for 2 streams", "StopListening")
	a.signal(syscall.SIGUSR1) // harmless
	a.signal(syscall.SIGHUP)
	a.says("state: fine")
	must(t, second(a.input.Write([]byte("x"))))
	a.signal(syscall.SIGHUP)
	a.says("state: fine") // one stream is left, and so is the process
	must(t, second(a.input.Write([]byte("x"))))
	a.says("stopping: the last stream has ended", "Stop", "ended true")
}

// TestSignalsThatOnlySaySomething: by default the first would end the process with a dump of its goroutines,
// and the other two would stop it.
func TestSignalsThatOnlySaySomething(t *testing.T) {
	a := act(t, "signals")
	a.says("running")
	a.signal(syscall.SIGQUIT)
	a.says("state: fine")
	for _, s := range []syscall.Signal{syscall.SIGTTOU, syscall.SIGTTIN} {
		a.signal(s)
		a.says(fmt.Sprintf("%v is ignored: pausing and resuming the listeners is not supported yet", s))
	}
	a.signal(syscall.SIGTERM)
	a.says("Stopping", "stopping on terminated with 2 streams", "Stop", "ended true")
}

func second(_ int, err error) error { return err }

func TestHardStopAfterASoftStop(t *testing.T) {
	a := act(t, "signals", "WHYSPIN_TEST_HARD=50ms")
	a.says("running")
	a.signal(syscall.SIGUSR1)
	a.says("Stopping", "soft stop: no new clients, waiting for 2 streams", "StopListening",
		"stopping: hard-stop-after 50ms is over with 2 streams", "Stop", "ended true")
}

func TestStopNowDuringASoftStop(t *testing.T) {
	a := act(t, "signals")
	a.says("running")
	a.signal(syscall.SIGUSR1)
	a.says("Stopping", "soft stop: no new clients, waiting for 2 streams", "StopListening")
	a.signal(syscall.SIGTERM)
	a.says("stopping on terminated with 2 streams", "Stop", "ended true")
}

func TestAStuckWorkerDoesNotKeepTheProcess(t *testing.T) {
	a := act(t, "signals", "WHYSPIN_TEST_STUCK=1")
	a.says("running")
	a.signal(syscall.SIGTERM)
	a.says("Stopping", "stopping on terminated with 2 streams", "Stop",
		fmt.Sprintf("a worker has not come back to its loop within %v and is left behind", stopPatience),
		"ended false")
}

// playSigpipe writes to its standard output, whose reader is gone, and tells by its exit code whether it
// lived on.
func playSigpipe() {
	CatchSignals()
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the reader is gone
	_, err := os.Stdout.WriteString("text")
	if err == nil {
		os.Exit(1)
	}
	os.Exit(42)
}

func TestAClosedPipeDoesNotEndTheProcess(t *testing.T) {
	read, write, err := os.Pipe()
	must(t, err)
	program, err := os.Executable()
	must(t, err)
	command := exec.Command(program)
	command.Stdout = write
	a := actWith(t, command, "sigpipe")
	write.Close()
	read.Close()
	must(t, a.input.Close())
	if code := a.exit(); code != 42 {
		t.Errorf("the process ended with code %d, want 42: it got an error and lived on", code)
	}
}
