package control

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/stream"
)

// registered is a line of "show fd": a descriptor, and the workers that have it in their epoll sets. That is
// one worker, and for listeners, whose view is that of the first, several.
type registered struct {
	engine.DescriptorView
	workers []int
}

// fdWindow is how many descriptor numbers are looked at in one go, so that a dump of very many descriptors
// takes little memory and is still in the order of the numbers.
const fdWindow = 4096

func showFD(c *session, args []string) {
	e := c.server.options.Engine
	first, last := 0, e.DescriptorLimit()
	if len(args) > 0 {
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 0 {
			return // as HAProxy, which knows no descriptor of that number either
		}
		first, last = n, n
	}
	var stuck []engine.Stuck
	for first <= last && !c.failed() {
		end := min(first+fdWindow-1, last)
		if len(stuck) > 0 {
			end = last // a stuck worker is waited for once, and then once more
		}
		stuck = c.showFDs(first, end)
		first = end + 1
	}
	c.printStuck(stuck)
}

// showFDs writes the descriptors of the numbers from first to last.
func (c *session) showFDs(first, last int) []engine.Stuck {
	var all []*registered
	listeners := map[int]*registered{}
	stuck := c.server.options.Engine.Descriptors(first, last, func(v *engine.DescriptorView) bool {
		d := listeners[v.FD]
		if d == nil || v.Kind != "listener" {
			d = &registered{DescriptorView: *v}
			all = append(all, d)
		}
		if v.Kind == "listener" {
			listeners[v.FD] = d
		}
		d.workers = append(d.workers, v.Worker)
		return true
	})
	slices.SortStableFunc(all, func(a, b *registered) int { return cmp.Compare(a.FD, b.FD) })
	for _, d := range all {
		c.printDescriptor(d)
	}
	return stuck
}

// printDescriptor writes one line in the layout of HAProxy 2.6, for connections followed by our own: the
// stream and the counters of the descriptor.
func (c *session) printDescriptor(d *registered) {
	flags := descriptorFlags(d)
	mask := threadMask(d.workers...)
	waits := func(bit uint32) string {
		if flags&bit == 0 {
			return "0x0"
		}
		return mask
	}
	role, owner := "connection", null
	id, _ := parseID(d.Stream)
	switch d.Kind {
	case "listener":
		role, owner = "accept", c.server.pointers.of(d.ListenerBind)
	case "waker":
		role, owner = "waker", c.server.pointers.of("waker")
	case "client":
		owner = pointerOf(id, partFrontConnection)
	case "server":
		owner = pointerOf(id, partBackConnection)
	}
	fmt.Fprintf(c.out, "%7d : st=0x%06x(%s) ref=0 gid=1 tmask=%s umask=0x0 prmsk=%s pwmsk=%s",
		d.FD, flags, descriptorLetters(flags), mask, waits(fdReadActive), waits(fdWriteActive))
	fmt.Fprintf(c.out, " owner=%s iocb=%s(%s)", owner, c.server.pointers.of(role), role)
	switch d.Kind {
	case "listener":
		fmt.Fprintf(c.out, " l.st=RDY fe=%s fam=%s", d.Frontend.Name, family(d.Local))
		c.printPort("lport", d.Local.IP.Port())
	case "client", "server":
		c.printConnection(d, id)
	}
	fmt.Fprintln(c.out)
}

func (c *session) printPort(key string, port uint16) {
	if port != 0 {
		fmt.Fprintf(c.out, " %s=%d", key, port)
	}
}

func (c *session) printConnection(d *registered, id uint64) {
	flags, back, endpoint, owner := uint32(connectionReady), 0, partFrontEndpoint, " fe="+d.Frontend.Name
	if d.Kind == "server" {
		flags |= connectionBack
		back, endpoint, owner = 1, partBackEndpoint, " sv="+d.Backend.Name+"/"+d.Server.Name
	}
	connecting := d.State == stream.Connecting
	if connecting {
		flags |= connectionConnecting
	}
	fmt.Fprintf(c.out, " back=%d cflg=0x%08x cerr=0 fam=%s", back, flags, family(d.Peer))
	c.printPort("lport", d.Local.IP.Port())
	if !connecting {
		c.printPort("rport", d.Peer.IP.Port())
	}
	fmt.Fprintf(c.out, "%s mux=PASS ctx=%s xprt=RAW", owner, pointerOf(id, endpoint))
	fmt.Fprintf(c.out, " stream=%s worker=%d events=%d reads=%d writes=%d",
		d.Stream, d.Worker, d.Events, d.Reads, d.Writes)
}

func descriptorFlags(d *registered) uint32 {
	flags := readyFlags(d.Ready)
	switch {
	case d.Kind == "listener":
		flags |= fdReadActive | fdListener
	case d.Kind == "waker":
		flags |= fdReadActive
	case d.State == stream.Connecting:
		flags |= fdWriteActive
	case d.State == stream.Established:
		flags |= fdReadActive
	}
	return flags
}

// descriptorLetters prints the flags as HAProxy does, in upper case those that are set: cloned, linger risk;
// the events hang-up, error, output, priority, input; and shut, ready and active for each direction.
func descriptorLetters(flags uint32) string {
	letters := []struct {
		letter byte
		flag   uint32
	}{
		{'c', 0}, {'l', 0}, {' ', 0}, {'h', fdHangUp}, {'e', 0}, {'o', 0}, {'p', 0}, {'i', 0}, {' ', 0},
		{'W', 0}, {':', 0}, {'s', fdWriteShut}, {'r', fdWriteReady}, {'a', fdWriteActive}, {' ', 0},
		{'R', 0}, {':', 0}, {'s', fdReadShut}, {'r', fdReadReady}, {'a', fdReadActive},
	}
	text := make([]byte, 0, len(letters))
	for _, l := range letters {
		if flags&l.flag != 0 {
			l.letter -= 'a' - 'A'
		}
		text = append(text, l.letter)
	}
	return string(text)
}
