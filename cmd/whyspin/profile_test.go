package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

// sampleTypes are those of every profile, in their order.
var sampleTypes = []string{"cpu/nanoseconds", "wakeups/count", "no_progress/count",
	"zero_timeout_waits/count", "tiny_io/count", "resets/count"}

// readProfile reads a profile and checks what every one has.
func readProfile(t *testing.T, data []byte) *profile.Profile {
	t.Helper()
	p, err := profile.ParseData(data)
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, v := range p.SampleType {
		types = append(types, v.Type+"/"+v.Unit)
	}
	if !slices.Equal(types, sampleTypes) {
		t.Errorf("sample types %q, want %q", types, sampleTypes)
	}
	return p
}

// TestProfileOfAShell takes a profile of a program that is not ours, in an empty directory.
func TestProfileOfAShell(t *testing.T) {
	shell := start(t, exec.Command("sh", "-c", "while :; do :; done"))
	directory := t.TempDir()
	c := exec.Command(program, "profile", "--pid", fmt.Sprint(shell.Process.Pid), "--for", "500ms")
	c.Dir = directory
	o := executeCommand(t, c)
	name := fmt.Sprintf("whyspin-%d.pb.gz", shell.Process.Pid)
	if o.code != exitOK || !strings.HasPrefix(o.out, name+": ") || strings.Count(o.out, "\n") != 1 {
		t.Fatalf("profile exits with %d and says:\n%s%s", o.code, o.out, o.errors)
	}
	entries, err := os.ReadDir(directory)
	if err != nil || len(entries) != 1 {
		t.Fatalf("it left %v: %v", entries, err)
	}
	info, err := entries[0].Info()
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the file has mode %v: %v", info.Mode(), err)
	}
	data, err := os.ReadFile(filepath.Join(directory, name))
	if err != nil {
		t.Fatal(err)
	}
	if p := readProfile(t, data); len(p.Sample) == 0 || p.DurationNanos < 5e8 || p.TimeNanos == 0 {
		t.Errorf("the profile is\n%s", p)
	}
}

func TestProfileReplacesNoDevice(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/dev/null", link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{link, filepath.Join(t.TempDir(), "no", "such", "directory")} {
		o := execute(t, program, "profile", "--pid", fmt.Sprint(os.Getpid()), "--for", "10ms", "-o", name)
		if o.code != exitFailed || !strings.Contains(o.errors, "writing \""+name) {
			t.Errorf("-o %s: exits with %d and says:\n%s%s", name, o.code, o.out, o.errors)
		}
	}
}

// TestProxyProfilesItself asks a proxy for a profile of itself.
func TestProxyProfilesItself(t *testing.T) {
	base := adminProxy(t, "")
	status, text := get(t, base+"/debug/pprof/whyspin?seconds=0.3", "", "")
	if status != 200 {
		t.Fatalf("status %d: %s", status, text)
	}
	p := readProfile(t, []byte(text))
	if !slices.ContainsFunc(p.Comments, func(c string) bool { return strings.Contains(c, "kind whyspin") }) {
		t.Errorf("the comments are %q", p.Comments)
	}
}
