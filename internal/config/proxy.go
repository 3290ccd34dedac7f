package config

import "strings"

// proxyKeyword is a keyword of the sections of proxies.
type proxyKeyword struct {
	read func(*parser, *draft, *statement)
	// side is where it has a meaning. In a section without that side HAProxy ignores the line with a
	// warning, or refuses it when strict is set.
	side   side
	strict bool
	// noDefaults keeps it out of section defaults.
	noDefaults bool
	// instead is what may have been meant in a section without that side.
	instead string
}

var proxyKeywords = map[string]proxyKeyword{
	"acl":             {read: (*parser).proxyACL, side: bothSides, noDefaults: true},
	"backlog":         {read: (*parser).proxyBacklog, side: clientSide},
	"balance":         {read: (*parser).proxyBalance, side: serverSide},
	"bind":            {read: (*parser).proxyBind, side: clientSide, noDefaults: true},
	"bind-process":    {read: (*parser).proxyBindProcess, side: bothSides},
	"default-server":  {read: (*parser).proxyDefaultServer, side: serverSide, strict: true},
	"default_backend": {read: (*parser).proxyDefaultBackend, side: clientSide},
	"description":     {read: (*parser).proxyDescription, side: bothSides, noDefaults: true},
	"disabled":        {read: (*parser).proxyDisabled, side: bothSides},
	"enabled":         {read: (*parser).proxyDisabled, side: bothSides},
	"fullconn":        {read: (*parser).proxyFullConn, side: serverSide, instead: "maxconn"},
	"id":              {read: (*parser).proxyID, side: bothSides, noDefaults: true},
	"log":             {read: (*parser).proxyLog, side: bothSides},
	"log-format":      {read: (*parser).proxyLogFormat, side: clientSide},
	"log-tag":         {read: (*parser).proxyLogTag, side: bothSides},
	"maxconn":         {read: (*parser).proxyMaxConn, side: clientSide, instead: "fullconn"},
	"mode":            {read: (*parser).proxyMode, side: bothSides},
	"option":          {read: (*parser).proxyOption, side: bothSides},
	"retries":         {read: (*parser).proxyRetries, side: serverSide},
	"server":          {read: (*parser).proxyServer, side: serverSide, strict: true, noDefaults: true},
	"tcp-request":     {read: (*parser).proxyTCPRequest, side: bothSides, noDefaults: true},
	"timeout":         {read: (*parser).proxyTimeout, side: bothSides},
	"use_backend":     {read: (*parser).proxyUseBackend, side: clientSide, noDefaults: true},
}

// readProxy reads a line of defaults, frontend, backend or listen.
func (p *parser) readProxy(d *draft, s *statement) {
	word := s.words[0]
	keyword, known := proxyKeywords[word]
	if instead, removed := removedProxy[word]; removed {
		s.errorf("%q no longer exists: use %s", word, instead)
		return
	}
	switch {
	case !known && unsupportedProxy[word]:
		s.errorf("%q %s", word, notYet)
	case !known:
		p.unknownKeyword(s, proxyNames)
	case s.prefix != "" && word != "option" && (word != "log" || s.prefix != "no"):
		s.errorf("%q does not apply to %q", s.prefix, word)
	case keyword.noDefaults && d.kind == sectionDefaults:
		s.errorf("%q is not allowed in section defaults", word)
	case keyword.side&d.kind.sides() != 0:
		keyword.read(p, d, s)
	case keyword.strict:
		s.errorf("%q is not allowed in %s: it has %s", word, d.title(), missingSide(keyword.side))
	default:
		p.readWrongSide(d, s, keyword)
	}
}

// readWrongSide reads a line that the section ignores. Its mistakes count all the same.
func (p *parser) readWrongSide(d *draft, s *statement, keyword proxyKeyword) {
	instead := ""
	if keyword.instead != "" {
		instead = "; did you mean " + quote(keyword.instead) + "?"
	}
	errors := p.report.counts[Error]
	keyword.read(p, d, s)
	if p.report.counts[Error] == errors {
		s.warnf("%q is ignored: %s has %s%s", s.words[0], d.title(), missingSide(keyword.side), instead)
	}
}

func missingSide(of side) string {
	if of == clientSide {
		return "no client side"
	}
	return "no server side"
}

// proxyMode accepts what HAProxy calls a pure TCP proxy, the only one so far.
func (p *parser) proxyMode(_ *draft, s *statement) {
	text, ok := s.only("mode", `"tcp"`)
	switch {
	case !ok || text == "tcp":
	case text == "http":
		s.errorf(`"mode http" %s, only tcp`, notYet)
	case text == "health":
		s.errorf(`"mode health" no longer exists, only tcp`)
	default:
		s.errorf(`"mode": unknown word %s, the only one is "tcp"`, quote(text))
	}
}

func (p *parser) proxyMaxConn(d *draft, s *statement) {
	if n, ok := s.onlyNumber("maxconn", 0, maxCount); ok {
		d.MaxConn = n
	}
}

func (p *parser) proxyBacklog(d *draft, s *statement) {
	if n, ok := s.onlyNumber("backlog", 0, maxCount); ok {
		d.Backlog = n
	}
}

func (p *parser) proxyFullConn(d *draft, s *statement) {
	if n, ok := s.onlyNumber("fullconn", 0, maxCount); ok {
		d.FullConn = n
	}
}

func (p *parser) proxyRetries(d *draft, s *statement) {
	if n, ok := s.onlyNumber("retries", 0, maxCount); ok {
		d.Retries = n
	}
}

// proxyBalance knows one algorithm, which HAProxy takes too when "balance" names none.
func (p *parser) proxyBalance(d *draft, s *statement) {
	text := s.word(1)
	name, _, _ := strings.Cut(text, "(")
	switch {
	case text == "" || text == "roundrobin":
		if s.atMost("balance", 1) {
			d.Balance = BalanceRoundRobin
		}
	case algorithms[name]:
		s.errorf(`"balance %s" %s, only roundrobin`, name, notYet)
	default:
		s.errorf(`"balance": unknown algorithm %s%s`, quote(text), suggestion(text, []string{"roundrobin"}))
	}
}

func (p *parser) proxyDefaultBackend(d *draft, s *statement) {
	if text, ok := s.only("default_backend", "the name of a backend"); ok {
		d.defaultBackend = reference{Position: s.Position, name: text}
	}
}

func (p *parser) proxyLog(d *draft, s *statement) {
	p.readLog(s, &d.Logs, false)
}

func (p *parser) proxyLogTag(d *draft, s *statement) {
	if text, ok := s.only("log-tag", "a tag"); ok {
		d.LogTag = text
	}
}

func (p *parser) proxyDescription(d *draft, s *statement) {
	if _, ok := s.argument("description", 1, "a text"); ok {
		d.Description = s.rest(1)
	}
}

// proxyID gives the proxy its number in dumps; those without one get the numbers that are left.
func (p *parser) proxyID(d *draft, s *statement) {
	n, ok := s.onlyNumber("id", 1, maxCount)
	if !ok {
		return
	}
	if first, seen := d.set["id"]; seen {
		s.errorf(`"id" was already set at %v`, first)
		return
	}
	d.set["id"] = s.Position
	if first, taken := p.proxyIDs[n]; taken {
		s.errorf(`"id": %d is already taken at %v`, n, first)
		return
	}
	p.proxyIDs[n] = s.Position
	d.ID = n
}

// proxyDisabled reads disabled and enabled.
func (p *parser) proxyDisabled(d *draft, s *statement) {
	if s.atMost(s.words[0], 0) {
		d.Disabled = s.words[0] == "disabled"
	}
}

func (p *parser) proxyBindProcess(_ *draft, s *statement) {
	s.warnf(`"bind-process" is ignored: there is always one process`)
}
