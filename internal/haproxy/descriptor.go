package haproxy

import (
	"io"
	"strconv"
	"strings"

	"github.com/whyspin/whyspin/internal/evidence"
)

// Descriptor is one line of "show fd" (since 1.8): a descriptor in the process's own table.
type Descriptor struct {
	FD    int
	State uint32 // flags, different ones in each version
	// Reads and Writes are whether its poller is asked for the one and the other, Events what it said last.
	Reads, Writes bool
	Events        evidence.EventMask
	// Owner is the address in memory of what it belongs to: a listener, or the Connection of a Side.
	Owner   string
	Handler string // the function that is called for its events, when the process knows the name
	Threads string // mask of the threads that may handle it
	// Frontend is that of a listener or of an accepted connection; Server, as backend/server, that of a
	// connection to one.
	Frontend, Server string
	// Listening is the state of a listener, empty for anything else.
	Listening string
	// LocalPort and RemotePort are printed since 2.4; 0 for none.
	LocalPort, RemotePort int
	// Suspicious is true exactly when HAProxy itself marked the line.
	Suspicious bool
}

// ReadDescriptors reads the answer to "show fd" and calls each for every line of it.
func ReadDescriptors(r io.Reader, found func(*Descriptor)) error {
	lines := newLines(r)
	for lines.next() {
		var d Descriptor
		first, rest := nextField(lines.line)
		fd, err := strconv.Atoi(string(first.key))
		if err != nil || first.valued {
			continue
		}
		colon, rest := nextField(rest)
		if string(colon.key) != ":" {
			continue
		}
		d.FD = fd
		each(rest, d.field)
		d.Suspicious = strings.HasSuffix(lines.text(), "!")
		found(&d)
	}
	return lines.err
}

func (d *Descriptor) field(f field) {
	switch string(f.key) {
	case "st":
		d.State = uint32(hexadecimal(f.value))
	case "owner":
		d.Owner = string(f.value)
	case "tmask":
		d.Threads = string(f.value)
	case "l.st":
		d.Listening = string(f.value)
	case "fe":
		d.Frontend = named(string(f.value))
	case "sv":
		d.Server = string(f.value)
	case "lport":
		d.LocalPort = int(number(f.value))
	case "rport":
		d.RemotePort = int(number(f.value))
	default:
		d.flags(f)
		// The name of the handler stands in parentheses behind its address, with an offset since 3.3.
		key := string(f.key)
		if !f.valued && (strings.Contains(key, "_handler") || strings.Contains(key, "_accept") ||
			strings.Contains(key, "_iocb")) {
			d.Handler, _, _ = strings.Cut(key, "+")
		}
	}
}

// flags reads the flags as letters, of which a capital is one that is set: "R:PrA" or "R:srA" for reading,
// the last letter of which is whether it is asked for; "heopI" for the events.
func (d *Descriptor) flags(f field) {
	key := string(f.key)
	switch {
	case strings.HasPrefix(key, "R:"):
		d.Reads = strings.HasSuffix(key, "A")
	case strings.HasPrefix(key, "W:"):
		d.Writes = strings.HasSuffix(key, "A")
	case strings.EqualFold(key, "heopi"):
		d.Events = 0
		for i, event := range []evidence.EventMask{evidence.EventHup, evidence.EventErr, evidence.EventOut,
			evidence.EventPri, evidence.EventIn} {
			if key[i] < 'a' {
				d.Events |= event
			}
		}
	}
}
