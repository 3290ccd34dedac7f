package config

import (
	"slices"
	"strings"
)

// suite is a cipher suite of TLS 1.2 that crypto/tls has.
type suite struct {
	id   uint16
	name string // OpenSSL's
	// tags are the words of OpenSSL's cipher strings that mean this suite among others (ciphers(1)).
	tags []string
}

func suiteOf(id uint16, name, tags string) suite {
	return suite{id, name, append(strings.Fields(tags), "ALL")}
}

const (
	ellipticECDSA = "ECDHE kECDHE EECDH kEECDH ECDSA aECDSA HIGH AES FIPS "
	ellipticRSA   = "ECDHE kECDHE EECDH kEECDH aRSA HIGH AES FIPS "
	plainRSA      = "kRSA RSA aRSA HIGH AES FIPS "
)

// suites are in the order in which crypto/tls prefers them, whatever the order of the configuration. What
// is weak is left out (3DES, RC4), though crypto/tls has it.
var suites = []suite{
	suiteOf(0xc02b, "ECDHE-ECDSA-AES128-GCM-SHA256", ellipticECDSA+"AES128 AESGCM TLSv1.2"),
	suiteOf(0xc02f, "ECDHE-RSA-AES128-GCM-SHA256", ellipticRSA+"AES128 AESGCM TLSv1.2"),
	suiteOf(0xc02c, "ECDHE-ECDSA-AES256-GCM-SHA384", ellipticECDSA+"AES256 AESGCM TLSv1.2"),
	suiteOf(0xc030, "ECDHE-RSA-AES256-GCM-SHA384", ellipticRSA+"AES256 AESGCM TLSv1.2"),
	suiteOf(0xcca9, "ECDHE-ECDSA-CHACHA20-POLY1305",
		"ECDHE kECDHE EECDH kEECDH ECDSA aECDSA HIGH CHACHA20 TLSv1.2"),
	suiteOf(0xcca8, "ECDHE-RSA-CHACHA20-POLY1305",
		"ECDHE kECDHE EECDH kEECDH aRSA HIGH CHACHA20 TLSv1.2"),
	suiteOf(0xc009, "ECDHE-ECDSA-AES128-SHA", ellipticECDSA+"AES128 SHA SHA1 TLSv1 TLSv1.0 SSLv3"),
	suiteOf(0xc013, "ECDHE-RSA-AES128-SHA", ellipticRSA+"AES128 SHA SHA1 TLSv1 TLSv1.0 SSLv3"),
	suiteOf(0xc00a, "ECDHE-ECDSA-AES256-SHA", ellipticECDSA+"AES256 SHA SHA1 TLSv1 TLSv1.0 SSLv3"),
	suiteOf(0xc014, "ECDHE-RSA-AES256-SHA", ellipticRSA+"AES256 SHA SHA1 TLSv1 TLSv1.0 SSLv3"),
	suiteOf(0x009c, "AES128-GCM-SHA256", plainRSA+"AES128 AESGCM TLSv1.2"),
	suiteOf(0x009d, "AES256-GCM-SHA384", plainRSA+"AES256 AESGCM TLSv1.2"),
	suiteOf(0x002f, "AES128-SHA", plainRSA+"AES128 SHA SHA1 TLSv1 TLSv1.0 SSLv3"),
	suiteOf(0x0035, "AES256-SHA", plainRSA+"AES256 SHA SHA1 TLSv1 TLSv1.0 SSLv3"),
	suiteOf(0xc023, "ECDHE-ECDSA-AES128-SHA256", ellipticECDSA+"AES128 SHA256 TLSv1.2"),
	suiteOf(0xc027, "ECDHE-RSA-AES128-SHA256", ellipticRSA+"AES128 SHA256 TLSv1.2"),
	suiteOf(0x003c, "AES128-SHA256", plainRSA+"AES128 SHA256 TLSv1.2"),
}

// CipherName returns OpenSSL's name of a suite of TLS 1.2 by its number on the wire, empty for another one.
func CipherName(id uint16) string {
	for i := range suites {
		if suites[i].id == id {
			return suites[i].name
		}
	}
	return ""
}

// defaultSuites is how many of suites "DEFAULT" means: those with forward secrecy that crypto/tls offers
// when nothing is said.
const defaultSuites = 10

// suites13 are the suites of TLS 1.3 in the order of crypto/tls, which always offers all of them.
var suites13 = []string{"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}

// absences are what OpenSSL has and is not offered here, by a part of the names, with the reason.
var absences = []struct {
	parts  []string
	reason string
}{
	{[]string{"CCM", "AESCCM"}, "crypto/tls has no CCM"},
	{[]string{"CAMELLIA", "ARIA", "SEED", "IDEA", "GOST"},
		"crypto/tls has neither Camellia nor ARIA, SEED, IDEA and GOST"},
	{[]string{"PSK", "SRP"}, "crypto/tls has neither pre-shared keys nor passwords"},
	{[]string{"NULL", "EXP", "LOW", "MEDIUM", "3DES", "DES", "RC4", "RC2", "MD5", "ADH", "AECDH", "DSS"},
		"it is not secure"},
	{[]string{"DHE", "EDH", "DH"}, "crypto/tls has no finite-field Diffie-Hellman (DHE)"},
	{[]string{"SHA384", "AES256-SHA256"}, "crypto/tls has no such CBC"},
}

func isOneOf(set string) func(rune) bool {
	return func(r rune) bool { return strings.ContainsRune(set, r) }
}

// absence returns why a name of a suite, or of a kind of suites, means nothing here; "" for a name that
// nobody knows.
func absence(name string) string {
	for _, a := range absences {
		if slices.Contains(a.parts, name) {
			return a.reason
		}
		for part := range strings.FieldsFuncSeq(name, isOneOf("-_+")) {
			part = strings.TrimLeft(part, "aek")
			if slices.ContainsFunc(a.parts, func(p string) bool {
				return part == p || p != "DH" && p != "DES" && strings.HasPrefix(part, p)
			}) {
				return a.reason
			}
		}
	}
	return ""
}

const orderNotKept = "%q: the order is not kept: crypto/tls has one of its own"

// cipherString is the evaluation of a list of ciphers in OpenSSL's language: names and kinds of suites,
// joined by '+', each of which adds what it means, or after "!", "-" and "+" removes it for good, removes it
// or moves it to the end.
type cipherString struct {
	list    []int // indexes of suites
	removed map[int]bool
	// missing are the names without a suite, unknown those that nobody knows.
	missing, unknown []string
}

func evaluateCiphers(text string) *cipherString {
	c := &cipherString{removed: map[int]bool{}}
	for word := range strings.FieldsFuncSeq(text, isOneOf(":, ;")) {
		if strings.HasPrefix(word, "@") {
			continue // @STRENGTH and @SECLEVEL: crypto/tls orders and judges by itself
		}
		operator, name := word[0], word
		if strings.IndexByte("!-+", operator) >= 0 {
			name = word[1:]
		}
		c.apply(operator, name)
	}
	return c
}

// apply carries out one word.
func (c *cipherString) apply(operator byte, name string) {
	meant := meaning(name)
	switch operator {
	case '!', '-':
		for _, i := range meant {
			c.removed[i] = c.removed[i] || operator == '!'
		}
		c.list = slices.DeleteFunc(c.list, func(i int) bool { return slices.Contains(meant, i) })
	case '+':
		for _, i := range meant {
			if at := slices.Index(c.list, i); at >= 0 {
				c.list = append(slices.Delete(c.list, at, at+1), i)
			}
		}
	default:
		for _, i := range meant {
			if !c.removed[i] && !slices.Contains(c.list, i) {
				c.list = append(c.list, i)
			}
		}
		switch {
		case len(meant) > 0 || slices.Contains(suites13, name):
		case absence(name) != "":
			c.missing = append(c.missing, name)
		default:
			c.unknown = append(c.unknown, name)
		}
	}
}

// meaning returns the indexes of the suites that a name means.
func meaning(name string) []int {
	var found []int
	for i, s := range suites {
		all := true
		for part := range strings.SplitSeq(name, "+") {
			all = all && (part == "DEFAULT" && i < defaultSuites || part == s.name ||
				slices.Contains(s.tags, part))
		}
		if all {
			found = append(found, i)
		}
	}
	return found
}

// ids returns the suites in crypto/tls's order.
func (c *cipherString) ids() []uint16 {
	var ids []uint16
	for _, i := range slices.Sorted(slices.Values(c.list)) {
		ids = append(ids, suites[i].id)
	}
	return ids
}

// reordered reports whether some client is given another suite than the order of the list asks for. The
// suites of different kinds of certificates never compete.
func (c *cipherString) reordered() bool {
	for _, kind := range []string{"aRSA", "aECDSA"} {
		last := -1
		for _, i := range c.list {
			if !slices.Contains(suites[i].tags, kind) {
				continue
			}
			if i < last {
				return true
			}
			last = i
		}
	}
	return false
}

// ciphers reads a list of suites of TLS 1.2 in OpenSSL's language. With ordered, a list in another order
// than crypto/tls's is worth a warning.
func (s *statement) ciphers(label, text string, ordered bool) []uint16 {
	c := evaluateCiphers(text)
	s.missing(label, c.missing)
	for _, name := range c.unknown {
		s.warnf("%q: unknown cipher %s is ignored%s", label, quote(name), suggestion(name, suiteNames()))
	}
	if len(c.list) == 0 {
		s.errorf("%q: no cipher of %s can be offered", label, quote(text))
		return nil
	}
	if ordered && c.reordered() {
		s.warnf(orderNotKept, label)
	}
	return c.ids()
}

// missing warns of names that are known to OpenSSL and not offered, those with one reason together.
func (s *statement) missing(label string, names []string) {
	for len(names) > 0 {
		reason := absence(names[0])
		var same, rest []string
		for _, name := range names {
			if absence(name) == reason {
				same = append(same, name)
			} else {
				rest = append(rest, name)
			}
		}
		s.warnf("%q: %s cannot be offered: %s", label, quoteAll(same), reason)
		names = rest
	}
}

func suiteNames() []string {
	var names []string
	for _, s := range suites {
		names = append(names, s.name)
	}
	return names
}

// ciphers13 reads a list of suites of TLS 1.3. crypto/tls has no choice there, so it only tells what comes
// out otherwise than asked for.
func (s *statement) ciphers13(label, text string, ordered bool) {
	var known, missing []string
	for name := range strings.SplitSeq(text, ":") {
		switch {
		case slices.Contains(suites13, name):
			known = append(known, name)
		case absence(name) != "":
			missing = append(missing, name)
		default:
			s.errorf("%q: unknown cipher suite %s%s", label, quote(name), suggestion(name, suites13))
			return
		}
	}
	s.missing(label, missing)
	var more []string
	for _, name := range suites13 {
		if !slices.Contains(known, name) {
			more = append(more, name)
		}
	}
	if len(more) > 0 {
		s.warnf("%q: %s will be offered, too: crypto/tls has all suites of TLS 1.3 or none", label,
			quoteAll(more))
	}
	if ordered && len(more) == 0 && !slices.Equal(known, suites13) {
		s.warnf(orderNotKept, label)
	}
}

// curves are the groups of crypto/tls under the names that OpenSSL takes.
var curves = map[string]uint16{
	"X25519": 29, "x25519": 29, "P-256": 23, "prime256v1": 23, "secp256r1": 23, "P-384": 24,
	"secp384r1": 24, "P-521": 25, "secp521r1": 25, "X25519MLKEM768": 4588,
}

// absentCurves are those that OpenSSL has and crypto/tls has not.
var absentCurves = setOf(`X448 x448 secp224r1 P-224 secp256k1 secp192r1 prime192v1 P-192 brainpoolP256r1
	brainpoolP384r1 brainpoolP512r1 ffdhe2048 ffdhe3072 ffdhe4096 ffdhe6144 ffdhe8192`)

// curves reads a list of groups for the key exchange.
func (s *statement) curves(label, text string) []uint16 {
	var ids []uint16
	var missing []string
	for name := range strings.SplitSeq(text, ":") {
		id, known := curves[name]
		switch {
		case known:
			ids = append(ids, id)
		case absentCurves[name]:
			missing = append(missing, name)
		default:
			s.errorf("%q: unknown curve %s%s", label, quote(name), suggestion(name, sortedKeys(curves)))
			return nil
		}
	}
	if len(missing) > 0 {
		s.warnf("%q: %s cannot be offered: crypto/tls does not have it", label, quoteAll(missing))
	}
	if len(ids) == 0 {
		s.errorf("%q: no curve of %s can be offered", label, quote(text))
	}
	return ids
}
