package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// features are what feature() knows, under the names HAProxy prints with -vv. A name is added here when a
// configuration that asks for it works.
var features = []string{"ACCEPT4", "EPOLL", "GETADDRINFO", "THREAD"}

// CompatibleVersion is the version of HAProxy that whyspin follows: version_atleast() compares with it, and
// clients of the runtime API are told it.
const CompatibleVersion = "2.6.12"

// condition evaluates the expression of .if and .elif:
//
//	any  = all { "||" all }
//	all  = term { "&&" term }
//	term = "!" term | "(" any ")" | integer | predicate "(" [ argument { "," argument } ] ")"
//
// Every part is read even when the result is known, so that a mistake shows wherever it stands.
type condition struct {
	text  string
	at    int
	depth int
	env   *environment
	err   error
}

// evaluate returns the value of a condition; an empty one is false.
func evaluate(text string, env *environment) (bool, error) {
	if text == "" {
		return false, nil
	}
	c := &condition{text: text, env: env}
	result := c.any()
	if c.blanks(); c.err == nil && c.at < len(c.text) {
		c.failf(c.at, "unexpected %s", quote(c.text[c.at:]))
	}
	return result, c.err
}

// failf records the first mistake, which stands at the offset at.
func (c *condition) failf(at int, format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("column %d of the condition: %s", at+1, fmt.Sprintf(format, args...))
	}
}

func (c *condition) blanks() {
	for c.at < len(c.text) && isBlank(c.text[c.at]) {
		c.at++
	}
}

// next consumes a token if it comes next.
func (c *condition) next(token string) bool {
	c.blanks()
	if !strings.HasPrefix(c.text[c.at:], token) {
		return false
	}
	c.at += len(token)
	return true
}

func (c *condition) any() bool {
	result := c.all()
	for c.err == nil && c.next("||") {
		right := c.all()
		result = result || right
	}
	return result
}

func (c *condition) all() bool {
	result := c.term()
	for c.err == nil && c.next("&&") {
		right := c.term()
		result = result && right
	}
	return result
}

func (c *condition) term() bool {
	if c.depth == maxConditionDepth {
		c.failf(c.at, "more than %d levels of parentheses and negations", maxConditionDepth)
		return false
	}
	c.depth++
	defer func() { c.depth-- }()
	if c.next("!") {
		return !c.term()
	}
	if c.next("(") {
		result := c.any()
		if c.err == nil && !c.next(")") {
			c.failf(c.at, "missing )")
		}
		return result
	}
	if result, ok := c.integer(); ok {
		return result
	}
	return c.predicate()
}

// integer reads a number, true exactly when it is not zero.
func (c *condition) integer() (result, ok bool) {
	c.blanks()
	rest := c.text[c.at:]
	digits := strings.TrimPrefix(strings.TrimPrefix(rest, "-"), "+")
	sign := len(rest) - len(digits)
	n := len(digits) - len(strings.TrimLeft(digits, "0123456789"))
	if n == 0 || sign > 1 {
		return false, false
	}
	c.at += sign + n
	return strings.Trim(digits[:n], "0") != "", true
}

// predicates are the functions of conditions and how many arguments each takes.
var predicates = map[string]int{
	"defined": 1, "feature": 1, "streq": 2, "strneq": 2, "version_atleast": 1, "version_before": 1,
}

func (c *condition) predicate() bool {
	start := c.at
	for c.at < len(c.text) && isNameByte(c.text[c.at]) {
		c.at++
	}
	name := c.text[start:c.at]
	count, ok := predicates[name]
	if !ok {
		if name == "" {
			c.failf(start, "missing expression")
		}
		known := quoteAll(sortedKeys(predicates))
		c.failf(start, "unknown predicate %s, known ones are %s", quote(name), known)
		return false
	}
	arguments := c.arguments(name)
	if len(arguments) != count {
		c.failf(start, "%s takes %d argument(s), not %d", name, count, len(arguments))
	}
	return c.err == nil && c.call(start, name, arguments)
}

// call evaluates the predicate that stands at the offset start.
func (c *condition) call(start int, name string, arguments []string) bool {
	first := arguments[0]
	switch name {
	case "defined":
		_, ok := c.env.get(first)
		return ok
	case "feature":
		if first == "" {
			c.failf(start, "feature needs a name")
		}
		return slices.Contains(features, first)
	case "streq":
		return first == arguments[1]
	case "strneq":
		return first != arguments[1]
	case "version_atleast", "version_before":
		wanted, ok := parseVersion(first)
		if !ok {
			c.failf(start, "%s is not a version such as 2.6.12 or 2.7-dev3", quote(first))
		}
		current, _ := parseVersion(CompatibleVersion)
		return (slices.Compare(current[:], wanted[:]) < 0) == (name == "version_before")
	}
	panic("BUG: predicate " + name + " is not implemented")
}

// arguments reads "(A,B)". Within an argument quotes and backslashes work once more, as in the words of a
// line, but blanks belong to it.
func (c *condition) arguments(name string) []string {
	if c.at == len(c.text) || c.text[c.at] != '(' {
		c.failf(c.at, "missing ( after %s", name)
		return nil
	}
	var all []string
	var one []byte
	quoted := byte(0)
	for c.at++; c.at < len(c.text); c.at++ {
		b := c.text[c.at]
		switch {
		case quoted == 0 && (b == ',' || b == ')'):
			all = append(all, string(one))
			one = one[:0]
			if b == ')' {
				c.at++
				return all
			}
		case (b == '"' || b == '\'') && (quoted == 0 || quoted == b):
			quoted ^= b
		case b == '\\' && quoted != '\'' && c.at+1 < len(c.text):
			one = c.escape(one)
		default:
			one = append(one, b)
		}
	}
	c.failf(c.at, "missing ) after the arguments of %s", name)
	return nil
}

// escape appends what the backslash at c.at stands for. It leaves c.at at the last byte it has used.
func (c *condition) escape(one []byte) []byte {
	b := c.text[c.at+1]
	if i := strings.IndexByte("nrt", b); i >= 0 {
		b = "\n\r\t"[i]
	} else if !strings.ContainsRune(` \'"`, rune(b)) {
		return append(one, '\\')
	}
	c.at++
	return append(one, b)
}

// version is major, minor, patch, stage and commits, to be compared in this order. The stage is 0 for a
// release and below 0 for what came before it.
type version [5]int

// parseVersion reads versions as HAProxy prints them: 2.6, 2.6.12, 2.7-dev3, 2.7-dev3-50, 2.6.12-1+deb12u4.
// Numbers that are missing are zero; a commit or package suffix says nothing about the order.
func parseVersion(text string) (version, bool) {
	var v version
	parts := strings.Split(text, "-")
	numbers := strings.Split(parts[0], ".")
	if len(numbers) > 3 {
		return v, false
	}
	for i, number := range numbers {
		n, err := strconv.ParseUint(number, 10, 31)
		if err != nil {
			return v, false
		}
		v[i] = int(n)
	}
	rest := parts[1:]
	if len(rest) > 0 {
		for i, stage := range []string{"dev", "pre", "rc"} {
			if digits, ok := strings.CutPrefix(rest[0], stage); ok {
				n, _ := strconv.ParseUint(digits, 10, 16)
				v[3] = -(3-i)<<16 + int(n)
				rest = rest[1:]
				break
			}
		}
	}
	if len(rest) > 0 {
		if n, err := strconv.ParseUint(rest[len(rest)-1], 10, 31); err == nil {
			v[4] = int(n)
		}
	}
	return v, true
}
