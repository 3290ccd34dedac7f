package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// statement is one line of the configuration, cut into words. Its methods report mistakes at its position
// and return whether there was none.
type statement struct {
	Position
	words []string
	// prefix is "no" or "default" when the line began with it; words are then those after it.
	prefix string
	report *diagnostics
}

func (s *statement) errorf(format string, args ...any) {
	s.report.errorf(s.Position, format, args...)
}

func (s *statement) warnf(format string, args ...any) {
	s.report.warnf(s.Position, format, args...)
}

// word returns the word at index i. A line reads as if empty words followed it, as in HAProxy: an empty
// word, which is what an unset variable leaves, is the same as none.
func (s *statement) word(i int) string {
	if i < len(s.words) {
		return s.words[i]
	}
	return ""
}

// rest returns the words from index i on, as text.
func (s *statement) rest(i int) string {
	return strings.TrimSpace(strings.Join(s.words[min(i, len(s.words)):], " "))
}

// atMost reports an error when more than n words that are not empty follow the first one.
func (s *statement) atMost(label string, n int) bool {
	for _, extra := range s.words[min(n+1, len(s.words)):] {
		if extra != "" {
			s.errorf("%q: unexpected word %s", label, quote(extra))
			return false
		}
	}
	return true
}

// argument returns the word at index i and reports an error when it is missing: "expects" says what it
// should be.
func (s *statement) argument(label string, i int, expects string) (string, bool) {
	if s.word(i) == "" {
		s.errorf("%q expects %s", label, expects)
		return "", false
	}
	return s.words[i], true
}

// only returns the single argument of a line.
func (s *statement) only(label, expects string) (string, bool) {
	text, ok := s.argument(label, 1, expects)
	return text, ok && s.atMost(label, 1)
}

// onlyNumber returns the single argument of a line that takes a whole number from low to high.
func (s *statement) onlyNumber(label string, low, high int) (int, bool) {
	text, ok := s.only(label, "a whole number")
	if !ok {
		return 0, false
	}
	return s.number(label, text, low, high)
}

// number reads a whole number from low to high.
func (s *statement) number(label, text string, low, high int) (int, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		s.errorf("%q: %s is not a whole number", label, quote(text))
		return 0, false
	}
	if err != nil || n < int64(low) || n > int64(high) {
		s.errorf("%q: %s is not between %d and %d", label, quote(text), low, high)
		return 0, false
	}
	return int(n), true
}

// duration reads a time, in milliseconds when it has no unit.
func (s *statement) duration(label, text string) (time.Duration, bool) {
	d, err := parseTime(text)
	if err != nil {
		s.errorf("%q: %v", label, err)
		return 0, false
	}
	return d, true
}

// timeUnits are the units of times, in the order of their size.
var timeUnits = []struct {
	name string
	size time.Duration
}{
	{"us", time.Microsecond}, {"ms", time.Millisecond}, {"s", time.Second},
	{"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour},
}

// parseTime reads a time. HAProxy's clock has milliseconds: parts of one are rounded up, so that a time that
// is not zero never becomes zero.
func parseTime(text string) (time.Duration, error) {
	digits := len(text) - len(strings.TrimLeft(text, "0123456789"))
	if digits == 0 {
		return 0, fmt.Errorf("%s is not a time such as 500ms or 10s", quote(text))
	}
	unit := time.Duration(0)
	for _, u := range timeUnits {
		if text[digits:] == u.name || digits == len(text) && u.name == "ms" {
			unit = u.size
		}
	}
	if unit == 0 {
		return 0, fmt.Errorf("unknown unit %s in %s, known ones are us, ms, s, m, h and d",
			quote(text[digits:]), quote(text))
	}
	n, err := strconv.ParseInt(text[:digits], 10, 64)
	if err != nil || n > int64(maxTime/unit) {
		return 0, fmt.Errorf("timer overflow: %s is more than %d ms, about 24.8 days",
			quote(text), maxTime/time.Millisecond)
	}
	d := time.Duration(n) * unit
	return (d + time.Millisecond - 1).Truncate(time.Millisecond), nil
}

// parameters walks over the settings at the end of a bind, server or "stats socket" line: names, some with a
// value.
type parameters struct {
	*statement
	label string
	at    int // index of the next word
	// refused are the names known to HAProxy that whyspin does not support.
	refused []string
}

// next returns the next name; ok is false at the end of the line. HAProxy ends the line at an empty word;
// here that is an error, because what follows it would be ignored silently.
func (p *parameters) next() (name string, ok bool) {
	if p.at >= len(p.words) {
		return "", false
	}
	name = p.words[p.at]
	if name == "" {
		if rest := p.rest(p.at); rest != "" {
			p.errorf("%q: empty word before %s (a variable that is not set?)", p.label, quote(rest))
		}
		p.at = len(p.words)
		return "", false
	}
	p.at++
	return name, true
}

// value returns the value after the name.
func (p *parameters) value(name string) (string, bool) {
	text := p.word(p.at)
	if text == "" {
		p.errorf("%q: %q expects a value", p.label, name)
		p.at = len(p.words)
		return "", false
	}
	p.at++
	return text, true
}

// numberValue returns the value after the name, a whole number from low to high, or 0 after a mistake.
func (p *parameters) numberValue(name string, low, high int) int {
	text, ok := p.value(name)
	if !ok {
		return 0
	}
	n, _ := p.number(p.label+" ... "+name, text, low, high)
	return n
}

// other reads a name that is not supported: known names are collected for one message, with an unknown one
// the line ends, because nobody knows how many values it has. The numbers of values are in unsupported;
// below 0 is all the rest.
func (p *parameters) other(name string, unsupported map[string]int, supported []string) {
	values, known := unsupported[name]
	switch {
	case !known:
		known := append(supported[:len(supported):len(supported)], sortedKeys(unsupported)...)
		p.errorf("%q: unknown option %s%s", p.label, quote(name), suggestion(name, known))
		p.at = len(p.words)
	case values < 0:
		p.refused = append(p.refused, name)
		p.at = len(p.words)
	default:
		p.refused = append(p.refused, name)
		p.at = min(p.at+values, len(p.words))
	}
}

// finish reports what other has collected.
func (p *parameters) finish() {
	switch len(p.refused) {
	case 0:
	case 1:
		p.errorf("%q: option %q %s", p.label, p.refused[0], notYet)
	default:
		p.errorf("%q: options %s are not supported in this version", p.label, quoteAll(p.refused))
	}
}
