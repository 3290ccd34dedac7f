package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// adminProxy runs a proxy with HTTP endpoints and returns their address.
func adminProxy(t *testing.T, lines string) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "stats.sock")
	port := freePort(t)
	file := write(t, "admin.cfg", fmt.Sprintf(`
global
    stats socket %s
    whyspin.admin 127.0.0.1:%s
    %s
listen a
    mode tcp
    bind 127.0.0.1:%s
    server s1 127.0.0.1:1
`, socket, port, lines, freePort(t)))
	startProxy(t, socket, file, nil, nil)
	return "http://127.0.0.1:" + port
}

// get asks for a page and returns its status and text.
func get(t *testing.T, url, user, password string) (int, string) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true // the proxy is not to keep a descriptor for the next one
	if user != "" {
		request.SetBasicAuth(user, password)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func TestAdminEndpoints(t *testing.T) {
	base := adminProxy(t, "")
	tests := []struct {
		path   string
		status int
		says   string
	}{
		{"/metrics", 200, `whyspin_worker_waits_total{result="none",timeout="zero",worker="1"}`},
		{"/metrics", 200, "whyspin_streams 0\n"},
		{"/diagnose?seconds=0.1", 200, `"verdict": "healthy"`},
		{"/diagnose?seconds=x", 400, "must be above 0"},
		{"/diagnose?seconds=61", 400, "at most 60"},
		{"/debug/pprof/", 200, "goroutine"},
		{"/debug/pprof/whyspin?seconds=x", 400, "must be above 0"},
		{"/debug/pprof/goroutine?debug=1", 200, "engine.(*worker).loop"},
		{"/nothing-here", 404, ""},
	}
	for _, tt := range tests {
		status, text := get(t, base+tt.path, "", "")
		if status != tt.status || !strings.Contains(text, tt.says) {
			t.Errorf("%s: status %d, should be %d and say %q:\n%s", tt.path, status, tt.status, tt.says, text)
		}
	}
}

func TestAdminAuthentication(t *testing.T) {
	users := write(t, "users", "# operators\nalice:secret\n")
	if err := os.Chmod(users, 0o600); err != nil {
		t.Fatal(err)
	}
	base := adminProxy(t, "whyspin.admin-auth "+users)
	for _, tt := range []struct {
		user, password string
		status         int
	}{{"", "", 401}, {"alice", "wrong", 401}, {"alice:secret", "", 401}, {"alice", "secret", 200}} {
		if status, _ := get(t, base+"/metrics", tt.user, tt.password); status != tt.status {
			t.Errorf("user %q with password %q: status %d, should be %d", tt.user, tt.password, status,
				tt.status)
		}
	}
	if err := os.Chmod(users, 0o644); err != nil {
		t.Fatal(err)
	}
	file := write(t, "open.cfg", fmt.Sprintf(`
global
    whyspin.admin 127.0.0.1:%s
    whyspin.admin-auth %s
listen a
    mode tcp
    bind 127.0.0.1:%s
    server s1 127.0.0.1:1
`, freePort(t), users, freePort(t)))
	o := execute(t, program, "run", "-f", file)
	if o.code != exitFailed || !strings.Contains(o.errors, "can be read by everybody") {
		t.Errorf("a file of passwords that everybody can read: exits with %d and says:\n%s", o.code, o.errors)
	}
}
