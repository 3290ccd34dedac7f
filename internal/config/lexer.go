package config

import (
	"fmt"
	"strings"
)

// syntaxError is a line that cannot be cut into words.
type syntaxError struct {
	column  int // of the byte at fault, counted from 1
	message string
	hint    string // what would be right, empty when the message says it
}

// Error prints the message, the column and the hint.
func (e *syntaxError) Error() string {
	text := fmt.Sprintf("%s in column %d", e.message, e.column)
	if e.hint != "" {
		text += ": " + e.hint
	}
	return text
}

// lexer cuts one line into words by HAProxy's rules (configuration manual 2.2 and 2.3, and what HAProxy 2.6
// does where the manual is silent; TestWordsAsHAProxy compares the two):
//
//   - blanks separate words, "#" begins a comment, a carriage return ends the line;
//   - a backslash protects a blank, "#", a quote or itself, and introduces \n, \r, \t and \xHH; before
//     anything else it is an ordinary character;
//   - in single quotes everything is literal; in double quotes backslashes and variables work;
//   - the default of "${NAME-default}" is literal up to the next "}", whatever it contains;
//   - "${NAME[*]}" cuts the value into words at its blanks.
type lexer struct {
	text string
	at   int // offset of the next byte of text
	// lookup returns the value of a variable. A name with a leading dot is a pseudo-variable; one that is
	// not found is a mistake, while other variables that are not found are empty.
	lookup func(string) (string, bool)

	quote   byte // the open quote, 0 outside
	quoteAt int  // where it was opened
	word    []byte
	// inWord is true exactly when a word has begun: quotes begin a word, even an empty one.
	inWord bool
	words  []string
	size   int // bytes of all words so far
	err    *syntaxError
}

// split returns the words of the line.
func (x *lexer) split() ([]string, *syntaxError) {
	for x.at < len(x.text) && x.err == nil {
		c := x.text[x.at]
		switch {
		case c == '\r':
			if rest := strings.Trim(x.text[x.at:], "\r"); rest != "" {
				x.fail(x.at, "carriage return", "it belongs to the end of a line only")
			}
			x.text = x.text[:x.at]
		case c == '#' && x.quote == 0:
			x.text = x.text[:x.at]
		case (c == '"' || c == '\'') && (x.quote == 0 || x.quote == c):
			x.toggle(c)
		case c == '\\' && x.quote != '\'':
			x.escape()
		case c == '$' && x.quote == '"':
			x.variable()
		case isBlank(c) && x.quote == 0:
			x.endWord()
			x.at++
		default:
			x.emit(c)
			x.at++
		}
	}
	if x.quote != 0 && x.err == nil {
		x.fail(x.quoteAt, fmt.Sprintf("unclosed quote %c", x.quote), "")
	}
	x.endWord()
	return x.words, x.err
}

// isBlank is isspace(3) without the line ends.
func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\v' || c == '\f' }

// fail records the first mistake of the line.
func (x *lexer) fail(at int, message, hint string) {
	if x.err == nil {
		x.err = &syntaxError{column: at + 1, message: message, hint: hint}
	}
}

func (x *lexer) emit(c byte) {
	x.inWord = true
	x.size++
	if x.size > maxLineBytes {
		x.fail(x.at, fmt.Sprintf("expanded line passes %d bytes", maxLineBytes), "")
		return
	}
	x.word = append(x.word, c)
}

func (x *lexer) endWord() {
	if !x.inWord {
		return
	}
	if len(x.words) == maxWords {
		x.fail(x.at-1, fmt.Sprintf("more than %d words", maxWords), "")
		return
	}
	x.words = append(x.words, string(x.word))
	x.word, x.inWord = x.word[:0], false
}

func (x *lexer) toggle(c byte) {
	if x.quote == 0 {
		x.quote, x.quoteAt = c, x.at
	} else {
		x.quote = 0
	}
	x.inWord = true
	x.at++
}

// escape reads a backslash and what it protects.
func (x *lexer) escape() {
	var next byte
	if x.at+1 < len(x.text) {
		next = x.text[x.at+1]
	}
	switch next {
	case ' ', '\\', '#', '\'', '"':
		x.emit(next)
	case 'n':
		x.emit('\n')
	case 'r':
		x.emit('\r')
	case 't':
		x.emit('\t')
	case 'x':
		x.hex()
		return
	case '$':
		// Outside quotes a dollar is an ordinary character, and so is the backslash before it.
		if x.quote == 0 {
			x.emit('\\')
		}
		x.emit('$')
	default:
		x.emit('\\')
		x.at++
		return
	}
	x.at += 2
}

// hex reads \xHH.
func (x *lexer) hex() {
	if x.at+4 > len(x.text) || !isHex(x.text[x.at+2]) || !isHex(x.text[x.at+3]) {
		x.fail(x.at, `incomplete \xHH`, "it takes two hexadecimal digits")
		return
	}
	c := hexValue(x.text[x.at+2])<<4 | hexValue(x.text[x.at+3])
	if c == 0 {
		x.fail(x.at, `\x00`, "a word cannot contain a zero byte")
		return
	}
	x.emit(c)
	x.at += 4
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return (c | 0x20) - 'a' + 10
}

// variable reads $NAME or ${NAME...} and emits its value.
func (x *lexer) variable() {
	x.at++
	open := -1
	if x.next('{') {
		open = x.at - 1
	}
	nameAt := x.at
	x.next('.')
	for x.at < len(x.text) && isNameByte(x.text[x.at]) {
		x.at++
	}
	name := x.text[nameAt:x.at]
	if first := strings.TrimPrefix(name, "."); first == "" || '0' <= first[0] && first[0] <= '9' {
		x.fail(nameAt, "missing name of a variable after $", `a plain dollar is written \$`)
		return
	}
	value, found := x.lookup(name)
	if name[0] == '.' && !found {
		x.fail(nameAt, "unknown pseudo-variable "+quote(name), "there are .FILE, .LINE and .SECTION")
		return
	}
	expand := false
	if open >= 0 {
		value, expand = x.brace(open, value, found)
	}
	if x.err == nil {
		x.expand(value, expand)
	}
}

// brace reads what follows the name in ${NAME...}: the request to cut into words, the default, the closing
// brace.
func (x *lexer) brace(open int, value string, found bool) (string, bool) {
	expand := false
	if at := x.at; x.next('[') {
		if !x.next('*') || !x.next(']') {
			x.fail(at, "incomplete [*]", "words of a variable are written ${NAME[*]}")
			return "", false
		}
		expand = true
	}
	if x.next('-') {
		end := strings.IndexByte(x.text[x.at:], '}')
		if end >= 0 {
			if !found {
				value = x.text[x.at : x.at+end]
			}
			x.at += end
		}
	}
	if !x.next('}') {
		x.fail(open, "unclosed brace {", "after the name of a variable only [*], -DEFAULT and } may follow")
	}
	return value, expand
}

// next consumes the byte c if it is the next one.
func (x *lexer) next(c byte) bool {
	if x.at == len(x.text) || x.text[x.at] != c {
		return false
	}
	x.at++
	return true
}

func isNameByte(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// expand emits the value of a variable, cut into words at its blanks if asked to.
func (x *lexer) expand(value string, words bool) {
	for i := 0; i < len(value) && x.err == nil; i++ {
		c := value[i]
		if !words || !isBlank(c) && c != '\n' && c != '\r' {
			x.emit(c)
			continue
		}
		x.inWord = true
		x.endWord()
		x.inWord = true
		for i+1 < len(value) && (isBlank(value[i+1]) || value[i+1] == '\n' || value[i+1] == '\r') {
			i++
		}
	}
}
