package process

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/whyspin/whyspin/internal/sys"
)

// The environment variables by which a process learns who waits for it: systemd's (sd_notify(3)), and our
// own for the background process of a daemon, the descriptors of a pipe and of what is handed over.
const (
	notifyVariable = "NOTIFY_SOCKET"
	pipeVariable   = "WHYSPIN_STARTUP_PIPE"
	handedVariable = "WHYSPIN_STARTUP_HANDED"
)

// What the background process writes to the pipe: that it is ready, or failed and why.
const (
	sayReady  = "ready\n"
	sayFailed = "failed: "
)

// Startup tells those who wait for the process how its start goes: systemd, and the foreground process of a
// daemon. With nobody waiting its methods do nothing.
type Startup struct {
	systemd *sys.Datagram
	// pipe leads to the foreground process; null is what the standard streams become once that is gone. It
	// is opened early, because it may be out of reach in another root directory.
	pipe, null *os.File
	// handed is what the foreground process has read for this one, nil in any other process.
	handed *os.File
	// warning says who waits and cannot be told; empty when there is nobody like that.
	warning string
}

// BeginStartup finds out who waits. It must be called once, before the process changes its root directory
// and before it starts other programs.
func BeginStartup() (*Startup, error) {
	s := &Startup{}
	if path := os.Getenv(notifyVariable); path != "" {
		var err error
		if s.systemd, err = sys.OpenDatagram(sys.Address{Path: path}); err != nil {
			// Whoever waits there may give up on the process; that is no reason not to serve.
			s.systemd, s.warning = nil, fmt.Sprintf("%s: %v: nobody is told that the start is over",
				notifyVariable, err)
		}
	}
	var err error
	if s.pipe, err = inherited(pipeVariable); err != nil || s.pipe == nil {
		return s, err
	}
	if s.handed, err = inherited(handedVariable); err != nil {
		return nil, err
	}
	if s.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	return s, nil
}

// inherited returns the file whose descriptor a variable of the environment has, and removes the variable;
// nil when there is none.
func inherited(variable string) (*os.File, error) {
	number := os.Getenv(variable)
	if number == "" {
		return nil, nil
	}
	if err := os.Unsetenv(variable); err != nil {
		return nil, err
	}
	fd, err := strconv.Atoi(number)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	if err := sys.CloseOnExec(fd, true); err != nil {
		return nil, fmt.Errorf("%s: %w", variable, err)
	}
	return os.NewFile(uintptr(fd), variable), nil
}

// Warning says who waits for the process and cannot be told how its start goes; it is empty when all can.
func (s *Startup) Warning() string { return s.warning }

// Handed returns what the foreground process has given to RunInBackground.
func (s *Startup) Handed() ([]byte, error) {
	if s.handed == nil {
		return nil, errors.New("the foreground process has handed nothing over")
	}
	defer s.handed.Close()
	text, err := io.ReadAll(io.NewSectionReader(s.handed, 0, math.MaxInt64))
	if err != nil {
		return nil, fmt.Errorf("reading what the foreground process has handed over: %w", err)
	}
	return text, nil
}

// InBackground reports whether this process is the background process of a daemon.
func (s *Startup) InBackground() bool { return s.pipe != nil }

// Ready says that the process serves. A background process then lets go of the standard streams, except
// those in keep, to which it logs.
func (s *Startup) Ready(keep ...int) error {
	s.tell("READY=1")
	if s.pipe == nil {
		return nil
	}
	_, err := io.WriteString(s.pipe, sayReady)
	err = errors.Join(err, s.pipe.Close())
	for fd := range 3 {
		if !slices.Contains(keep, fd) {
			err = errors.Join(err, sys.ReplaceDescriptor(int(s.null.Fd()), fd))
		}
	}
	err = errors.Join(err, s.null.Close())
	s.pipe, s.null = nil, nil
	if err != nil {
		return fmt.Errorf("letting go of the foreground process: %w", err)
	}
	return nil
}

// Failed hands the reason of a failed start to the foreground process, which prints it. It reports false
// when there is none, so that the caller has to print it.
func (s *Startup) Failed(err error) bool {
	if s.pipe == nil {
		return false
	}
	_, writing := io.WriteString(s.pipe, sayFailed+err.Error())
	return errors.Join(writing, s.pipe.Close()) == nil
}

// Stopping says that the process is about to end.
func (s *Startup) Stopping() { s.tell("STOPPING=1") }

// tell sends a state to systemd. There is nothing to be done if that fails.
func (s *Startup) tell(state string) {
	if s.systemd != nil {
		_ = s.systemd.Send([]byte(state))
	}
}

// RunInBackground starts this program again, with the same arguments, as a background process in a session
// of its own, and waits until it is ready or has failed; the error says why. Go cannot fork: a copy of the
// process would have one thread only. What the foreground process has read already is handed over: the same
// names may lead elsewhere, or nowhere, for another process (another directory, /dev/stdin, a pipe).
func RunInBackground(hand []byte) error {
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("starting the background process: %w", err)
	}
	defer read.Close()
	handed, err := sys.MemoryFile("whyspin-startup")
	if err != nil {
		return fmt.Errorf("starting the background process: %w", err)
	}
	defer handed.Close()
	if _, err := handed.Write(hand); err != nil {
		return fmt.Errorf("starting the background process: %w", err)
	}
	// The background process gets both under the numbers that they have here. Any fixed number might be
	// that of a descriptor that was inherited for "fd@N".
	for _, file := range []*os.File{write, handed} {
		if err := sys.CloseOnExec(int(file.Fd()), false); err != nil {
			return fmt.Errorf("starting the background process: %w", err)
		}
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("starting the background process: %w", err)
	}
	command := exec.Command(program, os.Args[1:]...)
	command.Args[0] = os.Args[0]
	command.Env = append(os.Environ(), fmt.Sprintf("%s=%d", pipeVariable, write.Fd()),
		fmt.Sprintf("%s=%d", handedVariable, handed.Fd()))
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return fmt.Errorf("starting the background process: %w", err)
	}
	write.Close() // so that the pipe ends with the background process
	said, err := io.ReadAll(read)
	if err != nil {
		return fmt.Errorf("waiting for the background process: %w", err)
	}
	if string(said) == sayReady {
		return command.Process.Release()
	}
	ended := command.Wait()
	if reason, failed := strings.CutPrefix(string(said), sayFailed); failed {
		return errors.New(reason)
	}
	if ended == nil {
		return errors.New("the background process ended before it was ready")
	}
	return fmt.Errorf("the background process ended before it was ready: %w", ended)
}
