package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// known is a difference that is listed with its reason.
type known struct {
	reason string
	diff   []string
}

// namePattern is the line before a difference: the scenario's name.
var namePattern = regexp.MustCompile("^`([a-z0-9-]+)`:$")

// readKnown reads the differences listed in a file, by scenario. A heading of the third level is the reason
// of those below it, up to the next; each is the name of its scenario and then a block marked as diff.
func readKnown(file string) (map[string]*known, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the known differences: %w", err)
	}
	all := map[string]*known{}
	var k *known
	reason, inside := "", false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		name := namePattern.FindStringSubmatch(line)
		heading, isHeading := strings.CutPrefix(line, "### ")
		switch {
		case inside && line == "```":
			inside = false
		case inside:
			k.diff = append(k.diff, line)
		case isHeading:
			reason = heading
		case name != nil:
			if reason == "" || all[name[1]] != nil {
				return nil, fmt.Errorf("%s: %s stands below no reason, or twice", file, name[1])
			}
			k = &known{reason: reason}
			all[name[1]] = k
		case line == "```diff" && k != nil:
			inside = true
		}
	}
	for name, k := range all {
		if len(k.diff) == 0 {
			return nil, fmt.Errorf("%s: %s has no difference", file, name)
		}
	}
	return all, nil
}

// difference returns what one transcript has instead of the other: the steps before a difference, then the
// lines that only the first has, with a minus, and those that only the second has, with a plus. The steps
// are the same in both, so they part the transcripts into pieces that can be compared one by one.
func difference(a, b []string) []string {
	var diff []string
	for len(a) > 0 && len(b) > 0 {
		step := a[0]
		var in, other []string
		in, a = piece(a[1:])
		other, b = piece(b[1:])
		if strings.Join(in, "\n") == strings.Join(other, "\n") {
			continue
		}
		diff = append(diff, "  "+step)
		for len(in) > 0 && len(other) > 0 && in[0] == other[0] {
			in, other = in[1:], other[1:]
		}
		for len(in) > 0 && len(other) > 0 && in[len(in)-1] == other[len(other)-1] {
			in, other = in[:len(in)-1], other[:len(other)-1]
		}
		for _, l := range in {
			diff = append(diff, "- "+l)
		}
		for _, l := range other {
			diff = append(diff, "+ "+l)
		}
	}
	return diff
}

// piece cuts off the lines up to the next step.
func piece(lines []string) (head, rest []string) {
	n := 0
	for n < len(lines) && strings.HasPrefix(lines[n], " ") {
		n++
	}
	return lines[:n], lines[n:]
}
