package config

import "strings"

// HandOverCommand is the order of the runtime API by which a new process asks the one that it replaces for
// its listeners.
const HandOverCommand = "_handover"

// levels are the words after "level".
var levels = map[string]Level{"user": LevelUser, "operator": LevelOperator, "admin": LevelAdmin}

// globalStats reads the lines "stats ..." of section global: the runtime API.
func (p *parser) globalStats(s *statement) {
	g := &p.config.Global
	switch s.word(1) {
	case "socket":
		p.readStatsSocket(s)
	case "timeout":
		text, ok := s.argument("stats timeout", 2, "a time")
		if !ok || !s.atMost("stats timeout", 2) {
			return
		}
		if d, ok := s.duration("stats timeout", text); ok && d == 0 {
			s.errorf(`"stats timeout" cannot be 0`)
		} else if ok {
			g.StatsTimeout = d
		}
	case "maxconn":
		text, ok := s.argument("stats maxconn", 2, "a whole number")
		if !ok || !s.atMost("stats maxconn", 2) {
			return
		}
		if n, ok := s.number("stats maxconn", text, 1, maxCount); ok {
			g.StatsMaxConn = n
		}
	case "bind-process":
		s.warnf(`"stats bind-process" is ignored: there is always one process`)
	case "":
		s.errorf(`"stats" expects one of "socket", "timeout" and "maxconn"`)
	default:
		known := []string{"socket", "timeout", "maxconn"}
		s.errorf(`"stats": unknown word %s, known ones are %s%s`, quote(s.word(1)), quoteAll(known),
			suggestion(s.word(1), known))
	}
}

// readStatsSocket reads "stats socket ADDRESS[,ADDRESS...] [options]".
func (p *parser) readStatsSocket(s *statement) {
	const label = "stats socket"
	text, ok := s.argument(label, 2, "an address")
	if !ok {
		return
	}
	var addresses []Address
	for part := range strings.SplitSeq(text, ",") {
		a, last, err := p.address(part, listenUse)
		if err != nil {
			s.errorf("%q: %v", label, err)
			return
		}
		for port := a.Port; port <= last && p.roomForListener(s); port++ {
			one := a
			one.Port = port
			addresses = append(addresses, one)
		}
	}
	options := &parameters{statement: s, label: label, at: 3}
	set, level, expose := newSocket(), LevelOperator, false
	for name, ok := options.next(); ok; name, ok = options.next() {
		switch {
		case socketOptions[name]:
			options.readSocketOption(name, &set)
		case name == "level":
			level = options.readLevel()
		case name == "expose-fd":
			if what, ok := options.value(name); ok && what != "listeners" {
				s.errorf(`%q: "expose-fd" knows only "listeners"`, label)
			} else if ok {
				expose = true
			}
		default:
			options.other(name, unsupportedStats, append(sortedKeys(socketOptions), "level", "expose-fd"))
		}
	}
	options.finish()
	options.checkSocket(set, addresses)
	for _, a := range addresses {
		p.config.Global.StatsSockets = append(p.config.Global.StatsSockets,
			StatsSocket{Position: s.Position, Address: a, Level: level, ExposeListeners: expose,
				Unix: set.unix})
	}
}

func (p *parameters) readLevel() Level {
	text, ok := p.value("level")
	if !ok {
		return LevelOperator
	}
	level, known := levels[text]
	if !known {
		words := sortedKeys(levels)
		p.errorf("%q: unknown level %s, known ones are %s%s", p.label, quote(text), quoteAll(words),
			suggestion(text, words))
	}
	return level
}
