package sim

// Hazard is something that a world may do to the engine: a fault of the kernel, of the network, of a peer, or
// an order of the operator at the wrong moment.
type Hazard uint8

// The hazards, in the order of the table.
const (
	SplitSend Hazard = iota
	ShortWrite
	RefuseRead
	RefuseWrite
	RefuseAccept
	ResetClient
	ResetServer
	NoFile
	NoPort
	NoWatch
	Aborted
	Stale
	Spurious
	Interrupted
	Stall
	NewNumber
	NoPipe
	ShortSplice
	KillAny
	FullHandshake
	LateHandshake
	CutByFIN
	CutByReset
	CutBySilence
	Alert
	Corrupt
	NotTLS
	TinyRecord
	EmptyRecord
	KeyUpdate
	Truncated
	HalfClosed
	noises // the hazards above are decided at each occasion, those below by the script of the scenario

	Reuse Hazard = iota - 1
	HalfCloseClient
	HalfCloseServer
	ScriptedReset
	CloseBoth
	UrgentData
	SlowReader
	Refused
	Never
	Slow
	Outages
	ServerFull
	ProxyFull
	TimersTogether
	ScriptedKill
	SoftStop
	NewSets
	NoServers
	hazards // their number
)

// Hazards is how many hazards there are.
const Hazards = int(hazards)

// table says of every hazard how likely it is. In the share "in" of the scenarios it is there, and then at
// each occasion with a probability of up to "most". What the script decides has only one of the two numbers.
var table = [hazards]struct {
	name     string
	in, most float64
	what     string // and what an occasion is
}{
	SplitSend:    {"split-send", 0.33, 0.4, "each send: it arrives in two pieces, so a read finds a part"},
	ShortWrite:   {"short-write", 0.33, 0.2, "each write: takes a part; there is room again soon"},
	RefuseRead:   {"refuse-read", 0.33, 0.1, "each read: EAGAIN though bytes are there; an edge follows"},
	RefuseWrite:  {"refuse-write", 0.33, 0.2, "each write: EAGAIN; there is room again soon"},
	RefuseAccept: {"refuse-accept", 0.33, 0.1, "each accept: EAGAIN though a client waits"},
	ResetClient:  {"reset-client", 0.2, 0.02, "each call on a client's connection: it is reset just before"},
	ResetServer:  {"reset-server", 0.2, 0.02, "each call on a server's connection: the same"},
	NoFile:       {"no-file", 0.33, 0.05, "each accept and connect: EMFILE"},
	NoPort:       {"no-port", 0.2, 0.9, "each connect: EADDRNOTAVAIL"},
	NoWatch:      {"no-watch", 0.33, 0.05, "each registration: ENOMEM"},
	Aborted:      {"aborted", 0.33, 0.1, "each accept: ECONNABORTED, the client is gone"},
	Stale:        {"stale", 0.33, 0.2, "each event: comes once more after its descriptor was closed"},
	Spurious:     {"spurious", 0.33, 0.2, "each wait: an event of a descriptor on which nothing is new"},
	Interrupted:  {"interrupted", 0.5, 0.05, "each wait that brings no event: EINTR"},
	Stall: {"stall", 0.33, 0.05, "each turn of a worker: it is late by up to 30 ms, and all that came " +
		"meanwhile comes together"},
	NewNumber:   {"new-number", 0.33, 0.5, "each descriptor: a new number, though others are free"},
	NoPipe:      {"no-pipe", 0.2, 0.5, "each new pipe: EMFILE, or EPERM"},
	ShortSplice: {"short-splice", 0.5, 0.3, "each splice: moves a part though there is more, and room"},
	KillAny: {"kill-any", 0.25, 0.08, "each turn: the operator ends a stream, in any pair of states " +
		"alike"},

	FullHandshake: {"full-handshake", 0.33, 0.5, "each TLS connection: no session is taken up"},
	LateHandshake: {"late-handshake", 0.33, 0.2, "each flight of a handshake: comes late, perhaps when the " +
		"time is nearly over or just over"},
	CutByFIN:     {"cut-fin", 0.33, 0.4, "each TLS peer: FIN instead of any byte of what it sends"},
	CutByReset:   {"cut-reset", 0.33, 0.4, "each TLS peer: the same by RST"},
	CutBySilence: {"cut-silence", 0.33, 0.4, "each TLS peer: the same, and there is nothing more at all"},
	Alert: {"alert", 0.33, 0.1, "each flight of a handshake and each send in TLS: an alert instead, that " +
		"is fatal or not"},
	Corrupt:     {"corrupt", 0.33, 0.1, "each flight of a handshake and each record: a bit of it is wrong"},
	NotTLS:      {"not-tls", 0.33, 0.3, "each TLS peer: speaks HTTP instead"},
	TinyRecord:  {"tiny-record", 0.33, 0.8, "each record: is of a few bytes"},
	EmptyRecord: {"empty-record", 0.33, 0.5, "each record: comes behind one that holds nothing"},
	KeyUpdate:   {"key-update", 0.33, 0.5, "each record of TLS 1.3: is the first under new keys"},
	Truncated:   {"truncated", 0.33, 0.5, "each end in TLS: FIN without word of it"},
	HalfClosed:  {"half-closed", 0.33, 0.5, "each end in TLS: word of it without FIN"},

	Reuse:           {"reuse", 1, 0, "a descriptor gets the number that was closed last, but for new-number"},
	HalfCloseClient: {"half-close-client", 0, 0.44, "each client's script: it ends with FIN and reads on"},
	HalfCloseServer: {"half-close-server", 0, 0.44, "each server's script: the same"},
	ScriptedReset:   {"scripted-reset", 0, 0.11, "each peer's script: it ends with a reset"},
	CloseBoth:       {"close", 0, 0.11, "each peer's script: it ends by closing both directions"},
	UrgentData:      {"urgent", 0, 0.12, "each step of a peer: urgent data"},
	SlowReader:      {"slow-reader", 0, 0.12, "each step of a peer: it stops reading, perhaps for good"},
	Refused:         {"refused", 0, 0.17, "each attempt to reach a server: refused"},
	Never:           {"never", 0, 0.17, "each attempt: no answer at all"},
	Slow:            {"slow", 0, 0.17, "each attempt: the answer comes about at the connect timeout"},
	Outages: {"outage", 0.25, 0, "a server goes down: its connections are reset and attempts refused for " +
		"a while"},
	ServerFull:     {"server-full", 0.5, 0, "servers have a small maxconn: streams wait in the queue"},
	ProxyFull:      {"proxy-full", 0.25, 0, "the proxy has a small maxconn: clients wait in the backlog"},
	TimersTogether: {"timers-together", 0.25, 0, "clients come at the same instants"},
	ScriptedKill:   {"kill", 0.5, 0, "the operator ends up to three streams at given times"},
	SoftStop:       {"soft-stop", 0.12, 0, "a soft stop begins"},
	NewSets:        {"new-sets", 0.12, 0, "every worker makes its epoll set anew"},
	NoServers:      {"no-server", 0.02, 0, "no server takes streams"},
}

// String names the hazard.
func (h Hazard) String() string { return table[h].name }

// Description says in words what the hazard is.
func (h Hazard) Description() string { return table[h].what }

// Noise are the probabilities of the hazards that are decided at each occasion.
type Noise [noises]float64

// did counts a hazard that has happened.
func (w *World) did(h Hazard) { w.happened[h]++ }

// chance decides whether a hazard happens now. The caller counts it, if it can.
func (w *World) chance(h Hazard) bool {
	share := w.scenario.Noise[h]
	return share > 0 && w.random.Float64() < share
}

// strikes is chance, counted.
func (w *World) strikes(h Hazard) bool {
	if !w.chance(h) {
		return false
	}
	w.did(h)
	return true
}
