package haproxy

import (
	"bytes"
	"io"
)

// Summary is what is known of a dump as a whole.
type Summary struct {
	// Sessions is the number that were whole.
	Sessions int
	// Complete is true exactly when the answer ended as HAProxy ends answers: with an empty line after the
	// last session.
	Complete bool
	// Begin is the first line, when that is not of a session: the reason why there are none.
	Begin string `json:",omitempty"`
	// Noted are keys of lines that this package does not know, those of a newer version, say.
	Noted []string
}

// maxBegin is how much of a line that is not understood is shown, in bytes.
const maxBegin = 80

// ReadSessions reads the answer to "show sess all" and calls each for every session that is whole. The
// session is valid during the call only. Text before, between and after sessions is skipped: a copy from a
// web page, or a help text of a version that does not know the command, reads as what it holds.
func ReadSessions(r io.Reader, each func(*Session)) (Summary, error) {
	var sum Summary
	p := &parser{names: names{}}
	end := func() {
		if p.open && p.s.whole {
			sum.Sessions++
			each(&p.s)
		}
		p.open = false
	}
	lines := newLines(r)
	for lines.next() {
		switch {
		case lines.blank:
			end()
		case p.starts(lines.line):
			end()
			p.begin(lines.line)
		case p.open:
			p.line(lines.line)
		case sum.Sessions == 0 && sum.Begin == "":
			sum.Begin = string(lines.line[:min(len(lines.line), maxBegin)])
		}
	}
	end()
	sum.Complete, sum.Noted = lines.ended && lines.err == nil, p.noted
	return sum, lines.err
}

// starts reports whether a line may be the first of a session, so that the one before has ended.
func (p *parser) starts(line []byte) bool {
	return len(line) > 2 && line[0] == '0' && line[1] == 'x'
}

// ReadShort reads the answer to "show sess", one line for each session, and calls each for every one.
// Names, addresses of servers and the bytes that passed are not in it.
func ReadShort(r io.Reader, each func(*Session)) (Summary, error) {
	var sum Summary
	p := &parser{names: names{}}
	lines := newLines(r)
	for lines.next() {
		if lines.blank || !p.begin(lines.line) {
			continue
		}
		p.short(lines.line)
		sum.Sessions++
		each(&p.s)
	}
	sum.Complete = lines.ended && lines.err == nil
	return sum, lines.err
}

// short reads a line of the short form. What stands in brackets after a word is a side or a channel; all
// else is of the session.
func (p *parser) short(line []byte) {
	s := &p.s
	group := ""
	for len(line) > 0 {
		var f field
		if f, line = nextField(line); len(f.key) == 0 {
			continue
		}
		opens := len(line) > 0 && line[0] == '['
		switch {
		case opens:
			group = string(f.key)
			continue
		case group == "":
			p.sessionShort(f)
		case group == "rq":
			s.Request.short(f)
		case group == "rp":
			s.Response.short(f)
		case group == "s0" || group == "scf":
			s.ClientSide.short(f)
		case group == "s1" || group == "scb":
			s.ServerSide.short(f)
		}
		if len(line) > 0 && line[0] == ']' {
			group = ""
		}
	}
}

func (p *parser) sessionShort(f field) {
	s := &p.s
	switch string(f.key) {
	case "proto":
		s.Protocol = p.names.of(f.value)
	case "src":
		s.Source = string(f.value)
	case "fe":
		s.Frontend = named(p.names.of(f.value))
	case "be":
		s.Backend = named(p.names.of(f.value))
	case "srv":
		s.Server = named(p.names.of(f.value))
	case "age":
		s.Age, _ = duration(f.value)
	case "calls":
		s.Calls = counter(f.value)
	case "exp":
		s.Expire = shortExpiry(f.value)
	case "rc":
		s.Retries, s.CountsRetries = int(number(f.value)), true
	case "c_exp":
		s.ConnectExpire = shortExpiry(f.value)
	case "run":
		s.Running = true
	}
}

// short reads a field of a channel in the short form: its timers are called rx, wx and ax.
func (c *Channel) short(f field) {
	switch string(f.key) {
	case "ax":
		c.Analyse = shortExpiry(f.value)
	case "rx":
		c.Read = shortExpiry(f.value)
	case "wx":
		c.Write = shortExpiry(f.value)
	default:
		c.field(f)
	}
}

// short reads a field of a side in the short form. The first two have no name: the state as a number, which
// is another in each version, and the flags.
func (s *Side) short(f field) {
	switch string(f.key) {
	case "fd":
		s.connection(f)
	case "rex":
		s.Read, s.Shuts = shortExpiry(f.value), true
	case "wex":
		s.Write, s.Shuts = shortExpiry(f.value), true
	default:
		if flags, ok := bytes.CutSuffix(f.key, []byte("h")); ok && !f.valued {
			s.Flags = uint32(hexadecimal(flags))
		}
	}
}
