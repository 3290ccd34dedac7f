// Package sim is a seeded world under the real engine: sockets, pollers, a clock, clients and servers, and
// the faults of networks and kernels, all decided by one number. The production engine runs on it
// unchanged.
//
// A Scenario says what the world does; Run lets it happen and returns every broken rule; Shrink finds a
// shorter scenario that breaks the same rule. A scenario has a text form, in which failures are printed and
// testdata is kept.
package sim

import (
	"bufio"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/fault"
)

// Scenario is everything that happens to one engine.
type Scenario struct {
	// Seed decides what Noise leaves open and the small costs of time.
	Seed       uint64
	Workers    int
	BufferSize int
	// Pipes is how many pipes there may be.
	Pipes   int
	MaxConn int
	// ServerMaxConn is the limit of each server, 0 for none.
	ServerMaxConn int
	Retries       int
	Redispatch    int
	AbortOnClose  bool
	// TLSClient and TLSServer are the version of TLS that clients and servers speak, empty for none.
	TLSClient, TLSServer string
	// MaxSSLConn is the limit of connections with TLS, 0 for none.
	MaxSSLConn int
	// Unix makes the servers listen on unix sockets: connects end at once, and reads stop short of what is
	// there.
	Unix bool
	// NoServers disables all servers.
	NoServers bool
	Timeouts  Timeouts
	Fault     fault.Set
	Noise     Noise
	Servers   []ServerScript
	Clients   []ClientScript
	Outages   []Outage
	Kills     []Kill
	// Stop is when a soft stop begins, 0 for never.
	Stop time.Duration
	// Renew is when every worker is ordered to make its epoll set anew, 0 for never.
	Renew time.Duration
}

// Timeouts are those of the configuration, 0 for none.
type Timeouts struct {
	Connect, Client, Server, Tunnel, ClientFin, ServerFin, Queue, ClientHandshake time.Duration
}

// Answer is what a server does with a connection attempt.
type Answer uint8

const (
	// Accepts establishes the connection after the delay.
	Accepts Answer = iota
	// Refuses resets the attempt after the delay.
	Refuses
	// Silent never answers: a full accept queue, a firewall.
	Silent
	// Late establishes the connection when the connect timeout is about to pass, or has just passed.
	Late
)

var answerNames = [...]string{"accept", "refuse", "silent", "late"}

// ServerScript is one server. Each of its connections follows the script.
type ServerScript struct {
	// Answers are given in turn, one for each attempt, the last one for ever.
	Answers []Answer
	Delay   time.Duration
	Steps   []Step
}

// ClientScript is one client: a connection at a moment after the start, and what it does then.
type ClientScript struct {
	At    time.Duration
	Steps []Step
}

// Verb is what a peer does in a step.
type Verb uint8

const (
	// Send sends N bytes.
	Send Verb = iota
	// Urgent sends one byte of urgent data.
	Urgent
	// Await waits until N bytes have been received in all.
	Await
	// AwaitEnd waits for the end of what the other side sends.
	AwaitEnd
	// Fin shuts the write direction.
	Fin
	// Close closes both directions: whatever arrives later is answered with a reset.
	Close
	// Reset breaks the connection.
	Reset
	// Pause stops reading; Resume goes on.
	Pause
	Resume
	// Hold keeps the connection open at the end of the script even when the other side has shut its own
	// direction. Without it a peer answers an end with an end.
	Hold
	// CutFIN cuts the connection of a peer with TLS by FIN when it has sent N bytes, sealed ones and those of
	// its handshake; CutReset does by RST, and CutSilence by letting nothing more arrive. Only as the first
	// step has it an effect.
	CutFIN
	CutReset
	CutSilence
)

var verbNames = [...]string{
	"send", "urgent", "await", "await-end", "fin", "close", "reset", "pause", "resume", "hold",
	"cut-fin", "cut-reset", "cut-silence",
}

// counts reports whether a verb goes with a number.
func (v Verb) counts() bool { return v == Send || v == Await || v >= CutFIN }

// Step is one thing a peer does, After the one before was done.
type Step struct {
	After time.Duration
	Do    Verb
	N     int
}

// Outage is a time in which a server, counted from 1, is down: its connections are reset when it begins, and
// attempts are refused.
type Outage struct {
	Server  int
	At, For time.Duration
}

// Kill is an operator's order to end the stream of a client, counted from 1.
type Kill struct {
	Client int
	At     time.Duration
}

// String returns the text form.
func (s *Scenario) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("seed %d", s.Seed)
	line("workers %d", s.Workers)
	line("bufsize %d", s.BufferSize)
	if s.Pipes > 0 {
		line("pipes %d", s.Pipes)
	}
	line("maxconn %d", s.MaxConn)
	if s.ServerMaxConn > 0 {
		line("server-maxconn %d", s.ServerMaxConn)
	}
	line("retries %d", s.Retries)
	if s.Redispatch != 0 {
		line("redispatch %d", s.Redispatch)
	}
	if s.AbortOnClose {
		line("abortonclose")
	}
	s.textTLS(line)
	if s.Unix {
		line("unix")
	}
	if s.NoServers {
		line("no-servers")
	}
	for _, t := range s.Timeouts.list() {
		if *t.value > 0 {
			line("timeout %s %v", t.name, *t.value)
		}
	}
	if s.Fault != 0 {
		line("fault %v", s.Fault)
	}
	for h, share := range s.Noise {
		if share > 0 {
			line("noise %v %v", Hazard(h), share)
		}
	}
	for _, v := range s.Servers {
		names := make([]string, len(v.Answers))
		for i, a := range v.Answers {
			names[i] = answerNames[a]
		}
		line("server %s %v: %s", strings.Join(names, ","), v.Delay, stepsText(v.Steps))
	}
	for _, c := range s.Clients {
		line("client %v: %s", c.At, stepsText(c.Steps))
	}
	for _, o := range s.Outages {
		line("outage %d %v %v", o.Server, o.At, o.For)
	}
	for _, k := range s.Kills {
		line("kill %d %v", k.Client, k.At)
	}
	if s.Stop > 0 {
		line("stop %v", s.Stop)
	}
	if s.Renew > 0 {
		line("renew %v", s.Renew)
	}
	return b.String()
}

func (s *Scenario) textTLS(line func(string, ...any)) {
	if s.TLSClient != "" {
		line("tls-client %s", s.TLSClient)
	}
	if s.TLSServer != "" {
		line("tls-server %s", s.TLSServer)
	}
	if s.MaxSSLConn > 0 {
		line("maxsslconn %d", s.MaxSSLConn)
	}
}

type namedDuration struct {
	name  string
	value *time.Duration
}

func (t *Timeouts) list() []namedDuration {
	return []namedDuration{
		{"connect", &t.Connect}, {"client", &t.Client}, {"server", &t.Server}, {"tunnel", &t.Tunnel},
		{"client-fin", &t.ClientFin}, {"server-fin", &t.ServerFin}, {"queue", &t.Queue},
		{"client-hs", &t.ClientHandshake},
	}
}

func stepsText(steps []Step) string {
	words := make([]string, len(steps))
	for i, s := range steps {
		words[i] = verbNames[s.Do]
		if s.Do.counts() {
			words[i] += " " + strconv.Itoa(s.N)
		}
		if s.After > 0 {
			words[i] = "+" + s.After.String() + " " + words[i]
		}
	}
	return strings.Join(words, "; ")
}

// Parse reads the text form. Empty lines and lines that begin with '#' are skipped. What is not mentioned
// is as in a quiet world with one worker.
func Parse(text string) (*Scenario, error) {
	s := &Scenario{Workers: 1, BufferSize: 16384, MaxConn: 1000, Retries: 3}
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := s.parseLine(line); err != nil {
			return nil, fmt.Errorf("line %d: %q: %w", n, line, err)
		}
	}
	return s, lines.Err()
}

func (s *Scenario) parseLine(line string) error {
	head, script, _ := strings.Cut(line, ":")
	words := strings.Fields(head)
	arg := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	number := func(to *int) error {
		n, err := strconv.Atoi(arg(1))
		*to = n
		return err
	}
	switch words[0] {
	case "seed":
		n, err := strconv.ParseUint(arg(1), 10, 64)
		s.Seed = n
		return err
	case "workers":
		return number(&s.Workers)
	case "bufsize":
		return number(&s.BufferSize)
	case "pipes":
		return number(&s.Pipes)
	case "maxconn":
		return number(&s.MaxConn)
	case "server-maxconn":
		return number(&s.ServerMaxConn)
	case "retries":
		return number(&s.Retries)
	case "redispatch":
		return number(&s.Redispatch)
	case "abortonclose":
		s.AbortOnClose = true
		return nil
	case "tls-client", "tls-server":
		if !slices.Contains(tlsNames, arg(1)) {
			return fmt.Errorf("no version of TLS named %q", arg(1))
		}
		*map[string]*string{"tls-client": &s.TLSClient, "tls-server": &s.TLSServer}[words[0]] = arg(1)
		return nil
	case "maxsslconn":
		return number(&s.MaxSSLConn)
	case "unix":
		s.Unix = true
		return nil
	case "no-servers":
		s.NoServers = true
		return nil
	case "outage":
		return s.parseOutage(arg(1), arg(2), arg(3))
	case "timeout", "noise":
		return s.parseNamed(words[0], arg(1), arg(2))
	case "stop", "renew":
		at := map[string]*time.Duration{"stop": &s.Stop, "renew": &s.Renew}[words[0]]
		d, err := time.ParseDuration(arg(1))
		*at = d
		return err
	case "fault":
		f, err := fault.Parse(arg(1))
		s.Fault |= f
		return err
	}
	return s.parseActor(words[0], arg(1), arg(2), script)
}

func (s *Scenario) parseNamed(kind, name, value string) error {
	if kind == "noise" {
		for h := range noises {
			if h.String() == name {
				share, err := strconv.ParseFloat(value, 64)
				s.Noise[h] = share
				return err
			}
		}
		return fmt.Errorf("no noise named %q", name)
	}
	for _, t := range s.Timeouts.list() {
		if t.name == name {
			d, err := time.ParseDuration(value)
			*t.value = d
			return err
		}
	}
	return fmt.Errorf("no timeout named %q", name)
}

func (s *Scenario) parseOutage(server, at, last string) error {
	var o Outage
	var err error
	if o.Server, err = strconv.Atoi(server); err != nil {
		return err
	}
	if o.At, err = time.ParseDuration(at); err != nil {
		return err
	}
	if o.For, err = time.ParseDuration(last); err != nil {
		return err
	}
	s.Outages = append(s.Outages, o)
	return nil
}

func (s *Scenario) parseActor(kind, first, second, script string) error {
	steps, err := parseSteps(script)
	if err != nil {
		return err
	}
	switch kind {
	case "server":
		v := ServerScript{Steps: steps}
		for name := range strings.SplitSeq(first, ",") {
			i := index(answerNames[:], name)
			if i < 0 {
				return fmt.Errorf("no answer named %q", name)
			}
			v.Answers = append(v.Answers, Answer(i))
		}
		v.Delay, err = time.ParseDuration(second)
		s.Servers = append(s.Servers, v)
	case "client":
		c := ClientScript{Steps: steps}
		c.At, err = time.ParseDuration(first)
		s.Clients = append(s.Clients, c)
	case "kill":
		var k Kill
		if k.Client, err = strconv.Atoi(first); err == nil {
			k.At, err = time.ParseDuration(second)
		}
		s.Kills = append(s.Kills, k)
	default:
		return fmt.Errorf("unknown word %q", kind)
	}
	return err
}

func parseSteps(script string) ([]Step, error) {
	var steps []Step
	for text := range strings.SplitSeq(script, ";") {
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		var step Step
		var err error
		if after, ok := strings.CutPrefix(words[0], "+"); ok {
			if step.After, err = time.ParseDuration(after); err != nil {
				return nil, err
			}
			words = words[1:]
		}
		if len(words) == 0 {
			return nil, fmt.Errorf("step %q does nothing", text)
		}
		i := index(verbNames[:], words[0])
		if i < 0 {
			return nil, fmt.Errorf("no step named %q", words[0])
		}
		step.Do = Verb(i)
		if step.Do.counts() {
			if len(words) < 2 {
				return nil, fmt.Errorf("step %q needs a number of bytes", text)
			}
			if step.N, err = strconv.Atoi(words[1]); err != nil {
				return nil, err
			}
		}
		steps = append(steps, step)
	}
	return steps, nil
}

func index(names []string, name string) int {
	for i, n := range names {
		if n == name {
			return i
		}
	}
	return -1
}
