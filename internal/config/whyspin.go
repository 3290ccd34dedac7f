package config

import (
	"slices"
	"strconv"

	"github.com/whyspin/whyspin/internal/fault"
)

// whyspinPrefix begins the keywords that HAProxy does not have.
const whyspinPrefix = "whyspin."

var whyspinKeywords = map[string]func(*parser, *statement){
	"whyspin.admin":       (*parser).whyspinAdmin,
	"whyspin.admin-auth":  (*parser).whyspinAdminAuth,
	"whyspin.fault":       (*parser).whyspinFault,
	"whyspin.spin-action": (*parser).whyspinSpinAction,
	"whyspin.tracing":     (*parser).whyspinTracing,
}

// readWhyspin reads a whyspin.* line of section global.
func (p *parser) readWhyspin(s *statement) {
	keyword := s.words[0]
	read, known := whyspinKeywords[keyword]
	switch {
	case !known:
		names := sortedKeys(whyspinKeywords)
		s.errorf("unknown keyword %s%s (known ones are %s)", quote(keyword), suggestion(keyword, names),
			quoteAll(names))
	case s.prefix != "":
		s.errorf("%q does not apply to %q", s.prefix, keyword)
	default:
		read(p, s)
	}
}

// unrepeated reports whether the keyword is given for the first time: a second value would contradict the
// first.
func (p *parser) unrepeated(s *statement) bool {
	keyword := s.words[0]
	if first, seen := p.seen[keyword]; seen {
		s.errorf("%q was already set at %v", keyword, first)
		return false
	}
	p.seen[keyword] = s.Position
	return true
}

// choose reads the single word of a line that takes one of few. It returns its index, or -1 after a mistake.
func (s *statement) choose(words ...string) int {
	keyword := s.words[0]
	if !s.atMost(keyword, 1) {
		return -1
	}
	for i, w := range words {
		if s.word(1) == w {
			return i
		}
	}
	if s.word(1) == "" {
		s.errorf("%q expects one of %s", keyword, quoteAll(words))
	} else {
		s.errorf("%q: unknown word %s, known ones are %s%s", keyword, quote(s.word(1)), quoteAll(words),
			suggestion(s.word(1), words))
	}
	return -1
}

func (p *parser) whyspinTracing(s *statement) {
	values := []Tracing{TracingOff, TracingAuto, TracingAlways}
	if i := s.choose("off", "auto", "always"); i >= 0 && p.unrepeated(s) {
		p.config.Global.Whyspin.Tracing = values[i]
	}
}

func (p *parser) whyspinSpinAction(s *statement) {
	values := []SpinAction{SpinReport, SpinShutdown, SpinAbort}
	if i := s.choose("report", "shutdown", "abort"); i >= 0 && p.unrepeated(s) {
		p.config.Global.Whyspin.SpinAction = values[i]
	}
}

// whyspinFault reads "whyspin.fault NAME [PROBABILITY] [in FRONTEND]". Several lines ask for several faults.
func (p *parser) whyspinFault(s *statement) {
	const label = "whyspin.fault"
	name, ok := s.argument(label, 1, "the name of a fault")
	if !ok {
		return
	}
	if !p.opts.AllowFaults {
		s.errorf("%q is refused: faults break streams on purpose; --allow-faults allows them", label)
		return
	}
	f := Fault{Position: s.Position, Probability: 1}
	last := 1 // the last word that was read
	if text := s.word(2); text != "" && text != "in" {
		var err error
		f.Probability, err = strconv.ParseFloat(text, 64)
		if err != nil || !(f.Probability > 0 && f.Probability <= 1) {
			s.errorf("%q: %s is not a probability above 0 and at most 1", label, quote(text))
			return
		}
		last = 2
	}
	if s.word(last+1) == "in" {
		if f.Frontend, ok = s.argument(label, last+2, `the name of a frontend after "in"`); !ok {
			return
		}
		last += 2
	}
	var err error
	if f.Fault, err = fault.Parse(name); err != nil {
		s.errorf("%q: %v", label, err)
		return
	}
	if !s.atMost(label, last) {
		return
	}
	w := &p.config.Global.Whyspin
	for _, other := range w.Faults {
		if other.Fault == f.Fault && other.Frontend == f.Frontend {
			s.errorf("%q: %q was already set at %v", label, name, other.Position)
			return
		}
	}
	w.Faults = append(w.Faults, f)
}

// checkFaults looks for the frontends that faults are confined to.
func (p *parser) checkFaults() {
	for _, f := range p.config.Global.Whyspin.Faults {
		if f.Frontend != "" && !slices.ContainsFunc(p.proxies, func(d *draft) bool {
			return d.IsFrontend && d.Name == f.Frontend
		}) {
			p.report.errorf(f.Position, `"whyspin.fault": there is no frontend %s`, quote(f.Frontend))
		}
	}
}

func (p *parser) whyspinAdmin(s *statement) {
	const label = "whyspin.admin"
	text, ok := s.only(label, "an address")
	if !ok || !p.unrepeated(s) {
		return
	}
	w := &p.config.Global.Whyspin
	w.AdminPos = s.Position
	a, last, err := p.address(text, adminUse)
	if err == nil && last > a.Port {
		s.errorf("%q: port range in %s: only bind may have one", label, quote(text))
		return
	}
	if err != nil {
		s.errorf("%q: %v", label, err)
		return
	}
	w.Admin = a
}

func (p *parser) whyspinAdminAuth(s *statement) {
	if text, ok := s.only("whyspin.admin-auth", "a file name"); ok && p.unrepeated(s) {
		p.config.Global.Whyspin.AdminAuth, p.config.Global.Whyspin.AdminAuthPos = text, s.Position
	}
}

// checkAdmin reports HTTP endpoints that anybody on the network could use: they show addresses and can stop
// streams.
func (p *parser) checkAdmin() {
	w := &p.config.Global.Whyspin
	if w.AdminAuth != "" && w.AdminPos.Line == 0 {
		p.report.warnf(w.AdminAuthPos, `"whyspin.admin-auth" has no effect without "whyspin.admin"`)
	}
	if w.AdminPos.Line == 0 || w.AdminAuthPos.Line != 0 {
		return
	}
	a := w.Admin
	local := a.Kind == AddressNone || a.Kind == AddressUnix || a.Kind == AddressIP && a.IP.IsLoopback() ||
		a.Kind == AddressName && a.Name == "localhost"
	if !local {
		p.report.errorf(w.AdminPos, `"whyspin.admin": %v is neither a loopback address nor a unix socket: `+
			`it needs "whyspin.admin-auth"`, a)
	}
}
