package target

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestReadCommand(t *testing.T) {
	directory := t.TempDir()
	for _, tt := range []struct {
		line, files, master, change string
	}{
		{"haproxy -f a.cfg -D -f b.cfg -p pid", "a.cfg b.cfg", "", ""},
		{"haproxy -W -S /run/master.sock -C /etc -f a.cfg -- b.cfg c.cfg", "a.cfg b.cfg c.cfg",
			"/run/master.sock", "/etc"},
		{"whyspin run a.cfg b.cfg", "a.cfg b.cfg", "", ""},
		{"whyspin run --allow-faults -f=a.cfg --f b.cfg", "a.cfg b.cfg", "", ""},
		{"whyspin -db -f a.cfg", "a.cfg", "", ""},
		{"server --port 80 words", "", "", ""},
		{"haproxy -f", "", "", ""},
	} {
		text := strings.ReplaceAll(tt.line, " ", "\x00") + "\x00"
		if err := os.WriteFile(filepath.Join(directory, "cmdline"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c := readCommand(directory)
		if !slices.Equal(c.files, strings.Fields(tt.files)) || c.master != tt.master ||
			c.change != tt.change {
			t.Errorf("%s: files %q, master %q, directory %q", tt.line, c.files, c.master, c.change)
		}
	}
}
