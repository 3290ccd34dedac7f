// Differential runs the same clients and servers against HAProxy and whyspin, with the same configuration
// file, and compares what each end sees and what is logged. It prints a table of the scenarios of
// testdata/differential, and exits with 1 when the two differ in a way that is not listed there, or when a
// listed difference has gone.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// tries is how often a scenario may be run until both proxies do what is expected. A machine that stops for
// longer than a timeout of a scenario lets things happen at once that happen one after the other.
const tries = 2

// contest is what is compared.
type contest struct {
	whyspin   string // the program
	scenarios []*scenario
	known     map[string]*known
}

func main() { os.Exit(run(os.Args[1:])) }

func run(arguments []string) int {
	set := flag.NewFlagSet("differential", flag.ContinueOnError)
	expression := set.String("run", "", "only the scenarios whose names match this `expression`")
	show := set.Bool("v", false, "print what happened in each scenario")
	whyspin := set.String("whyspin", "bin/whyspin", "the whyspin to compare")
	directory := set.String("in", "testdata/differential", "the `directory` of the scenarios")
	if err := set.Parse(arguments); err != nil {
		return 2
	}
	c, err := newContest(*whyspin, *directory, *expression)
	if err != nil {
		fmt.Fprintln(os.Stderr, "differential:", err)
		return 2
	}
	runtime.LockOSThread() // the proxies die with it
	code := 0
	counts := map[verdict]int{}
	started := time.Now()
	for _, s := range c.scenarios {
		o, err := c.judge(s)
		if err != nil {
			fmt.Fprintf(os.Stderr, "differential: %s: %v\n", s.name, err)
			return 1
		}
		counts[o.verdict]++
		fmt.Println(o.line(s))
		if *show {
			fmt.Println("  " + strings.Join(o.texts[0], "\n  "))
		}
		if !o.verdict.fine() {
			code = 1
			fmt.Println("    " + strings.Join(o.diff, "\n    "))
		}
	}
	fmt.Printf("%d scenarios in %v: %d agree, %d differ for a known reason, %d differ, %d differ no longer\n",
		len(c.scenarios), time.Since(started).Round(time.Second), counts[agrees], counts[differsKnown],
		counts[differs], counts[differsNoLonger])
	return code
}

func newContest(whyspin, directory, expression string) (*contest, error) {
	pattern, err := regexp.Compile(expression)
	if err != nil {
		return nil, err
	}
	c := &contest{whyspin: whyspin}
	if c.scenarios, err = readScenarios(directory); err != nil {
		return nil, err
	}
	if c.known, err = readKnown(filepath.Join(directory, "README.md")); err != nil {
		return nil, err
	}
	for name := range c.known {
		if !slices.ContainsFunc(c.scenarios, func(s *scenario) bool { return s.name == name }) {
			return nil, fmt.Errorf("a difference is listed for %q, which is no scenario", name)
		}
	}
	c.scenarios = slices.DeleteFunc(c.scenarios, func(s *scenario) bool {
		return !pattern.MatchString(s.name)
	})
	if len(c.scenarios) == 0 {
		return nil, errors.New("no scenario has such a name")
	}
	return c, nil
}

// verdict is what a comparison comes to.
type verdict string

const (
	agrees          verdict = "agree"
	differsKnown    verdict = "differs"
	differs         verdict = "DIFFERS"
	differsNoLonger verdict = "DIFFERS NO LONGER"
	// waitsInVain: with either proxy, so the mistake is in the scenario.
	waitsInVain verdict = "WAITS IN VAIN"
)

func (v verdict) fine() bool { return v == agrees || v == differsKnown }

// outcome is a verdict with what it rests on.
type outcome struct {
	verdict verdict
	reason  string
	texts   [2][]string // the transcripts, HAProxy's first
	diff    []string
	tries   int
}

func (o *outcome) line(s *scenario) string {
	text := fmt.Sprintf("%-50s %s", s.name, o.verdict)
	if o.reason != "" {
		text += ": " + o.reason
	}
	if o.tries > 1 {
		text += fmt.Sprintf(" (attempt %d)", o.tries)
	}
	return text
}

// judge runs a scenario until the outcome is what is expected, at most so often.
func (c *contest) judge(s *scenario) (*outcome, error) {
	for n := 1; ; n++ {
		o, err := c.compare(s)
		if err != nil {
			return nil, err
		}
		o.tries = n
		if o.verdict.fine() || n == tries {
			return o, nil
		}
	}
}

// compare runs a scenario once against each proxy.
func (c *contest) compare(s *scenario) (*outcome, error) {
	directory, err := os.MkdirTemp("", "whyspin-differential-")
	if err != nil {
		return nil, fmt.Errorf("making a directory: %w", err)
	}
	defer os.RemoveAll(directory)
	at := newPlace(directory)
	file := filepath.Join(directory, "proxy.cfg")
	if err := os.WriteFile(file, []byte(s.configuration(at)), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration: %w", err)
	}
	o := &outcome{}
	haproxy, err := exec.LookPath("haproxy")
	if err != nil {
		return nil, fmt.Errorf("the real haproxy must be installed: %w", err)
	}
	if o.texts[0], err = s.play(at, "haproxy", haproxy, "-db", "-f", file); err != nil {
		return nil, fmt.Errorf("with haproxy: %w", err)
	}
	if o.texts[1], err = s.play(at, "whyspin", c.whyspin, "run", "-f", file); err != nil {
		return nil, fmt.Errorf("with whyspin: %w", err)
	}
	o.diff = difference(o.texts[0], o.texts[1])
	k := c.known[s.name]
	switch {
	case slices.Contains(o.texts[0], inVain) && slices.Contains(o.texts[1], inVain):
		o.verdict = waitsInVain
	case k == nil && len(o.diff) == 0:
		o.verdict = agrees
	case k == nil:
		o.verdict = differs
	case len(o.diff) == 0:
		o.verdict = differsNoLonger
	case !slices.Equal(o.diff, k.diff):
		o.verdict = differs
		o.reason = "not as it is listed"
	default:
		o.verdict, o.reason = differsKnown, k.reason
	}
	return o, nil
}

// play runs the scenario against one proxy and returns the transcript.
func (s *scenario) play(at place, name, program string, arguments ...string) ([]string, error) {
	log, err := newLogSocket(at)
	if err != nil {
		return nil, err
	}
	defer log.close()
	p := &play{scenario: s, place: at, log: log}
	defer p.end()
	for i, v := range s.servers {
		one, err := newServer(i+1, at.socket(s.back, frontPort+i+1), v.answer)
		if err != nil {
			return nil, err
		}
		p.servers = append(p.servers, one)
	}
	if p.proxy, err = startProxy(name, func() (bool, error) { return at.listens(s.front) }, program,
		arguments...); err != nil {
		return nil, err
	}
	defer p.proxy.stop()
	return p.run()
}
