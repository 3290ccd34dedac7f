package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

func TestMain(m *testing.M) {
	if os.Getenv(targetVariable) != "" {
		runTarget()
		return
	}
	os.Exit(m.Run())
}

func inventoryNow(t *testing.T, watched *target, temporary string) *inventory {
	t.Helper()
	v, err := look(watched.pid(), temporary, "/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestWhatStaysIsFound leaves things behind in ways that no descriptor of a process shows, and finds them,
// and nothing when they are gone.
func TestWhatStaysIsFound(t *testing.T) {
	watched, err := startTarget(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer watched.stop()
	names := map[string]bool{"descriptors": true}
	temporary := t.TempDir()
	before := inventoryNow(t, watched, temporary)

	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "descriptors", Type: ebpf.Array, KeySize: 4, ValueSize: 4,
		MaxEntries: 1})
	if err != nil {
		t.Fatalf("this test needs root and BPF: %v", err)
	}
	// A descriptor in a message that nobody has read yet keeps the map alive.
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Sendmsg(pair[0], []byte{0}, syscall.UnixRights(m.FD()), nil, 0); err != nil {
		t.Fatal(err)
	}
	_ = m.Close()
	file := filepath.Join(temporary, "left")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	left := inventoryNow(t, watched, temporary).since(before, names)
	for _, want := range []string{`"descriptors" is held by no process`, "temporary file left"} {
		if !slices.ContainsFunc(left, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("what stayed is %q, without %q", left, want)
		}
	}
	if other := inventoryNow(t, watched, temporary).since(before, map[string]bool{}); len(other) != 1 {
		t.Errorf("what stayed of a program that has no such map is %q, want the file alone", other)
	}

	_, _, _ = syscall.Close(pair[0]), syscall.Close(pair[1]), os.Remove(file)
	for deadline := time.Now().Add(settle); ; time.Sleep(10 * time.Millisecond) {
		if left = inventoryNow(t, watched, temporary).since(before, names); len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("everything is gone, and still there is %q", left)
		}
	}
}

// TestNamesOfTheProgramsAreKnown reads them from what is compiled.
func TestNamesOfTheProgramsAreKnown(t *testing.T) {
	names, err := ownNames(filepath.Join("..", "..", "internal", "probe"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"on_sys_exit", "on_tcp_receive_", "descriptors", "bss"} {
		if !names[want] {
			t.Errorf("%q is not among %v", want, names)
		}
	}
}
