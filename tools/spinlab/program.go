package main

import (
	"context"
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// none is the class of a program without a defect.
const none = "none"

// sources are the programs. Those in Go are not read from here, but a test that was cached for other
// sources than these must run again.
//
//go:embed programs
var sources embed.FS

// program is one of the foreign programs: an echo server in which each of its classes can be switched on.
type program struct {
	name    string
	classes []string
	// source is compiled by gcc when its name ends in .c, built as a package when it ends in .go, and given
	// to the interpreter that goes with it otherwise.
	source string
	// manyLoops is true exactly when the others of its connections are served on while a handler does not
	// return.
	manyLoops bool
}

// The programs. What is missing from one cannot happen in it, or only as a copy of another. The poller of the
// Go runtime keeps interest and registrations right, has its timers to itself and is edge-triggered: without
// T1, T6, F1, F2, F4, F6 to F8. asyncio calls back as long as a descriptor is ready, so that F3 and F4 are F2
// by another name; it registers, unregisters and accepts by itself (F5, F6, F8), keeps no flags of what is
// ready (T6), and no two loops share a set (F7). Node's is there for comparison, it has no defect.
var programs = []program{
	{
		name:    "epoll-c",
		classes: strings.Fields("T1 T6 F1 F2 F3 F4 F5 F6 F7 F8 C1 B1 B2"), source: "epoll_c/server.c",
		manyLoops: true,
	},
	{
		name:    "epoll-go",
		classes: strings.Fields("T1 T6 F1 F2 F3 F4 F5 F6 F7 F8 C1 B1 B2"), source: "epoll_go/main.go",
	},
	{
		name: "netpoll-go",
		// Not B1: a goroutine that computes for ever moves between threads, and the runtime serves the
		// others. From outside it is work (look-alike L14). Nor B2, which moves as well.
		classes: strings.Fields("F3 F5 C1"), source: "netpoll_go/main.go", manyLoops: true,
	},
	{
		name:    "epoll-py",
		classes: strings.Fields("T1 T6 F1 F2 F3 F4 F5 F6 F7 F8 C1 B1 B2"), source: "epoll_py/server.py",
	},
	{
		name:    "asyncio-py",
		classes: strings.Fields("T1 F1 F2 C1 B1 B2"), source: "asyncio_py/server.py",
	},
	{name: "node", source: "node/server.js"},
}

func find(name string) (*program, error) {
	at := slices.IndexFunc(programs, func(p program) bool { return p.name == name })
	if at < 0 {
		return nil, fmt.Errorf("no program %q", name)
	}
	return &programs[at], nil
}

// build makes the program ready to run in a directory and returns the command that runs it.
func (p *program) build(ctx context.Context, directory string) ([]string, error) {
	const module = "github.com/whyspin/whyspin/tools/spinlab/programs/"
	built := filepath.Join(directory, p.name)
	extension := path.Ext(p.source)
	if extension == ".go" {
		return []string{built}, execute(ctx, "go", "build", "-o", built, module+path.Dir(p.source))
	}
	text, err := sources.ReadFile("programs/" + p.source)
	if err != nil {
		return nil, fmt.Errorf("building %s: %w", p.name, err)
	}
	source := built + extension
	if err := os.WriteFile(source, text, 0o600); err != nil {
		return nil, fmt.Errorf("building %s: %w", p.name, err)
	}
	switch extension {
	case ".py":
		// The system's own, whatever else is in the path.
		return []string{"/usr/bin/python3", source}, nil
	case ".js":
		return []string{"/usr/bin/node", source}, nil
	}
	return []string{built}, execute(ctx, "gcc", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-o",
		built, source)
}

func execute(ctx context.Context, name string, arguments ...string) error {
	c := exec.CommandContext(ctx, name, arguments...)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", c, err, out)
	}
	return nil
}
