package rules

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// converter makes another value of a value.
type converter struct {
	from, to  Kind
	arguments signature
	convert   func(Value, []argument) (Value, bool)
}

// converters are the converters by name; HAProxy's manual, section 7.3.1, describes them.
var converters = map[string]*converter{
	"lower": change(strings.ToLower),
	"upper": change(strings.ToUpper),
	"hex": {from: Binary, to: String, convert: func(v Value, _ []argument) (Value, bool) {
		return text(fmt.Sprintf("%X", v.Text)), true
	}},
	"base64": {from: Binary, to: String, convert: func(v Value, _ []argument) (Value, bool) {
		return text(base64.StdEncoding.EncodeToString([]byte(v.Text))), true
	}},
	"length": {from: String, to: Integer, convert: func(v Value, _ []argument) (Value, bool) {
		return integer(len(v.Text)), true
	}},
	"field": {from: String, to: String, arguments: signature{"is", 2},
		convert: func(v Value, a []argument) (Value, bool) {
			return part(v.Text, int(a[0].number), a[1].text, false)
		}},
	"word": {from: String, to: String, arguments: signature{"is", 2},
		convert: func(v Value, a []argument) (Value, bool) {
			return part(v.Text, int(a[0].number), a[1].text, true)
		}},
	"bytes": {from: Binary, to: Binary, arguments: signature{"ii", 1}, convert: someBytes},
	"ipmask": {from: Address, to: Address, arguments: signature{"ii", 1},
		convert: func(v Value, a []argument) (Value, bool) {
			bits := int(a[0].number)
			if v.IP.Is6() {
				if len(a) < 2 {
					return Value{}, false
				}
				bits = int(a[1].number)
			}
			p, err := v.IP.Prefix(bits)
			return address(p.Addr()), err == nil
		}},
	"bool": {from: Integer, to: Boolean, convert: func(v Value, _ []argument) (Value, bool) {
		return boolean(v.Number != 0), true
	}},
	"not": {from: Integer, to: Boolean, convert: func(v Value, _ []argument) (Value, bool) {
		return boolean(v.Number == 0), true
	}},
}

func change(f func(string) string) *converter {
	return &converter{from: String, to: String, convert: func(v Value, _ []argument) (Value, bool) {
		return text(f(v.Text)), true
	}}
}

// part returns the n-th part of a text, counted from its end for n below 0. Between words there may be
// several separators, between fields one.
func part(s string, n int, separators string, words bool) (Value, bool) {
	var all []string
	if words {
		all = strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(separators, r) })
	} else {
		begin := 0
		for i := range len(s) {
			if strings.IndexByte(separators, s[i]) >= 0 {
				all, begin = append(all, s[begin:i]), i+1
			}
		}
		all = append(all, s[begin:])
	}
	if n < 0 {
		n = len(all) + n + 1
	}
	if n < 1 || n > len(all) {
		return Value{}, false
	}
	return text(all[n-1]), true
}

func someBytes(v Value, a []argument) (Value, bool) {
	from, to := int(a[0].number), len(v.Text)
	if from < 0 || from > to {
		return Value{}, false
	}
	if len(a) > 1 {
		n := int(a[1].number)
		if n < 0 {
			return Value{}, false
		}
		to = min(to, from+n)
	}
	return Value{Kind: Binary, Text: v.Text[from:to]}, true
}
