package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/whyspin/whyspin/internal/sys"
)

// The environment variables by which a process learns who waits for it: systemd's (sd_notify(3)), and our
// own for the background process of a daemon, the number of a pipe's descriptor.
const (
	notifyVariable = "NOTIFY_SOCKET"
	pipeVariable   = "WHYSPIN_STARTUP_PIPE"
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
}

// BeginStartup finds out who waits. It must be called once, before the process changes its root directory
// and before it starts other programs.
func BeginStartup() (*Startup, error) {
	s := &Startup{}
	if path := os.Getenv(notifyVariable); path != "" {
		d, err := sys.OpenDatagram(sys.Address{Path: path})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", notifyVariable, err)
		}
		s.systemd = d
	}
	number := os.Getenv(pipeVariable)
	if number == "" {
		return s, nil
	}
	if err := os.Unsetenv(pipeVariable); err != nil {
		return nil, err
	}
	fd, err := strconv.Atoi(number)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", pipeVariable, err)
	}
	if err := sys.CloseOnExec(fd, true); err != nil {
		return nil, fmt.Errorf("%s: %w", pipeVariable, err)
	}
	s.pipe = os.NewFile(uintptr(fd), pipeVariable)
	if s.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	return s, nil
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
// of its own, and waits until it is ready or has failed. It returns the exit code for the foreground
// process, having printed what went wrong. Go cannot fork: a copy of the process would have one thread only.
func RunInBackground(errorOutput io.Writer) int {
	if err := runInBackground(); err != nil {
		fmt.Fprintln(errorOutput, err)
		return ExitFailure
	}
	return ExitOK
}

func runInBackground() error {
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("starting the background process: %w", err)
	}
	defer read.Close()
	// The background process gets the pipe under the number that it has here. Any fixed number might be
	// that of a descriptor that was inherited for "fd@N".
	if err := sys.CloseOnExec(int(write.Fd()), false); err != nil {
		return fmt.Errorf("starting the background process: %w", err)
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("starting the background process: %w", err)
	}
	command := exec.Command(program, os.Args[1:]...)
	command.Args[0] = os.Args[0]
	command.Env = append(os.Environ(), fmt.Sprintf("%s=%d", pipeVariable, write.Fd()))
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
