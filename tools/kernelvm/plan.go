package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// program is what runs in a machine.
type program struct {
	name      string
	path      string // on this machine
	arguments []string
	directory string // in which it runs on this machine, where its files are
	// isTest is true exactly when it is a Go test binary, whose verdicts are read from what it prints.
	isTest bool
	// excluded are the tests that are not run in a machine.
	excluded []exclusion
}

// exclusion is a test that cannot run in a machine that has nothing but busybox, and why.
type exclusion struct{ test, reason string }

// suite is a package whose tests run under every kernel.
type suite struct {
	directory string
	excluded  []exclusion
}

// suites are the packages that talk to the kernel.
var suites = []suite{
	{directory: "internal/target", excluded: []exclusion{
		{"TestTheStateOfAHAProxyIsTwoDumps", "it reads files of testdata, and asks nothing of the kernel"},
		{"TestWhatAHAProxyRefusesIsSaid", "it reads files of testdata, and asks nothing of the kernel"},
		{"TestRealProgramsAreRecognised", "it runs Debian's nginx, Redis, Python and Node"},
	}},
	{directory: "internal/probe", excluded: []exclusion{
		{"TestProgramWithoutFramePointersIsNamedWithItsCallers", "it compiles a program with gcc"},
		{"TestProgramWithoutSymbolsIsNotGuessed", "it compiles a program with gcc"},
		{"TestReplacedProgramIsTheOneThatRuns", "it compiles a program with gcc"},
		{"TestServersWithoutFramePointersAreUnwound", "it runs Debian's nginx and haproxy"},
		{"TestGoProgramIsNamedWithItsCallers", "it compares shares of CPU time, which emulation distorts"},
		{"TestServersAreAttributed", "it runs Debian's nginx, Redis, Python and Node"},
	}},
}

// capabilitiesProgram is the program that says what the kernel offers.
const capabilitiesProgram = "whyspin"

// buildPrograms builds static binaries of the tests, and whyspin itself, which tells of the attach plan.
func buildPrograms(ctx context.Context, directory, expression string) ([]program, error) {
	var programs []program
	for _, s := range suites {
		p := program{name: filepath.Base(s.directory) + ".test", isTest: true, excluded: s.excluded,
			directory: s.directory}
		p.path = filepath.Join(directory, p.name)
		if err := goBuild(ctx, "test", "-c", "-o", p.path, "./"+s.directory); err != nil {
			return nil, err
		}
		if err := checkExclusions(ctx, p); err != nil {
			return nil, err
		}
		p.arguments = []string{"-test.v", "-test.timeout=10m"}
		if expression != "" {
			p.arguments = append(p.arguments, "-test.run="+expression)
		}
		programs = append(programs, p)
	}
	p := program{name: capabilitiesProgram, path: filepath.Join(directory, capabilitiesProgram),
		arguments: []string{"probes", "--json"}}
	return append(programs, p), goBuild(ctx, "build", "-trimpath", "-o", p.path, "./cmd/whyspin")
}

func goBuild(ctx context.Context, arguments ...string) error {
	c := exec.CommandContext(ctx, "go", arguments...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(arguments, " "), err, text)
	}
	return nil
}

// checkExclusions makes sure that every test that is left out exists, so that the list does not rot.
func checkExclusions(ctx context.Context, p program) error {
	text, err := exec.CommandContext(ctx, p.path, "-test.list", "^Test").Output()
	if err != nil {
		return fmt.Errorf("listing the tests of %s: %w", p.name, err)
	}
	tests := strings.Fields(string(text))
	for _, e := range p.excluded {
		if !slices.Contains(tests, e.test) {
			return fmt.Errorf("%s has no test %s; take it off the list of those that are left out", p.name,
				e.test)
		}
	}
	return nil
}

// inMachine returns the arguments for a machine: without the tests that cannot run there.
func (p *program) inMachine() []string {
	if len(p.excluded) == 0 {
		return p.arguments
	}
	names := make([]string, len(p.excluded))
	for i, e := range p.excluded {
		names[i] = regexp.QuoteMeta(e.test)
	}
	return append(slices.Clone(p.arguments), "-test.skip=^("+strings.Join(names, "|")+")$")
}

// report is what came of one kernel.
type report struct {
	name   string
	passed int
	// said is what the programs that are no tests printed, by name.
	said map[string]*bytes.Buffer
	took time.Duration
}
