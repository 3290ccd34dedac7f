package control

// Commands are proposed for one that is not known as long as they resemble it nearly as well as the best
// one does, and no more than a handful.
const (
	suggestions     = 5
	suggestionSlack = 1 // characters
)

// closest returns the commands that the words may mean, in their order: those that share the most words
// with the beginning, and when none of them has the next word, those of them that resemble the rest most.
// Without words it is all of them.
func closest(all []command, words []string) []command {
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
		distance := 0
		for i := shared; i < min(len(k.words), len(words)); i++ {
			distance += editDistance(k.words[i], words[i])
		}
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

// common is the number of words with which both begin.
func common(a, b []string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// longestWord bounds the words that are compared: no command has a longer one.
const longestWord = 32

// editDistance is how many characters have to be put in, taken out or replaced to make one word the other.
func editDistance(a, b string) int {
	a, b = a[:min(len(a), longestWord)], b[:min(len(b), longestWord)]
	var row [longestWord + 1]int
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
