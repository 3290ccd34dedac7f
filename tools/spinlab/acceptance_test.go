package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// The tests of this file require that whyspin names the class and the culprit of each program.

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

// TestSpinnersWithoutMuchCPUAreNamed takes all programs under a quota: a runtime of its own sleeps elsewhere
// than in its waits when it gets no CPU. A busy neighbour takes a whole CPU; beside one each language has
// each of its classes once, in the more usual of its programs.
func TestSpinnersWithoutMuchCPUAreNamed(t *testing.T) {
	all := func(*program, string) bool { return true }
	situations := []struct {
		name  string
		begin func(t *testing.T, pid int)
		takes func(p *program, class string) bool
	}{
		{"under a quota", underQuota, all},
		{"beside a busy neighbour", besideNeighbour, func(p *program, class string) bool {
			usual := map[string]string{"epoll-go": "netpoll-go", "epoll-py": "asyncio-py"}[p.name]
			other, err := find(usual)
			return err != nil || !slices.Contains(other.classes, class)
		}},
	}
	for _, situation := range situations {
		t.Run(situation.name, func(t *testing.T) {
			t.Parallel()
			eachSpinner(t, func(t *testing.T, p *program, class string) {
				if !situation.takes(p, class) {
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
	d := diagnose(t, s.pid(), window)
	// On a busy machine a second of the clock may hold next to nothing of the process.
	for longer := window; d.sawTooLittle() && longer < d.longest(); {
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
		if truth.Class == "F6" {
			break // closed: the addresses are gone, or those of another
		}
		differ("the descriptor's peer", f.FD.Remote, truth.Peer)
		if truth.Class != "F4" { // after a reset the kernel gives the port back
			differ("the descriptor's address", f.FD.Local, truth.Local)
		}
	}
	differ("the class", class, truth.Class)
	return all
}

// longest bounds the window when it has to be longer than one window. Who yields to a neighbour gets next to
// no CPU in any.
func (d *diagnosis) longest() time.Duration {
	if len(d.Findings) == 0 {
		return 9 * window
	}
	return 3 * window
}

// sawTooLittle reports whether no thread got a twentieth of a CPU and nothing was found, or hardly a sample
// was taken of the thread that the first finding is about.
func (d *diagnosis) sawTooLittle() bool {
	const little = 0.05
	if len(d.Findings) == 0 {
		return !slices.ContainsFunc(d.Threads, func(v thread) bool { return v.CPU >= little })
	}
	return d.saysUnsampled()
}

// saysUnsampled reports whether hardly a sample was taken of the thread that the first finding is about.
func (d *diagnosis) saysUnsampled() bool {
	return slices.ContainsFunc(d.Findings[0].Unknown, func(sentence string) bool {
		return strings.Contains(sentence, "no sample was taken of it") ||
			strings.Contains(sentence, "samples taken of it: ")
	})
}

// mayBeUnsampled reports whether a thread got so little CPU that 99 samples a second need not have met it:
// who yields to a busy neighbour gets next to none.
func (d *diagnosis) mayBeUnsampled(tid int) bool {
	const sampled = 0.05 // seconds of CPU: five times the distance of two samples
	return slices.ContainsFunc(d.Threads, func(v thread) bool {
		return v.TID == tid && v.CPU*d.Window.Seconds < sampled
	})
}

// unnamed says whether the functions of a finding lack the culprit. The stacks of an interpreter show its
// own functions, not those of the program that it runs.
func (d *diagnosis) unnamed(p *program, truth *truth) []string {
	f := &d.Findings[0]
	if d.saysUnsampled() && d.mayBeUnsampled(truth.TID) {
		return nil
	}
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
