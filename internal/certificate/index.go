package certificate

import (
	"crypto/tls"
	"slices"
	"strings"
	"time"
)

// index says which certificate is for which name. It is not changed once it is in use.
type index struct {
	// exact has the certificates for each name in lower case, below those for all names that end so: the
	// key is what follows the "*".
	exact, below map[string][]*choice
	// first are the certificates for clients without a name, or with one that nothing is for: the first of
	// the listener, and those for the same name, which may be of another kind. With strict there is none.
	first  []*choice
	strict bool
}

// choice is a certificate in an index.
type choice struct {
	variant *variant
	rsa     bool
	// except are names that it is not for though they are below one that it is for.
	except []string
	parts  *parts
	// full has the response of OCSP, bare has not.
	full, bare *tls.Certificate
}

// at returns the certificate as it is sent at a time: a response of OCSP that has become old is left out.
func (c *choice) at(now time.Time) *tls.Certificate {
	if c.parts.ocsp != nil && !c.parts.ocsp.good(now) {
		return c.bare
	}
	return c.full
}

// add adds a certificate for the names of its line, or without such for those in it.
func (x *index) add(e *entry, skipSelfIssued bool) {
	p := e.file.parts
	c := &choice{variant: e.variant, rsa: p.isRSA(), parts: p, full: p.certificate(skipSelfIssued)}
	c.bare = c.full
	if p.ocsp != nil {
		bare := *c.full
		bare.OCSPStaple = nil
		c.bare = &bare
	}
	filters := e.filters
	if len(filters) == 0 {
		filters = p.names()
	}
	for _, filter := range filters {
		filter = strings.ToLower(filter)
		if excepted, not := strings.CutPrefix(filter, "!"); not {
			c.except = append(c.except, excepted)
		} else if below, wild := strings.CutPrefix(filter, "*"); wild {
			x.below[below] = append(x.below[below], c)
		} else {
			x.exact[filter] = append(x.exact[filter], c)
		}
	}
	if len(x.first) == 0 {
		x.first = []*choice{c}
	}
}

// completeDefault adds to the first certificate those for the same names.
func (x *index) completeDefault() {
	if x.strict {
		x.first = nil
	}
	if len(x.first) == 0 {
		return
	}
	for _, name := range x.first[0].parts.names() {
		for _, c := range append(slices.Clone(x.exact[name]), x.below[strings.TrimPrefix(name, "*")]...) {
			if !slices.Contains(x.first, c) {
				x.first = append(x.first, c)
			}
		}
	}
}

// choose returns the certificate for a client, nil when there is none.
func (x *index) choose(hello *tls.ClientHelloInfo) *choice {
	name := strings.ToLower(hello.ServerName)
	if name != "" {
		if c := pick(x.exact[name], name, hello); c != nil {
			return c
		}
		if dot := strings.IndexByte(name, '.'); dot >= 0 {
			if c := pick(x.below[name[dot:]], name, hello); c != nil {
				return c
			}
		}
	}
	if len(x.first) < 2 || hello.SupportsCertificate(x.first[0].full) == nil {
		return first(x.first)
	}
	for _, c := range x.first[1:] {
		if hello.SupportsCertificate(c.full) == nil {
			return c
		}
	}
	return x.first[0]
}

func first(of []*choice) *choice {
	if len(of) == 0 {
		return nil
	}
	return of[0]
}

// pick returns the first certificate for a name, of each kind: one that is not RSA if the client can use it,
// which costs less, else one of RSA.
func pick(of []*choice, name string, hello *tls.ClientHelloInfo) *choice {
	var rsa, other *choice
	for _, c := range of {
		switch {
		case slices.Contains(c.except, name):
		case c.rsa && rsa == nil:
			rsa = c
		case !c.rsa && other == nil:
			other = c
		}
	}
	if rsa == nil || other == nil {
		if other != nil {
			return other
		}
		return rsa
	}
	if hello.SupportsCertificate(other.full) == nil {
		return other
	}
	return rsa
}
