package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// capabilities is what "whyspin probes --json" prints.
type capabilities struct {
	Kernel  string       `json:"kernel"`
	Signals []signalPlan `json:"signals"`
}

type signalPlan struct {
	Name    string `json:"name"`
	Taken   string `json:"taken"`
	Missing string `json:"missing"`
	Tries   []try  `json:"tries"`
}

type try struct {
	Hook  string `json:"hook"`
	On    string `json:"on"`
	Loses string `json:"loses"`
	Error string `json:"error"`
}

// table is what each kernel offers: the first row has the names of the columns.
type table struct {
	rows [][]string
	// versions are the exact kernels; they change from one security update to the next.
	versions string
}

// The lines between which the table stands in its file.
const (
	tableBegin = "<!-- kernels: written by make test-kernels UPDATE=1 -->"
	tableEnd   = "<!-- end of kernels -->"
)

// errOutdated is the error for a committed table that does not say what the kernels say.
var errOutdated = errors.New("the table is out of date; run make test-kernels UPDATE=1 and commit it")

// makeTable puts together what the kernels said of themselves.
func makeTable(kernels []kernel, reports []*report) (*table, error) {
	t := &table{}
	header := []string{"signal", "hook"}
	var all []capabilities
	var versions []string
	for i, r := range reports {
		var c capabilities
		if err := json.Unmarshal(r.said[capabilitiesProgram].Bytes(), &c); err != nil {
			return nil, fmt.Errorf("%s: reading what whyspin probes says: %w", r.name, err)
		}
		all = append(all, c)
		header = append(header, r.name)
		// Of the running kernel, what its builder adds to the name means nothing elsewhere.
		version, _, _ := strings.Cut(c.Kernel, "-")
		if i < len(kernels) {
			version = fmt.Sprintf("%s (%s)", c.Kernel, kernels[i].version)
		}
		versions = append(versions, fmt.Sprintf("%s is %s", r.name, version))
	}
	t.versions = "Generated from a run: " + strings.Join(versions, ", ") + "."
	t.rows = append(t.rows, append(header, "what is lost by it"))
	for i, s := range all[0].Signals {
		for j, y := range s.Tries {
			row := []string{s.Name, hookText(y)}
			for _, c := range all {
				if i >= len(c.Signals) || j >= len(c.Signals[i].Tries) || c.Signals[i].Name != s.Name {
					return nil, fmt.Errorf("the kernels do not have the same plan: %s", s.Name)
				}
				row = append(row, cell(c.Signals[i], c.Signals[i].Tries[j]))
			}
			t.rows = append(t.rows, append(row, orNothing(y.Loses)))
		}
		row := []string{s.Name, "none"}
		for range all {
			row = append(row, "")
		}
		t.rows = append(t.rows, append(row, s.Missing))
	}
	return t, nil
}

func hookText(y try) string {
	names := strings.Split(y.On, ", ")
	for i, n := range names {
		names[i] = "`" + y.Hook + "/" + n + "`"
	}
	return strings.Join(names, ", ")
}

// cell says what a try comes to on a kernel.
func cell(s signalPlan, y try) string {
	switch {
	case y.Error != "":
		// The row says what was being loaded.
		_, reason, found := strings.Cut(y.Error, y.Hook+"/"+y.On+": ")
		if !found {
			reason = y.Error
		}
		return "no: " + strings.ReplaceAll(reason, "|", "/")
	case s.Taken == y.Hook:
		return "used"
	}
	return "works"
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}

// String prints the table in Markdown.
func (t *table) String() string {
	var b strings.Builder
	for i, row := range t.rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(&b, "|%s\n", strings.Repeat("---|", len(row)))
		}
	}
	return b.String() + "\n" + t.versions
}

// between splits the text of a file into what stands before, in and after the table.
func between(file string) (before, inside, after string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", "", "", fmt.Errorf("reading the table of kernels: %w", err)
	}
	before, rest, ok1 := strings.Cut(string(text), tableBegin+"\n")
	inside, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok1 || !ok2 {
		return "", "", "", fmt.Errorf("reading the table of kernels: %s has no lines %q and %q", file,
			tableBegin, tableEnd)
	}
	return before, inside, after, nil
}

// write puts the table into the file.
func (t *table) write(file string) error {
	before, _, after, err := between(file)
	if err != nil {
		return err
	}
	text := before + tableBegin + "\n" + t.String() + "\n" + tableEnd + after
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return fmt.Errorf("writing the table of kernels: %w", err)
	}
	return nil
}

// compare compares the table with the one in the file: the columns that both have. The running kernel is
// another one elsewhere, but Debian's are the same everywhere.
func (t *table) compare(file string) error {
	_, inside, _, err := between(file)
	if err != nil {
		return err
	}
	committed := parseTable(inside)
	if len(committed) == 0 {
		return errOutdated
	}
	old, fresh := common(committed, t.rows), common(t.rows, committed)
	if slices.EqualFunc(old, fresh, slices.Equal) {
		return nil
	}
	for i := range max(len(old), len(fresh)) {
		if i < len(old) && i < len(fresh) && slices.Equal(old[i], fresh[i]) {
			continue
		}
		if i < len(old) {
			fmt.Printf("- %s\n", strings.Join(old[i], " | "))
		}
		if i < len(fresh) {
			fmt.Printf("+ %s\n", strings.Join(fresh[i], " | "))
		}
	}
	return fmt.Errorf("%s: %w", file, errOutdated)
}

// parseTable reads a table in Markdown.
func parseTable(text string) (rows [][]string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}

// common returns the columns of a table that the other has, too.
func common(rows, other [][]string) (kept [][]string) {
	for _, row := range rows {
		var cells []string
		for i, name := range rows[0] {
			if slices.Contains(other[0], name) && i < len(row) {
				cells = append(cells, row[i])
			}
		}
		kept = append(kept, cells)
	}
	return kept
}
