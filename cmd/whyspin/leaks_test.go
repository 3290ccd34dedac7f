package main

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// This file finds secrets in what a program writes, however they are written.

const (
	// leak is how many bytes in a row, from a multiple of half as many on, are taken for a leak.
	leak = 16
	// traceWidth is how much of what they look like is compared: less than the shortest of them has, and more
	// than comes about by chance.
	traceWidth = 14
)

// traces are what pieces of secrets look like, with the names of those.
type traces map[[traceWidth]byte]string

// secret adds what is random from its first to its last byte, or text. Half of that suffices for a leak.
func (s traces) secret(name string, value []byte) {
	for at := 0; at+leak <= len(value); at += leak / 2 {
		for form, text := range forms(value[at : at+leak]) {
			if len(text) >= traceWidth {
				s[[traceWidth]byte([]byte(text))] = name + ", " + form
			}
		}
	}
}

// structure adds what has text in it that is none: the names in a certificate.
func (s traces) structure(name string, value []byte) {
	for at := 0; at+leak <= len(value); at += leak / 2 {
		piece := value[at : at+leak]
		if slices.ContainsFunc(piece, func(b byte) bool { return b < ' ' || b > '~' }) {
			s.secret(name, piece)
		}
	}
}

// forms returns what bytes look like when a program writes them.
func forms(piece []byte) map[string]string {
	found := map[string]string{
		"raw":                     string(piece),
		"hexadecimal":             fmt.Sprintf("%x", piece),
		"HEXADECIMAL":             fmt.Sprintf("%X", piece),
		"hexadecimal with blanks": fmt.Sprintf("% x", piece),
		"hexadecimal with colons": strings.ReplaceAll(fmt.Sprintf("% x", piece), " ", ":"),
		"quoted":                  strconv.Quote(string(piece))[1:],
		"as in a log":             logged(piece),
		"decimal":                 strings.Trim(fmt.Sprint(piece), "[]"),
		"JSON":                    strings.ReplaceAll(strings.Trim(fmt.Sprint(piece), "[]"), " ", ","),
		"Go":                      strings.TrimPrefix(fmt.Sprintf("%#v", piece), "[]byte{"),
		// As the arguments in a stack.
		"words": fmt.Sprintf("%x", binary.LittleEndian.Uint64(piece)),
	}
	for name, encoding := range map[string]*base64.Encoding{
		"base64": base64.RawStdEncoding, "base64 for URLs": base64.RawURLEncoding,
	} {
		// Three bytes are four letters, and the piece may begin with any of the three. What begins in letters
		// that are shared with bytes before is left out.
		for before, shared := range []int{0, 2, 3} {
			found[fmt.Sprintf("%s, %d", name, before)] = encoding.EncodeToString(
				append(make([]byte, before), piece...))[shared:]
		}
	}
	return found
}

// logged returns bytes as the access log has them.
func logged(piece []byte) string {
	var text strings.Builder
	for _, b := range piece {
		if b < ' ' || b == 0x7f {
			fmt.Fprintf(&text, "#%02X", b)
		} else {
			text.WriteByte(b)
		}
	}
	return text.String()
}

// find returns the names of the secrets of which there are traces in a text, which may be compressed.
func (s traces) find(text []byte) []string {
	found := map[string]bool{}
	for at := 0; at+traceWidth <= len(text); at++ {
		if name, ok := s[[traceWidth]byte(text[at:])]; ok {
			found[name] = true
		}
	}
	if z, err := gzip.NewReader(bytes.NewReader(text)); err == nil {
		inside, err := io.ReadAll(z)
		if err != nil {
			found["what is compressed cannot be read: "+err.Error()] = true
		}
		for _, name := range s.find(inside) {
			found[name] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// TestTracesOfASecretAreFound: in every form and place, compressed or not, and not where there are none.
func TestTracesOfASecretAreFound(t *testing.T) {
	value, other := make([]byte, 48), make([]byte, 100_000)
	rand.Read(value)
	rand.Read(other)
	secrets := traces{}
	secrets.secret("planted", value)
	if found := secrets.find(fmt.Appendf(other, "%x %v", other, other)); len(found) > 0 {
		t.Errorf("in what is without it %q are found", found)
	}
	// Only the middle of it, as of a key in a larger structure or in a text that is cut off.
	for form := range forms(value) {
		for before := range 4 {
			text := forms(slices.Concat(make([]byte, before), value[5:37]))[form]
			if form == "words" && before != 3 {
				continue // of an argument there are whole words
			}
			if form == "words" {
				text = forms(value[8:])[form]
			}
			plain := slices.Concat(other[:1000], []byte(text), other[1000:2000])
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			if _, err := z.Write(plain); err != nil || z.Close() != nil {
				t.Fatal(err)
			}
			if len(secrets.find(plain)) == 0 || len(secrets.find(packed.Bytes())) == 0 {
				t.Errorf("%s after %d bytes: %q is not found", form, before, text)
			}
		}
	}
}
