package control

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/stream"
)

// registered is a line of "show fd": a descriptor of the engine with the workers that have to do with it,
// one, and for listeners, whose view is that of the first, several; or a socket of the runtime API, in which
// the workers have no part.
type registered struct {
	engine.DescriptorView
	workers []int
	polled  []int // the workers that have it in their epoll sets
	socket  *listener
	session *session
}

// fdWindow is how many descriptor numbers are looked at in one go, so that a dump of very many descriptors
// takes little memory and is still in the order of the numbers.
const fdWindow = 4096

func showFD(c *session, args []string) {
	own := c.server.ownDescriptors()
	first, last := 0, c.server.options.Engine.DescriptorLimit()
	for _, d := range own {
		last = max(last, d.FD)
	}
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
		stuck = c.showFDs(first, end, own)
		first = end + 1
	}
	c.printStuck(stuck)
}

// ownDescriptors returns the sockets of the runtime API, which HAProxy lists under the frontend GLOBAL.
func (s *Server) ownDescriptors() []*registered {
	var all []*registered
	for _, l := range s.listeners {
		all = append(all, &registered{DescriptorView: engine.DescriptorView{FD: l.fd}, socket: l})
	}
	for _, c := range s.allSessions() {
		all = append(all, &registered{DescriptorView: engine.DescriptorView{FD: c.fd}, session: c})
	}
	return all
}

// showFDs writes the descriptors of the numbers from first to last, with the runtime API's among them.
func (c *session) showFDs(first, last int, own []*registered) []engine.Stuck {
	var all []*registered
	for _, d := range own {
		if d.FD >= first && d.FD <= last {
			all = append(all, d)
		}
	}
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
		if !v.Paused {
			d.polled = append(d.polled, v.Worker)
		}
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
	flags := d.flags()
	waits := func(bit uint32) string {
		if flags&bit == 0 {
			return threadMask()
		}
		return threadMask(d.polled...)
	}
	fmt.Fprintf(c.out, "%7d : st=0x%06x(%s) ref=0 gid=1 tmask=%s umask=0x0 prmsk=%s pwmsk=%s", d.FD, flags,
		descriptorLetters(flags), threadMask(d.workers...), waits(fdReadActive), waits(fdWriteActive))
	role, owner := "connection", null
	id, _ := parseID(d.Stream)
	switch {
	case d.socket != nil:
		role, owner = "accept", c.server.pointers.of(d.socket.config)
	case d.session != nil:
		owner = pointerOf(d.session.id, partFrontConnection)
	case d.Kind == "listener":
		role, owner = "accept", c.server.pointers.of(d.ListenerBind)
	case d.Kind == "waker":
		role, owner = "waker", c.server.pointers.of("waker")
	case d.Kind == "client":
		owner = pointerOf(id, partFrontConnection)
	case d.Kind == "server":
		owner = pointerOf(id, partBackConnection)
	}
	fmt.Fprintf(c.out, " owner=%s iocb=%s(%s)", owner, c.server.pointers.of(role), role)
	switch {
	case d.socket != nil:
		at := addressOf(d.socket.Addr())
		fmt.Fprintf(c.out, " l.st=%s fe=GLOBAL fam=%s", d.listenerState(), family(at))
		c.printPort("lport", at.IP.Port())
	case d.session != nil:
		c.printOwnConnection(d.session)
	case d.Kind == "listener":
		fmt.Fprintf(c.out, " l.st=%s fe=%s fam=%s", d.listenerState(), d.Frontend.Name, family(d.Local))
		c.printPort("lport", d.Local.IP.Port())
	case d.Kind == "client" || d.Kind == "server":
		c.printConnection(d, id)
	}
	fmt.Fprintln(c.out)
}

func (c *session) printPort(key string, port uint16) {
	if port != 0 {
		fmt.Fprintf(c.out, " %s=%d", key, port)
	}
}

// listenerState is HAProxy's word for whether a listener accepts: FUL at its own limit, LIM at one that it
// shares or when it rests, RDY otherwise.
func (d *registered) listenerState() string {
	switch {
	case d.socket != nil && d.socket.full():
		return "LIM"
	case d.socket != nil:
		return "RDY"
	case d.Full:
		return "FUL"
	case d.Limited || len(d.polled) == 0:
		return "LIM"
	}
	return "RDY"
}

// side is the descriptor as that side of its stream which "show sess all" prints.
func (d *registered) side() side {
	return side{
		end: &engine.EndView{FD: d.FD, Ready: d.Ready}, state: d.State, in: &d.In, out: &d.Out,
		back: d.Kind == "server", connected: true,
	}
}

func (c *session) printConnection(d *registered, id uint64) {
	s := d.side()
	back, endpoint, owner := 0, partFrontEndpoint, " fe="+d.Frontend.Name
	if s.back {
		back, endpoint, owner = 1, partBackEndpoint, " sv="+d.Backend.Name+"/"+d.Server.Name
	}
	fmt.Fprintf(c.out, " back=%d cflg=0x%08x cerr=0 fam=%s", back, s.connectionFlags(), family(d.Peer))
	c.printPort("lport", d.Local.IP.Port())
	if d.State != stream.Connecting {
		c.printPort("rport", d.Peer.IP.Port())
	}
	fmt.Fprintf(c.out, "%s mux=PASS ctx=%s xprt=RAW", owner, pointerOf(id, endpoint))
	fmt.Fprintf(c.out, " stream=%s worker=%d events=%d reads=%d writes=%d",
		d.Stream, d.Worker, d.Events, d.Reads, d.Writes)
}

func (c *session) printOwnConnection(o *session) {
	client := o.client()
	fmt.Fprintf(c.out, " back=0 cflg=0x%08x cerr=0 fam=%s", connectionReady, family(client))
	c.printPort("lport", o.local().IP.Port())
	c.printPort("rport", client.IP.Port())
	fmt.Fprintf(c.out, " fe=GLOBAL mux=PASS ctx=%s xprt=RAW stream=%s", pointerOf(o.id, partFrontEndpoint),
		printID(o.id))
}

func (d *registered) flags() uint32 {
	switch {
	case d.socket != nil && d.socket.full():
		return fdListener
	case d.socket != nil:
		return fdListener | fdReadActive
	case d.session != nil:
		return sessionFDFlags
	case d.Kind == "listener" && len(d.polled) == 0:
		return fdListener
	case d.Kind == "listener":
		return fdListener | fdReadActive
	case d.Kind == "waker":
		return fdReadActive
	}
	s := d.side()
	return s.fdFlags()
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
