package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/whyspin/whyspin/internal/lab"
)

// trial is a run with one column for each way, and errors where they are wrong.
func trial(c *lab.Case, columns [3]string, wrong [3]error) *lab.Trial {
	t := &lab.Trial{Case: c}
	for i, column := range columns {
		t.Judgements = append(t.Judgements, lab.Judgement{
			Column: column, Wrong: wrong[i], Short: wrong[i] == nil && column != c.Class && !c.LookAlike(),
		})
	}
	return t
}

func TestTallyShowsWhoWasTakenForWhat(t *testing.T) {
	t3, t3i, l1 := &lab.Case{Class: "T3"}, &lab.Case{Class: "T3i"}, &lab.Case{Class: "L1"}
	v := newTally()
	none := [3]error{}
	v.enter(t3, trial(t3, [3]string{"T3", lab.Awake, "T3"}, none), nil)
	v.enter(t3, trial(t3, [3]string{"T3", lab.Awake, "T3"}, none), nil)
	v.enter(t3i, trial(t3i, [3]string{"T3i", "healthy", "T3i"}, none), nil)
	v.enter(l1, trial(l1, [3]string{"healthy", "F2", "healthy"}, [3]error{nil, errors.New("it blames"), nil}),
		nil)
	v.enter(l1, nil, errors.New("no proxy"))
	var out strings.Builder
	v.print(&out)
	for _, part := range []string{
		"ledger only: 4 of 4 verdicts", "probes only: 0 of 4 verdicts", "both: 4 of 4 verdicts",
		"  caused    T3 T3i healthy\n  T3         2   .       .\n  T3i        .   1       .\n",
		"  caused    F2  T? healthy\n  T3         .   2       .\n  T3i        .   .       1\n" +
			"  L1         1   .",
		"  T3                       spinning, the process asks not to sleep",
		"  T3i                      healthy: it costs no CPU",
		"What was wrong:\n  L1 , probes only: it blames\n  no proxy\n",
	} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("there is no %q in:\n%s", part, &out)
		}
	}
	if len(v.wrong) != 2 {
		t.Errorf("%d are wrong, should be 2", len(v.wrong))
	}
}
