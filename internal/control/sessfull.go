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
	l := newLine(c.out)
	l.str(v.ID).str(": ").date(sys.WallTime(v.Times.Accepted)).str(" id=").num(int(v.Serial))
	l.str(" proto=").str(protocol(v.Client)).str(" source=").address(v.Client, unix).end()
	l.str("  flags=").hex(uint64(streamFlags(v))).str(", conn_retries=").num(v.Retries)
	l.str(", conn_exp=").str(expiry(v.SideDeadline, v.At)).str(" conn_et=0x000 srv_conn=")
	l.str(c.server.serverOf(v)).str(", pend_pos=").str(pendingOf(v, id)).str(" waiting=0 epoch=0").end()
	l.str("  frontend=").str(v.Frontend.Name).str(" (id=").num(v.Frontend.ID).str(" mode=tcp), listener=")
	l.str(listenerName(v.Bind)).str(" (id=").num(v.Bind.ID).str(") addr=").address(v.FrontAddress, unix).end()
	printTargets(l, v)
	printTask(l, v, id)
	c.printSide(l, v, id, stream.Client)
	c.printSide(l, v, id, stream.Server)
	printChannels(l, v, id)
	printLedger(l, v)
	l.write(c.out)
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
func printTargets(l *line, v *engine.StreamView) {
	if v.Backend == nil {
		l.str("  backend=<NONE> (id=-1 mode=-)\n  server=<NONE> (id=-1)").end()
		return
	}
	connected := v.Ends[stream.Server].FD >= 0
	l.str("  backend=").str(v.Backend.Name).str(" (id=").num(v.Backend.ID).str(" mode=tcp)")
	if connected {
		l.str(" addr=").address(v.BackAddress, "unix")
	}
	l.end()
	name, id := "<none>", 0
	if v.Server != nil {
		name, id = v.Server.Name, v.Server.ID
	}
	l.str("  server=").str(name).str(" (id=").num(id).str(")")
	if connected {
		l.str(" addr=").address(v.ServerAddress, "unix")
	}
	l.end()
}

// printTask writes the line of the task. Our rate is that of wakeups without progress.
func printTask(l *line, v *engine.StreamView, id uint64) {
	state, running := 0, ""
	if v.Due {
		state, running = taskQueued, ", running"
	}
	l.str("  task=").pointer(id, partTask).str(" (state=").flags(uint32(state), 2)
	l.str(" nice=0 calls=").num(int(v.Account.Calls)).str(" rate=").num(int(v.Account.Rate()))
	l.str(" exp=").str(expiry(v.Deadline, v.At)).str(" tmask=").str(threadMask(v.Worker)).str(running)
	l.str(" age=").str(humanTime(v.Age())).str(")").end()
}

// printSide writes the lines of one side: its state, and its connection if there is one.
func (c *session) printSide(l *line, v *engine.StreamView, id uint64, which stream.Side) {
	s := sideOf(v, which)
	name, number, peer := "scf", 0, v.Client
	pointer, endpoint, connection := partFront, partFrontEndpoint, partFrontConnection
	target := "LISTENER:" + c.server.pointers.of(v.Bind)
	if which == stream.Server {
		name, number, peer = "scb", 1, v.ServerAddress
		pointer, endpoint, connection = partBack, partBackEndpoint, partBackConnection
		target = "SERVER:" + c.server.pointers.of(v.Server)
	}
	l.str("  ").str(name).str("=").pointer(id, pointer).str(" flags=").flags(s.flags(), 8)
	l.str(" state=").str(s.state.String()).str(" endp=")
	if s.connected {
		l.str("CONN,").pointer(id, endpoint)
	} else {
		l.str("NONE,").str(null)
	}
	l.str(",").flags(s.endpointFlags(), 8).str(" sub=").num(s.subscribed()).end()
	if !s.connected {
		return
	}
	l.str("      co").num(number).str("=").pointer(id, connection).str(" ctrl=").str(protocol(peer))
	transport := "RAW"
	if s.end.TLS != nil {
		transport = "SSL"
	}
	l.str(" xprt=").str(transport).str(" mux=PASS data=STRM target=").str(target).end()
	l.str("      flags=").flags(s.connectionFlags(), 8).str(" fd=").num(s.end.FD)
	l.str(" fd.state=").digits(s.fdFlags(), 2).str(" updt=0 fd.tmask=").str(threadMask(v.Worker)).end()
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
func printChannels(l *line, v *engine.StreamView, id uint64) {
	request := direction{
		name: "req", pointer: partRequest, buffer: partRequestBuffer, data: partRequestData,
		flags: requestFlags(v), forward: -1, size: v.RequestSize,
	}
	request.with(&v.Request, v.At).print(l, id)
	response := direction{
		name: "res", pointer: partResponse, buffer: partResponseBuffer, data: partResponseData,
		flags: responseFlags(v), forward: -1, size: v.ResponseSize,
	}
	if !v.Times.Connected.IsSet() {
		response.forward = 0
	}
	response.with(&v.Response, v.At).print(l, id)
}

// with adds what a channel's view has.
func (d direction) with(c *stream.ChannelView, now ktime.Time) direction {
	d.total, d.held = c.Total, c.Buffered
	d.reads, d.writes = until(c.InDeadline, now, "<NEVER>"), until(c.OutDeadline, now, "<NEVER>")
	return d
}

func (d direction) print(l *line, id uint64) {
	l.str("  ").str(d.name).str("=").pointer(id, d.pointer).str(" (f=").flags(d.flags, 6)
	l.str(" an=0x0 pipe=0 tofwd=").num(d.forward).str(" total=").num(int(d.total)).str(")").end()
	l.str("      an_exp=<NEVER> rex=").str(d.reads).str(" wex=").str(d.writes).end()
	l.str("      buf=").pointer(id, d.buffer).str(" data=")
	if d.size > 0 {
		l.pointer(id, d.data)
	} else {
		l.str(null)
	}
	l.str(" o=").num(d.held).str(" p=").num(d.held).str(" i=0 size=").num(d.size).end()
}

// printLedger writes our own line: the account of the stream's wakeups.
//
//	wakeups      all of them
//	charged      those that neither consumed their cause nor brought progress
//	consecutive  the charged ones since the last that was not, since how long, and their rate per second
//	cause        of the latest wakeup
//	timer        the nearest deadline's, and by how much it is overdue
//	suspect      1 when the row of charged wakeups has passed the budget
//	tls-client, tls-server: how the TLS of a side stands, what it waits for, or what ended it
//	orphan       1 when no direction is open and one side is: nothing will ever move it
//
// Parsers of HAProxy's dumps skip it: they do not know the key.
func printLedger(l *line, v *engine.StreamView) {
	a := &v.Account
	since := "-"
	if a.Since.IsSet() {
		since = v.At.Sub(a.Since).Truncate(time.Millisecond).String()
	}
	overdue := "-"
	if v.Deadline.Passed(v.At) {
		overdue = v.At.Sub(v.Deadline).Truncate(time.Millisecond).String()
	}
	l.str("  ledger=").str(v.ID).str(" wakeups=").num(int(a.Calls)).str(" charged=").num(int(a.Charged))
	l.str(" consecutive=").num(int(a.Consecutive)).str(" since=").str(since).str(" rate=").num(int(a.Rate()))
	l.str(" cause=").str(dashed(a.Cause.String())).str(" timer=").str(v.Timer.String())
	l.str(" overdue=").str(overdue).str(" suspect=").num(oneIf(a.Suspect))
	l.str(" orphan=").num(oneIf(v.Orphaned)).str(" worker=").num(v.Worker).end()
	for side, end := range v.Ends {
		if end.TLS != nil {
			l.str("  tls-").str(stream.Side(side).String()).str("=").str(end.TLS.String()).end()
		}
	}
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
	l := newLine(c.out)
	direction{
		name: "req", pointer: partRequest, buffer: partRequestBuffer, flags: cliRequestFlags, forward: -1,
		total: o.read.Load(), reads: o.expires(never), writes: never,
	}.print(l, id)
	direction{
		name: "res", pointer: partResponse, buffer: partResponseBuffer, flags: cliResponseFlags, forward: -1,
		total: o.written.Load(), reads: never, writes: never,
	}.print(l, id)
	l.write(c.out)
}
