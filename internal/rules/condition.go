package rules

import (
	"errors"
	"fmt"
	"strings"
)

// ACLs are the named tests of one section. Lines with the same name add to each other, also to what was used
// before them.
type ACLs struct {
	byName map[string]*acl
}

// acl holds if one of its tests does.
type acl struct {
	tests []*test
}

func (a *acl) holds(s *Session) bool {
	for _, t := range a.tests {
		if t.holds(s) {
			return true
		}
	}
	return false
}

// builtin are the ACLs that need no definition.
var builtin = map[string]string{
	"TRUE": "always_true", "FALSE": "always_false", "LOCALHOST": "src 127.0.0.1/8 ::1",
}

// otherACLs are those that HAProxy has besides.
var otherACLs = setOf(`HTTP HTTP_1.0 HTTP_1.1 HTTP_2.0 HTTP_CONTENT HTTP_URL_ABS HTTP_URL_SLASH
	HTTP_URL_STAR METH_CONNECT METH_DELETE METH_GET METH_HEAD METH_OPTIONS METH_POST METH_PUT METH_TRACE
	RDP_COOKIE REQ_CONTENT WAIT_END`)

// Add reads a line "NAME FETCH[,CONVERTER...] [flags] [patterns]". A warning is worth saying.
func (a *ACLs) Add(words []string) (warning string, err error) {
	if len(words) < 2 {
		return "", errors.New("expects a name and a fetch")
	}
	name := words[0]
	if bad := strings.IndexFunc(name, func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			strings.ContainsRune("_-.:", c))
	}); bad >= 0 {
		return "", fmt.Errorf("character %q is not permitted in the name %q", name[bad], name)
	}
	if name == "or" {
		return "", errors.New(`"or" cannot be a name: it joins conditions`)
	}
	t, warning, err := parseTest(words[1:])
	if err != nil {
		return "", err
	}
	if a.byName == nil {
		a.byName = map[string]*acl{}
	}
	if a.byName[name] == nil {
		a.byName[name] = &acl{}
	}
	a.byName[name].tests = append(a.byName[name].tests, t)
	return warning, nil
}

// find returns the ACL of a name.
func (a *ACLs) find(name string) (*acl, error) {
	if known := a.byName[name]; known != nil {
		return known, nil
	}
	if source, ok := builtin[name]; ok {
		t, _, err := parseTest(strings.Fields(source))
		if err != nil {
			panic("BUG: a built-in ACL: " + err.Error())
		}
		return &acl{tests: []*test{t}}, nil
	}
	if otherACLs[name] {
		return nil, fmt.Errorf("ACL %q is not supported in this version", name)
	}
	return nil, &UnknownError{What: "ACL", Name: name, Known: append(keys(a.byName), keys(builtin)...)}
}

// Condition is what stands after "if" or "unless". A nil Condition always holds.
type Condition struct {
	unless bool
	// alternatives are joined by "or"; each holds if all its terms do.
	alternatives [][]term
}

type term struct {
	negate bool
	acl    *acl
}

// Holds reports whether the condition is met.
func (c *Condition) Holds(s *Session) bool {
	if c == nil {
		return true
	}
	for _, terms := range c.alternatives {
		all := true
		for _, t := range terms {
			if t.acl.holds(s) == t.negate {
				all = false
				break
			}
		}
		if all {
			return !c.unless
		}
	}
	return c.unless
}

// tests calls f for each test in the condition.
func (c *Condition) tests(f func(*test)) {
	if c == nil {
		return
	}
	for _, terms := range c.alternatives {
		for _, t := range terms {
			for _, one := range t.acl.tests {
				f(one)
			}
		}
	}
}

// Needs are the facts that the condition asks for. Lines that are added to its ACLs later may ask for more.
func (c *Condition) Needs() (n Needs) {
	c.tests(func(t *test) { n |= t.expression.Needs() })
	return n
}

// TooEarly returns the first expression that has no value yet at a stage, empty for none.
func (c *Condition) TooEarly(at Stage) (expression string, from Stage) {
	c.tests(func(t *test) {
		if t.expression.Stage() > at && expression == "" {
			expression, from = t.expression.text, t.expression.Stage()
		}
	})
	return expression, from
}

// Condition reads "if ..." or "unless ...". Warnings are worth saying.
func (a *ACLs) Condition(words []string) (c *Condition, warnings []string, err error) {
	c = &Condition{unless: words[0] == "unless"}
	p := conditionParser{acls: a, words: words[1:]}
	if len(p.words) == 0 {
		return nil, nil, fmt.Errorf("%q without a condition after it", words[0])
	}
	for {
		terms, err := p.terms()
		if err != nil {
			return nil, nil, err
		}
		c.alternatives = append(c.alternatives, terms)
		if len(p.words) == 0 {
			return c, p.warnings, nil
		}
		p.words = p.words[1:] // "or"
	}
}

type conditionParser struct {
	acls     *ACLs
	words    []string
	warnings []string
}

// terms reads terms up to "or" or the end.
func (p *conditionParser) terms() (all []term, err error) {
	for len(p.words) > 0 && p.words[0] != "or" && p.words[0] != "||" {
		t := term{}
		word := p.words[0]
		for strings.HasPrefix(word, "!") {
			t.negate, word = !t.negate, word[1:]
			if p.words = p.words[1:]; word == "" && len(p.words) > 0 {
				word = p.words[0]
			} else {
				p.words = append([]string{word}, p.words...)
			}
		}
		switch {
		case word == "" || word == "or" || word == "||":
			return nil, errors.New(`"!" without a condition after it`)
		case word == "{":
			t.acl, err = p.anonymous()
		default:
			p.words = p.words[1:]
			t.acl, err = p.acls.find(word)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	if len(all) == 0 {
		return nil, errors.New(`"or" needs a condition on both sides`)
	}
	return all, nil
}

// anonymous reads "{ FETCH [flags] [patterns] }".
func (p *conditionParser) anonymous() (*acl, error) {
	for i, word := range p.words {
		if word != "}" {
			continue
		}
		inner := p.words[1:i]
		p.words = p.words[i+1:]
		if len(inner) == 0 {
			return nil, errors.New("nothing between { and }")
		}
		t, warning, err := parseTest(inner)
		if err != nil {
			return nil, err
		}
		if warning != "" {
			p.warnings = append(p.warnings, warning)
		}
		return &acl{tests: []*test{t}}, nil
	}
	return nil, errors.New("missing } after {: both stand alone, with blanks around them")
}

// Rule accepts or rejects if its condition holds.
type Rule struct {
	Accept bool
	If     *Condition
}

// Decide returns what the first rule whose condition holds says; without one the stream is accepted.
func Decide(all []Rule, s *Session) (accept bool) {
	for i := range all {
		if all[i].If.Holds(s) {
			return all[i].Accept
		}
	}
	return true
}
