//go:build clang

// The tests in this file compile: make check-generate, which installs the compiler, runs them with -tags
// clang.

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestChangedSourceIsFound changes the source in ways that matter and in ways that do not, and regenerates.
func TestChangedSourceIsFound(t *testing.T) {
	for _, c := range []struct {
		name, file, old, replacement string
		want                         []string // what the report names, nothing when all is the same
	}{
		{"an unchanged file", "socket.bpf.c", "", "", nil},
		{"another comment, on more lines", "socket.bpf.c", "/* Arguments: sk. */",
			"/*\n * Arguments:\n * sk.\n */", nil},
		{"another instruction", "socket.bpf.c", "reset->sent = sent;", "reset->sent = !sent;",
			[]string{"socket_x86_bpfel.o: program on_tcp_receive_reset",
				"socket_arm64_bpfel.o: program on_tcp_send_reset"}},
		{"another structure", "evidence.h", "u16 family;\n\tu8 sent;",
			"u16 family;\n\tu16 extra;\n\tu8 sent;",
			[]string{"socket_x86_bpfel.o: types", "socket_x86_bpfel.go: the Go declarations"}},
		{"a map of another size", "evidence.h", "RESET_RING_BYTES = 256 << 10",
			"RESET_RING_BYTES = 512 << 10",
			[]string{"socket_x86_bpfel.o: map resets"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			probe := copyTree(t, c.file, c.old, c.replacement)
			var out bytes.Buffer
			same, err := checkDirectory(probe, &out)
			if err != nil {
				t.Fatal(err)
			}
			if same != (len(c.want) == 0) {
				t.Errorf("same is %v: %s", same, out.String())
			}
			for _, w := range c.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("the report does not name %q:\n%s", w, out.String())
				}
			}
		})
	}
}

// copyTree copies what generating needs to a directory of its own, with one file changed, and returns the
// package's.
func copyTree(t *testing.T, file, old, replacement string) string {
	t.Helper()
	tree := t.TempDir()
	for _, pattern := range []string{"go.mod", "go.sum", "bpf/*.c", "bpf/*.h", "internal/probe/generate.go",
		"internal/probe/*_bpfel.*"} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Base(name) == file && old != "" {
				if !bytes.Contains(text, []byte(old)) {
					t.Fatalf("%s does not contain %q", name, old)
				}
				text = bytes.Replace(text, []byte(old), []byte(replacement), 1)
			}
			relative, err := filepath.Rel(root, name)
			if err != nil {
				t.Fatal(err)
			}
			target := filepath.Join(tree, relative)
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(target, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return filepath.Join(tree, "internal", "probe")
}
