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

// State asks for the sessions and for the counters of the event loops. The first call is the begin of
// a window, every later one an end.
func (h *HAProxy) State(ctx context.Context) (*evidence.Snapshot, error) {
	snap, err := h.state(ctx, true)
	if errors.Is(err, haproxy.ErrNoDump) {
		// A version that does not know the one command may not have heeded the other.
		snap, err = h.state(ctx, false)
	}
	if err != nil {
		return nil, err
	}
	h.asked = true
	return snap, nil
}

func (h *HAProxy) state(ctx context.Context, counters bool) (*evidence.Snapshot, error) {
	var snap *evidence.Snapshot
	var activity haproxy.Activity
	orders := []string{"show sess all"}
	if counters {
		orders = []string{"show activity", "show sess all"}
	}
	err := h.ask(ctx, orders, func(answers io.Reader, info haproxy.Info) error {
		var err error
		if counters {
			if activity, err = haproxy.ReadActivity(answers); err != nil {
				return err
			}
		}
		read := h.dumps.First
		if h.asked {
			read = h.dumps.Second
		}
		if snap, err = read(answers, info, sys.Now()); err != nil {
			return err
		}
		snap.Activity = activity.Loops(info)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(activity.Counters) == 0 {
		snap.Unknown = append(snap.Unknown,
			fmt.Sprintf("what its event loops count: its answer begins with %q", activity.Begin))
	}
	return snap, nil
}

// ask sends orders over one connection, and has the answers read when it is the process that was to be asked.
func (h *HAProxy) ask(ctx context.Context, orders []string, read func(io.Reader, haproxy.Info) error) error {
	orders = append([]string{"show info"}, orders...)
	return sharing(func() error {
		return h.api.Read(ctx, orders, func(r io.Reader) error {
			// The reader is shared by all answers, so that what one has in its buffer is not lost.
			answers := bufio.NewReaderSize(r, haproxy.BufferSize)
			info, err := haproxy.ReadInfo(answers)
			if err != nil {
				return err
			}
			if h.pid != 0 && info.PID != h.pid {
				return fmt.Errorf("%w: %d", ErrOtherProcess, info.PID)
			}
			return read(answers, info)
		})
	})
}

// Confirm checks what the last State said of descriptors against the kernel's view, and asks what HAProxy
// thinks of those that a finding may be about. There are none in most windows, and then nothing is asked.
func (h *HAProxy) Confirm(ctx context.Context, w *evidence.Window) {
	h.dumps.Confirm(w)
	fds := h.dumps.Questionable(w)
	if !h.asked || len(fds) == 0 {
		return
	}
	orders := make([]string, len(fds))
	for i, fd := range fds {
		orders[i] = fmt.Sprintf("show fd %d", fd)
	}
	err := h.ask(ctx, orders, func(answers io.Reader, _ haproxy.Info) error {
		return h.dumps.Claims(answers, fds, w)
	})
	if err != nil {
		h.dumps.Unclaimed(err)
	}
}
