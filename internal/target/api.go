package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/haproxy"
)

// API is the runtime API of a proxy: a stats socket.
type API struct {
	// Address is a path, "@" and the name of an abstract unix socket, or host:port.
	Address string
	// Worker is the process to be asked through the socket of its master ("-S"); 0 when the socket is its
	// own.
	Worker int
}

// answerWithin is how long a proxy has to go on with its answer. Ours answers within 100 ms with every
// worker spinning; an answer that takes longer than this is none.
const answerWithin = 2 * time.Second

// dumpWithin is how long a whole answer may take. A proxy that dumps at full speed writes some 100 MB in
// this time; a diagnosis that takes longer helps nobody.
const dumpWithin = 10 * time.Second

// maxAnswer bounds an answer. The longest, a dump of 100 000 streams, has under 2 KB for each.
const maxAnswer = 256 << 20

// ErrNoProxy is the error for a socket behind which something else answers, such as the master of a HAProxy.
var ErrNoProxy = errors.New("the answer to \"show info\" is not that of a proxy")

// ErrTooLong is the error for an answer that was given up.
var ErrTooLong = errors.New("the answer is too long")

// String prints where the API is.
func (a API) String() string {
	if a.Worker != 0 {
		return fmt.Sprintf("%s (worker %d)", a.Address, a.Worker)
	}
	return a.Address
}

// Order sends one line and returns the answer without the empty line at its end.
func (a API) Order(ctx context.Context, line string) (string, error) {
	var answer []byte
	err := a.Read(ctx, []string{line}, func(r io.Reader) error {
		var err error
		answer, err = io.ReadAll(r)
		return err
	})
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(string(answer), "\n\n"), nil
}

// Read sends orders over one connection, so that one and the same process answers all of them, and has read
// read the answers while they come: nothing is held, neither here nor in the process that is asked.
func (a API) Read(ctx context.Context, orders []string, read func(io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, dumpWithin)
	defer cancel()
	network := "tcp"
	if strings.HasPrefix(a.Address, "/") || strings.HasPrefix(a.Address, "@") {
		network = "unix"
	}
	dialer := net.Dialer{Timeout: answerWithin}
	c, err := dialer.DialContext(ctx, network, a.Address)
	if err != nil {
		return fmt.Errorf("asking %v: %w", a, err)
	}
	defer c.Close()
	// Whoever gives up waits for no answer.
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	lines := make([]string, len(orders))
	for i, order := range orders {
		lines[i] = order
		if a.Worker != 0 {
			lines[i] = fmt.Sprintf("@!%d %s", a.Worker, order)
		}
	}
	line := strings.Join(lines, ";")
	if err := c.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return fmt.Errorf("asking %v: %w", a, err)
	}
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return fmt.Errorf("asking %v %q: %w", a, line, err)
	}
	if half, ok := c.(interface{ CloseWrite() error }); ok && a.Worker != 0 {
		// After several orders a master goes on to wait for more; 2.6 closes when it is told that none
		// come.
		if err := half.CloseWrite(); err != nil {
			return fmt.Errorf("asking %v %q: %w", a, line, err)
		}
	}
	err = read(&reply{c: c, left: maxAnswer})
	if cause := ctx.Err(); err != nil && cause != nil {
		err = cause
	}
	if err != nil {
		return fmt.Errorf("reading the answer of %v to %q: %w", a, line, err)
	}
	return nil
}

// reply is an answer that has to go on coming, and to end somewhere.
type reply struct {
	c    net.Conn
	left int64
}

func (r *reply) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, fmt.Errorf("%w: it was given up after %d MB", ErrTooLong, maxAnswer>>20)
	}
	if err := r.c.SetReadDeadline(time.Now().Add(answerWithin)); err != nil {
		return 0, err
	}
	n, err := r.c.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	return n, err
}

// Info is what "show info" says of the program behind a stats socket.
type Info struct {
	Kind    evidence.Kind
	Version string
	PID     int
	// BusyPolling is true exactly when it says that its configuration asks never to sleep.
	BusyPolling bool
}

// Info asks who is there.
func (a API) Info(ctx context.Context) (Info, error) {
	var said haproxy.Info
	err := a.Read(ctx, []string{"show info"}, func(r io.Reader) error {
		var err error
		said, err = haproxy.ReadInfo(r)
		return err
	})
	if err != nil {
		return Info{}, err
	}
	if said.Version == "" {
		return Info{}, fmt.Errorf("asking %v: %w", a, ErrNoProxy)
	}
	info := Info{Kind: evidence.KindGeneric, Version: said.Version, PID: said.PID,
		BusyPolling: said.BusyPolling.Or(false)}
	switch said.Name {
	case "whyspin":
		info.Kind = evidence.KindWhyspin
	case "HAProxy":
		info.Kind = evidence.KindHAProxy
	}
	return info, nil
}

// State asks a whyspin for its state.
func (a API) State(ctx context.Context) (*evidence.Snapshot, error) {
	return a.Owners(ctx, nil)
}

// Owners asks a whyspin for its state, with the streams that have one of the descriptors.
func (a API) Owners(ctx context.Context, fds []int) (*evidence.Snapshot, error) {
	order := "show spin json"
	for _, fd := range fds {
		order += fmt.Sprintf(" %d", fd)
	}
	text, err := a.Order(ctx, order)
	if err != nil {
		return nil, err
	}
	var s evidence.Snapshot
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, fmt.Errorf("reading the state from %v: %w", a, err)
	}
	return &s, nil
}
