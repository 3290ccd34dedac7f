package target

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestParseAddress(t *testing.T) {
	directory := t.TempDir()
	t.Chdir(directory)
	l, err := net.Listen("unix", "here.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for text, want := range map[string]string{
		"/run/a.sock":       "/run/a.sock",
		"unix@/run/a.sock":  "/run/a.sock",
		"here.sock":         filepath.Join(directory, "here.sock"),
		"./gone.sock":       filepath.Join(directory, "gone.sock"),
		"unix@gone.sock":    filepath.Join(directory, "gone.sock"),
		"@name":             "@name",
		"abns@name":         "@name",
		"127.0.0.1:9999":    "127.0.0.1:9999",
		"ipv4@1.2.3.4:9999": "1.2.3.4:9999",
		"[::1]:9999":        "[::1]:9999",
		":9999":             "127.0.0.1:9999",
		"":                  "",
		"gone.sock":         "",
		"127.0.0.1":         "",
		"127.0.0.1:0":       "",
		"127.0.0.1:http":    "",
		"@":                 "",
	} {
		got, err := ParseAddress(text)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q is read as %q, %v; should be %q", text, got, err, want)
		}
	}
}

func TestListenerOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "whyspin-listener-of.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for _, address := range []string{path, tcp.Addr().String()} {
		if pid, err := ListenerOf(address, OwnID(os.Getpid())); err != nil || pid != os.Getpid() {
			t.Errorf("%s: process %d, %v; should be this one", address, pid, err)
		}
		// This is no proxy by its name.
		if pid, err := ListenerOf(address, 0); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: process %d, %v; should be none", address, pid, err)
		}
	}
	if pid, err := ListenerOf(path, 1<<30); !errors.Is(err, ErrNotFound) {
		t.Errorf("process %d, %v; should be none", pid, err)
	}
}
