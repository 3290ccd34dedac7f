package lab

import (
	"cmp"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/fault"
)

// Case is one entry of the lab: a class of the spin catalogue that is brought about in a private proxy, or a
// look-alike that must not be taken for one.
type Case struct {
	// Name is how the case is called: the name of its fault, or what a look-alike does.
	Name string
	// Class is that of the catalogue: "T1"; of a look-alike its number there: "L6".
	Class string
	// Shows is one line about what there is to see.
	Shows string
	// Needs is a program that has to be installed, empty for none.
	Needs string

	// fault is what the proxy carries, none for a look-alike. workers is its number of workers, 0 for one.
	fault   fault.Set
	workers int
	// everywhere is true exactly when the fault is one of the whole process.
	everywhere bool
	// secure is true exactly when the clients of the case speak TLS.
	secure bool
	// global are further lines of the section "global", lines those of the section that the case's traffic
	// goes through. They may ask the stage for servers.
	global string
	lines  func(s *stage) ([]string, error)
	// launch starts another program than whyspin, nil for none.
	launch func(ctx context.Context, s *stage) error
	// start starts the traffic of the case and says who is to blame. It returns when the traffic runs.
	start func(ctx context.Context, s *stage) error
	// symptom waits until the symptom is there; nil means a worker that does not sleep, and for a
	// look-alike nothing.
	symptom func(ctx context.Context, s *stage) error
	// remedy ends it, nil for an order to shut down every stream that the verdict names.
	remedy func(ctx context.Context, s *stage, d *correlate.Diagnosis) error
	// holds is true exactly when a worker is held up, so that its other streams wait for the remedy.
	holds bool
	// heals is the answer of Heals.
	heals bool
	// verdict is that of a look-alike, empty for healthy.
	verdict correlate.Verdict
	// blind are the columns of the matrix, beside the class itself, that are right without the state.
	blind []string
}

// LookAlike reports whether the case is one that must not be accused.
func (c *Case) LookAlike() bool { return strings.HasPrefix(c.Class, "L") }

// Heals reports whether "whyspin.spin-action shutdown" ends it.
func (c *Case) Heals() bool { return c.heals }

// Missing returns an error when the program that the case needs is not installed.
func (c *Case) Missing() error {
	if c.Needs == "" {
		return nil
	}
	if _, err := exec.LookPath(c.Needs); err != nil {
		return fmt.Errorf("the case %s needs %s: %w", c.Name, c.Needs, err)
	}
	return nil
}

// Cases returns all cases in the order of the catalogue, look-alikes last.
func Cases() []*Case {
	all := make([]*Case, 0, len(classes)+len(lookAlikes))
	for i := range classes {
		all = append(all, &classes[i])
	}
	for i := range lookAlikes {
		all = append(all, &lookAlikes[i])
	}
	return all
}

// Find returns the case of that name, or the first one of that class.
func Find(name string) (*Case, error) {
	all := Cases()
	at := slices.IndexFunc(all, func(c *Case) bool { return c.Name == name })
	if at < 0 {
		at = slices.IndexFunc(all, func(c *Case) bool { return strings.EqualFold(c.Class, name) })
	}
	if at < 0 {
		return nil, fmt.Errorf("no case %q; \"whyspin lab list\" lists them", name)
	}
	return all[at], nil
}

// faultLine is how the configuration asks for the fault: in the streams of the case alone, unless it is one
// of the whole process.
func (c *Case) faultLine() string {
	if c.everywhere {
		return fmt.Sprintf("whyspin.fault %v", c.fault)
	}
	return fmt.Sprintf("whyspin.fault %v in case", c.fault)
}

// configuration is what the case's proxy runs with. Probes of its own, without an action to take, would only
// disturb the others.
func (c *Case) configuration(s *stage) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "global\n    nbthread %d\n    stats socket %s mode 600 level admin\n",
		cmp.Or(c.workers, 1), s.socket)
	if c.fault != 0 {
		fmt.Fprintf(&b, "    %s\n", c.faultLine())
	}
	if s.action == "" {
		b.WriteString("    whyspin.tracing off\n")
	} else {
		fmt.Fprintf(&b, "    whyspin.spin-action %s\n", s.action)
	}
	b.WriteString(c.global)
	b.WriteString("defaults\n    mode tcp\n    timeout connect 5s\n")
	b.WriteString("    timeout client 1m\n    timeout server 1m\n")
	fmt.Fprintf(&b, "listen healthy\n    bind %s\n    server echo %s\n", s.healthyAddress, s.echo.address())
	lines := []string{"server echo " + s.echo.address()}
	if c.lines != nil {
		var err error
		if lines, err = c.lines(s); err != nil {
			return "", err
		}
	}
	fmt.Fprintf(&b, "listen case\n    bind %s", s.address)
	if c.secure {
		file, err := s.certificate()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, " ssl crt %s", file)
	}
	b.WriteByte('\n')
	for _, line := range lines {
		fmt.Fprintf(&b, "    %s\n", line)
	}
	return b.String(), nil
}
