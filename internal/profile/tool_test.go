package profile

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pprof runs go tool pprof on a file.
func pprof(t *testing.T, arguments ...string) string {
	t.Helper()
	c := exec.Command("go", append([]string{"tool", "pprof"}, arguments...)...)
	// It keeps copies in the home directory, and symbolizes nothing here.
	c.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", c, err, out)
	}
	return string(out)
}

func mustHold(t *testing.T, what, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%s does not say %q:\n%s", what, want, text)
		}
	}
}

// TestPprofReadsIt has the tool that everybody uses read the profiles.
func TestPprofReadsIt(t *testing.T) {
	foreign, own := written(t, server()), written(t, spinning())
	mustHold(t, "-top", pprof(t, "-top", foreign), "Type: cpu", "parse", "server+0x2200", "tcp_sendmsg",
		"[lost samples]", "[not unwound to the start]", "[code made at run time]")
	mustHold(t, "-top of no_progress", pprof(t, "-top", "-cum", "-sample_index=no_progress", own),
		"stream 0x2a", "frontend smtp", "backend mail", "server s2", "thread worker/1", "cause timer")
	mustHold(t, "-tags", pprof(t, "-tags", "-sample_index=no_progress", own), "stream", "0x2a", "frontend",
		"smtp", "backend", "mail", "server", "s2", "thread", "worker/1", "tid", "destination")
	mustHold(t, "-tags of tiny I/O", pprof(t, "-tags", "-sample_index=tiny_io", foreign), "fd", "12",
		"192.0.2.1:40000")
	mustHold(t, "-raw", pprof(t, "-raw", foreign), "cpu/nanoseconds", "wakeups/count", "no_progress/count",
		"zero_timeout_waits/count", "tiny_io/count", "resets/count", "fd:[4]")
	mustHold(t, "-comments", pprof(t, "-comments", own), "kind whyspin", "no stacks are sampled")
}

// TestPprofServesIt fetches the page that the tool's web interface makes of a profile.
func TestPprofServesIt(t *testing.T) {
	c := exec.Command("go", "tool", "pprof", "-no_browser", "-http=127.0.0.1:", written(t, server()))
	c.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
	// go tool runs the program as a child, and both are to end with the test.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	errors, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		_ = c.Wait()
	})
	const prefix = "Serving web UI on "
	lines := bufio.NewScanner(errors)
	for lines.Scan() {
		address, ok := strings.CutPrefix(lines.Text(), prefix)
		if !ok {
			continue
		}
		client := http.Client{Timeout: time.Minute}
		top := address + "/ui/top"
		answer, err := client.Get(top)
		// It says where before it listens.
		for deadline := time.Now().Add(time.Minute); err != nil; answer, err = client.Get(top) {
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		defer answer.Body.Close()
		page, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v", answer.Status, err)
		}
		mustHold(t, "the page", string(page), "parse", "server+0x2200", "tcp_sendmsg")
		return
	}
	t.Fatalf("it does not say where it serves: %v", lines.Err())
}
