package config

import "time"

// timeout is a name after "timeout".
type timeout struct {
	side side
	// field returns where the value goes, nil for a timeout that has no effect in mode tcp.
	field func(*Timeouts) *time.Duration
}

var timeouts = map[string]timeout{
	"check":           {serverSide, nil},
	"client":          {clientSide, func(t *Timeouts) *time.Duration { return &t.Client }},
	"client-fin":      {clientSide, func(t *Timeouts) *time.Duration { return &t.ClientFin }},
	"client-hs":       {clientSide, func(t *Timeouts) *time.Duration { return &t.ClientHS }},
	"connect":         {serverSide, func(t *Timeouts) *time.Duration { return &t.Connect }},
	"http-keep-alive": {bothSides, nil},
	"http-request":    {bothSides, nil},
	"queue":           {serverSide, func(t *Timeouts) *time.Duration { return &t.Queue }},
	"server":          {serverSide, func(t *Timeouts) *time.Duration { return &t.Server }},
	"server-fin":      {serverSide, func(t *Timeouts) *time.Duration { return &t.ServerFin }},
	"tarpit":          {bothSides, nil},
	"tunnel":          {serverSide, func(t *Timeouts) *time.Duration { return &t.Tunnel }},
}

// proxyTimeout reads "timeout NAME TIME".
func (p *parser) proxyTimeout(d *draft, s *statement) {
	name := s.word(1)
	t, known := timeouts[name]
	switch {
	case name == "":
		s.errorf(`"timeout" expects one of %s`, quoteAll(sortedKeys(timeouts)))
		return
	case !known:
		s.errorf("unknown timeout %s, known ones are %s%s", quote(name), quoteAll(sortedKeys(timeouts)),
			suggestion(name, sortedKeys(timeouts)))
		return
	}
	label := "timeout " + name
	text, ok := s.argument(label, 2, "a time")
	if !ok || !s.atMost(label, 2) {
		return
	}
	value, ok := s.duration(label, text)
	switch {
	case !ok:
	case t.side&d.kind.sides() == 0:
		s.warnf("%q is ignored: %s has %s", label, d.title(), missingSide(t.side))
	case t.field == nil:
		s.warnf("%q has no effect in mode tcp", label)
	default:
		if first, seen := d.set[label]; seen {
			s.warnf("%q replaces the one at %v", label, first)
		}
		d.set[label] = s.Position
		*t.field(&d.Timeouts) = value
	}
}
