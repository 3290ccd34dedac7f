package config

import (
	"fmt"
	"strings"
)

// environment is what variables expand to: the caller's environment under the changes that setenv,
// presetenv, unsetenv and resetenv have made so far. Nothing is written back to the process.
type environment struct {
	lookup func(string) (string, bool)
	// changed holds what the configuration has set; a nil value is a variable it has removed.
	changed map[string]*string
	// cleared is true exactly when resetenv has hidden the caller's environment.
	cleared bool
	// size is the sum of the bytes of all names and values in changed.
	size int
}

func newEnvironment(lookup func(string) (string, bool)) *environment {
	if lookup == nil {
		lookup = func(string) (string, bool) { return "", false }
	}
	return &environment{lookup: lookup, changed: map[string]*string{}}
}

// get returns the value of a variable and whether it exists.
func (e *environment) get(name string) (string, bool) {
	if value, ok := e.changed[name]; ok {
		if value == nil {
			return "", false
		}
		return *value, true
	}
	if e.cleared {
		return "", false
	}
	return e.lookup(name)
}

// set creates or replaces a variable. It returns false when there is no room.
func (e *environment) set(name, value string) bool {
	size := e.size + len(name) + len(value)
	if old := e.changed[name]; old != nil {
		size -= len(name) + len(*old)
	}
	if size > maxEnvironmentBytes {
		return false
	}
	e.size = size
	e.changed[name] = &value
	return true
}

// unset removes a variable; one that does not exist is no mistake. It returns false when there is no room to
// remember.
func (e *environment) unset(name string) bool {
	if _, ok := e.get(name); !ok {
		return true
	}
	if !e.set(name, "") {
		return false
	}
	e.changed[name] = nil
	e.size -= len(name)
	return true
}

// reset removes all variables but those named. It returns false when there is no room.
func (e *environment) reset(keep []string) bool {
	kept := &environment{lookup: e.lookup, changed: map[string]*string{}, cleared: true}
	for _, name := range keep {
		if value, ok := e.get(name); ok && !kept.set(name, value) {
			return false
		}
	}
	*e = *kept
	return true
}

// validVariable reports whether setenv(3) takes the name.
func validVariable(name string) bool { return name != "" && !strings.ContainsAny(name, "=\x00") }

// expand replaces $NAME and ${NAME} by the values of the variables, an unset one by nothing. A dollar
// without a name stays.
func (e *environment) expand(text string) (string, error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "$")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, braced := strings.CutPrefix(after, "{")
		rest := strings.TrimLeftFunc(name, func(c rune) bool { return c < 0x80 && isNameByte(byte(c)) })
		name = name[:len(name)-len(rest)]
		if braced && !strings.HasPrefix(rest, "}") {
			return "", fmt.Errorf("${%s is not followed by }: defaults work inside double quotes only", name)
		}
		if !braced && name == "" {
			b.WriteByte('$')
		}
		value, _ := e.get(name)
		b.WriteString(value)
		text = strings.TrimPrefix(rest, "}")
		if !braced {
			text = rest
		}
	}
}
