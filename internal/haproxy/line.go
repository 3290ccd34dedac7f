package haproxy

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
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

// field is one "key=value" of a line. A word without "=" is a key without a value. Both are valid as long
// as the line is.
type field struct {
	key, value []byte
	// valued is true exactly when there was a "=".
	valued bool
}

// separators are the bytes between fields: HAProxy groups them with blanks, commas, parentheses and, in the
// short form, brackets. An IPv6 address is printed without brackets.
var separators = [256]bool{' ': true, '\t': true, ',': true, '(': true, ')': true, '[': true, ']': true}

// nextField cuts the first field off a line. A field without a key ends the line.
func nextField(line []byte) (f field, rest []byte) {
	start := 0
	for start < len(line) && separators[line[start]] {
		start++
	}
	end := start
	for end < len(line) && !separators[line[end]] {
		end++
	}
	word := line[start:end]
	if at := bytes.IndexByte(word, '='); at >= 0 {
		return field{word[:at], word[at+1:], true}, line[end:]
	}
	return field{key: word}, line[end:]
}

// number reads a decimal number, 0 for what is none.
func number(text []byte) int64 {
	negative := len(text) > 0 && text[0] == '-'
	if negative {
		text = text[1:]
	}
	var n int64
	for _, c := range text {
		if c < '0' || c > '9' || n > (math.MaxInt64-9)/10 {
			return 0
		}
		n = 10*n + int64(c-'0')
	}
	if negative {
		return -n
	}
	return n
}

// hexadecimal reads a number with or without "0x" and the "h" of the short form, 0 for what is none.
func hexadecimal(text []byte) uint64 {
	text = bytes.TrimSuffix(bytes.TrimPrefix(text, []byte("0x")), []byte("h"))
	var n uint64
	for _, c := range text {
		switch {
		case n > math.MaxUint64>>4:
			return 0
		case c >= '0' && c <= '9':
			n = n<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		default:
			return 0
		}
	}
	return n
}

// counter reads a counter of 32 bits: versions before 2.0 print it with a sign, so that it turns negative.
func counter(text []byte) uint32 { return uint32(number(text)) }

// unitOf is the unit of a duration as HAProxy prints it: the two largest, as in "13h40m".
func unitOf(c byte) time.Duration {
	switch c {
	case 'd':
		return 24 * time.Hour
	case 'h':
		return time.Hour
	case 'm':
		return time.Minute
	case 's':
		return time.Second
	}
	return 0
}

// maxDays keeps durations from overflowing; HAProxy's own ticks end at 49 days.
const maxDays = 100_000

// duration reads a duration, rounded down by HAProxy to the smallest unit that is printed.
func duration(text []byte) (time.Duration, bool) {
	var sum time.Duration
	for len(text) > 0 {
		at := 0
		for at < len(text) && text[at] >= '0' && text[at] <= '9' {
			at++
		}
		if at == 0 || at == len(text) || at > len("1000000000") {
			return 0, false
		}
		n, unit := number(text[:at]), unitOf(text[at])
		if unit == 0 || n > maxDays*int64(24*time.Hour/unit) {
			return 0, false
		}
		sum += time.Duration(n) * unit
		if sum < 0 {
			return 0, false
		}
		text = text[at+1:]
	}
	return sum, true
}

// names keeps one copy of each name that occurs again and again.
type names map[string]string

// maxNames bounds it: 100 bytes each at most, in all practice.
const maxNames = 4096

func (n names) of(text []byte) string {
	if name, ok := n[string(text)]; ok {
		return name
	}
	name := string(text)
	if len(n) < maxNames {
		n[name] = name
	}
	return name
}
