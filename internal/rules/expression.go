package rules

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Kind is the type of a value.
type Kind uint8

// The kinds.
const (
	Boolean Kind = iota
	Integer
	Address
	String
	Binary
)

var kindNames = [...]string{"a truth value", "a number", "an address", "a text", "bytes"}

// String names the kind.
func (k Kind) String() string { return kindNames[k] }

// Value is a sample. Number is a boolean's and an integer's, IP an address's, Text that of the others.
type Value struct {
	Kind   Kind
	Number int64
	IP     netip.Addr
	Text   string
}

func boolean(is bool) Value {
	if is {
		return Value{Kind: Boolean, Number: 1}
	}
	return Value{Kind: Boolean}
}

func integer[N int | int64](n N) Value  { return Value{Kind: Integer, Number: int64(n)} }
func text(s string) Value               { return Value{Kind: String, Text: s} }
func binary(b []byte) Value             { return Value{Kind: Binary, Text: string(b)} }
func address(a netip.Addr) Value        { return Value{Kind: Address, IP: a.Unmap().WithZone("")} }
func named(s string) (v Value, ok bool) { return text(s), s != "" }

// String returns the value as text.
func (v Value) String() string {
	switch v.Kind {
	case Boolean, Integer:
		return strconv.FormatInt(v.Number, 10)
	case Address:
		return v.IP.String()
	case String, Binary:
	}
	return v.Text
}

// Expression is a fetch with its converters. It is immutable.
type Expression struct {
	text       string
	fetch      *fetch
	arguments  []argument
	converters []conversion
}

// argument is what stands in parentheses; number is that of an argument that is one.
type argument struct {
	text   string
	number int64
}

type conversion struct {
	converter *converter
	arguments []argument
}

// String returns the expression as it was written.
func (e *Expression) String() string { return e.text }

// Evaluate returns the value, and false when there is none.
func (e *Expression) Evaluate(s *Session) (Value, bool) {
	v, ok := e.fetch.get(s, e.arguments)
	for _, c := range e.converters {
		if !ok {
			return Value{}, false
		}
		if v, ok = as(v, c.converter.from); ok {
			v, ok = c.converter.convert(v, c.arguments)
		}
	}
	return v, ok
}

// Kind is the type of its values.
func (e *Expression) Kind() Kind {
	if n := len(e.converters); n > 0 {
		return e.converters[n-1].converter.to
	}
	return e.fetch.kind
}

// Constant returns the text of an expression that is always the same.
func (e *Expression) Constant() (value string, ok bool) {
	if e.fetch != fetches["str"] || len(e.converters) > 0 {
		return "", false
	}
	return e.arguments[0].text, true
}

// Stage is from when on it can have a value.
func (e *Expression) Stage() Stage { return e.fetch.stage }

// Needs are the facts that it asks for.
func (e *Expression) Needs() Needs { return e.fetch.needs | NeedsSession }

// as returns a value as one of another kind, as HAProxy does between the converters.
func as(v Value, to Kind) (Value, bool) {
	switch {
	case v.Kind == to:
		return v, true
	case to == String || to == Binary:
		return Value{Kind: to, Text: v.String()}, true
	case to == Boolean && v.Kind == Integer:
		return boolean(v.Number != 0), true
	case to == Integer && v.Kind == Boolean:
		return integer(v.Number), true
	case to == Integer && v.Kind == String:
		n, err := strconv.ParseInt(v.Text, 10, 64)
		return integer(n), err == nil
	case to == Boolean && v.Kind == String:
		n, err := strconv.ParseInt(v.Text, 10, 64)
		return boolean(n != 0), err == nil
	case to == Address && v.Kind == String:
		a, err := netip.ParseAddr(v.Text)
		return address(a), err == nil
	}
	return Value{}, false
}

// convertible reports whether values of a kind can be taken as another one.
func convertible(from, to Kind) bool {
	switch {
	case from == to, to == String, to == Binary:
		return true
	case to == Integer || to == Boolean:
		return from == Integer || from == Boolean || from == String
	case to == Address:
		return from == String
	}
	return false
}

// ParseExpression reads "fetch(arguments),converter(arguments)...".
func ParseExpression(source string) (*Expression, error) {
	e, rest, err := parseExpression(source)
	if err == nil && rest != "" {
		err = fmt.Errorf("unexpected %q after the expression %q", rest, e.text)
	}
	return e, err
}

// parseExpression reads an expression at the beginning of a text, and returns the rest.
func parseExpression(source string) (*Expression, string, error) {
	name, arguments, rest, err := parseCall(source)
	if err != nil {
		return nil, "", err
	}
	e := &Expression{fetch: fetches[name]}
	if e.fetch == nil {
		return nil, "", unknown("fetch", name, fetches, otherFetches)
	}
	if e.arguments, err = e.fetch.arguments.read(name, arguments); err != nil {
		return nil, "", err
	}
	kind := e.fetch.kind
	for strings.HasPrefix(rest, ",") {
		if name, arguments, rest, err = parseCall(rest[1:]); err != nil {
			return nil, "", err
		}
		c := converters[name]
		if c == nil {
			return nil, "", unknown("converter", name, converters, otherConverters)
		}
		if !convertible(kind, c.from) {
			return nil, "", fmt.Errorf("converter %q takes %v, and not %v", name, c.from, kind)
		}
		values, err := c.arguments.read(name, arguments)
		if err != nil {
			return nil, "", err
		}
		e.converters = append(e.converters, conversion{c, values})
		kind = c.to
	}
	e.text = source[:len(source)-len(rest)]
	return e, rest, nil
}

// unknown says that there is no such word: at all, or yet.
func unknown[V any](what, name string, known map[string]V, others map[string]bool) error {
	switch {
	case name == "":
		return fmt.Errorf("a %s is missing", what)
	case others[name]:
		return fmt.Errorf("%s %q is not supported in this version", what, name)
	}
	return &UnknownError{What: what, Name: name, Known: slices.Concat(keys(known), keys(others))}
}

// UnknownError is that a word does not exist.
type UnknownError struct {
	What, Name string
	// Known are the words that exist, for suggestions.
	Known []string
}

func (e *UnknownError) Error() string { return fmt.Sprintf("unknown %s %q", e.What, e.Name) }

func keys[V any](m map[string]V) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// parseCall reads a name and what stands in parentheses after it.
func parseCall(source string) (name string, arguments []string, rest string, err error) {
	end := strings.IndexFunc(source, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			c == '_' || c == '.' || c == '-')
	})
	if end < 0 {
		return source, nil, "", nil
	}
	name, rest = source[:end], source[end:]
	if rest[0] != '(' {
		return name, nil, rest, nil
	}
	arguments, rest, err = parseArguments(rest[1:])
	if err != nil {
		err = fmt.Errorf("%q: %w", name, err)
	}
	return name, arguments, rest, err
}

// parseArguments reads arguments up to the closing parenthesis. Quotes and backslashes protect what follows.
func parseArguments(source string) (arguments []string, rest string, err error) {
	var quote byte
	var one []byte
	for i := 0; i < len(source); i++ {
		c := source[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == '\'':
			one = append(one, c)
		case c == '\\' && i+1 < len(source):
			i++
			one = append(one, unescaped(source[i]))
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && (c == ',' || c == ')'):
			arguments = append(arguments, string(one))
			one = nil
			if c == ')' {
				return arguments, source[i+1:], nil
			}
		default:
			one = append(one, c)
		}
	}
	return nil, "", errors.New("missing closing parenthesis")
}

func unescaped(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

// signature is what arguments a fetch or converter takes: 's' for a text, 'i' for a number, in their order.
type signature struct {
	kinds string
	least int // how many are needed
}

func (g signature) read(name string, given []string) ([]argument, error) {
	if g.least == 0 && len(given) == 1 && given[0] == "" {
		given = nil
	}
	switch {
	case len(given) < g.least:
		return nil, fmt.Errorf("%q expects %d arguments, here are %d", name, g.least, len(given))
	case len(given) > len(g.kinds):
		return nil, fmt.Errorf("%q expects at most %d arguments, here are %d", name, len(g.kinds), len(given))
	}
	var all []argument
	for i, one := range given {
		a := argument{text: one}
		if g.kinds[i] == 'i' {
			n, err := strconv.ParseInt(one, 0, 64)
			if err != nil && !(one == "" && i >= g.least) {
				return nil, fmt.Errorf("%q: argument %q is not a whole number", name, one)
			}
			a.number = n
		}
		all = append(all, a)
	}
	return all, nil
}
