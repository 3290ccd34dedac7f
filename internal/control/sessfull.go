package control

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// acceptDate is how "show sess all" prints the time at which a client was accepted.
const acceptDate = "[02/Jan/2006:15:04:05.000000]"

// printStreamFull writes all there is to say about a stream, in the layout of HAProxy 2.6, and a line of our
// own.
func (c *session) printStreamFull(v *engine.StreamView) {
	id, _ := parseID(v.ID)
	unix := "unix:" + strconv.Itoa(v.Bind.ID)
	fmt.Fprintf(c.out, "%s: %s id=%d proto=%s source=%s\n", v.ID,
		sys.WallTime(v.Times.Accepted).Format(acceptDate), v.Serial, protocol(v.Client),
		printAddress(v.Client, unix))
	fmt.Fprintf(c.out, "  flags=%#x, conn_retries=%d, conn_exp=%s conn_et=0x000 srv_conn=%s, pend_pos=%s"+
		" waiting=0 epoch=0\n", streamFlags(v), v.Retries, expiry(v.SideDeadline, v.At),
		c.server.serverOf(v), pendingOf(v, id))
	fmt.Fprintf(c.out, "  frontend=%s (id=%d mode=tcp), listener=%s (id=%d) addr=%s\n", v.Frontend.Name,
		v.Frontend.ID, listenerName(v.Bind), v.Bind.ID, printAddress(v.FrontAddress, unix))
	c.printTargets(v)
	c.printTask(v, id)
	c.printSide(v, id, stream.Client)
	c.printSide(v, id, stream.Server)
	c.printChannels(v, id)
	c.printLedger(v)
}

// serverOf prints the server on which the stream is counted.
func (s *Server) serverOf(v *engine.StreamView) string {
	switch v.ServerState {
	case stream.Initial, stream.Request, stream.Queued, stream.Closed:
		return null
	}
	if v.Server == nil {
		return null
	}
	return s.pointers.of(v.Server)
}

func pendingOf(v *engine.StreamView, id uint64) string {
	if v.ServerState != stream.Queued {
		return null
	}
	return pointerOf(id, partPending)
}

// printTargets writes the lines of the backend and the server, with the addresses of the connection if there
// is one.
func (c *session) printTargets(v *engine.StreamView) {
	if v.Backend == nil {
		fmt.Fprint(c.out, "  backend=<NONE> (id=-1 mode=-)\n  server=<NONE> (id=-1)\n")
		return
	}
	local, remote := "", ""
	if v.Ends[stream.Server].FD >= 0 {
		local = " addr=" + printAddress(v.BackAddress, "unix")
		remote = " addr=" + printAddress(v.ServerAddress, "unix")
	}
	fmt.Fprintf(c.out, "  backend=%s (id=%d mode=tcp)%s\n", v.Backend.Name, v.Backend.ID, local)
	name, id := "<none>", 0
	if v.Server != nil {
		name, id = v.Server.Name, v.Server.ID
	}
	fmt.Fprintf(c.out, "  server=%s (id=%d)%s\n", name, id, remote)
}

// printTask writes the line of the task. Our rate is that of wakeups without progress.
func (c *session) printTask(v *engine.StreamView, id uint64) {
	state, running := 0, ""
	if v.Due {
		state, running = taskQueued, ", running"
	}
	fmt.Fprintf(c.out, "  task=%s (state=0x%02x nice=0 calls=%d rate=%d exp=%s tmask=%s%s age=%s)\n",
		pointerOf(id, partTask), state, v.Account.Calls, uint64(v.Account.Rate()), expiry(v.Deadline, v.At),
		threadMask(v.Worker), running, humanTime(v.Age()))
}

// printSide writes the lines of one side: its state, and its connection if there is one.
func (c *session) printSide(v *engine.StreamView, id uint64, which stream.Side) {
	s := sideOf(v, which)
	name, number, peer := "scf", 0, v.Client
	pointer, endpoint, connection := partFront, partFrontEndpoint, partFrontConnection
	target := "LISTENER:" + c.server.pointers.of(v.Bind)
	if which == stream.Server {
		name, number, peer = "scb", 1, v.ServerAddress
		pointer, endpoint, connection = partBack, partBackEndpoint, partBackConnection
		target = "SERVER:" + c.server.pointers.of(v.Server)
	}
	kind, at := "NONE", null
	if s.connected {
		kind, at = "CONN", pointerOf(id, endpoint)
	}
	fmt.Fprintf(c.out, "  %s=%s flags=0x%08x state=%s endp=%s,%s,0x%08x sub=%d\n",
		name, pointerOf(id, pointer), s.flags(), s.state, kind, at, s.endpointFlags(), s.subscribed())
	if !s.connected {
		return
	}
	fmt.Fprintf(c.out, "      co%d=%s ctrl=%s xprt=RAW mux=PASS data=STRM target=%s\n",
		number, pointerOf(id, connection), protocol(peer), target)
	fmt.Fprintf(c.out, "      flags=0x%08x fd=%d fd.state=%02x updt=0 fd.tmask=%s\n",
		s.connectionFlags(), s.end.FD, s.fdFlags(), threadMask(v.Worker))
}

// direction is what is printed of a channel.
type direction struct {
	name                  string
	pointer, buffer, data part
	flags                 uint32
	forward               int // bytes to be passed on unseen; -1: all
	total                 uint64
	reads, writes         string // the timers
	held, size            int    // of the buffer
}

// printChannels writes the lines of both directions.
func (c *session) printChannels(v *engine.StreamView, id uint64) {
	request := direction{
		name: "req", pointer: partRequest, buffer: partRequestBuffer, data: partRequestData,
		flags: requestFlags(v), forward: -1, size: v.RequestSize,
	}
	c.printDirection(request.with(&v.Request, v.At), id)
	response := direction{
		name: "res", pointer: partResponse, buffer: partResponseBuffer, data: partResponseData,
		flags: responseFlags(v), forward: -1, size: v.ResponseSize,
	}
	if !v.Times.Connected.IsSet() {
		response.forward = 0
	}
	c.printDirection(response.with(&v.Response, v.At), id)
}

// with adds what a channel's view has.
func (d direction) with(c *stream.ChannelView, now ktime.Time) direction {
	d.total, d.held = c.Total, c.Buffered
	d.reads, d.writes = until(c.InDeadline, now, "<NEVER>"), until(c.OutDeadline, now, "<NEVER>")
	return d
}

func (c *session) printDirection(d direction, id uint64) {
	data := null
	if d.size > 0 {
		data = pointerOf(id, d.data)
	}
	fmt.Fprintf(c.out, "  %s=%s (f=0x%06x an=0x0 pipe=0 tofwd=%d total=%d)\n",
		d.name, pointerOf(id, d.pointer), d.flags, d.forward, d.total)
	fmt.Fprintf(c.out, "      an_exp=<NEVER> rex=%s wex=%s\n", d.reads, d.writes)
	fmt.Fprintf(c.out, "      buf=%s data=%s o=%d p=%d i=0 size=%d\n",
		pointerOf(id, d.buffer), data, d.held, d.held, d.size)
}

// printLedger writes our own line: the account of the stream's wakeups.
//
//	wakeups      all of them
//	charged      those that neither consumed their cause nor brought progress
//	consecutive  the charged ones since the last that was not, since how long, and their rate per second
//	cause        of the latest wakeup
//	timer        the nearest deadline's, and by how much it is overdue
//	suspect      1 when the row of charged wakeups has passed the budget
//	orphan       1 when no direction is open and one side is: nothing will ever move it
//
// Parsers of HAProxy's dumps skip it: they do not know the key.
func (c *session) printLedger(v *engine.StreamView) {
	a := &v.Account
	since := "-"
	if a.Since.IsSet() {
		since = v.At.Sub(a.Since).Truncate(time.Millisecond).String()
	}
	overdue := "-"
	if v.Deadline.Passed(v.At) {
		overdue = v.At.Sub(v.Deadline).Truncate(time.Millisecond).String()
	}
	fmt.Fprintf(c.out, "  ledger=%s wakeups=%d charged=%d consecutive=%d since=%s rate=%d cause=%s",
		v.ID, a.Calls, a.Charged, a.Consecutive, since, uint64(a.Rate()), dashed(a.Cause.String()))
	fmt.Fprintf(c.out, " timer=%s overdue=%s suspect=%d orphan=%d worker=%d\n",
		v.Timer, overdue, oneIf(a.Suspect), oneIf(v.Orphaned), v.Worker)
}

// dashed makes a name one word.
func dashed(name string) string { return strings.ReplaceAll(name, " ", "-") }

func oneIf(is bool) int {
	if is {
		return 1
	}
	return 0
}

// printSessionFull writes all there is to say about a connection of the runtime API.
func (c *session) printSessionFull(o *session) {
	id, calls, never := o.id, o.calls.Load(), "<NEVER>"
	client, unix := o.client(), "unix:"+strconv.Itoa(o.socket.number)
	fmt.Fprintf(c.out, "%s: %s id=%d proto=%s source=%s\n",
		printID(id), o.opened.Format(acceptDate), id, protocol(client), printAddress(client, unix))
	fmt.Fprintf(c.out, "  flags=%#x, conn_retries=0, conn_exp=<NEVER> conn_et=0x000 srv_conn=%s,"+
		" pend_pos=%s waiting=0 epoch=0\n", streamBackend, null, null)
	fmt.Fprintf(c.out, "  frontend=GLOBAL (id=0 mode=tcp), listener=? (id=%d) addr=%s\n",
		o.socket.number, printAddress(o.local(), unix))
	fmt.Fprint(c.out, "  backend=<NONE> (id=-1 mode=-)\n  server=<NONE> (id=-1)\n")
	fmt.Fprintf(c.out, "  task=%s (state=0x00 nice=0 calls=%d rate=0 exp=%s tmask=%s age=%s)\n",
		pointerOf(id, partTask), calls, o.expires(never), threadMask(), humanTime(time.Since(o.opened)))
	fmt.Fprintf(c.out, "  scf=%s flags=0x%08x state=EST endp=CONN,%s,0x%08x sub=1\n",
		pointerOf(id, partFront), 0, pointerOf(id, partFrontEndpoint), endpointConnection)
	fmt.Fprintf(c.out, "      co0=%s ctrl=%s xprt=RAW mux=PASS data=STRM target=LISTENER:%s\n",
		pointerOf(id, partFrontConnection), protocol(client), c.server.pointers.of(o.socket.config))
	fmt.Fprintf(c.out, "      flags=0x%08x fd=%d fd.state=%02x updt=0 fd.tmask=%s\n",
		connectionReady, o.fd, sessionFDFlags, threadMask())
	fmt.Fprintf(c.out, "  scb=%s flags=0x%08x state=EST endp=APPCTX,%s,0x%08x sub=0\n",
		pointerOf(id, partBack), sideBack, pointerOf(id, partBackEndpoint), endpointApplet)
	fmt.Fprintf(c.out, "      app1=%s st0=0 st1=0 st2=0 applet=<CLI> tmask=%s nice=0 calls=%d rate=0"+
		" cpu=0 lat=0\n", pointerOf(id, partBackEndpoint), threadMask(), calls)
	c.printDirection(direction{
		name: "req", pointer: partRequest, buffer: partRequestBuffer, flags: cliRequestFlags, forward: -1,
		total: o.read.Load(), reads: o.expires(never), writes: never,
	}, id)
	c.printDirection(direction{
		name: "res", pointer: partResponse, buffer: partResponseBuffer, flags: cliResponseFlags, forward: -1,
		total: o.written.Load(), reads: never, writes: never,
	}, id)
}
