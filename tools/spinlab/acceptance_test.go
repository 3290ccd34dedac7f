package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// The tests of this file require that whyspin names the class and the culprit of each program.

// ready switches the tests of this file on. It goes away when rules, kernel side and samples are together.
var ready = os.Getenv("SPINLAB_ACCEPTANCE") != ""

// talkers is how many healthy connections are served beside a defect.
const talkers = 8

// blocking are the classes whose handler does not return: in a program with one loop nobody is served then.
var blocking = []string{"B1", "B2"}

func TestSpinnersAreNamed(t *testing.T) {
	eachSpinner(t, func(t *testing.T, p *program, class string) {
		requireNamed(t, p, spin(t, p, class, 0), verdictOf(class))
	})
}

func TestSpinnersAreNamedBesideHealthyTraffic(t *testing.T) {
	eachSpinner(t, func(t *testing.T, p *program, class string) {
		if !p.manyLoops && slices.Contains(blocking, class) {
			return
		}
		s := spin(t, p, class, talkers)
		before := s.served.Load()
		requireNamed(t, p, s, verdictOf(class), partial)
		eventually(t, "the healthy connections to be served", func() bool { return s.served.Load() > before })
	})
}

// TestSpinnersWithoutMuchCPUAreNamed takes the programs that have most classes, one without and one with a
// runtime of its own.
func TestSpinnersWithoutMuchCPUAreNamed(t *testing.T) {
	situations := []struct {
		name  string
		begin func(t *testing.T, pid int)
	}{
		{"under a quota", underQuota},
		{"beside a busy neighbour", besideNeighbour},
	}
	for _, situation := range situations {
		t.Run(situation.name, func(t *testing.T) {
			t.Parallel()
			eachSpinner(t, func(t *testing.T, p *program, class string) {
				if p.name != "epoll-c" && p.name != "epoll-go" {
					return
				}
				s := spin(t, p, class, 0)
				situation.begin(t, s.pid())
				requireNamed(t, p, s, verdictOf(class))
			})
		})
	}
}

// The verdicts about spinning programs.
const (
	spinning = "spin"
	partial  = "partial"
	boundary = "boundary"
)

func verdictOf(class string) string {
	if strings.HasPrefix(class, "B") {
		return boundary
	}
	return spinning
}

// requireNamed diagnoses a program and compares what whyspin says with the truth.
func requireNamed(t *testing.T, p *program, s *spinner, verdicts ...string) {
	t.Helper()
	if !ready {
		return
	}
	d := diagnose(t, s.pid(), window)
	// On a busy machine a second of the clock may hold too little CPU time to sample; the report says so.
	for longer := window; len(d.Findings) > 0 && d.lacksSamples() && longer < longest; {
		longer *= 3
		d = diagnose(t, s.pid(), longer)
	}
	if !slices.Contains(verdicts, d.verdict()) {
		t.Errorf("the verdict is %q, should be one of %q", d.verdict(), verdicts)
	}
	if len(d.Findings) == 0 {
		t.Error("there is no finding")
	} else {
		for _, mistake := range d.mistakes(p, &s.truth) {
			t.Error(mistake)
		}
	}
	if t.Failed() {
		t.Logf("the truth is %+v; whyspin says:\n%s", s.truth, d.text)
	}
}

// mistakes compares the first finding with the truth.
func (d *diagnosis) mistakes(p *program, truth *truth) (all []string) {
	f := &d.Findings[0]
	differ := func(what string, got, want any) {
		if got != want {
			all = append(all, fmt.Sprintf("%s is %v, should be %v", what, got, want))
		}
	}
	class := ""
	if f.Class != nil {
		class = *f.Class
	}
	switch truth.Class {
	case "T1":
		// Without its state the kernel's view does not tell this class from its sisters.
		differ("the class", class, "")
		return append(all, d.unnamed(p, truth)...)
	case "C1":
		differ("the destination", f.Destination, truth.Destination)
	case "B1", "B2":
		all = append(all, d.unnamed(p, truth)...)
	case "F5":
		if f.Listener == nil {
			all = append(all, "no listener is named")
			break
		}
		differ("the listener's descriptor", f.Listener.Number, truth.FD)
		differ("the listener", f.Listener.Address, truth.Listener)
	default:
		if f.FD == nil {
			all = append(all, "no descriptor is named")
			break
		}
		differ("the descriptor", f.FD.Number, truth.FD)
		if truth.Class != "F6" { // closed: the addresses are gone, or those of another
			differ("the descriptor's address", f.FD.Local, truth.Local)
		}
		if truth.Class != "F6" && truth.Class != "F4" { // after a reset the kernel forgets the peer
			differ("the descriptor's peer", f.FD.Remote, truth.Peer)
		}
	}
	differ("the class", class, truth.Class)
	return all
}

// longest bounds the window in which samples are looked for.
const longest = 9 * window

// lacksSamples reports whether the first finding says that there were too few samples to name functions.
func (d *diagnosis) lacksSamples() bool {
	return slices.ContainsFunc(d.Findings[0].Unknown, func(sentence string) bool {
		return strings.Contains(sentence, "too few samples")
	})
}

// unnamed says whether the functions of a finding lack the culprit. The stacks of an interpreter show its
// own functions, not those of the program that it runs.
func (d *diagnosis) unnamed(p *program, truth *truth) []string {
	f := &d.Findings[0]
	if len(f.Functions) == 0 {
		return []string{"no function is named"}
	}
	if truth.Function == "" || strings.HasSuffix(p.name, "-py") {
		return nil
	}
	for _, v := range f.Functions {
		if v.Name == truth.Function || slices.Contains(v.Callers, truth.Function) {
			return nil
		}
	}
	return []string{fmt.Sprintf("%s is not among the functions", truth.Function)}
}
