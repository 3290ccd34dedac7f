package haproxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
)

// maxLine is how much of a line is looked at. The longest that HAProxy prints of a session, with the names
// of everything, has under 500 bytes; the rest of a longer one is skipped.
const maxLine = 16 << 10

// BufferSize is the size of a buffer that this package reads through without one of its own.
const BufferSize = maxLine

// lines reads an answer line by line, without ever holding more than one.
type lines struct {
	r    *bufio.Reader
	line []byte
	err  error
	// blank is true exactly when the last line was empty, ended when that line itself was not cut short:
	// HAProxy ends its answers with such a line.
	blank, ended bool
}

func newLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, maxLine)} }

// next goes to the next line and reports whether there is one.
func (l *lines) next() bool {
	if l.err != nil {
		return false
	}
	line, err := l.r.ReadSlice('\n')
	l.line = bytes.TrimRight(line, "\r\n")
	rest := err
	for errors.Is(rest, bufio.ErrBufferFull) {
		// ReadSlice reuses what it returned: the begin of a line that is too long has to be saved.
		l.line = bytes.Clone(l.line)
		_, rest = l.r.ReadSlice('\n')
	}
	if rest != nil && !errors.Is(rest, io.EOF) {
		l.err = rest
		return false
	}
	if rest != nil && len(line) == 0 {
		return false
	}
	l.blank = len(bytes.TrimSpace(l.line)) == 0
	l.ended = l.blank && rest == nil
	return true
}

func (l *lines) text() string { return string(l.line) }

func cutColon(line string) (key, value string) {
	key, value, _ = strings.Cut(line, ":")
	return strings.TrimSpace(key), strings.TrimSpace(value)
}

// field is one "key=value" of a line. A word without "=" is a key without a value.
type field struct {
	key, value string
	// valued is true exactly when there was a "=".
	valued bool
}

// isSeparator reports whether a byte stands between fields: HAProxy groups them with blanks, commas,
// parentheses and, in the short form, brackets. An IPv6 address is printed without brackets.
func isSeparator(c byte) bool {
	switch c {
	case ' ', '\t', ',', '(', ')', '[', ']':
		return true
	}
	return false
}

// nextField cuts the first field off a line. A field without a key ends the line.
func nextField(line []byte) (f field, rest []byte) {
	start := 0
	for start < len(line) && isSeparator(line[start]) {
		start++
	}
	end := start
	for end < len(line) && !isSeparator(line[end]) {
		end++
	}
	word := line[start:end]
	if at := bytes.IndexByte(word, '='); at >= 0 {
		return field{name(word[:at]), string(word[at+1:]), true}, line[end:]
	}
	return field{key: name(word)}, line[end:]
}

// name returns a key as a string, without a copy for those that occur in every session.
func name(key []byte) string {
	switch string(key) {
	case "flags":
		return "flags"
	case "state":
		return "state"
	case "exp":
		return "exp"
	case "fd":
		return "fd"
	case "addr":
		return "addr"
	case "id":
		return "id"
	}
	return string(key)
}

// number reads a decimal number, 0 for what is none.
func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

// hexadecimal reads a number with or without "0x" and the "h" of the short form, 0 for what is none.
func hexadecimal(text string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(text, "0x"), "h"), 16, 64)
	return n
}

// counter reads a counter of 32 bits: versions before 2.0 print it with a sign, so that it turns negative.
func counter(text string) uint32 { return uint32(number(text)) }

// units are those of a duration as HAProxy prints it: the two largest, as in "13h40m".
var units = map[byte]time.Duration{
	'd': 24 * time.Hour, 'h': time.Hour, 'm': time.Minute, 's': time.Second,
}

// maxDays keeps durations from overflowing; HAProxy's own ticks end at 49 days.
const maxDays = 100_000

// duration reads a duration, rounded down by HAProxy to the smallest unit that is printed.
func duration(text string) (time.Duration, bool) {
	var sum time.Duration
	for text != "" {
		at := 0
		for at < len(text) && text[at] >= '0' && text[at] <= '9' {
			at++
		}
		if at == 0 || at == len(text) {
			return 0, false
		}
		n, err := strconv.ParseInt(text[:at], 10, 32)
		unit, ok := units[text[at]]
		if err != nil || !ok || time.Duration(n)*unit/(24*time.Hour) > maxDays || n > 1e9 {
			return 0, false
		}
		sum += time.Duration(n) * unit
		text = text[at+1:]
	}
	return sum, true
}
