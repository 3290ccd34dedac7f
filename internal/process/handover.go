package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/whyspin/whyspin/internal/certificate"
	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/sys"
)

// handOverTime is how long the two processes wait for each other.
const handOverTime = 5 * time.Second

// Handover is what this process gives to the one that replaces it ("expose-fd listeners"): the listeners, so
// that no connection is refused or lost between the two, and the secrets of session tickets, so that clients
// go on with their sessions. A socket that has a file is none of it: the new process puts its own in place.
type Handover struct {
	certificates *certificate.Store

	mu     sync.Mutex
	names  []string
	fds    []int // copies
	closed bool
	given  bool
}

// offer is what is said of it before the descriptors come. A process understands the formats up to its own.
type offer struct {
	Format int
	// Listeners are the addresses of the descriptors, in their order.
	Listeners []string
	// Tickets is what certificate.Store gives; base64 in JSON.
	Tickets []byte
}

const offerFormat = 1

// errNotOffered is the error for a process that may not have the listeners.
var errNotOffered = errors.New("permission denied")

// add offers a listener.
func (h *Handover) add(at sys.Address, fd int) error {
	if at.IsUnix() && at.Path[0] != '@' {
		return nil
	}
	twin, err := sys.CopyDescriptor(fd)
	if err != nil {
		return err
	}
	h.names, h.fds = append(h.names, at.String()), append(h.fds, twin)
	return nil
}

// Give gives everything to the process at the other end of a connection, if that is one of root or of the
// same user. It may be called from any goroutine.
func (h *Handover) Give(c net.Conn) error {
	to, is := c.(*net.UnixConn)
	if !is {
		return errNotOffered
	}
	uid, err := sys.PeerUser(to)
	switch {
	case err != nil:
		return err
	case uid != 0 && uid != os.Geteuid():
		return errNotOffered
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errors.New("this process is stopping and has no listeners any more")
	}
	if err := to.SetDeadline(time.Now().Add(handOverTime)); err != nil {
		return err
	}
	text, err := json.Marshal(offer{offerFormat, h.names, h.certificates.Tickets()})
	if err != nil {
		return err
	}
	defer clear(text)
	if _, err := to.Write(append(text, '\n')); err != nil {
		return err
	}
	if err := sys.SendDescriptors(to, h.fds); err != nil {
		return err
	}
	h.given = true
	return nil
}

// Close ends the offer, because the process stops to listen. It reports whether somebody has the listeners
// now: what they share must not be accepted by this process any more.
func (h *Handover) Close() (given bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, fd := range h.fds {
		sys.Linux{}.Close(fd)
	}
	h.fds, h.names, h.closed = nil, nil, true
	return h.given
}

// inheritance is what this process has got from the one that it replaces.
type inheritance struct {
	listeners map[string]int // descriptors by address; what is used is taken out
	tickets   []byte
}

// maxOffer is how long an offer may be, in bytes.
const maxOffer = 16 << 20

// inherit asks the process at a socket of the runtime API for its listeners.
func inherit(path string) (*inheritance, error) {
	i, err := ask(path)
	if err != nil {
		return nil, fmt.Errorf("taking over the listeners from %s: %w", path, err)
	}
	return i, nil
}

func ask(path string) (*inheritance, error) {
	c, err := net.DialTimeout("unix", path, handOverTime)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(handOverTime)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintln(c, config.HandOverCommand); err != nil {
		return nil, err
	}
	var text []byte
	var fds []int
	discard := func() {
		for _, fd := range fds {
			sys.Linux{}.Close(fd)
		}
	}
	buffer := make([]byte, 64<<10)
	for {
		n, some, err := sys.ReceiveDescriptors(c.(*net.UnixConn), buffer)
		text, fds = append(text, buffer[:n]...), append(fds, some...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && len(text) > maxOffer {
			err = errors.New("the answer is too long")
		}
		if err != nil {
			discard()
			return nil, err
		}
	}
	clear(buffer)
	defer clear(text)
	i, err := readOffer(text, fds)
	if err != nil {
		discard()
	}
	return i, err
}

// readOffer joins what was said with the descriptors that came.
func readOffer(text []byte, fds []int) (*inheritance, error) {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	var o offer
	switch err := json.Unmarshal(line, &o); {
	case err != nil && bytes.HasPrefix(line, []byte("{")):
		return nil, errors.New("the answer broke off") // not shown: it may have secrets
	case err != nil:
		return nil, fmt.Errorf("it gives none, it says %q (only a whyspin whose \"stats socket\" has"+
			" \"expose-fd listeners\" does)", line[:min(len(line), 80)])
	case o.Format != offerFormat:
		return nil, fmt.Errorf("it speaks format %d, this version knows %d", o.Format, offerFormat)
	case len(o.Listeners) != len(fds):
		return nil, fmt.Errorf("it speaks of %d listeners, and gave %d", len(o.Listeners), len(fds))
	}
	i := &inheritance{listeners: map[string]int{}, tickets: o.Tickets}
	for n, name := range o.Listeners {
		if _, twice := i.listeners[name]; twice {
			return nil, fmt.Errorf("it gave %s twice", name)
		}
		i.listeners[name] = fds[n]
	}
	return i, nil
}

// take returns the descriptor of a listener that was inherited, and makes it as it is to be. It reports false
// when there is none.
func (i *inheritance) take(at sys.Address, o sys.ListenOptions) (fd int, ok bool, err error) {
	if i == nil {
		return -1, false, nil
	}
	fd, ok = i.listeners[at.String()]
	if !ok {
		return -1, false, nil
	}
	delete(i.listeners, at.String())
	if err := sys.Relisten(fd, o); err != nil {
		sys.Linux{}.Close(fd)
		return -1, true, fmt.Errorf("listening on %s, which was taken over: %w", at, err)
	}
	return fd, true, nil
}

// close closes what nobody has taken.
func (i *inheritance) close() {
	if i == nil {
		return
	}
	for _, fd := range i.listeners {
		sys.Linux{}.Close(fd)
	}
	clear(i.tickets)
	i.listeners, i.tickets = nil, nil
}
