package config

import (
	"cmp"
	"strings"
)

// block is an .if that is not closed yet.
type block struct {
	Position
	// outer is true exactly when the lines around the block are read.
	outer bool
	// reading is true exactly when the lines of the current branch are read.
	reading bool
	// settled is true exactly when no later branch may be read: one was, or the condition had a mistake and
	// nobody knows which one should be.
	settled bool
	// last is true exactly when .else was seen.
	last bool
}

// reading reports whether lines are read at this place, or skipped by .if.
func (p *parser) reading() bool {
	return len(p.blocks) == 0 || p.blocks[len(p.blocks)-1].reading
}

// directive reads a line whose first word begins with a dot. In a part that is skipped, only what opens,
// continues and closes blocks is looked at.
func (p *parser) directive(s *statement) {
	switch s.words[0] {
	case ".if":
		p.openBlock(s)
	case ".elif", ".else", ".endif":
		p.continueBlock(s)
	case ".diag", ".notice", ".warning", ".alert":
		if p.reading() {
			p.message(s)
		}
	default:
		if p.reading() {
			s.errorf("unknown directive %s%s", quote(s.words[0]), suggestion(s.words[0], directives))
		}
	}
}

var directives = []string{".if", ".elif", ".else", ".endif", ".diag", ".notice", ".warning", ".alert"}

func (p *parser) openBlock(s *statement) {
	if len(p.blocks) == maxBlocks {
		s.errorf("more than %d .if blocks inside each other", maxBlocks)
		p.stopped = true
		return
	}
	b := block{Position: s.Position, outer: p.reading()}
	if b.outer {
		b.reading, b.settled = p.condition(s)
	} else {
		b.settled = true
	}
	p.blocks = append(p.blocks, b)
}

// condition evaluates the condition of s. A mistake settles the block: neither branch is read.
func (p *parser) condition(s *statement) (reading, settled bool) {
	result, err := evaluate(strings.Join(s.words[1:], " "), p.env)
	if err != nil {
		s.errorf("%q: %v", s.words[0], err)
		return false, true
	}
	return result, result
}

func (p *parser) continueBlock(s *statement) {
	word := s.words[0]
	if len(p.blocks) == 0 {
		s.errorf("%q without an .if before it", word)
		return
	}
	b := &p.blocks[len(p.blocks)-1]
	if word != ".elif" && !s.atMost(word, 0) && word == ".else" {
		b.settled = true // perhaps ".else if": nobody knows whether this branch should be read
	}
	switch {
	case word == ".endif":
		p.blocks = p.blocks[:len(p.blocks)-1]
	case b.last:
		s.errorf("%q after .else (the block began at line %d)", word, b.Line)
		b.reading = false
	case b.settled:
		b.reading, b.last = false, word == ".else"
	case word == ".elif":
		b.reading, b.settled = p.condition(s)
	default:
		b.reading, b.settled, b.last = true, true, true
	}
}

// endBlocks reports the blocks that the file leaves open: a block ends in the file it began in.
func (p *parser) endBlocks() {
	for _, b := range p.blocks {
		p.report.errorf(b.Position, `".if" without .endif before the end of the file`)
	}
	p.blocks = p.blocks[:0]
}

// message reads .diag, .notice, .warning and .alert. What .diag says is for HAProxy's diagnostic mode, which
// whyspin does not have.
func (p *parser) message(s *statement) {
	if len(s.words) > 2 {
		s.errorf("%q takes one word: put the message into quotes", s.words[0])
		return
	}
	text := cmp.Or(s.word(1), s.words[0]+" without a message")
	switch s.words[0] {
	case ".notice":
		p.report.add(s.Position, Notice, text)
	case ".warning":
		p.report.add(s.Position, Warning, text)
	case ".alert":
		p.report.add(s.Position, Error, text)
	}
}
