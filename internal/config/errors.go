package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Errors says why a configuration cannot run. It is what Parse returns as error.
type Errors struct {
	// Diagnostics are the messages in the order of the files and their lines, those about no line in
	// particular last. At least one is an Error; the warnings are among them.
	Diagnostics []Diagnostic
	// Omitted counts the messages that were not kept: of errors and of warnings, the first 1000 each are.
	// After 900 errors nothing more is read.
	Omitted int
	// Idle is true exactly when the only mistake is that there is nothing to do: HAProxy has an exit code of
	// its own for that.
	Idle bool
}

// Error prints one diagnostic per line, at most 100, and how many more there are. When not all fit, the
// warnings are left out: they are not why the configuration cannot run.
func (e *Errors) Error() string {
	shown := e.Diagnostics
	if len(shown) > maxShown {
		shown = slices.DeleteFunc(slices.Clone(shown), func(d Diagnostic) bool { return d.Severity != Error })
		shown = shown[:min(len(shown), maxShown)]
	}
	var b strings.Builder
	for i, d := range shown {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(d.String())
	}
	if more := len(e.Diagnostics) - len(shown) + e.Omitted; more > 0 {
		fmt.Fprintf(&b, "\nand %d more", more)
	}
	return b.String()
}

// diagnostics collects the messages of one Parse.
type diagnostics struct {
	list []Diagnostic
	// counts are how many messages of each severity there were, those that are not in list included.
	counts [Notice + 1]int
}

// add records a message, or counts it when there are too many of its severity.
func (r *diagnostics) add(at Position, severity Severity, message string) {
	r.counts[severity]++
	if r.counts[severity] <= maxDiagnostics {
		r.list = append(r.list, Diagnostic{Position: at, Severity: severity, Message: message})
	}
}

// omitted returns how many messages are not in list.
func (r *diagnostics) omitted() int {
	return r.counts[Warning] + r.counts[Error] + r.counts[Notice] - len(r.list)
}

func (r *diagnostics) errorf(at Position, format string, args ...any) {
	r.add(at, Error, fmt.Sprintf(format, args...))
}

func (r *diagnostics) warnf(at Position, format string, args ...any) {
	r.add(at, Warning, fmt.Sprintf(format, args...))
}

// failed reports whether the configuration can no longer run.
func (r *diagnostics) failed() bool { return r.counts[Error] > 0 }

// sort puts the messages in the order of files and lines; those of one line stay in the order they were
// found.
func (r *diagnostics) sort(files []string) {
	order := make(map[string]int, len(files))
	for i, name := range files {
		if _, twice := order[name]; !twice {
			order[name] = i
		}
	}
	file := func(d Diagnostic) int {
		if i, ok := order[d.File]; ok && d.Line > 0 {
			return i
		}
		return len(files)
	}
	slices.SortStableFunc(r.list, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(file(a), file(b)), cmp.Compare(a.Line, b.Line))
	})
}

// forbidWarnings turns the warnings into errors, as zero-warning at that position asks for.
func (r *diagnostics) forbidWarnings(at Position) {
	if r.counts[Warning] == 0 {
		return
	}
	r.errorf(at, `"zero-warning" makes errors of the warnings of this configuration`)
	for i := range r.list {
		if r.list[i].Severity == Warning {
			r.list[i].Severity = Error
		}
	}
}

// notYet is what messages say about what HAProxy can do and whyspin cannot.
const notYet = "is not supported in this version"

// quote quotes a word of the configuration for a message: control bytes are escaped, a long word is cut.
func quote(word string) string {
	if len(word) > maxQuoted {
		return fmt.Sprintf("%q...", word[:maxQuoted])
	}
	return fmt.Sprintf("%q", word)
}

// quoteAll quotes words and joins them: "a", "b" and "c".
func quoteAll(words []string) string { return quoteList(words, "and") }

// quoteList is quoteAll with another word before the last one.
func quoteList(words []string, last string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = quote(w)
	}
	if n := len(quoted) - 1; n > 0 {
		return strings.Join(quoted[:n], ", ") + " " + last + " " + quoted[n]
	}
	return strings.Join(quoted, "")
}
