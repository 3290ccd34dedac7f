package target

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/haproxy"
	"github.com/whyspin/whyspin/internal/sys"
)

// HAProxy asks a HAProxy for its state, at the begin and at the end of a window.
type HAProxy struct {
	api API
	// pid is the process by its own count, 0 when whoever answers will do.
	pid   int
	dumps haproxy.Dumps
	asked bool
}

// NewHAProxy returns the HAProxy behind a runtime API. Of several processes that share a socket only that
// with this id, by its own count, may answer; 0 takes any.
func NewHAProxy(a API, pid int) *HAProxy { return &HAProxy{api: a, pid: pid} }

// ErrOtherProcess is the error for an answer of another process than the one that was to be asked.
var ErrOtherProcess = errors.New("another process answers")

// sharing asks again when another of the processes that share a socket has answered.
func sharing(ask func() error) error {
	var err error
	for range attempts {
		if err = ask(); !errors.Is(err, ErrOtherProcess) {
			return err
		}
	}
	return err
}

// attempts is how often a socket is asked that several processes share, as with nbproc before 2.5: each of
// them may take the connection.
const attempts = 8

// State asks for the sessions. The first call is the begin of a window, every later one an end.
func (h *HAProxy) State(ctx context.Context) (*evidence.Snapshot, error) {
	var snap *evidence.Snapshot
	ask := func(r io.Reader) error {
		// The reader is shared by both answers, so that what the first has in its buffer is not lost.
		answers := bufio.NewReaderSize(r, haproxy.BufferSize)
		info, err := haproxy.ReadInfo(answers)
		if err != nil {
			return err
		}
		if h.pid != 0 && info.PID != h.pid {
			return fmt.Errorf("%w: %d", ErrOtherProcess, info.PID)
		}
		read := h.dumps.First
		if h.asked {
			read = h.dumps.Second
		}
		snap, err = read(answers, info, sys.Now())
		return err
	}
	err := sharing(func() error { return h.api.Read(ctx, []string{"show info", "show sess all"}, ask) })
	if err != nil {
		return nil, err
	}
	h.asked = true
	return snap, nil
}

// Confirm checks what the last State said of descriptors against the kernel's view.
func (h *HAProxy) Confirm(w *evidence.Window) { h.dumps.Confirm(w) }
