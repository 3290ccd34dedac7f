package config

// Words cuts one line into words as Parse does, without asking whether anything here knows them. lookup
// returns the value of a variable; one that is not found is empty.
func Words(line string, lookup func(name string) (string, bool)) ([]string, error) {
	x := lexer{text: line, lookup: lookup}
	words, err := x.split()
	if err != nil {
		return nil, err
	}
	return words, nil
}
