package control

import "strings"

// splitLine splits a line into its commands, at each ';', and those into words. A backslash takes away the
// meaning of the character after it. An empty command has no words.
func splitLine(line string) [][]string {
	var commands [][]string
	var words []string
	var word strings.Builder
	inWord := false
	endWord := func() {
		if inWord {
			words = append(words, word.String())
			word.Reset()
			inWord = false
		}
	}
	for i := 0; i < len(line); i++ {
		switch char := line[i]; {
		case char == ' ' || char == '\t':
			endWord()
		case char == ';':
			endWord()
			commands = append(commands, words)
			words = nil
		case char == '\\' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			inWord = true
		default:
			word.WriteByte(char)
			inWord = true
		}
	}
	endWord()
	return append(commands, words)
}

// cutPayloadMark takes the "<<" off a line that announces a payload. One that is glued to a word announces
// one, too, as in HAProxy, but stays a part of that word.
func cutPayloadMark(line string) (string, bool) {
	rest, found := strings.CutSuffix(line, "<<")
	if found && rest != "" && !strings.HasSuffix(rest, " ") && !strings.HasSuffix(rest, "\t") {
		return line, true
	}
	return rest, found
}
