package control

import "strings"

// Commands are proposed for one that is not known as long as they resemble it nearly as well as the best
// one does, and no more than a handful.
const (
	suggestions     = 5
	suggestionSlack = 1 // characters
)

// closest returns the commands that the words may mean, in their order: those that share the most words
// with the beginning, and when none of them has the next word, those of them that resemble the rest most.
// Without words it is all of them. Upper case, and a blank that was escaped into a word, make a command
// unknown, but they do not make it another one.
func closest(all []command, words []string) []command {
	words = strings.Fields(strings.ToLower(strings.Join(words, " ")))
	shared := 0
	for i := range all {
		shared = max(shared, common(all[i].words, words))
	}
	type candidate struct {
		command
		distance int
	}
	var candidates []candidate
	best := 0
	for _, k := range all {
		if common(k.words, words) != shared {
			continue
		}
		distance := difference(k.words[shared:], words[shared:])
		if len(candidates) == 0 || distance < best {
			best = distance
		}
		candidates = append(candidates, candidate{k, distance})
	}
	var near []command
	for _, k := range candidates {
		if shared < len(words) && (k.distance > best+suggestionSlack || len(near) == suggestions) {
			continue
		}
		near = append(near, k.command)
	}
	return near
}

// difference is how little the words of a command resemble those given, of which as many count: word by
// word, each that is missing like a character, or as one text, so that a blank that is missing or another
// character is one mistake. Without words there is nothing to differ.
func difference(command, words []string) int {
	if len(words) == 0 {
		return 0
	}
	missing := max(0, len(command)-len(words))
	words = words[:min(len(command), len(words))]
	byWord := 0
	for i := range words {
		byWord += editDistance(command[i], words[i])
	}
	return min(byWord+missing, editDistance(strings.Join(command, " "), strings.Join(words, " ")))
}

// common is the number of words with which both begin.
func common(a, b []string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// longestText bounds the texts that are compared: no command is longer.
const longestText = 64

// editDistance is how many characters have to be put in, taken out or replaced to make one text the other.
func editDistance(a, b string) int {
	a, b = a[:min(len(a), longestText)], b[:min(len(b), longestText)]
	var row [longestText + 1]int
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
