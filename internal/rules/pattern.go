package rules

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// method is how a value is compared with patterns.
type method uint8

const (
	matchFound method = iota // there is a value
	matchBool
	matchInt
	matchIP
	matchBin
	matchLen
	matchStr
	matchBeg
	matchEnd
	matchSub
	matchDir // a component between slashes
	matchDom // a component between slashes, dots, colons and question marks
	matchReg
)

var methods = map[string]method{
	"found": matchFound, "bool": matchBool, "int": matchInt, "ip": matchIP, "bin": matchBin,
	"len": matchLen, "str": matchStr, "beg": matchBeg, "end": matchEnd, "sub": matchSub, "dir": matchDir,
	"dom": matchDom, "reg": matchReg,
}

// takes is the kind that each method compares.
func (m method) takes() Kind {
	switch m {
	case matchBool:
		return Boolean
	case matchInt:
		return Integer
	case matchIP:
		return Address
	case matchBin:
		return Binary
	default:
		return String
	}
}

// aliases are the ACL keywords that stand for a fetch and a method.
var aliases = map[string]struct {
	fetch  string
	method method
}{
	"ssl_fc_sni_end": {"ssl_fc_sni", matchEnd}, "ssl_fc_sni_reg": {"ssl_fc_sni", matchReg},
}

// pattern is one thing to compare with; which of its fields counts depends on the method.
type pattern struct {
	text      string
	low, high int64
	network   netip.Prefix
	regexp    *regexp.Regexp
}

// test is an expression whose value is compared with patterns: it holds if one of them fits.
type test struct {
	expression *Expression
	method     method
	fold       bool // upper and lower case are the same
	patterns   []pattern
}

func (t *test) holds(s *Session) bool {
	v, ok := t.expression.Evaluate(s)
	if !ok || t.method == matchFound {
		return ok
	}
	if v, ok = as(v, t.method.takes()); !ok {
		return false
	}
	if t.method == matchBool {
		return v.Number != 0
	}
	if t.fold && t.method != matchReg {
		v.Text = strings.ToLower(v.Text)
	}
	for i := range t.patterns {
		if t.method.fits(v, &t.patterns[i]) {
			return true
		}
	}
	return false
}

func (m method) fits(v Value, p *pattern) bool {
	switch m {
	case matchInt:
		return p.low <= v.Number && v.Number <= p.high
	case matchLen:
		return p.low <= int64(len(v.Text)) && int64(len(v.Text)) <= p.high
	case matchIP:
		return p.network.Contains(v.IP)
	case matchStr, matchBin:
		return v.Text == p.text
	case matchBeg:
		return strings.HasPrefix(v.Text, p.text)
	case matchEnd:
		return strings.HasSuffix(v.Text, p.text)
	case matchSub:
		return strings.Contains(v.Text, p.text)
	case matchDir:
		return hasComponent(v.Text, p.text, "/?")
	case matchDom:
		return hasComponent(v.Text, p.text, "/?.:")
	case matchReg:
		return p.regexp.MatchString(v.Text)
	case matchFound, matchBool:
	}
	panic("BUG: a method without patterns")
}

// hasComponent reports whether part, without separators around it, lies in text between separators.
func hasComponent(text, part, separators string) bool {
	part = strings.Trim(part, separators)
	if part == "" {
		return false
	}
	for at := 0; at+len(part) <= len(text); at++ {
		end := at + len(part)
		if text[at:end] == part &&
			(at == 0 || strings.IndexByte(separators, text[at-1]) >= 0) &&
			(end == len(text) || strings.IndexByte(separators, text[end]) >= 0) {
			return true
		}
	}
	return false
}

// parseTest reads an expression, flags and patterns. warning is worth saying.
func parseTest(words []string) (t *test, warning string, err error) {
	t = &test{}
	source, rest := words[0], words[1:]
	name, _, _ := strings.Cut(source, ",")
	set := false
	if alias, ok := aliases[name]; ok {
		source, t.method, set = alias.fetch+strings.TrimPrefix(source, name), alias.method, true
	}
	if t.expression, err = ParseExpression(source); err != nil {
		return nil, "", err
	}
	silent := false
	for ; len(rest) > 0 && strings.HasPrefix(rest[0], "-") && !silent; rest = rest[1:] {
		switch rest[0] {
		case "-i":
			t.fold = true
		case "-n": // there are no names to resolve
		case "--":
			silent = true
		case "-m":
			if len(rest) < 2 {
				return nil, "", errors.New(`flag "-m" expects a method`)
			}
			if t.method, set = methods[rest[1]]; !set {
				return nil, "", &UnknownError{What: "match method", Name: rest[1], Known: keys(methods)}
			}
			rest = rest[1:]
		case "-f", "-M", "-u":
			return nil, "", fmt.Errorf("flag %q is not supported in this version: write the patterns here",
				rest[0])
		default:
			return nil, "", fmt.Errorf(`unknown flag %q: put "--" before patterns that begin with "-"`,
				rest[0])
		}
	}
	if !set {
		if t.method, err = methodFor(t.expression.Kind()); err != nil {
			return nil, "", err
		}
	}
	if !convertible(t.expression.Kind(), t.method.takes()) {
		return nil, "", fmt.Errorf("%v of %q cannot be compared that way", t.expression.Kind(), source)
	}
	return t, t.warning(rest, silent), t.read(rest)
}

// warning says what HAProxy says of an ACL without patterns.
func (t *test) warning(patterns []string, silent bool) string {
	if len(patterns) > 0 || silent || t.method == matchFound || t.method == matchBool {
		return ""
	}
	return fmt.Sprintf(`%q has no pattern to compare with and never matches; "-m found" asks whether there `+
		"is a value", t.expression.text)
}

// methodFor returns the method of a fetch or converter for which none is said.
func methodFor(k Kind) (method, error) {
	switch k {
	case Boolean:
		return matchBool, nil
	case Integer:
		return matchInt, nil
	case Address:
		return matchIP, nil
	case String:
		return matchStr, nil
	case Binary:
	}
	return 0, errors.New("bytes have no match method of their own: say one with \"-m\"")
}

// read reads the patterns.
func (t *test) read(words []string) error {
	switch t.method {
	case matchFound, matchBool:
		if len(words) > 0 {
			return fmt.Errorf("unexpected pattern %q: nothing is compared", words[0])
		}
	case matchInt, matchLen:
		return t.readNumbers(words)
	default:
		for _, word := range words {
			p, err := t.pattern(word)
			if err != nil {
				return err
			}
			t.patterns = append(t.patterns, p)
		}
	}
	return nil
}

func (t *test) pattern(word string) (p pattern, err error) {
	switch t.method {
	case matchIP:
		p.network, err = network(word)
	case matchReg:
		prefix := "(?s)"
		if t.fold {
			prefix = "(?si)"
		}
		if p.regexp, err = regexp.Compile(prefix + word); err != nil {
			err = fmt.Errorf("regular expression %q: %w", word, err)
		}
	case matchBin:
		var raw []byte
		if raw, err = hex.DecodeString(word); err != nil {
			err = fmt.Errorf("%q is not hexadecimal", word)
		}
		p.text = string(raw)
	default:
		if p.text = word; t.fold {
			p.text = strings.ToLower(word)
		}
	}
	return p, err
}

// network reads an address, with or without a mask.
func network(word string) (netip.Prefix, error) {
	left, mask, masked := strings.Cut(word, "/")
	ip, err := netip.ParseAddr(left)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not an address or network", word)
	}
	bits := ip.BitLen()
	if masked {
		if bits, err = strconv.Atoi(mask); err != nil {
			bits, err = maskBits(mask)
		}
	}
	p, bad := ip.Prefix(bits)
	if err != nil || bad != nil {
		return p, fmt.Errorf("%q is not an address or network: wrong mask", word)
	}
	return p, nil
}

// maskBits is the length of a mask such as 255.255.0.0.
func maskBits(mask string) (int, error) {
	m, err := netip.ParseAddr(mask)
	if err != nil {
		return 0, err
	}
	bits, over := 0, false
	for _, b := range m.AsSlice() {
		for i := 7; i >= 0; i-- {
			set := b>>i&1 == 1
			if set && over {
				return 0, errors.New("the mask has gaps")
			}
			if over = !set; set {
				bits++
			}
		}
	}
	return bits, nil
}

// readNumbers reads numbers and ranges, and the operators before them.
func (t *test) readNumbers(words []string) error {
	operator := "eq"
	for _, word := range words {
		switch word {
		case "eq", "ge", "gt", "le", "lt":
			operator = word
			continue
		}
		p, err := numbers(word, operator)
		if err != nil {
			return err
		}
		t.patterns = append(t.patterns, p)
	}
	return nil
}

const (
	lowest  = -1 << 63
	highest = 1<<63 - 1
)

func numbers(word, operator string) (pattern, error) {
	left, right, isRange := strings.Cut(word, ":")
	p := pattern{low: lowest, high: highest}
	var err error
	if left != "" || !isRange {
		if p.low, err = strconv.ParseInt(left, 10, 64); err != nil {
			return p, fmt.Errorf("%q is not a whole number or a range of them", word)
		}
	}
	if !isRange {
		p.high = p.low
	} else if right != "" {
		if p.high, err = strconv.ParseInt(right, 10, 64); err != nil || p.high < p.low {
			return p, fmt.Errorf("%q is not a whole number or a range of them", word)
		}
	}
	if operator != "eq" && isRange {
		return p, fmt.Errorf("operator %q does not go with the range %q", operator, word)
	}
	switch operator {
	case "ge":
		p.high = highest
	case "le":
		p.low = lowest
	case "gt":
		if p.low == highest {
			return p, fmt.Errorf("nothing is greater than %q", word)
		}
		p.low, p.high = p.low+1, highest
	case "lt":
		if p.high == lowest {
			return p, fmt.Errorf("nothing is less than %q", word)
		}
		p.low, p.high = lowest, p.high-1
	}
	return p, nil
}
