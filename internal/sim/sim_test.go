package sim

import (
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/fault"
)

// TestScenarios runs the scenarios in testdata/scenario: each file's first line says what it shows, and
// what follows each scenario is what happens in it.
func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "../../testdata/scenario", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "run" {
				d.Fatalf(t, "unknown command %q", d.Cmd)
			}
			s, err := Parse(d.Input)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			r := Run(s, Options{Transcript: true, GoOn: true})
			if len(r.Violations) > 0 && s.Fault == 0 {
				t.Errorf("%s: a rule is broken without a fault: %v", d.Pos, r.Violations[0])
			}
			return strings.Join(r.Transcript, "\n")
		})
	})
}

// quickSeeds is how many seeds a test runs; make sim runs many more.
const quickSeeds = 300

// TestNoSeedBreaksARule also requires every hazard of the world to happen: one that no longer does would not
// be missed.
func TestNoSeedBreaksARule(t *testing.T) {
	var turns []int
	var happened [Hazards]int
	for seed := range uint64(quickSeeds) {
		s := Generate(seed, 0)
		if len(s.Clients) < 8 || len(s.Servers) < 2 {
			t.Fatalf("seed %d: %d clients and %d servers are too few", seed, len(s.Clients), len(s.Servers))
		}
		r := Run(s, Options{})
		if len(r.Violations) > 0 {
			t.Fatalf("seed %d: %v", seed, r.Violations[0])
		}
		turns = append(turns, r.Turns)
		for h, n := range r.Happened {
			happened[h] += n
		}
	}
	for h, n := range happened {
		if least := 3; n < least {
			t.Errorf("%v (%s) happened %d times in %d seeds, should be %d or more", Hazard(h),
				Hazard(h).Description(), n, quickSeeds, least)
		}
	}
	slices.Sort(turns)
	if median := turns[len(turns)/2]; median < 200 {
		t.Errorf("the median schedule has %d steps, it should have 200 at least", median)
	}
}

func TestEveryFaultIsFound(t *testing.T) {
	for _, name := range fault.Names() {
		f, err := fault.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for seed := uint64(0); seed < quickSeeds && !found; seed++ {
			found = len(Run(Generate(seed, f), Options{}).Violations) > 0
		}
		if !found {
			t.Errorf("%s: no rule was broken in %d seeds", name, quickSeeds)
		}
	}
}

// TestALostEdgeIsFound breaks the world instead of the engine: of the wakeups that a broken kernel loses,
// the check for lost wakeups must see those that matter.
func TestALostEdgeIsFound(t *testing.T) {
	found := map[string]int{}
	for seed := range uint64(quickSeeds) {
		s := Generate(seed, 0)
		for _, v := range Run(s, Options{Deaf: 1 + int(seed)%20}).Violations {
			found[v.Rule]++
		}
	}
	if found["rule 6"] < 40 {
		t.Errorf("an edge lost in each of %d worlds was noticed %d times, should be 40 or more; all: %v",
			quickSeeds, found["rule 6"], found)
	}
}

func TestShrinkFindsAShortScenario(t *testing.T) {
	f := fault.RedispatchAfterAbort
	// Some scenarios hang on when exactly things happen, and every step that is left out changes that; of a
	// few, one at least becomes short.
	left := 5
	for seed := uint64(0); left > 0; seed++ {
		s := Generate(seed, f)
		r := Run(s, Options{})
		if len(r.Violations) == 0 {
			continue
		}
		short, v := Shrink(s, r.Violations[0].Rule)
		if v.Rule != r.Violations[0].Rule {
			t.Fatalf("seed %d: the short scenario breaks %q, the long one %q", seed, v.Rule,
				r.Violations[0].Rule)
		}
		if len(short.Clients) <= 2 && len(short.Servers) <= 2 {
			return
		}
		left--
		t.Logf("seed %d: %d clients and %d servers are left:\n%s", seed, len(short.Clients),
			len(short.Servers), short)
	}
	t.Error("no scenario was made short")
}

func TestTheSameSeedIsTheSameWorld(t *testing.T) {
	// Of TLS, where the bytes differ each time, there are more.
	for seed, plain, secured := uint64(0), 0, 0; plain < 20 || secured < 40; seed++ {
		s := Generate(seed, 0)
		if s.secured() {
			secured++
		} else if plain++; plain > 20 {
			continue
		}
		a, b := Run(s, Options{Transcript: true}), Run(Generate(seed, 0), Options{Transcript: true})
		if diff := cmp.Diff(a.Transcript, b.Transcript); diff != "" {
			t.Fatalf("seed %d happens differently the second time:\n%s", seed, diff)
		}
	}
}

func TestTheTextFormIsComplete(t *testing.T) {
	for seed := range uint64(60) {
		s := Generate(seed, fault.RedispatchAfterAbort)
		parsed, err := Parse(s.String())
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if diff := cmp.Diff(s.String(), parsed.String()); diff != "" {
			t.Fatalf("seed %d reads back differently:\n%s", seed, diff)
		}
		a, b := Run(s, Options{Transcript: true}), Run(parsed, Options{Transcript: true})
		if diff := cmp.Diff(a.Transcript, b.Transcript); diff != "" {
			t.Fatalf("seed %d happens differently when it is read back:\n%s", seed, diff)
		}
	}
}

func TestParseNamesTheLineThatIsWrong(t *testing.T) {
	tests := []struct{ text, want string }{
		{"workers 1\nwrokers 2", `line 2: "wrokers 2": unknown word "wrokers"`},
		{"server sleepy 0s:", `line 1: "server sleepy 0s:": no answer named "sleepy"`},
		{"client 0s: dance", `line 1: "client 0s: dance": no step named "dance"`},
		{"client 0s: send", `line 1: "client 0s: send": step " send" needs a number of bytes`},
		{"client 0s: cut-fin", `line 1: "client 0s: cut-fin": step " cut-fin" needs a number of bytes`},
		{"tls-client 1.1", `line 1: "tls-client 1.1": no version of TLS named "1.1"`},
		{"timeout tea 5s", `line 1: "timeout tea 5s": no timeout named "tea"`},
		{"fault bad-luck",
			`line 1: "fault bad-luck": no fault named "bad-luck"; known faults: ` +
				strings.Join(fault.Names(), ", ")},
	}
	for _, tt := range tests {
		if _, err := Parse(tt.text); err == nil || err.Error() != tt.want {
			t.Errorf("%q: error %v, should be %s", tt.text, err, tt.want)
		}
	}
}
