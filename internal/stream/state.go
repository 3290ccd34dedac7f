package stream

// Side names one of the two sides of a stream.
type Side uint8

// The sides.
const (
	Client Side = iota
	Server
)

// String names the side.
func (s Side) String() string { return [...]string{"client", "server"}[s] }

// SideState is the state of one side of a stream, the client's or the server's. The names and the three
// letters are HAProxy's, so that a dump reads alike.
type SideState uint8

// The order of the states is the order in which a connection attempt goes through them; progress is
// measured by it.
const (
	// Initial (INI): the server side of a stream that has not asked for a server yet. Left at once for
	// Request, or, when the client has a TLS handshake to go through, as soon as that is complete; for Closed
	// when it fails.
	Initial SideState = iota
	// Request (REQ): a server is wanted. Nothing is connected and nothing is armed: whoever takes the
	// stream out of this state must first look whether the client has gone (clientGone), because a shutdown
	// that meets this state has no connection to close and is only marked. Left for Assigned, Queued, or
	// Closed.
	Request
	// Queued (QUE): every server is at its limit and the stream waits for a slot, at most "timeout queue".
	// Left for Assigned, or Closed when the client goes or the time is up.
	Queued
	// TurnAround (TAR): an attempt failed with an error and the next one would go to the same server, so
	// the stream waits a moment, min(1 s, "timeout connect"). Left for Assigned or Request, or Closed when
	// the client goes.
	TurnAround
	// Assigned (ASS): a server is chosen and the connection is to be started. Transient; as in Request,
	// whoever leaves it must look whether the client has gone.
	Assigned
	// Connecting (CON): the connection is under way, its TLS handshake included, at most "timeout connect".
	// Left for Established, Failed, or Closed when the client goes.
	Connecting
	// Failed (CER): the attempt failed. Transient: decides between another attempt and giving up.
	Failed
	// Established (EST): connected. Either direction may already be shut.
	Established
	// Closed (CLO): no connection, and there will be none. Final.
	Closed
)

var stateNames = [...]string{"INI", "REQ", "QUE", "TAR", "ASS", "CON", "CER", "EST", "CLO"}

// String returns HAProxy's three letters for the state.
func (s SideState) String() string { return stateNames[s] }

// connecting reports whether the state lies between wanting a server and having one.
func (s SideState) connecting() bool { return s > Initial && s < Established }

// EndState is the state of one end of a channel.
type EndState uint8

const (
	// Open: bytes may still pass.
	Open EndState = iota
	// Pending: an end that is written to is to be shut as soon as the buffer is empty.
	Pending
	// Shut: no byte will pass any more. Final.
	Shut
)

var endStateNames = [...]string{"open", "pending", "shut"}

// String names the state.
func (s EndState) String() string { return endStateNames[s] }

// Cause says why a stream was woken. Rule 1: every wakeup has one.
type Cause uint8

// The causes. A wakeup with several causes keeps the one that was recorded first.
const (
	CauseNone           Cause = iota // none: rule 1 is broken
	CauseAccepted                    // the stream was just created
	CauseClientEvent                 // the kernel reported an event on the client's descriptor
	CauseServerEvent                 // the kernel reported an event on the server's descriptor
	CauseTimerConnect                // "timeout connect" has passed
	CauseTimerQueue                  // "timeout queue" has passed
	CauseTimerTurn                   // the pause before the next attempt is over
	CauseTimerClient                 // "timeout client" has passed
	CauseTimerServer                 // "timeout server" has passed
	CauseTimerTunnel                 // "timeout tunnel" has passed
	CauseTimerClientFin              // "timeout client-fin" has passed
	CauseTimerServerFin              // "timeout server-fin" has passed
	CauseTimerHandshake              // "timeout client-hs" has passed
	CauseSlot                        // a server has a free slot for it
	CauseMore                        // its share of the last turn was used up with work left
	CauseAdmin                       // an order of the operator
	CauseSpin                        // an order of the self-healing
	causes                           // the number of causes
)

var causeNames = [...]string{
	"none", "accepted", "client event", "server event", "timer connect", "timer queue", "timer turn-around",
	"timer client", "timer server", "timer tunnel", "timer client-fin", "timer server-fin",
	"timer client-hs", "slot", "more work", "admin", "spin action",
}

// timer reports whether it is that a timer has passed.
func (c Cause) timer() bool { return c >= CauseTimerConnect && c <= CauseTimerHandshake }

// String names the cause as dumps and verdicts print it.
func (c Cause) String() string { return causeNames[c] }

// Timer is the kind of timeout that an armed deadline comes from.
type Timer uint8

// The timers, named as in the configuration.
const (
	TimerNone Timer = iota
	TimerConnect
	TimerQueue
	TimerTurnAround
	TimerClient
	TimerServer
	TimerTunnel
	TimerClientFin
	TimerServerFin
	TimerClientHandshake
)

var timerNames = [...]string{
	"none", "connect", "queue", "turn-around", "client", "server", "tunnel", "client-fin", "server-fin",
	"client-hs",
}

// String names the timer as the configuration does.
func (t Timer) String() string { return timerNames[t] }

// Cause is the cause of a wakeup by this timer, CauseNone for TimerNone.
func (t Timer) Cause() Cause {
	if t == TimerNone {
		return CauseNone
	}
	return CauseTimerConnect + Cause(t-TimerConnect)
}

// Want is what the stream asks of the engine. The Read and Write bits hold until the next Advance; every
// other bit is an order, given once, to be carried out before the next Advance.
type Want uint32

// The wants.
const (
	// ReadClient and ReadServer: read into the channel as long as it has room. WriteClient and WriteServer:
	// there are bytes to write.
	ReadClient Want = 1 << iota
	ReadServer
	WriteClient
	WriteServer
	// Assign: choose a server and answer with Assigned, Enqueued or NoServer. Leave AvoidServer out if
	// there is a choice.
	Assign
	// Connect: start a connection to the assigned server and answer with Connected or ConnectFailed, now or
	// later.
	Connect
	// LeaveQueue: the stream no longer waits for a slot.
	LeaveQueue
	// ReleaseServer: the slot on the assigned server is free again.
	ReleaseServer
	// ShutClient and ShutServer: shut the write side of the connection.
	ShutClient
	ShutServer
	// CloseClient and CloseServer: close the descriptor. With ResetClient or ResetServer the peer is to get
	// a reset.
	CloseClient
	CloseServer
	ResetClient
	ResetServer
	// DropRequest and DropResponse: the bytes that the channel holds will never be written, free them.
	DropRequest
	DropResponse
	// Log: write the access log line.
	Log
	// End: the stream is over, free it.
	End
)

var wantNames = [...]string{
	"read-client", "read-server", "write-client", "write-server", "assign", "connect", "leave-queue",
	"release-server", "shut-client", "shut-server", "close-client", "close-server", "reset-client",
	"reset-server",
	"drop-request", "drop-response", "log", "end",
}

// Has reports whether all bits of v are in w.
func (w Want) Has(v Want) bool { return w&v == v }

// String lists the wants, separated by spaces.
func (w Want) String() string {
	text := ""
	for i, name := range wantNames {
		if w&(1<<i) != 0 {
			text += " " + name
		}
	}
	if text == "" {
		return "nothing"
	}
	return text[1:]
}
