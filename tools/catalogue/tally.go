package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/whyspin/whyspin/internal/lab"
)

// tally adds up what came of the runs.
type tally struct {
	rows   []string // classes caused, in the order of the catalogue
	counts map[lab.Way]map[cell]int
	// right is how many verdicts of a way were right, of is how many there were.
	right, of map[lab.Way]int
	// apart are the verdicts by the probes alone that do not name what was caused: the classes by column.
	apart map[string][]string
	wrong []string
}

// cell is a place in a confusion matrix.
type cell struct{ caused, verdict string }

func newTally() *tally {
	t := &tally{
		counts: map[lab.Way]map[cell]int{}, right: map[lab.Way]int{}, of: map[lab.Way]int{},
		apart: map[string][]string{},
	}
	for _, way := range lab.Ways() {
		t.counts[way] = map[cell]int{}
	}
	return t
}

// enter adds a run of a case, which has verdicts for all ways, or an error when it came to nothing.
func (t *tally) enter(c *lab.Case, trial *lab.Trial, err error) {
	if !slices.Contains(t.rows, c.Class) {
		t.rows = append(t.rows, c.Class)
	}
	if err != nil {
		t.wrong = append(t.wrong, err.Error())
		return
	}
	for i, way := range lab.Ways() {
		j := &trial.Judgements[i]
		t.counts[way][cell{c.Class, j.Column}]++
		t.of[way]++
		switch {
		case j.Wrong != nil:
			t.wrong = append(t.wrong, fmt.Sprintf("%s %s, %s: %v", c.Class, c.Name, way, j.Wrong))
		case !j.Short:
			t.right[way]++
		case way == lab.Probes && !slices.Contains(t.apart[j.Column], c.Class):
			t.apart[j.Column] = append(t.apart[j.Column], c.Class)
		}
	}
}

// print writes the matrices and what is to be said of them.
func (t *tally) print(out io.Writer) {
	for _, way := range lab.Ways() {
		if t.of[way] == 0 {
			continue
		}
		fmt.Fprintf(out, "\n%s: %d of %d verdicts name class and culprit, or that all is well\n\n", way,
			t.right[way], t.of[way])
		t.matrix(out, way)
	}
	fmt.Fprintln(out, "\nWhat could not be told apart by the probes alone:")
	if len(t.apart) == 0 {
		fmt.Fprintln(out, "  nothing")
	}
	for _, column := range t.sorted(t.apart) {
		fmt.Fprintf(out, "  %-24s %s\n", strings.Join(t.apart[column], " "), meaning(column))
	}
	if len(t.wrong) > 0 {
		fmt.Fprintln(out, "\nWhat was wrong:")
	}
	for _, text := range t.wrong {
		fmt.Fprintf(out, "  %s\n", strings.ReplaceAll(text, "\n", "\n    "))
	}
}

// meaning says what a verdict without the state is for who cannot ask for more.
func meaning(column string) string {
	switch column {
	case lab.Awake:
		return "spinning, the process asks not to sleep: one of the T family, the stream is not observed"
	case lab.Spinning:
		return "spinning, class unknown"
	case "healthy":
		return "healthy: it costs no CPU, and only the state shows it"
	}
	return "named " + column + ", but not whom it concerns"
}

// columns are the verdicts of a way: those that are a class caused, in the order of the rows, then the
// others.
func (t *tally) columns(way lab.Way) []string {
	seen := map[string][]string{}
	for c := range t.counts[way] {
		seen[c.verdict] = nil
	}
	return t.sorted(seen)
}

func (t *tally) sorted(columns map[string][]string) []string {
	var all []string
	for column := range columns {
		all = append(all, column)
	}
	place := func(column string) int {
		if at := slices.Index(t.rows, column); at >= 0 {
			return at
		}
		return len(t.rows)
	}
	slices.SortFunc(all, func(a, b string) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a, b))
	})
	return all
}

// matrix prints the confusion matrix of one way.
func (t *tally) matrix(out io.Writer, way lab.Way) {
	columns := t.columns(way)
	fmt.Fprintf(out, "  %-8s", "caused")
	for _, column := range columns {
		fmt.Fprintf(out, " %*s", max(3, len(column)), column)
	}
	fmt.Fprintln(out)
	for _, row := range t.rows {
		fmt.Fprintf(out, "  %-8s", row)
		for _, column := range columns {
			n := "."
			if count := t.counts[way][cell{row, column}]; count > 0 {
				n = fmt.Sprint(count)
			}
			fmt.Fprintf(out, " %*s", max(3, len(column)), n)
		}
		fmt.Fprintln(out)
	}
}
