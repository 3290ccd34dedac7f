package haproxy

import (
	"bytes"
	"strings"
	"time"
)

// Session is one session of a dump, as printed: HAProxy's word, since 1.6, is stream. What a version does
// not print is left at zero.
type Session struct {
	// ID is the address of the stream in the memory of the process: what "shutdown session" takes. It is
	// reused when the stream has ended. Number is counted by the process (since 1.5) and tells the two
	// apart.
	ID       string
	Number   uint64
	Protocol string
	Source   string // address of the client
	Flags    uint32
	// Retries is as printed: the attempts that are left before 2.6, those that were made since.
	Retries int
	// CountsRetries is true exactly when Retries counts those that were made.
	CountsRetries bool

	Frontend, FrontendMode string
	Backend, Server        string
	// ListenAddress, LocalAddress and ServerAddress are the process's ends of both connections, and the far
	// end of the second.
	ListenAddress, LocalAddress, ServerAddress string

	// Calls counts the runs of its task, modulo 2^32. Rate is those of the last second (since 2.0).
	Calls   uint32
	Running bool // in the run queue
	Expire  Expiry
	// Threads is what is printed of the threads that may run it: a mask, or an index.
	Threads string
	Age     time.Duration

	// Client and Server are its two sides, Request and Response its two channels.
	ClientSide, ServerSide Side
	Request, Response      Channel
	// ConnectExpire is the timer of a connection attempt, the queue, or the pause between two attempts.
	ConnectExpire Expiry
	// Applet is the name of the applet that takes the place of a server: "<CLI>" for the runtime API.
	Applet string

	// whole is true exactly when both channels were read: the dump is not cut short in this session.
	whole bool
}

// Side is one side of a session: a stream interface up to 2.5, a stream connector since.
type Side struct {
	State string // three letters
	Flags uint32
	// Shuts is true exactly when Flags hold the shutdowns and Read and Write the timers, as since 2.8, and
	// not the channels.
	Shuts       bool
	Read, Write Expiry
	// Moved is the bytes that passed the side (since 3.4).
	Moved uint64
	// Connection is the address of the connection in the memory of the process, Control what it is of:
	// "tcpv4", "NONE" for one that is closed.
	Connection string
	Control    string
	FD         int
	// HasFD is true exactly when FD was printed.
	HasFD bool
}

// Channel is one direction of a session.
type Channel struct {
	Flags     uint32
	Analysers uint32
	// Total is the bytes that ever came in, Input and Output those in the buffer, before and after the
	// analysers.
	Total         uint64
	Input, Output int
	// Analyse is the timer of the analysers, Read and Write those of the two ends up to 2.7.
	Analyse, Read, Write Expiry
}

// Flags of a channel, unchanged from 1.5 to 2.7.
const (
	channelShutRead     = 0x00000020
	channelShutWrite    = 0x00002000
	channelShutWriteNow = 0x00004000
)

// Flags of a side since 2.8.
const (
	sideShutWanted = 0x00008000 // a shutdown waits for the buffer to drain
	sideAborted    = 0x00010000 // nothing more is read
	sideShut       = 0x00020000 // nothing more is written
	sideEnded      = 0x00040000 // the end of the stream was read
)

// sessionRedispatched is the flag of a session whose retry went to another server, in every version.
const sessionRedispatched = 0x00000100

// isAddress reports whether a word is an address in memory: what begins a session.
func isAddress(word []byte) bool {
	if len(word) < 3 || len(word) > 18 || string(word[:2]) != "0x" {
		return false
	}
	for _, c := range word[2:] {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f') {
			return false
		}
	}
	return true
}

// OfRuntimeAPI reports whether the session is one of the runtime API itself, such as the one over which the
// dump came.
func (s *Session) OfRuntimeAPI() bool {
	return s.Applet == "<CLI>" || (s.Frontend == "GLOBAL" || s.Frontend == "MASTER") && s.Backend == ""
}

// named returns a name, nothing for the words that stand for none.
func named(text string) string {
	if strings.EqualFold(text, "<none>") || text == "?" {
		return ""
	}
	return text
}

// part is what the line before was about: lines of the same begin mean different things in different
// places.
type part uint8

const (
	partSession part = iota
	partClientConnection
	partServerConnection
	partRequest
	partResponse
)

// parser puts a session together.
type parser struct {
	s     Session
	names names
	open  bool // a session has begun
	part  part
	// noted are the first keys of lines that were not understood.
	noted []string
}

// maxNoted is how many of them are kept: they are for a person who wonders about a new version.
const maxNoted = 16

// begin begins a session when the line is the first of one.
func (p *parser) begin(line []byte) bool {
	f, rest := nextField(line)
	id, ok := bytes.CutSuffix(f.key, []byte(":"))
	if f.valued || !ok || !isAddress(id) {
		return false
	}
	p.s, p.part, p.open = Session{ID: string(id)}, partSession, true
	each(rest, p.header)
	return true
}

func (p *parser) header(f field) {
	switch string(f.key) {
	case "id":
		p.s.Number = uint64(number(f.value))
	case "proto":
		p.s.Protocol = p.names.of(f.value)
	case "source":
		p.s.Source = string(f.value)
	}
}

// each calls what for every field of a line.
func each(line []byte, what func(field)) {
	for len(line) > 0 {
		var f field
		if f, line = nextField(line); len(f.key) > 0 {
			what(f)
		}
	}
}

// line reads one of the lines that follow.
func (p *parser) line(line []byte) {
	first, rest := nextField(line)
	s := &p.s
	switch string(first.key) {
	case "flags":
		switch p.part {
		case partClientConnection:
			each(rest, s.ClientSide.connection)
		case partServerConnection:
			each(rest, s.ServerSide.connection)
		default:
			s.Flags = uint32(hexadecimal(first.value))
			each(rest, p.session)
		}
	case "frontend":
		s.Frontend, s.ListenAddress, s.FrontendMode = p.place(first, rest)
	case "backend":
		s.Backend, s.LocalAddress, _ = p.place(first, rest)
	case "server":
		s.Server, s.ServerAddress, _ = p.place(first, rest)
	case "task":
		each(rest, p.task)
	case "si", "scf", "scb":
		p.side(string(first.key), rest)
	case "co0", "co1":
		side := &s.ClientSide
		p.part = partClientConnection
		if string(first.key) == "co1" {
			side, p.part = &s.ServerSide, partServerConnection
		}
		side.Connection = string(first.value)
		each(rest, func(f field) {
			if string(f.key) == "ctrl" {
				side.Control = p.names.of(f.value)
			}
		})
	case "app0", "app1":
		each(rest, func(f field) {
			if string(f.key) == "applet" {
				s.Applet = p.names.of(f.value)
			}
		})
	case "req":
		p.part = partRequest
		each(rest, s.Request.field)
	case "res":
		p.part = partResponse
		each(rest, s.Response.field)
	case "an_exp", "buf":
		p.channelLine(line)
	case "txn", "p_stc", "iobuf.flags", "cs":
		// Nothing in them that is needed.
	default:
		p.note(string(first.key))
	}
}

func (p *parser) note(key string) {
	for _, k := range p.noted {
		if k == key {
			return
		}
	}
	if len(p.noted) < maxNoted {
		p.noted = append(p.noted, key)
	}
}

// session reads the rest of the line of the session's flags.
func (p *parser) session(f field) {
	switch string(f.key) {
	case "conn_retries":
		p.s.Retries = int(int32(number(f.value)))
	case "conn_exp":
		p.s.ConnectExpire = expiry(f.value)
		p.s.CountsRetries = true
	}
}

func (p *parser) task(f field) {
	s := &p.s
	switch string(f.key) {
	case "calls":
		s.Calls = counter(f.value)
	case "exp":
		s.Expire = expiry(f.value)
	case "tmask", "tid":
		s.Threads = p.names.of(f.value)
	case "running":
		s.Running = true
	case "age":
		s.Age, _ = duration(f.value)
	}
}

// place reads a line of a frontend, a backend or a server: its name, and the address and mode that follow.
func (p *parser) place(first field, rest []byte) (name, address, mode string) {
	each(rest, func(f field) {
		switch string(f.key) {
		case "addr":
			address = string(f.value)
		case "mode":
			mode = p.names.of(f.value)
		}
	})
	return named(p.names.of(first.value)), named(address), mode
}

// side reads the line of a side. The brackets of "si[0]" separate fields, so its number is a field.
func (p *parser) side(key string, rest []byte) {
	side, isServer := &p.s.ClientSide, key == "scb"
	if key == "si" {
		var index field
		index, rest = nextField(rest)
		isServer = string(index.key) == "1"
	}
	if isServer {
		side = &p.s.ServerSide
	}
	each(rest, func(f field) {
		switch string(f.key) {
		case "state":
			side.State = p.names.of(f.value)
		case "flags":
			side.Flags = uint32(hexadecimal(f.value))
		case "exp":
			if isServer {
				p.s.ConnectExpire = expiry(f.value)
			}
		case "rex":
			side.Read, side.Shuts = expiry(f.value), true
		case "wex":
			side.Write, side.Shuts = expiry(f.value), true
		case "in", "out":
			side.Moved += uint64(number(f.value))
		}
	})
}

// connection reads the second line of a connection.
func (s *Side) connection(f field) {
	if string(f.key) == "fd" {
		s.FD, s.HasFD = int(int32(number(f.value))), true
	}
}

// channelLine reads the second or third line of a channel; its layout depends on the version, its keys do
// not.
func (p *parser) channelLine(line []byte) {
	channel := &p.s.Request
	switch p.part {
	case partResponse:
		channel = &p.s.Response
	case partRequest:
	default:
		return
	}
	each(line, channel.field)
	// The line of the buffer is the last of a channel.
	p.s.whole = p.part == partResponse && bytes.Contains(line, []byte("buf="))
}

func (c *Channel) field(f field) {
	switch string(f.key) {
	case "f":
		c.Flags = uint32(hexadecimal(f.value))
	case "an":
		c.Analysers = uint32(hexadecimal(f.value))
	case "total":
		c.Total = uint64(number(f.value))
	case "i":
		c.Input = int(number(f.value))
	case "o":
		c.Output = int(number(f.value))
	case "an_exp", "ax":
		c.Analyse = expiry(f.value)
	case "rex":
		c.Read = expiry(f.value)
	case "wex":
		c.Write = expiry(f.value)
	}
}
