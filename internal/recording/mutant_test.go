package recording

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/evidence"
)

const (
	// mutants is how many are made.
	mutants = 1000
	// changes is in how many ways each is changed at most.
	changes = 3
	// keepShare is how many of those that lose no deciding fact must keep class and culprit, at least.
	keepShare = 0.8
)

var only = flag.Int("seed", -1, "make only the mutant of this seed")

// blame is the class and the culprit of a diagnosis, by what a mutant may not change.
type blame struct {
	verdict     correlate.Verdict
	class       correlate.Class
	stream      string
	fd          int
	destination string
	function    string
}

// blameOf returns who is blamed first. numbers are the descriptors that go by another number now.
func blameOf(d *correlate.Diagnosis, numbers map[int]int) blame {
	b := blame{verdict: d.Verdict, fd: -1}
	if d.Verdict == correlate.Partial {
		b.verdict = correlate.Spin
	}
	if len(d.Findings) == 0 {
		return b
	}
	f := &d.Findings[0]
	b.class, b.destination = f.Class, f.Destination
	switch {
	case f.Stream != nil:
		b.stream = f.Stream.ID
	case f.FD != nil:
		b.fd = f.FD.Number
		if now, renumbered := numbers[b.fd]; renumbered {
			b.fd = now
		}
	case strings.HasPrefix(string(f.Class), "B") && len(f.Functions) > 0:
		b.function = f.Functions[0].Name
	}
	return b
}

// unnamed reports whether no class is named. Of a process that busy polls as its configuration asks (L2), and
// of which the configuration is not known, that is true: it does not sleep, and nobody can say why.
func unnamed(d *correlate.Diagnosis) bool {
	return !slices.ContainsFunc(d.Findings, func(f correlate.Finding) bool {
		return f.Class != correlate.Unknown
	})
}

// TestMutantsAreNeverGivenAnotherClass changes recordings in ways that leave their class what it is, or leave
// it open. A mutant follows from its seed and the recordings: -seed makes one alone.
func TestMutantsAreNeverGivenAnotherClass(t *testing.T) {
	all := samples(t)
	var healthy []*evidence.Case
	for _, s := range all {
		if s.class() == correlate.Unknown && !strings.HasPrefix(s.name, "L2-") {
			healthy = append(healthy, s.Case)
		}
	}
	intact, kept := 0, 0
	first, last := uint64(0), uint64(mutants)
	if *only >= 0 {
		first, last = uint64(*only), uint64(*only)+1
	}
	for seed := first; seed < last; seed++ {
		s := &all[seed%uint64(len(all))]
		m := &mutant{Case: clone(s.Case), Rand: rand.New(rand.NewPCG(seed, 0)), class: s.class(),
			healthy: healthy}
		var made []string
		for range 1 + m.IntN(changes) {
			how := mutations[m.IntN(len(mutations))]
			how.change(m)
			made = append(made, how.name)
		}
		d := correlate.Correlate(m.Case)
		if err := s.wrong(d); err != nil && !(m.lost && strings.HasPrefix(s.name, "L2-") && unnamed(d)) {
			t.Errorf("seed %d: %s with %s: %v", seed, s.name, strings.Join(made, ", "), err)
		}
		if m.lost {
			continue
		}
		intact++
		want, got := blameOf(correlate.Correlate(s.Case), m.numbers), blameOf(d, nil)
		if got == want {
			kept++
		} else {
			t.Logf("seed %d: %s with %s: %+v, was %+v", seed, s.name, strings.Join(made, ", "), got, want)
		}
	}
	if *only >= 0 {
		return
	}
	share := float64(kept) / float64(intact)
	fmt.Printf("%d mutants of %d recordings: %d lose no deciding fact, and %d of these (%.1f %%) keep class "+
		"and culprit\n", mutants, len(all), intact, kept, 100*share)
	if share < keepShare || intact < mutants/4 {
		t.Errorf("%.1f %% of %d keep class and culprit, should be at least %.0f %%", 100*share, intact,
			100*keepShare)
	}
}
