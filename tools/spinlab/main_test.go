package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	// What the built program is made of: without these the result of a test may be one cached for another
	// program.
	_ "github.com/whyspin/whyspin/internal/control"
	_ "github.com/whyspin/whyspin/internal/diagnose"
	_ "github.com/whyspin/whyspin/internal/process"
	_ "github.com/whyspin/whyspin/internal/report"
)

var (
	// whyspin is the built program.
	whyspin string
	// commands run the built foreign programs, by their names.
	commands = map[string][]string{}
)

func TestMain(m *testing.M) {
	directory, err := os.MkdirTemp("", "spinlab-test-")
	if err == nil {
		err = buildAll(directory)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(directory)
	os.Exit(code)
}

func buildAll(directory string) error {
	ctx := context.Background()
	for i := range programs {
		command, err := programs[i].build(ctx, directory)
		if err != nil {
			return err
		}
		commands[programs[i].name] = command
	}
	whyspin = filepath.Join(directory, "whyspin")
	return execute(ctx, "go", "build", "-o", whyspin, "github.com/whyspin/whyspin/cmd/whyspin")
}

// need fails the test when a program is missing: make deps installs it.
func need(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: make deps installs what the tests need: %v", name, err)
	}
	return path
}

// spin starts a program until it spins, for as long as the test runs.
func spin(t *testing.T, p *program, class string, healthy int) *spinner {
	t.Helper()
	s, err := start(t.Context(), commands[p.name], class, healthy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	return s
}

// eachSpinner runs a test for each class of each program.
func eachSpinner(t *testing.T, test func(t *testing.T, p *program, class string)) {
	for i := range programs {
		p := &programs[i]
		for _, class := range p.classes {
			t.Run(p.name+"/"+class, func(t *testing.T) {
				t.Parallel()
				test(t, p, class)
			})
		}
	}
}
