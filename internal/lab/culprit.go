package lab

import (
	"fmt"
	"slices"
	"strings"

	"github.com/whyspin/whyspin/internal/correlate"
)

// culprit is who is to blame, as the lab knows it of its own making. Of several it is enough to name one.
type culprit struct {
	// connections are addresses of clients, or of servers to which only guilty streams are connected.
	connections []string
	// listener is the address of the guilty listener, destination that of attempts to connect.
	listener, destination string
	// functions are in the stacks of the guilty thread, one at least in each.
	functions []string
	// gone is true exactly when the guilty descriptor is closed, so that nothing but its number can be named.
	gone bool
}

// nobody reports whether there is no stream, descriptor or address to blame.
func (c *culprit) nobody() bool {
	return len(c.connections) == 0 && c.listener == "" && c.destination == "" &&
		len(c.functions) == 0 && !c.gone
}

// blames returns an error unless the finding names the culprit.
func (c *culprit) blames(f *correlate.Finding) error {
	switch {
	case c.nobody():
		if f.Stream != nil || f.FD != nil || f.Destination != "" {
			return fmt.Errorf("it blames %s, though there is nobody to blame", accused(f))
		}
		return nil
	case c.destination != "" && f.Destination == c.destination,
		c.listener != "" && f.Listener != nil && f.Listener.Address == c.listener,
		c.runs(f),
		c.gone && f.FD != nil && f.FD.Remote == "":
		return nil
	}
	for _, address := range accusedAddresses(f) {
		if slices.Contains(c.connections, address) {
			return nil
		}
	}
	return fmt.Errorf("it blames %s, should be %s", accused(f), c)
}

// runs reports whether a guilty function is in the stacks of the finding.
func (c *culprit) runs(f *correlate.Finding) bool {
	return slices.ContainsFunc(f.Functions, func(v correlate.Function) bool {
		return slices.ContainsFunc(append([]string{v.Name}, v.Callers...), func(name string) bool {
			return slices.ContainsFunc(c.functions, func(guilty string) bool {
				return strings.Contains(name, guilty)
			})
		})
	})
}

// accusedAddresses are those by which a finding names a connection.
func accusedAddresses(f *correlate.Finding) (all []string) {
	if f.Stream != nil {
		all = append(all, f.Stream.Client, f.Stream.Upstream)
	}
	if f.FD != nil {
		all = append(all, f.FD.Remote)
	}
	return slices.DeleteFunc(all, func(address string) bool { return address == "" })
}

func accused(f *correlate.Finding) string {
	var parts []string
	if f.Stream != nil {
		parts = append(parts, fmt.Sprintf("stream %s of %s to %s", f.Stream.ID, f.Stream.Client,
			f.Stream.Upstream))
	}
	if f.FD != nil {
		parts = append(parts, fmt.Sprintf("descriptor %d (%s)", f.FD.Number, f.FD.Remote))
	}
	if f.Listener != nil {
		parts = append(parts, "the listener "+f.Listener.Address)
	}
	if f.Destination != "" {
		parts = append(parts, "the destination "+f.Destination)
	}
	for _, v := range f.Functions {
		parts = append(parts, "the function "+v.Name)
	}
	if len(parts) == 0 {
		return "nobody"
	}
	return strings.Join(parts, ", ")
}

// String names the culprit; of many connections the first few.
func (c *culprit) String() string {
	var parts []string
	const shown = 3
	if n := len(c.connections); n > shown {
		parts = append(parts, fmt.Sprintf("one of %d connections, %s ...", n,
			strings.Join(c.connections[:shown], " ")))
	} else if n > 0 {
		parts = append(parts, "the connection of "+strings.Join(c.connections, " or "))
	}
	for _, part := range []struct{ what, name string }{
		{"the listener ", c.listener}, {"the destination ", c.destination},
		{"the function ", strings.Join(c.functions, " or ")},
	} {
		if part.name != "" {
			parts = append(parts, part.what+part.name)
		}
	}
	switch {
	case c.gone:
		parts = append(parts, "a descriptor that is closed")
	case c.nobody():
		return "nobody"
	}
	return strings.Join(parts, ", ")
}
