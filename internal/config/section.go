package config

import (
	"slices"
	"strings"
)

// section is the section that is being read.
type section struct {
	kind sectionKind
	// name is what the pseudo-variable .SECTION expands to: the name, or the kind of a section without one.
	name string
	// draft is set for defaults and proxies.
	draft *draft
}

var sectionKinds = map[string]sectionKind{
	"global": sectionGlobal, "defaults": sectionDefaults,
	"frontend": sectionFrontend, "backend": sectionBackend, "listen": sectionListen,
}

// beginSection reads a line that begins a section; it returns false when s is no such line.
func (p *parser) beginSection(s *statement) bool {
	word := s.words[0]
	kind, known := sectionKinds[word]
	if !known && !unsupportedSections[word] {
		return false
	}
	if s.prefix != "" {
		s.errorf("%q does not apply to %q", s.prefix, word)
	}
	if !known {
		s.errorf("section %q %s", word, notYet)
		p.section = section{kind: sectionUnknown, name: s.word(1)}
		return true
	}
	p.section = section{kind: kind, name: word}
	switch kind {
	case sectionDefaults:
		p.beginDefaults(s)
	case sectionFrontend, sectionBackend, sectionListen:
		p.beginProxy(s, kind)
	case sectionGlobal, sectionNone, sectionUnknown:
		s.atMost(word, 0)
	}
	return true
}

// beginDefaults reads "defaults [NAME] [from DEFAULTS]". Without "from" everything is reset.
func (p *parser) beginDefaults(s *statement) {
	name, at := s.word(1), 2
	if name == "from" {
		name, at = "", 1
	}
	base := p.builtin
	if s.word(at) == "from" {
		if named := p.fromDefaults(s, at); named != nil {
			base = named
		}
	} else {
		s.atMost("defaults", at-1)
	}
	d := base.derive(sectionDefaults, name, s.Position)
	p.defaults[name] = append(p.defaults[name], d)
	p.latest = d
	p.enter(s, d)
}

// beginProxy reads "frontend NAME [from DEFAULTS]", and backend and listen.
func (p *parser) beginProxy(s *statement, kind sectionKind) {
	name, ok := s.argument(kind.String(), 1, "a name")
	if c, bad := badNameChar(name); bad {
		s.errorf("%q: character %q is not permitted in the name %s", kind, c, quote(name))
		ok = false
	}
	base := p.latest
	switch {
	case s.word(2) == "from":
		if named := p.fromDefaults(s, 2); named != nil {
			base, named.explicit = named, true
		}
	case s.word(2) != "":
		s.errorf(`%q: unexpected word %s: addresses belong on a "bind" line`, kind, quote(s.word(2)))
		fallthrough
	default:
		base.implicit = true
	}
	if base.explicit && base.implicit && base != p.builtin && !base.warned {
		base.warned = true
		s.warnf(`the section defaults at %v is named after "from" by some sections and used by others `+
			"for being the last one: name it everywhere", base.Position)
	}
	d := base.derive(kind, name, s.Position)
	if ok {
		p.register(s, d)
	} else {
		p.lost[name] = true
	}
	p.enter(s, d)
}

// enter makes d the section that is being read.
func (p *parser) enter(s *statement, d *draft) {
	p.section.draft = d
	if d.Name != "" {
		p.section.name = d.Name
	}
	p.sections++
	if p.sections == maxProxies {
		s.errorf("more than %d sections", maxProxies)
		p.stopped = true
	}
}

// fromDefaults returns the section named after "from", the word at index at, or nil after a mistake.
func (p *parser) fromDefaults(s *statement, at int) *draft {
	label := s.words[0]
	name, ok := s.argument(label+" ... from", at+1, "the name of a section defaults")
	if !ok || !s.atMost(label, at+1) {
		return nil
	}
	found := p.defaults[name]
	switch {
	case len(found) == 0:
		s.errorf("%q: no section defaults before this line has the name %s%s", label, quote(name),
			nameSuggestion(name, p.defaults))
		return nil
	case len(found) > 1:
		s.errorf("%q: two sections defaults have the name %s, at %v and %v", label, quote(name),
			found[0].Position, found[1].Position)
	}
	if c, bad := badNameChar(name); bad {
		s.errorf("%q: character %q is not permitted in the name %s when it is used", label, c, quote(name))
	}
	return found[0]
}

// register adds a proxy to the configuration unless its name is taken on one of its sides.
func (p *parser) register(s *statement, d *draft) {
	var first *draft
	if d.IsFrontend {
		first = p.frontends[d.Name]
	}
	if d.IsBackend && first == nil {
		first = p.backends[d.Name]
	}
	if first != nil {
		s.errorf("%s has the same name as %s at %v", d.title(), first.title(), first.Position)
		return
	}
	if d.IsFrontend {
		p.frontends[d.Name] = d
	}
	if d.IsBackend {
		p.backends[d.Name] = d
	}
	p.proxies = append(p.proxies, d)
}

// unknownKeyword reports a word that no table knows: a line of its own, or the name of a section that does
// not exist.
func (p *parser) unknownKeyword(s *statement, names []string) {
	word := s.words[0]
	if p.looksLikeSection(word, names) {
		p.unknownSection(s)
		return
	}
	hint := suggestion(word, names)
	inGlobal := p.section.kind == sectionGlobal
	switch {
	case inGlobal && slices.Contains(proxyNames, word):
		hint = "; it belongs in a section of proxies"
	case !inGlobal && slices.Contains(globalNames, word):
		hint = "; it belongs in section global"
	}
	s.errorf("unknown keyword %s in section %s%s", quote(word), p.section.kind, hint)
}

// unknownSection reports a section that does not exist. Its lines are passed over: without knowing what the
// section is, nothing can be said about them.
func (p *parser) unknownSection(s *statement) {
	s.errorf("unknown section %s%s", quote(s.words[0]), suggestion(s.words[0], sectionNames))
	p.section = section{kind: sectionUnknown, name: s.word(1)}
	p.lost[s.word(1)] = true
}

// looksLikeSection guesses whether an unknown word was meant to begin a section: it is not indented, and it
// is like the name of a section, or like no keyword at all while the line after it is indented.
func (p *parser) looksLikeSection(word string, names []string) bool {
	if line := p.lines[p.number]; line != "" && isBlank(line[0]) {
		return false
	}
	if nearest(word, sectionNames) != "" {
		return true
	}
	return nearest(word, names) == "" && p.nextIsIndented()
}

// nextIsIndented looks at the next line that holds something.
func (p *parser) nextIsIndented() bool {
	i := slices.IndexFunc(p.lines[p.number+1:], func(line string) bool {
		text := strings.TrimLeft(line, " \t\v\f\r")
		return text != "" && text[0] != '#'
	})
	return i >= 0 && isBlank(p.lines[p.number+1+i][0])
}
