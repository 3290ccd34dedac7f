package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// scenario is what a client and a server do on both sides of a proxy. testdata/differential/README.md
// describes its text form.
type scenario struct {
	name    string
	file    string   // where it is written
	global  []string // lines of the section global, beside the common ones
	proxy   []string // lines of the proxy's section
	servers []serverScript
	moves   []move
	// front and back are the networks of the clients and of the servers.
	front, back network
	// uncounted is true exactly when the bytes in the log depend on the size of the proxy's buffers.
	uncounted bool
}

// serverScript is one server.
type serverScript struct {
	answer  answer
	options string // of its line in the configuration
}

// answer is what a server does with a connection attempt.
type answer uint8

const (
	// accepts establishes it.
	accepts answer = iota
	// refuses resets it.
	refuses
	// silent never answers: its accept queue is full.
	silent
)

var answerNames = []string{"accept", "refuse", "silent"}

// move is one step of one actor.
type move struct {
	actor actor
	verb  string
	n     int // of the verbs that have a number
}

// actor is who makes a move: a client; a server itself or one of its connections; or the operating system,
// which stops the proxy and lets it go on.
type actor struct {
	isProxy    bool
	isServer   bool
	number     int // from 1
	connection int // of a server, from 1; 0 is the last one that it has
}

func (a actor) String() string {
	switch {
	case a.isProxy:
		return "proxy"
	case !a.isServer:
		return fmt.Sprintf("client %d", a.number)
	case a.connection == 0:
		return fmt.Sprintf("server %d", a.number)
	}
	return fmt.Sprintf("server %d #%d", a.number, a.connection)
}

func (m move) String() string {
	if verbs[m.verb].number {
		return fmt.Sprintf("%v: %s %d", m.actor, m.verb, m.n)
	}
	return fmt.Sprintf("%v: %s", m.actor, m.verb)
}

// readScenarios reads every scenario of a directory, in the order of the files' names.
func readScenarios(directory string) ([]*scenario, error) {
	files, err := filepath.Glob(filepath.Join(directory, "*.txt"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no scenarios in %s: %v", directory, err)
	}
	var all []*scenario
	lines := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading scenarios: %w", err)
		}
		some, err := parseScenarios(filepath.Base(file), string(text))
		if err != nil {
			return nil, err
		}
		for _, s := range some {
			if there := lines[s.name]; there != "" {
				return nil, fmt.Errorf("%s: scenario %s is in %s, too", s.file, s.name, there)
			}
			lines[s.name] = s.file
		}
		all = append(all, some...)
	}
	return all, nil
}

// parseScenarios reads a file of scenarios.
func parseScenarios(file, text string) ([]*scenario, error) {
	var all []*scenario
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if name, ok := strings.CutPrefix(line, "scenario "); ok {
			all = append(all, &scenario{name: name, file: file})
			continue
		}
		err := fmt.Errorf("it stands before the first scenario")
		if len(all) > 0 {
			err = all[len(all)-1].parseLine(line)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %q: %w", file, n, line, err)
		}
	}
	return all, lines.Err()
}

// actorPattern is what a line with steps begins with.
var actorPattern = regexp.MustCompile(`^(client|server|proxy)(?: (\d+))?(?: #(\d+))?:(.*)$`)

func (s *scenario) parseLine(line string) error {
	if m := actorPattern.FindStringSubmatch(line); m != nil {
		a := actor{isServer: m[1] == "server", isProxy: m[1] == "proxy", number: 1}
		if m[2] != "" {
			a.number, _ = strconv.Atoi(m[2])
		}
		if m[3] != "" {
			a.connection, _ = strconv.Atoi(m[3])
		}
		if a.isServer && a.number > len(s.servers) || a.number == 0 {
			return fmt.Errorf("there is no %v", a)
		}
		return s.parseSteps(a, m[4])
	}
	if rest, ok := strings.CutPrefix(line, "global "); ok {
		s.global = append(s.global, rest)
		return nil
	}
	for word, n := range map[string]*network{"clients ": &s.front, "servers ": &s.back} {
		if name, ok := strings.CutPrefix(line, word); ok {
			i := slices.Index(networkNames, name)
			if i < 0 {
				return fmt.Errorf("a network that is not one of %v but %q", networkNames, name)
			}
			*n = network(i)
			return nil
		}
	}
	if line == "uncounted" {
		s.uncounted = true
		return nil
	}
	rest, ok := strings.CutPrefix(line, "server ")
	if !ok {
		s.proxy = append(s.proxy, line)
		return nil
	}
	name, options, _ := strings.Cut(rest, " ")
	i := slices.Index(answerNames, name)
	if i < 0 {
		return fmt.Errorf("a server that does not %v but %q", answerNames, name)
	}
	s.servers = append(s.servers, serverScript{answer(i), options})
	return nil
}

func (s *scenario) parseSteps(a actor, text string) error {
	for step := range strings.SplitSeq(text, ";") {
		words := strings.Fields(step)
		if len(words) == 0 {
			return fmt.Errorf("a step is empty")
		}
		v, ok := verbs[words[0]]
		if !ok || a.isProxy != (v.ofProxy != nil || v.ofPlay != nil) || v.ofServer != nil && !a.isServer {
			return fmt.Errorf("%v has no step named %q", a, words[0])
		}
		m := move{actor: a, verb: words[0]}
		switch {
		case v.number && len(words) == 2:
			n, err := strconv.Atoi(words[1])
			if err != nil {
				return fmt.Errorf("step %q: %w", step, err)
			}
			m.n = n
		case v.number || len(words) > 1:
			return fmt.Errorf("step %q has too many words or too few", step)
		}
		s.moves = append(s.moves, m)
	}
	return nil
}
