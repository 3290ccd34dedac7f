package config

import (
	"errors"
	"slices"
	"strings"

	"github.com/whyspin/whyspin/internal/rules"
)

// pendingSwitch is a "use_backend" with a condition while the backend is not looked up.
type pendingSwitch struct {
	reference
	condition *rules.Condition
}

// pendingCondition is a condition that is looked at when all lines of its section are read: a line "acl" may
// add to one that was used before it.
type pendingCondition struct {
	Position
	label     string
	stage     rules.Stage
	condition *rules.Condition
}

// explain is what an error of package rules says, with a suggestion where a word is unknown.
func explain(err error) string {
	if unknown, is := errors.AsType[*rules.UnknownError](err); is {
		return err.Error() + suggestion(unknown.Name, unknown.Known)
	}
	return err.Error()
}

// until returns the words from index i on up to the first empty one, after which nothing may follow.
func (s *statement) until(label string, i int) ([]string, bool) {
	words := s.words[min(i, len(s.words)):]
	end := slices.Index(words, "")
	if end < 0 {
		return words, true
	}
	if rest := strings.Join(words[end:], ""); rest != "" {
		s.errorf("%q: empty word before %s (a variable that is not set?)", label, quote(rest))
		return nil, false
	}
	return words[:end], true
}

// proxyACL reads "acl NAME FETCH [flags] [patterns]".
func (p *parser) proxyACL(d *draft, s *statement) {
	words, ok := s.until("acl", 1)
	if !ok {
		return
	}
	warning, err := d.acls.Add(words)
	switch {
	case err != nil:
		s.errorf(`"acl": %s`, explain(err))
	case warning != "":
		s.warnf(`"acl": %s`, warning)
	}
}

// condition reads the condition at the end of a line, nil for none.
func (d *draft) condition(s *statement, label string, i int, stage rules.Stage) (*rules.Condition, bool) {
	words, ok := s.until(label, i)
	switch {
	case !ok:
		return nil, false
	case len(words) == 0:
		return nil, true
	case words[0] != "if" && words[0] != "unless":
		s.errorf(`%q: unexpected word %s, only "if" and "unless" may follow`, label, quote(words[0]))
		return nil, false
	}
	c, warnings, err := d.acls.Condition(words)
	if err != nil {
		s.errorf("%q: %s", label, explain(err))
		return nil, false
	}
	for _, warning := range warnings {
		s.warnf("%q: %s", label, warning)
	}
	d.conditions = append(d.conditions, pendingCondition{s.Position, label, stage, c})
	return c, true
}

// checkConditions warns of conditions that ask for what is not known when they are looked at.
func (p *parser) checkConditions(d *draft) {
	for _, c := range d.conditions {
		if expression, from := c.condition.TooEarly(c.stage); expression != "" {
			p.report.warnf(c.Position, "%q: %s has no value yet: it is known from %v on", c.label,
				quote(expression), from)
		}
	}
}

// tcpActions are the other actions of "tcp-request".
var tcpActions = setOf(`
	add-acl capture do-resolve expect-netscaler-cip expect-proxy lua sc-inc-gpc sc-inc-gpc0
	sc-inc-gpc1 sc-set-gpt sc-set-gpt0 send-spoe-group set-bandwidth-limit set-dst set-dst-port set-log-level
	set-mark set-nice set-priority-class set-priority-offset set-src set-src-port set-tos set-var silent-drop
	switch-mode track-sc0 track-sc1 track-sc2 unset-var use-service`)

// proxyTCPRequest reads "tcp-request connection|session|content accept|reject [if|unless ...]".
func (p *parser) proxyTCPRequest(d *draft, s *statement) {
	kind, ok := s.argument("tcp-request", 1, `"connection", "session", "content" or "inspect-delay"`)
	if !ok {
		return
	}
	to, stage := &d.Content, rules.StageContent
	switch kind {
	case "connection":
		to, stage = &d.Connection, rules.StageConnection
	case "session":
		to, stage = &d.Session, rules.StageSession
	case "content":
		if !d.IsFrontend {
			stage = rules.StageBackend
		}
	case "inspect-delay":
		p.inspectDelay(s)
		return
	default:
		known := []string{"connection", "content", "inspect-delay", "session"}
		s.errorf(`"tcp-request": unknown word %s, known ones are %s%s`, quote(kind), quoteAll(known),
			suggestion(kind, known))
		return
	}
	label := "tcp-request " + kind
	if !d.IsFrontend && kind != "content" {
		s.errorf("%q is not allowed in %s: it has %s", label, d.title(), missingSide(clientSide))
		return
	}
	action, ok := s.argument(label, 2, `"accept" or "reject"`)
	if !ok {
		return
	}
	name, _, _ := strings.Cut(action, "(")
	switch {
	case action == "accept" || action == "reject":
		if c, ok := d.condition(s, label, 3, stage); ok {
			*to = append(*to, rules.Rule{Accept: action == "accept", If: c})
		}
	case tcpActions[name] || strings.HasPrefix(name, "lua.") || strings.HasPrefix(name, "sc-"):
		s.errorf(`%q: action %s %s, only "accept" and "reject"`, label, quote(name), notYet)
	default:
		known := append([]string{"accept", "reject"}, sortedKeys(tcpActions)...)
		s.errorf("%q: unknown action %s%s", label, quote(action), suggestion(action, known))
	}
}

// inspectDelay is how long rules wait for bytes to look at, and none that is supported does.
func (p *parser) inspectDelay(s *statement) {
	text, ok := s.argument("tcp-request inspect-delay", 2, "a time")
	if !ok || !s.atMost("tcp-request inspect-delay", 2) {
		return
	}
	if _, ok := s.duration("tcp-request inspect-delay", text); ok {
		s.warnf(`"tcp-request inspect-delay" has no effect: no fetch that is supported waits for bytes`)
	}
}

// proxyUseBackend reads "use_backend NAME [if|unless ...]". The first one without a condition always applies,
// so it is the default backend.
func (p *parser) proxyUseBackend(d *draft, s *statement) {
	text, ok := s.argument("use_backend", 1, "the name of a backend")
	if !ok {
		return
	}
	condition, ok := d.condition(s, "use_backend", 2, rules.StageContent)
	to := reference{Position: s.Position, name: text}
	switch {
	case !ok:
	case strings.Contains(text, "%["):
		s.errorf(`"use_backend": a name with a sample expression %s`, notYet)
	case d.switched.name != "":
		s.warnf(`"use_backend" is ignored: the one at %v always applies`, d.switched.Position)
		p.alsoNamed = append(p.alsoNamed, to)
	case condition == nil:
		d.switched = to
	default:
		d.switches = append(d.switches, pendingSwitch{to, condition})
	}
}

// resolveSwitches finds the backends of a frontend's rules.
func (p *parser) resolveSwitches(d *draft) {
	for _, s := range d.switches {
		switch b := p.backends[s.name]; {
		case d.Disabled && b == nil:
		case p.backend(s.reference, "use_backend") == nil:
		case b == d:
			p.report.errorf(s.Position, `"use_backend": %s would send its connections to itself`, d.title())
		default:
			d.Switches = append(d.Switches, Switch{s.Position, s.condition, &b.Proxy})
		}
	}
}

// proxyLogFormat reads "log-format FORMAT".
func (p *parser) proxyLogFormat(d *draft, s *statement) {
	text, ok := s.argument("log-format", 1, "a format")
	if !ok {
		return
	}
	if len(s.words) > 2 && s.rest(2) != "" {
		s.errorf(`"log-format" expects one word: put the format into quotes`)
		return
	}
	f, err := rules.ParseFormat(text)
	if err != nil {
		s.errorf(`"log-format": %s`, explain(err))
		return
	}
	d.LogFormat, d.TCPLog = f, true
}
