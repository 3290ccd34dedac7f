package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/whyspin/whyspin/internal/config"
)

// standardOutput is where commands print what was asked for. What cannot be printed makes the program fail:
// an empty answer must not look like one.
var standardOutput = &answer{}

// answer remembers the first error of writing to the standard output.
type answer struct{ err error }

func (o *answer) Write(text []byte) (int, error) {
	n, err := os.Stdout.Write(text)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

// complete returns the exit code of a command that has printed what it had to.
func (o *answer) complete(code int) int {
	if o.err == nil {
		return code
	}
	fmt.Fprintf(os.Stderr, "whyspin: printing the answer: %v\n", o.err)
	return max(code, exitFailed)
}

// errInterrupted is what an end on SIGINT or SIGTERM is called.
var errInterrupted = errors.New("interrupted")

// messages are what is said about a configuration and a start: as it is, or in the form of the haproxy
// program, which editors and deployment scripts know.
type messages struct {
	haproxy bool
	quiet   bool
}

// alert says why something cannot be done. haproxy is silent even then when it is told to be quiet.
func (m messages) alert(err error) {
	if m.haproxy && m.quiet {
		return
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		if m.haproxy {
			line = fmt.Sprintf("[ALERT]    (%d) : config : %s", os.Getpid(), line)
		}
		fmt.Fprintln(os.Stderr, line)
	}
}

// warn says what is not as it was asked for.
func (m messages) warn(text string) {
	if m.quiet {
		return
	}
	if m.haproxy {
		text = strings.TrimPrefix(text, "warning: ")
		text = fmt.Sprintf("[WARNING]  (%d) : config : %s", os.Getpid(), text)
	}
	fmt.Fprintln(os.Stderr, text)
}

// warnAll prints the warnings of a configuration and returns how many there are; notices are none.
func (m messages) warnAll(all []config.Diagnostic) (warnings int) {
	for _, d := range all {
		m.warn(d.String())
		if d.Severity == config.Warning {
			warnings++
		}
	}
	return warnings
}

// phrase is an error in haproxy's own words.
type phrase string

func (p phrase) Error() string { return string(p) }

const (
	errWarnings phrase = "Some warnings were found and 'zero-warning' is set. Aborting." // under -dW
	errFatal    phrase = "Fatal errors found in configuration."
)
