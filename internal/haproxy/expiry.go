package haproxy

import "time"

// ExpiryState is what is known of a timer.
type ExpiryState uint8

// The states of a timer.
const (
	// NotPrinted is a timer that the version does not print in this place.
	NotPrinted ExpiryState = iota
	// Lost is a timer of which the dump says nothing: copies from web pages lack the words in angle
	// brackets, so "exp=" may have been "<PAST>" or "<NEVER>".
	Lost
	// Never is a timer that is not armed.
	Never
	// Past is a timer that has passed, nobody knows when.
	Past
	// Future is a timer that will pass.
	Future
)

// Expiry is a timer as a dump prints it.
type Expiry struct {
	State ExpiryState
	// In is the time until it passes, rounded down to seconds or more; for Future only.
	In time.Duration
}

// expiry reads a timer of "show sess all".
func expiry(text []byte) Expiry {
	switch string(text) {
	case "":
		return Expiry{State: Lost}
	case "<NEVER>":
		return Expiry{State: Never}
	case "<PAST>", "?":
		return Expiry{State: Past}
	}
	if d, ok := duration(text); ok {
		return Expiry{Future, d}
	}
	return Expiry{State: Lost}
}

// shortExpiry reads a timer of "show sess", where one that is not armed is left empty.
func shortExpiry(text []byte) Expiry {
	if len(text) == 0 {
		return Expiry{State: Never}
	}
	return expiry(text)
}
