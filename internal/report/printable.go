package report

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable returns a text in which every character that is not one to be seen is escaped as in Go and C.
// Whoever may name a process, a thread or a file chooses what is printed here on somebody's terminal, and
// characters that turn the direction of writing can make a line read as another one.
func Printable(text string) string {
	if strings.IndexFunc(text, hidden) < 0 && utf8.ValidString(text) {
		return text
	}
	var out strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\x%02x`, text[0])
		case r == '\n':
			out.WriteString(`\n`)
		case r == '\t':
			out.WriteString(`\t`)
		case !hidden(r):
			out.WriteRune(r)
		case r < utf8.RuneSelf:
			fmt.Fprintf(&out, `\x%02x`, r)
		case r > 0xffff:
			fmt.Fprintf(&out, `\U%08x`, r)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
		text = text[size:]
	}
	return out.String()
}

func hidden(r rune) bool { return !unicode.IsPrint(r) }

// escapeHidden does the same for JSON, in which package encoding/json leaves all of these but those below
// the blank as they are. They occur in strings only, where \uXXXX means the same. Newlines are between the
// values.
func escapeHidden(text []byte) []byte {
	is := func(r rune) bool { return hidden(r) && r != '\n' }
	if bytes.IndexFunc(text, is) < 0 {
		return text
	}
	var out bytes.Buffer
	for _, r := range string(text) {
		switch {
		case !is(r):
			out.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000 // as a pair of surrogates
			fmt.Fprintf(&out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.Bytes()
}
