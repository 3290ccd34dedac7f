package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var root = filepath.Join("..", "..")

func TestGoGenerateLinesAreSplit(t *testing.T) {
	for _, c := range []struct {
		line string
		want []string
	}{
		{`go tool bpf2go -cc clang x ../x.c`, []string{"go", "tool", "bpf2go", "-cc", "clang", "x",
			"../x.c"}},
		{`a  "b c \"d\"" e`, []string{"a", `b c "d"`, "e"}},
		{``, nil},
	} {
		got, err := split(c.line)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v, want %q", c.line, got, err, c.want)
		}
	}
	if _, err := split(`a "b`); err == nil {
		t.Error("an open quote was taken")
	}
}

// TestObjectsAreCompared compares committed objects with themselves and with those for another processor,
// which are made of the same source and differ in what they read of it.
func TestObjectsAreCompared(t *testing.T) {
	x86 := filepath.Join(root, "internal", "probe", "syscall_x86_bpfel.o")
	arm := filepath.Join(root, "internal", "probe", "syscall_arm64_bpfel.o")
	if d, err := compareObjects(x86, x86); err != nil || len(d) > 0 {
		t.Errorf("an object differs from itself: %q, %v", d, err)
	}
	d, err := compareObjects(x86, arm)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(d, "\n")
	for _, part := range []string{"program on_sys_exit", "program on_raw_sys_exit", "types"} {
		if !strings.Contains(text, part) {
			t.Errorf("%s does not differ between processors: %s", part, text)
		}
	}
	if strings.Contains(text, "map threads") {
		t.Errorf("a map differs between processors: %s", text)
	}
}
