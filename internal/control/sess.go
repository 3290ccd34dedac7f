package control

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// selection is which streams a dump shows and how.
type selection struct {
	full       bool // all that is known of each
	suspicious bool
	older      time.Duration
	id         uint64 // 0 for all
}

// parseSelection reads the arguments of "show sess". The words after "all" are those of later versions of
// HAProxy, where they may be combined.
func parseSelection(args []string) (s selection, ok bool) {
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "all":
			s.full = true
		case "susp":
			s.suspicious = true
		case "older":
			if i++; i == len(args) {
				return s, false
			}
			if s.older, ok = parseDelay(args[i]); !ok {
				return s, false
			}
		default:
			if s.id, ok = parseID(args[i]); !ok {
				return s, false
			}
			s.full = true
		}
	}
	return s, true
}

// parseID reads the number of a session as dumps print it. There is none with the number 0.
func parseID(text string) (uint64, bool) {
	n, err := strconv.ParseUint(text, 0, 64)
	return n, err == nil && n != 0
}

func printID(id uint64) string { return fmt.Sprintf("%#x", id) }

func (s *selection) takes(v *engine.StreamView) bool {
	return (!s.suspicious || v.Suspicious()) && v.Age() >= s.older
}

func showSess(c *session, args []string) {
	choice, ok := parseSelection(args)
	switch {
	case !ok:
		c.message(severityError, "Session pointer, 'all', 'susp' or 'older <age>' expected.\n")
	case choice.id != 0:
		c.showOne(choice.id)
	default:
		c.showMany(&choice)
	}
}

func (c *session) showOne(id uint64) {
	if other := c.server.session(id); other != nil {
		c.printSessionFull(other)
		return
	}
	v, found := c.server.options.Engine.Find(printID(id))
	switch {
	case found:
		c.printStreamFull(&v)
	case !c.explainStuck(id):
		c.message(severityError, "Session not found.\n")
	}
}

func (c *session) showMany(choice *selection) {
	stuck := c.server.options.Engine.Visit(func(v *engine.StreamView) bool {
		switch {
		case !choice.takes(v):
		case choice.full:
			c.printStreamFull(v)
		default:
			c.printStream(v)
		}
		return !c.failed()
	})
	for _, other := range c.server.allSessions() {
		switch {
		case choice.suspicious || time.Since(other.opened) < choice.older:
		case choice.full:
			c.printSessionFull(other)
		default:
			c.printSession(other)
		}
	}
	c.printStuck(stuck)
}

// session returns the connection of the runtime API with that id, nil when there is none.
func (s *Server) session(id uint64) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

// allSessions returns the connections of the runtime API, the oldest first.
func (s *Server) allSessions() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*session, 0, len(s.sessions))
	for _, c := range s.sessions {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *session) int { return cmp.Compare(a.id, b.id) })
	return all
}

func shutdownSession(c *session, args []string) {
	var id uint64
	ok := false
	if len(args) > 0 {
		id, ok = parseID(args[0])
	}
	if !ok {
		c.message(severityError, "Session pointer expected (use 'show sess').\n")
		return
	}
	if other := c.server.session(id); other != nil {
		other.conn.Close()
		return
	}
	switch c.server.options.Engine.Kill(printID(id), stream.KillAdmin) {
	case engine.KillUnknown:
		c.message(severityError, "No such session (use 'show sess').\n")
	case engine.KillOrdered:
		c.message(severityError, "Worker %d has not come back to its loop yet; it ends the session as soon"+
			" as it does (use 'show spin').\n", workerOf(id))
	case engine.KillEnded:
	}
}

// short is a line of "show sess".
type short struct {
	id                            string
	client                        sys.Address
	listener                      int // its number, for unix clients
	frontend, backend, server     string
	due                           bool
	age                           time.Duration
	calls, rate                   uint64
	requestFlags, responseFlags   uint32
	requestTimers, responseTimers [2]string
	front, back                   [3]string // state, flags, descriptor
	expires                       string
	retries                       int
	connectExpires                string
}

// printShort writes the line.
func (c *session) printShort(s *short) {
	state := 0
	if s.due {
		state = taskQueued
	}
	fmt.Fprintf(c.out, "%s: proto=%s src=%s fe=%s be=%s srv=%s",
		s.id, protocol(s.client), printAddress(s.client, "unix:"+strconv.Itoa(s.listener)),
		s.frontend, s.backend, s.server)
	fmt.Fprintf(c.out, " ts=%02x epoch=0 age=%s calls=%d rate=%d cpu=0 lat=0",
		state, humanTime(s.age), s.calls, s.rate)
	fmt.Fprintf(c.out, " rq[f=%06xh,i=0,an=00h,rx=%s,wx=%s,ax=] rp[f=%06xh,i=0,an=00h,rx=%s,wx=%s,ax=]",
		s.requestFlags, s.requestTimers[0], s.requestTimers[1],
		s.responseFlags, s.responseTimers[0], s.responseTimers[1])
	fmt.Fprintf(c.out, " scf=[%s,%sh,fd=%s] scb=[%s,%sh,fd=%s] exp=%s rc=%d c_exp=%s",
		s.front[0], s.front[1], s.front[2], s.back[0], s.back[1], s.back[2], s.expires, s.retries,
		s.connectExpires)
	if s.due {
		fmt.Fprint(c.out, " run(nice=0)")
	}
	fmt.Fprintln(c.out)
}

// taskQueued is the flag of a task that is due to run, with HAProxy's value.
const taskQueued = 0x04

// shortSide prints what the short dump has of a side.
func shortSide(s side) [3]string {
	return [3]string{
		strconv.Itoa(stateNumber(s.state)), strconv.FormatUint(uint64(s.flags()), 16), strconv.Itoa(s.end.FD),
	}
}

func shortTimers(c *stream.ChannelView, now ktime.Time) [2]string {
	return [2]string{until(c.InDeadline, now, ""), until(c.OutDeadline, now, "")}
}

// printStream writes the line of a stream.
func (c *session) printStream(v *engine.StreamView) {
	s := short{
		id: v.ID, client: v.Client, listener: v.Bind.ID,
		frontend: v.Frontend.Name, backend: "<NONE>", server: "<none>",
		due: v.Due, age: v.Age(), calls: v.Account.Calls, rate: uint64(v.Account.Rate()),
		requestFlags: requestFlags(v), responseFlags: responseFlags(v),
		requestTimers: shortTimers(&v.Request, v.At), responseTimers: shortTimers(&v.Response, v.At),
		front: shortSide(sideOf(v, stream.Client)), back: shortSide(sideOf(v, stream.Server)),
		expires: until(v.Deadline, v.At, ""), retries: v.Retries,
		connectExpires: until(v.SideDeadline, v.At, ""),
	}
	if v.Backend != nil {
		s.backend = v.Backend.Name
	}
	if v.Server != nil {
		s.server = v.Server.Name
	}
	c.printShort(&s)
}

// Flags that HAProxy 2.6 shows for the channels of its own runtime API connections.
const (
	cliRequestFlags  = 0xc08002
	cliResponseFlags = 0x80008002
)

// printSession writes the line of a connection of the runtime API, which HAProxy lists as a session of the
// frontend GLOBAL.
func (c *session) printSession(o *session) {
	c.printShort(&short{
		id: printID(o.id), client: o.client(), listener: o.socket.number,
		frontend: "GLOBAL", backend: "<NONE>", server: "<none>",
		age: time.Since(o.opened), calls: o.calls.Load(),
		requestFlags: cliRequestFlags, responseFlags: cliResponseFlags,
		requestTimers: [2]string{o.expires("")}, expires: o.expires(""),
		front: [3]string{"8", "0", strconv.Itoa(o.fd)}, back: [3]string{"8", "1", "-1"},
	})
}

// expires prints when a connection of the runtime API is closed for idleness; unset while it is answered.
func (c *session) expires(unset string) string {
	since := c.waits.Load()
	if since == 0 {
		return unset
	}
	return humanTime(time.Duration(c.timeout.Load()) - time.Since(time.Unix(0, since)))
}

// listenerName is the name of a listener, "?" when it has none.
func listenerName(b *config.Bind) string {
	if b.Name == "" {
		return "?"
	}
	return b.Name
}
