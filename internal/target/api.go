package target

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// API is the runtime API of a proxy: a stats socket.
type API struct {
	// Address is a path, or host:port.
	Address string
}

// answerWithin is how long a proxy has to answer. Ours answers within 100 ms with every worker spinning; an
// answer that takes longer than this is none.
const answerWithin = 2 * time.Second

// maxAnswer bounds an answer. The longest, a dump of 100 000 streams, has a few hundred bytes for each.
const maxAnswer = 256 << 20

// Order sends one line and returns the answer without the empty line at its end.
func (a API) Order(ctx context.Context, line string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	network := "tcp"
	if strings.HasPrefix(a.Address, "/") || strings.HasPrefix(a.Address, "@") {
		network = "unix"
	}
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, network, a.Address)
	if err != nil {
		return "", fmt.Errorf("asking %s: %w", a.Address, err)
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return "", fmt.Errorf("asking %s: %w", a.Address, err)
	}
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return "", fmt.Errorf("asking %s %q: %w", a.Address, line, err)
	}
	answer, err := io.ReadAll(io.LimitReader(c, maxAnswer))
	if err != nil {
		return "", fmt.Errorf("reading the answer of %s to %q: %w", a.Address, line, err)
	}
	return strings.TrimSuffix(string(answer), "\n\n"), nil
}

// Info is what "show info" says of the program behind a stats socket.
type Info struct {
	Kind    evidence.Kind
	Version string
	PID     int
}

// Info asks who is there.
func (a API) Info(ctx context.Context) (Info, error) {
	text, err := a.Order(ctx, "show info")
	if err != nil {
		return Info{}, err
	}
	info := Info{Kind: evidence.KindGeneric}
	for line := range strings.SplitSeq(text, "\n") {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch key {
		case "Name":
			switch value {
			case "whyspin":
				info.Kind = evidence.KindWhyspin
			case "HAProxy":
				info.Kind = evidence.KindHAProxy
			}
		case "Version":
			info.Version = value
		case "Pid":
			info.PID, _ = strconv.Atoi(value)
		}
	}
	if info.Version == "" {
		return Info{}, fmt.Errorf("asking %s: the answer to \"show info\" is not that of a proxy", a.Address)
	}
	return info, nil
}

// State asks a whyspin for its state.
func (a API) State(ctx context.Context) (*evidence.Snapshot, error) {
	text, err := a.Order(ctx, "show spin json")
	if err != nil {
		return nil, err
	}
	var s evidence.Snapshot
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, fmt.Errorf("reading the state from %s: %w", a.Address, err)
	}
	return &s, nil
}
