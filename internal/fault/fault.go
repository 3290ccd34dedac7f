// Package fault names the engine faults that bring back, on purpose, a class of bug from the spin
// catalogue.
//
// A fault weakens a condition or omits an action at the place where such a bug really sat; it never writes
// a wrong state. Faults exist so that whyspin can prove that it names the bug. They are refused unless the
// program runs with --allow-faults, and they cost one bit test where they sit.
package fault

import (
	"fmt"
	"strings"
)

// Set is a set of faults. The zero Set is the healthy engine.
type Set uint32

// The faults. The comment of each says what it weakens.
const (
	// RedispatchAfterAbort is the founding bug (class T3; T3i without a tunnel timeout). It weakens two
	// conditions of package stream: the check whether the client has gone looks at a pending shutdown only,
	// not at one that has already completed; and the timeout check skips directions that are already shut,
	// without disarming them. Source: a real HAProxy 1.7 in production, see "The founding case" in
	// internal/README.md.
	RedispatchAfterAbort Set = 1 << iota
	TimerNotDisarmed
	DeadlineTruncated
	WakesItself
	WritesToFull
	ReadyAfterEAGAIN
	NeverSleeps
	EdgeForgotten
	WriteInterestKept
	ReadInterestKept
	EOFForgotten
	ErrorIgnored
	AcceptNotPaused
	ClosedWithoutRemoval
	RegisteredTwice
	InterestRewritten
	RetriesAtOnce
	HandlerLoops
	LockYields
	ReadsByteByByte
)

// table has every fault with the name by which the configuration, the simulator and the lab know it, and the
// class of the catalogue that it brings back.
var table = []struct {
	fault       Set
	name, class string
}{
	{TimerNotDisarmed, "timer-not-disarmed", "T1"},
	{DeadlineTruncated, "deadline-truncated", "T2"},
	{RedispatchAfterAbort, "redispatch-after-abort", "T3"},
	{WakesItself, "wakes-itself", "T4"},
	{WritesToFull, "writes-to-full", "T5"},
	{ReadyAfterEAGAIN, "ready-after-eagain", "T6"},
	{NeverSleeps, "never-sleeps", "T7"},
	{EdgeForgotten, "edge-forgotten", "S1"},
	{WriteInterestKept, "write-interest-kept", "F1"},
	{ReadInterestKept, "read-interest-kept", "F2"},
	{EOFForgotten, "eof-forgotten", "F3"},
	{ErrorIgnored, "error-ignored", "F4"},
	{AcceptNotPaused, "accept-not-paused", "F5"},
	{ClosedWithoutRemoval, "closed-without-removal", "F6"},
	{RegisteredTwice, "registered-twice", "F7"},
	{InterestRewritten, "interest-rewritten", "F8"},
	{RetriesAtOnce, "retries-at-once", "C1"},
	{HandlerLoops, "handler-loops", "B1"},
	{LockYields, "lock-yields", "B2"},
	{ReadsByteByByte, "reads-byte-by-byte", "B4"},
}

// Has reports whether every fault of f is in s.
func (s Set) Has(f Set) bool { return s&f == f }

// Parse returns the fault of that name. The error lists the names there are.
func Parse(name string) (Set, error) {
	for _, t := range table {
		if t.name == name {
			return t.fault, nil
		}
	}
	return 0, fmt.Errorf("no fault named %q; known faults: %s", name, strings.Join(Names(), ", "))
}

// Names returns the names of all faults in the order of the catalogue.
func Names() []string {
	all := make([]string, len(table))
	for i, t := range table {
		all[i] = t.name
	}
	return all
}

// Class returns the class of the catalogue that one fault brings back, "" for a set that is not one fault.
func (s Set) Class() string {
	for _, t := range table {
		if t.fault == s {
			return t.class
		}
	}
	return ""
}

// String prints the names of the faults in s, joined by commas, or "none".
func (s Set) String() string {
	var in []string
	for _, t := range table {
		if s.Has(t.fault) {
			in = append(in, t.name)
		}
	}
	if len(in) == 0 {
		return "none"
	}
	return strings.Join(in, ",")
}
