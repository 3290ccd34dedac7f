// Package config reads HAProxy's configuration language into checked structs.
//
// The package is pure: it is given the text of the files and the environment and touches neither disk nor
// network. Every mistake is reported, all of them at once, each with file and line; a configuration with a
// mistake yields no Config. Names, defaults and meanings are those of HAProxy 2.6 where nothing else is
// said.
package config

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/rules"
)

// Config is a whole checked configuration. It is immutable once Parse has returned it.
type Config struct {
	// Files are the names of the files it was read from, in order.
	Files []string
	// Global holds the process-wide settings.
	Global Global
	// Proxies are all frontend, backend and listen sections in the order of the files. Proxy names are
	// unique per role: a frontend and a backend may share a name, two frontends may not.
	Proxies []*Proxy
	// Warnings are the diagnostics that do not forbid to run, in the order of files and lines. The first
	// 1000 of each severity are kept, OmittedWarnings counts the others.
	Warnings        []Diagnostic
	OmittedWarnings int
}

// Backend returns the proxy of that name that can act as a backend, or nil.
func (c *Config) Backend(name string) *Proxy {
	for _, p := range c.Proxies {
		if p.IsBackend && p.Name == name {
			return p
		}
	}
	return nil
}

// Position is a place in a configuration file.
type Position struct {
	File string
	Line int // counted from 1
}

// String prints "file:line", or "" for a position that is not known.
func (p Position) String() string {
	if p.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Severity tells whether a Diagnostic forbids to run.
type Severity uint8

const (
	// Warning is worth saying, but the configuration can run.
	Warning Severity = iota
	// Error forbids to run.
	Error
	// Notice is what a .notice line says; zero-warning does not mind it.
	Notice
)

// Diagnostic is one message about a configuration.
type Diagnostic struct {
	Position
	Severity Severity
	// Message says what is wrong and, where that is known, what would be right. It does not repeat the
	// position.
	Message string
}

// String prints "file:line: message", with "warning: " or "notice: " before the message of one.
func (d Diagnostic) String() string {
	message := d.Message
	switch d.Severity {
	case Warning:
		message = "warning: " + message
	case Notice:
		message = "notice: " + message
	case Error:
	}
	if p := d.Position.String(); p != "" {
		return p + ": " + message
	}
	return message
}

// Level is the right a runtime API connection has.
type Level uint8

const (
	// LevelUser may look at what is not sensitive.
	LevelUser Level = iota
	// LevelOperator may look at everything; the default of a stats socket.
	LevelOperator
	// LevelAdmin may change and kill.
	LevelAdmin
)

// String returns the configuration's word for the level.
func (l Level) String() string { return [...]string{"user", "operator", "admin"}[l] }

// Tracing says when the level 2 probes run (whyspin.tracing).
type Tracing uint8

const (
	// TracingAuto runs them 200 ms of every 10 s, and on suspicion and demand. The default.
	TracingAuto Tracing = iota
	// TracingOff never runs them: the engine's own ledger is the only witness.
	TracingOff
	// TracingAlways runs them without a pause.
	TracingAlways
)

// String returns the configuration's word for the tracing mode.
func (t Tracing) String() string { return [...]string{"auto", "off", "always"}[t] }

// SpinAction says what is done with a stream that is found to spin (whyspin.spin-action).
type SpinAction uint8

const (
	// SpinReport logs the finding. The default.
	SpinReport SpinAction = iota
	// SpinShutdown also kills that one stream and logs it with termination code I.
	SpinShutdown
	// SpinAbort also ends the process with a core dump, as HAProxy does.
	SpinAbort
)

// String returns the configuration's word for the action.
func (a SpinAction) String() string { return [...]string{"report", "shutdown", "abort"}[a] }

// Fault is an engine fault that the configuration asks for (whyspin.fault).
type Fault struct {
	Position
	Fault fault.Set
	// Probability is the share of streams that carry the fault, above 0 and at most 1.
	Probability float64
	// Frontend is the only one whose streams and listeners may carry it, empty for all of them and the
	// process itself.
	Frontend string
}

// Global is the global section.
type Global struct {
	// MaxConn is the limit of concurrent client connections; 0 means: as many as the descriptor limit
	// allows.
	MaxConn int
	// NbThread is the number of workers; 0 means one for each CPU the process may run on.
	NbThread int
	// User, Group, UID and GID are who the process becomes. UID and GID are -1 when unset; a name overrides
	// nothing, setting both a name and a number is an error.
	User, Group string
	UID, GID    int
	Chroot      string
	// UserPos, GroupPos and ChrootPos are where the process's user, group and root directory are given.
	UserPos, GroupPos, ChrootPos Position
	Daemon                       bool
	PIDFile                      string
	// Quiet asks for no messages during startup.
	Quiet bool
	// Node and Description are shown in "show info".
	Node, Description string
	// ULimitN is the descriptor limit asked for; 0 means computed from MaxConn.
	ULimitN int
	// StatsSockets are the addresses of the runtime API.
	StatsSockets []StatsSocket
	// StatsTimeout closes an idle runtime API connection; default 10 s.
	StatsTimeout time.Duration
	// StatsMaxConn is the limit of concurrent runtime API connections; default 10.
	StatsMaxConn int
	// Logs are the log targets that proxies with "log global" use.
	Logs []LogTarget
	// LogTag is the program name in syslog messages; default "whyspin".
	LogTag string
	// LogSendHostname is the host name in syslog messages. LogHostnameSet is true exactly when the
	// configuration asks for one; then an empty name means the machine's own.
	LogSendHostname string
	LogHostnameSet  bool
	// HardStopAfter ends a soft stop that takes longer; 0 means never.
	HardStopAfter time.Duration
	// BufferSize is tune.bufsize, the size in bytes that a stream's buffer starts with; default 16384.
	BufferSize int
	// MaxPipes is maxpipes, the pipes that bulk may go through at a time, PipeSize tune.pipesize, their size
	// in bytes; 0 means the default. NoSplice is true exactly when there shall be none.
	MaxPipes, PipeSize int
	NoSplice           bool
	// MaxAccept is tune.maxaccept, the connections a worker accepts in a row from one listener; default 4 as
	// in HAProxy 2.6 for several threads, -1 means no limit.
	MaxAccept int
	TLS       GlobalTLS

	// Whyspin holds the keywords that HAProxy does not have.
	Whyspin Whyspin
}

// Whyspin holds the settings of the whyspin.* keywords.
type Whyspin struct {
	Tracing    Tracing
	SpinAction SpinAction
	Faults     []Fault
	// Admin is the address of the HTTP endpoints, invalid when unset: loopback or a unix socket unless
	// AdminAuth is set.
	Admin Address
	// AdminAuth is the file of user:password lines for basic authentication; empty when unset.
	AdminAuth    string
	AdminPos     Position
	AdminAuthPos Position
}

// StatsSocket is one "stats socket" line.
type StatsSocket struct {
	Position
	Address Address
	Level   Level
	// ExposeListeners lets a process of root or of the same user have the listeners, to replace this one.
	ExposeListeners bool
	Unix            UnixAttributes
}

// UnixAttributes are the owner and mode of a unix socket file.
type UnixAttributes struct {
	// Mode is the permission bits; 0 means left as the umask makes them.
	Mode uint32
	// User and Group name the owner; UID and GID are numbers, -1 when unset.
	User, Group string
	UID, GID    int
}

// AddressKind tells the families of Address apart.
type AddressKind uint8

const (
	// AddressNone is the zero Address.
	AddressNone AddressKind = iota
	// AddressIP is an IP address with a port; an invalid IP with Wildcard set means all addresses.
	AddressIP
	// AddressUnix is a unix socket path; a name that begins with '@' in the abstract namespace has Abstract
	// set.
	AddressUnix
	// AddressFD is a descriptor inherited from the parent process ("fd@N").
	AddressFD
	// AddressName is a host name that must be resolved when the process starts.
	AddressName
)

// Address is where to listen, or to connect.
type Address struct {
	Kind AddressKind
	// IP and Port are set for AddressIP; Port also for AddressName. PortOffset is true exactly when the port
	// was written with a sign ("+100"), for a server: relative to the port the client connected to. NoPort
	// is true exactly when no port was given, for a server: the port the client connected to.
	IP         netip.Addr
	Port       int
	PortOffset bool
	NoPort     bool
	// Wildcard is true exactly when the address was "*" or empty: IPv4, any address.
	Wildcard bool
	// Path is the file of AddressUnix, or the name without '@' when Abstract.
	Path     string
	Abstract bool
	// FD is the descriptor number of AddressFD.
	FD int
	// Name is the host name of AddressName. Family restricts what it may resolve to: 0 any, 4, 6.
	Name   string
	Family int
}

// LogFormat is the header format of log messages.
type LogFormat uint8

// The formats of "log ... format": see HAProxy's configuration manual, keyword "log".
const (
	LogRFC3164 LogFormat = iota // the default when LogHostnameSet
	LogLocal                    // the same without the host name; the default otherwise
	LogRFC5424
	LogPriority
	LogShort
	LogTimed
	LogISO
	LogRaw
)

// LogTargetKind tells where a log target sends to.
type LogTargetKind uint8

// The kinds of log targets.
const (
	LogUDP    LogTargetKind = iota // a syslog server, UDP; Address is an AddressIP or AddressName
	LogUnix                        // a unix datagram socket, Path
	LogFD                          // an inherited descriptor: stdout is 1, stderr is 2
	LogGlobal                      // the targets of the global section
)

// LogTarget is one "log" line.
type LogTarget struct {
	Position
	Kind    LogTargetKind
	Address Address // for LogUDP, LogUnix and LogFD
	// MaxLen is the length in bytes beyond which a message is cut, header included; default 1024.
	MaxLen int
	Format LogFormat
	// Facility is the syslog facility number, 0 to 23.
	Facility int
	// MaxLevel and MinLevel are syslog levels, 0 (emerg) to 7 (debug): messages above MaxLevel are not sent,
	// messages below MinLevel are sent as MinLevel. Defaults 7 and 0.
	MaxLevel, MinLevel int
}

// Balance is a load balancing algorithm.
type Balance uint8

// BalanceRoundRobin takes the servers in turn, by weight.
const BalanceRoundRobin Balance = iota

// Timeouts are the timeouts of a proxy. 0 means not set: no limit, except where said otherwise.
type Timeouts struct {
	Connect time.Duration
	Client  time.Duration
	Server  time.Duration
	// Tunnel replaces Client and Server once both sides are connected and nothing inspects the bytes any
	// more, in mode tcp at once.
	Tunnel    time.Duration
	ClientFin time.Duration
	ServerFin time.Duration
	// ClientHS is how long the TLS handshake with a client may take; not set means Client.
	ClientHS time.Duration
	// Queue is how long a stream waits for a slot; not set means Connect, as in HAProxy.
	Queue time.Duration
}

// Proxy is a frontend, a backend, or (listen) both.
type Proxy struct {
	Position
	Name string
	// ID is the number of the proxy in dumps: explicit ("id N") or the first free from 2, in order.
	ID          int
	Description string
	IsFrontend  bool
	IsBackend   bool
	Disabled    bool

	// MaxConn is the limit of concurrent connections of a frontend; 0 means the global limit.
	MaxConn int
	// Backlog is the queue length asked of listen(2); 0 means MaxConn.
	Backlog int
	// Binds are the listeners of a frontend.
	Binds []*Bind
	// DefaultBackend is the backend of a frontend, nil when none is set. For a listen section it is the
	// proxy itself unless the section says otherwise.
	DefaultBackend *Proxy
	// Connection, Session and Content are the rules of "tcp-request": when a client is accepted, when its
	// handshakes are complete, and (of the backend, too) when a backend is chosen.
	Connection, Session, Content []rules.Rule
	// Switches are the "use_backend" rules with a condition, in their order: the first whose condition holds
	// gives the backend.
	Switches []Switch

	// Balance, Retries, Redispatch, Servers belong to a backend.
	Balance Balance
	// Retries is the number of connection attempts after the first; default 3.
	Retries int
	// Redispatch is 0 when a stream stays with its server; N > 0: every Nth retry may go to another server;
	// N < 0: the Nth last one ("option redispatch" alone is -1, the last).
	Redispatch int
	Servers    []*Server
	// FullConn is accepted for later use by dynamic limits ("fullconn"); 0 when unset.
	FullConn int

	Timeouts Timeouts
	// AbortOnClose ends a stream whose client shut its write side while still waiting for a server, even
	// with data pending ("option abortonclose").
	AbortOnClose bool
	// TCPLog asks for the tcplog format, or that of LogFormat; without it the default format is logged.
	TCPLog bool
	// LogFormat is the format of "log-format", nil for that of "option tcplog".
	LogFormat *rules.Format
	// DontLogNull suppresses the log line of a connection that sent nothing.
	DontLogNull bool
	// DontLogNormal suppresses the log lines of streams that ended without any error.
	DontLogNormal bool
	// LogAsap logs when the server connection is established instead of at the end.
	LogAsap bool
	// ClientKeepAlive and ServerKeepAlive set SO_KEEPALIVE (clitcpka, srvtcpka, tcpka).
	ClientKeepAlive, ServerKeepAlive bool
	// Logs are the log targets, LogGlobal entries already replaced by the global ones.
	Logs []LogTarget
	// LogTag stands in for the global one; empty when unset.
	LogTag string
}

// Switch gives streams for which a condition holds to a backend.
type Switch struct {
	Position
	If      *rules.Condition
	Backend *Proxy
}

// Bind is one listening address. A bind line with several addresses or ports yields several.
type Bind struct {
	Position
	Address Address
	// Name and ID are shown in dumps; Name is empty when unset, ID the explicit number or the first free
	// from 1.
	Name string
	ID   int
	// MaxConn is the limit of this listener, 0 for none; Backlog as in Proxy, 0 to inherit.
	MaxConn int
	Backlog int
	// V6Only and V4V6 set or clear IPV6_V6ONLY; both false leaves the system's default. Both true is an
	// error.
	V6Only, V4V6 bool
	Unix         UnixAttributes
	// AcceptProxy is true exactly when every connection begins with a PROXY protocol header.
	AcceptProxy bool
	// TLS is nil for a listener without ("ssl").
	TLS *BindTLS
}

// Server is one server of a backend.
type Server struct {
	Position
	Name    string
	ID      int
	Address Address
	// Weight is 0 to 256, default 1. A server of weight 0 gets no new streams.
	Weight int
	// MaxConn is the limit of concurrent connections, 0 for none.
	MaxConn  int
	Backup   bool
	Disabled bool
	// SendProxy is the PROXY protocol header that connections to it begin with.
	SendProxy SendProxy
	// TLS is nil for a server that is spoken to without ("ssl").
	TLS *ServerTLS
}

// SendProxy is the PROXY protocol header that a server gets.
type SendProxy struct {
	// Version is that of the protocol, 0 for no header. Only version 2 has what follows.
	Version int
	// TLS tells of the client's TLS connection, CommonName and Cipher more of it. Authority tells the name
	// that the client has asked for. Checksum adds one of the header (CRC32C).
	TLS, CommonName, Cipher, Authority, Checksum bool
}
