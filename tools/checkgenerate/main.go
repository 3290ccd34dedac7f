// Checkgenerate proves that the committed BPF objects are what their source compiles to. It regenerates
// everything that the go:generate lines of a package make with bpf2go, into a temporary directory, and
// compares instruction by instruction, type by type and map by map. Bytes are not compared: comments move
// line information about, and that is no difference.
//
//	go run ./tools/checkgenerate [directory]
//
// The directory is internal/probe by default. It exits 1 when something differs, and 2 when it could not
// compare.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

func main() {
	directory := filepath.Join("internal", "probe")
	if len(os.Args) > 1 {
		directory = os.Args[1]
	}
	same, err := checkDirectory(directory, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "checkgenerate:", err)
		os.Exit(2)
	}
	if !same {
		fmt.Println("run make generate and commit the result")
		os.Exit(1)
	}
}

// checkDirectory regenerates the package in a directory and writes what differs. It returns whether
// nothing does.
func checkDirectory(directory string, out io.Writer) (same bool, err error) {
	commands, err := generators(directory)
	if err != nil {
		return false, err
	}
	if len(commands) == 0 {
		return false, fmt.Errorf("there is no go:generate line for bpf2go in %s", directory)
	}
	fresh, err := os.MkdirTemp("", "checkgenerate")
	if err != nil {
		return false, fmt.Errorf("making a temporary directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(fresh)) }()
	for _, c := range commands {
		if err := c.run(directory, fresh); err != nil {
			return false, err
		}
	}
	return compareDirectories(directory, fresh, out)
}

// command is one go:generate line.
type command struct {
	words   []string
	pkg     string
	file    string
	lineNum int
}

const generatePrefix = "//go:generate "

// generators finds the lines that run bpf2go.
func generators(directory string) (commands []command, err error) {
	files, err := filepath.Glob(filepath.Join(directory, "*.go"))
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", directory, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading go:generate lines: %w", err)
		}
		found, err := generatorsOf(name, string(text))
		if err != nil {
			return nil, err
		}
		commands = append(commands, found...)
	}
	return commands, nil
}

// generatorsOf finds those of one file. Its lines may name commands with -command, as go generate has it.
func generatorsOf(name, text string) (commands []command, err error) {
	pkg := ""
	n := 0
	named := map[string][]string{}
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\n")
		if rest, ok := strings.CutPrefix(line, "package "); ok && pkg == "" {
			pkg = strings.TrimSpace(rest)
		}
		rest, ok := strings.CutPrefix(line, generatePrefix)
		if !ok {
			continue
		}
		words, err := split(rest)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		switch {
		case len(words) > 2 && words[0] == "-command":
			named[words[1]] = words[2:]
			continue
		case len(words) > 0 && named[words[0]] != nil:
			words = append(slices.Clone(named[words[0]]), words[1:]...)
		}
		if slices.Contains(words, "bpf2go") {
			commands = append(commands, command{words: words, pkg: pkg, file: name, lineNum: n})
		}
	}
	return commands, nil
}

// split splits a go:generate line into words as go generate does: at blanks, with Go strings in double
// quotes.
func split(line string) (words []string, err error) {
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		if line[0] != '"' {
			word, rest, _ := strings.Cut(line, " ")
			words, line = append(words, word), rest
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, fmt.Errorf("quotes in a go:generate line: %w", err)
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, fmt.Errorf("quotes in a go:generate line: %w", err)
		}
		words, line = append(words, word), line[len(quoted):]
	}
	return words, nil
}

// run runs the command in its directory, with its output elsewhere.
func (c command) run(directory, output string) error {
	words := slices.Insert(slices.Clone(c.words), slices.Index(c.words, "bpf2go")+1, "-output-dir", output)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = directory
	cmd.Env = append(os.Environ(), "GOPACKAGE="+c.pkg, "GOFILE="+filepath.Base(c.file))
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s:%d: %w\n%s(it needs the packages clang-19 and llvm-19)", c.file, c.lineNum,
			err, text)
	}
	return nil
}

// compareDirectories compares every generated file with the committed one of the same name.
func compareDirectories(committed, fresh string, out io.Writer) (bool, error) {
	entries, err := os.ReadDir(fresh)
	if err != nil {
		return false, fmt.Errorf("listing what was generated: %w", err)
	}
	same := true
	for _, e := range entries {
		old, renewed := filepath.Join(committed, e.Name()), filepath.Join(fresh, e.Name())
		if _, err := os.Stat(old); errors.Is(err, os.ErrNotExist) {
			_, _ = fmt.Fprintf(out, "%s is not committed\n", old)
			same = false
			continue
		}
		var differences []string
		var err error
		if filepath.Ext(e.Name()) == ".o" {
			differences, err = compareObjects(old, renewed)
		} else {
			differences, err = compareText(old, renewed)
		}
		if err != nil {
			return false, err
		}
		for _, d := range differences {
			_, _ = fmt.Fprintf(out, "%s: %s\n", old, d)
			same = false
		}
	}
	if same {
		_, _ = fmt.Fprintf(out, "%s: %d generated files match their source\n", committed, len(entries))
	}
	return same, nil
}

func compareText(old, renewed string) ([]string, error) {
	a, err := os.ReadFile(old)
	if err != nil {
		return nil, fmt.Errorf("reading what is committed: %w", err)
	}
	b, err := os.ReadFile(renewed)
	if err != nil {
		return nil, fmt.Errorf("reading what was generated: %w", err)
	}
	if bytes.Equal(a, b) {
		return nil, nil
	}
	return []string{"the Go declarations differ"}, nil
}
