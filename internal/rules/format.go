package rules

import (
	"errors"
	"fmt"
	"strings"
)

// Format is a log format. It is immutable.
type Format struct {
	Parts []Part
}

// PartKind tells the parts of a log format apart.
type PartKind uint8

// The kinds of parts.
const (
	PartText     PartKind = iota // Text as it is
	PartBlank                    // one blank, unless the line has one there already
	PartVariable                 // the variable of the name Text
	PartSample                   // the value of Sample
)

// Part is one part of a log format.
type Part struct {
	Kind   PartKind
	Text   string
	Sample *Expression
	Flags  Flags
}

// Flags say how a value is written.
type Flags uint8

// The flags.
const (
	FlagQuote  Flags = 1 << iota // Q: between quotes
	FlagHex                      // X: addresses and numbers in hexadecimal
	FlagEscape                   // E: with backslashes before what RFC 5424 wants escaped
)

var flagLetters = map[byte]Flags{'Q': FlagQuote, 'X': FlagHex, 'E': FlagEscape}

// variables are the variables that mode tcp knows, with what they need.
var variables = map[string]Needs{
	"B": 0, "H": 0, "T": 0, "Tc": 0, "Th": NeedsSession, "Tl": 0, "Ts": 0, "Tt": 0, "Tw": 0, "U": 0, "ac": 0,
	"b": 0, "bc": 0, "bi": NeedsServerAddresses, "bp": NeedsServerAddresses, "bq": 0, "ci": 0, "cp": 0,
	"f": 0, "fc": 0, "fi": NeedsDestination, "fp": NeedsDestination, "ft": 0, "ms": 0, "pid": 0, "rc": 0,
	"rt": 0, "s": 0, "sc": 0, "si": NeedsServerAddresses, "sp": NeedsServerAddresses, "sq": 0,
	"sslc": NeedsClientTLS, "sslv": NeedsClientTLS, "t": 0, "ts": 0, "tsc": 0,
}

// httpVariables and otherVariables are those that HAProxy has besides.
var (
	httpVariables = setOf(`CC CS HM HP HPO HQ HU HV ST TR Ta Tq Tr hr hrl hs hsl r trg trl trq`)
	otherVars     = setOf(`ID Td Ti Tu lc`)
)

// Variables returns the names of the variables.
func Variables() []string { return keys(variables) }

// ParseFormat reads a log format: text, variables %name and %{flags}name, samples %[expression] and
// %{flags}[expression]. "%o" makes the flags before it those of all that follow.
func ParseFormat(source string) (*Format, error) {
	f := &Format{}
	defaults := Flags(0)
	for rest := source; rest != ""; {
		var err error
		switch {
		case strings.HasPrefix(rest, "%%"):
			f.addText("%")
			rest = rest[2:]
		case rest[0] == '%':
			rest, err = f.item(rest[1:], &defaults)
		case rest[0] == ' ':
			if n := len(f.Parts); n == 0 || f.Parts[n-1].Kind != PartBlank {
				f.Parts = append(f.Parts, Part{Kind: PartBlank})
			}
			rest = rest[1:]
		default:
			end := strings.IndexAny(rest, "% ")
			if end < 0 {
				end = len(rest)
			}
			f.addText(rest[:end])
			rest = rest[end:]
		}
		if err != nil {
			return nil, err
		}
	}
	return f, nil
}

// addText adds to the last part if it is text, too.
func (f *Format) addText(s string) {
	if n := len(f.Parts); n > 0 && f.Parts[n-1].Kind == PartText {
		f.Parts[n-1].Text += s
		return
	}
	f.Parts = append(f.Parts, Part{Kind: PartText, Text: s})
}

// item reads what follows a "%".
func (f *Format) item(rest string, defaults *Flags) (string, error) {
	flags := *defaults
	if strings.HasPrefix(rest, "{") {
		inner, after, closed := strings.Cut(rest[1:], "}")
		if !closed {
			return "", errors.New("missing } after %{")
		}
		var err error
		if flags, err = parseFlags(inner, flags); err != nil {
			return "", err
		}
		rest = after
	}
	if strings.HasPrefix(rest, "[") {
		e, after, err := parseExpression(rest[1:])
		if err != nil {
			return "", fmt.Errorf("%%[...]: %w", err)
		}
		if !strings.HasPrefix(after, "]") {
			return "", fmt.Errorf("missing ] after %%[%s", e.text)
		}
		f.Parts = append(f.Parts, Part{Kind: PartSample, Sample: e, Flags: flags})
		return after[1:], nil
	}
	end := 0
	for end < len(rest) && isLetter(rest[end]) {
		end++
	}
	name := rest[:end]
	switch _, known := variables[name]; {
	case name == "o":
		*defaults = flags
	case known:
		f.Parts = append(f.Parts, Part{Kind: PartVariable, Text: name, Flags: flags})
	case httpVariables[name]:
		return "", fmt.Errorf("variable %q is for mode http", "%"+name)
	case otherVars[name]:
		return "", fmt.Errorf("variable %q is not supported in this version", "%"+name)
	case name == "":
		return "", errors.New(`"%" without a variable after it: a plain "%" is written "%%"`)
	default:
		return "", &UnknownError{What: "variable", Name: name, Known: keys(variables)}
	}
	return rest[end:], nil
}

func isLetter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }

// parseFlags reads "+Q,-X" and the like.
func parseFlags(source string, flags Flags) (Flags, error) {
	add := true
	for i := range len(source) {
		switch c := source[i]; {
		case c == '+' || c == '-':
			add = c == '+'
		case c == ',' || c == ' ':
		case flagLetters[c] == 0:
			return 0, &UnknownError{What: "flag", Name: string(c), Known: []string{"Q", "X", "E"}}
		case add:
			flags |= flagLetters[c]
		default:
			flags &^= flagLetters[c]
		}
	}
	return flags, nil
}

// Needs are the facts that the format asks for.
func (f *Format) Needs() (n Needs) {
	for i := range f.Parts {
		switch p := &f.Parts[i]; p.Kind {
		case PartVariable:
			n |= variables[p.Text]
		case PartSample:
			n |= p.Sample.Needs()
		case PartText, PartBlank:
		}
	}
	return n
}
