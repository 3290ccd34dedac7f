// Package fault names the engine faults that bring back, on purpose, a class of bug from the spin
// catalogue.
//
// A fault weakens a condition or omits an action at the place where such a bug really sat; it never writes
// a wrong state. Faults exist so that whyspin can prove that it names the bug. They are refused unless the
// program runs with --allow-faults, and they cost one bit test where they sit.
package fault

import (
	"fmt"
	"slices"
	"strings"
)

// Set is a set of faults. The zero Set is the healthy engine.
type Set uint32

const (
	// RedispatchAfterAbort is the founding bug (class T3; T3i without a tunnel timeout). It weakens two
	// conditions of package stream: the check whether the client has gone looks at a pending shutdown only,
	// not at one that has already completed; and the timeout check skips directions that are already shut,
	// without disarming them. Source: a real HAProxy 1.7 in production, see "The founding case" in
	// internal/README.md.
	RedispatchAfterAbort Set = 1 << iota
)

// names maps each fault to the name by which the configuration, the simulator and the lab know it.
var names = map[Set]string{
	RedispatchAfterAbort: "redispatch-after-abort",
}

// Has reports whether every fault of f is in s.
func (s Set) Has(f Set) bool { return s&f == f }

// Parse returns the fault of that name. The error lists the names there are.
func Parse(name string) (Set, error) {
	for f, n := range names {
		if n == name {
			return f, nil
		}
	}
	return 0, fmt.Errorf("no fault named %q; known faults: %s", name, strings.Join(Names(), ", "))
}

// Names returns the names of all faults, sorted.
func Names() []string {
	all := make([]string, 0, len(names))
	for _, n := range names {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

// String prints the names of the faults in s, joined by commas, or "none".
func (s Set) String() string {
	var in []string
	for f, n := range names {
		if s.Has(f) {
			in = append(in, n)
		}
	}
	if len(in) == 0 {
		return "none"
	}
	slices.Sort(in)
	return strings.Join(in, ",")
}
