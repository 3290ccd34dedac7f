package config

import (
	"fmt"
	"maps"
	"slices"
)

// suggestion returns `; did you mean "X"?` for the candidate nearest to word, or nothing when none is near.
// Of equally near ones the first counts, so what is supported should come first.
func suggestion(word string, candidates []string) string {
	if near := nearest(word, candidates); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// nameSuggestion is suggestion for names that the configuration itself has chosen, of which there may be
// very many.
func nameSuggestion[V any](word string, names map[string]V) string {
	if len(names) > maxCandidates {
		return ""
	}
	return suggestion(word, sortedKeys(names))
}

// nearest returns the candidate within one typing mistake of word, or two when they are long enough for that
// to mean something; "" when there is none.
func nearest(word string, candidates []string) string {
	best, least := "", 3
	for _, c := range candidates {
		limit := min(max(len(word), len(c))/3, 2, least-1)
		if len(word) < 3 || limit == 0 {
			continue
		}
		if d := distance(word, c, limit); d <= limit {
			best, least = c, d
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of neighbours that make b of a (optimal
// string alignment). It gives up above limit and returns limit+1.
func distance(a, b string, limit int) int {
	if len(a)-len(b) > limit || len(b)-len(a) > limit {
		return limit + 1
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least > limit {
			return limit + 1
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// sortedKeys returns the keys of m in order, for messages and suggestions that do not depend on chance.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
