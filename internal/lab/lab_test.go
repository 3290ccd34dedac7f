package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// program is the built whyspin.
var program string

func TestMain(m *testing.M) {
	directory, err := os.MkdirTemp("", "whyspin-lab-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(directory, "whyspin")
	build := exec.Command("go", "build", "-o", program, "../../cmd/whyspin")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building whyspin: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(directory)
	os.Exit(code)
}

// founding starts the founding case with other settings than the demo's, and brings the bug about.
func founding(t *testing.T, change func(configuration string) string) *demo {
	t.Helper()
	ctx := context.Background()
	d := &demo{out: io.Discard, program: program}
	var err error
	if d.server, err = StartMailServer(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.server.Close)
	if d.silent, err = startSilentServer(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.silent.close)
	directory := t.TempDir()
	text, socket, err := d.configure(directory)
	if err != nil {
		t.Fatal(err)
	}
	if d.proxy, err = startProxy(ctx, program, directory, change(text), socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.proxy.stop)
	if err := d.hit(ctx); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestSpinActionShutdown: the proxy finds the spin by itself, ends the guilty stream and no other, and says
// so.
func TestSpinActionShutdown(t *testing.T) {
	d := founding(t, func(configuration string) string {
		return strings.Replace(configuration, "global\n",
			"global\n    whyspin.spin-action shutdown\n    log stdout format raw local0\n", 1) +
			"    log global\n    option tcplog\n"
	})
	finish := make(chan struct{})
	sessions := d.background(finish)
	err := until(context.Background(), time.Minute, "the orphans to be shut down", func() (bool, error) {
		left, err := orphans(context.Background(), d.proxy)
		return len(left) == 0, err
	})
	if err != nil {
		t.Fatal(err)
	}
	var spin string
	err = until(context.Background(), time.Minute, "an action in show spin", func() (bool, error) {
		// The stream is gone before it is known that it is.
		spin, err = d.proxy.order(context.Background(), "show spin")
		return strings.Contains(spin, "action: "), err
	})
	if err != nil {
		t.Errorf("%v; it says:\n%s", err, spin)
	}
	for _, part := range []string{"findings: ", `"class":"T3"`, "action: the stream was shut down"} {
		if !strings.Contains(spin, part) {
			t.Errorf("show spin has no %q:\n%s", part, spin)
		}
	}
	story, err := d.proxy.order(context.Background(), "show spin 1")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"T3 orphaned half-state", "the client's end of data (FIN)", "CON -> EST"} {
		if !strings.Contains(story, part) {
			t.Errorf("show spin 1 has no %q:\n%s", part, story)
		}
	}
	logged := func() (bool, error) {
		log := d.proxy.output.String()
		return strings.Contains(log, "finding 1: {") && strings.Contains(log, " ID "), d.proxy.alive()
	}
	err = until(context.Background(), time.Minute, "the finding and the end in the log", logged)
	if err != nil {
		t.Errorf("%v; the log:\n%s", err, d.proxy.output)
	}
	close(finish)
	if failed := sessions(); len(failed) > 0 {
		t.Errorf("%d of %d other streams did not end in order, the first: %v", len(failed), healthy,
			failed[0])
	}
	if mails := d.server.Mails(); mails < healthy {
		t.Errorf("%d mails of %d sessions arrived", mails, healthy)
	}
}

// TestTheVerdictMustNameAnOrphan: one that names a stream that the demo did not break is wrong, in either
// form.
func TestTheVerdictMustNameAnOrphan(t *testing.T) {
	verdict := func(id string) []byte {
		return []byte(`{"verdict": "spin", "findings": [{"class": "T3", "timer": {"name": "tunnel",
			"overdue_seconds": 1}, "stream": {"client_state": "CLO", "server_state": "EST",
			"id": "` + id + `"}}]}`)
	}
	text := func(id string) string { return "T3 orphaned half-state\n  stream   " + id + "  client CLO\n" }
	orphans := []string{"0x1", "0x2"}
	if id, err := checkVerdict(verdict("0x1"), text("0x2"), orphans); id != "0x1" || err != nil {
		t.Errorf("two orphans: stream %q: %v", id, err)
	}
	for _, test := range []struct{ name, json, text string }{
		{"the JSON form names another stream", "0x3", "0x1"},
		{"the text names another stream", "0x1", "0x3"},
		{"the text names one with a longer id", "0x1", "0x11"},
		{"both name another stream", "0x3", "0x3"},
	} {
		if _, err := checkVerdict(verdict(test.json), text(test.text), orphans); err == nil {
			t.Errorf("%s, and it passes", test.name)
		}
	}
}

// TestIdleLeakIsNamed: without a tunnel timeout the orphan is never woken again.
func TestIdleLeakIsNamed(t *testing.T) {
	d := founding(t, func(configuration string) string {
		var kept []string
		for line := range strings.Lines(configuration) {
			if !strings.Contains(line, "timeout tunnel") {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "")
	})
	suspects, err := d.proxy.order(context.Background(), "show sess susp")
	if err != nil || !strings.Contains(suspects, d.orphan) {
		t.Errorf("show sess susp does not list %s: %v\n%s", d.orphan, err, suspects)
	}
	var out bytes.Buffer
	c := exec.Command(program, "diagnose", "--json", "--for", "300ms", "--pid", fmt.Sprint(d.proxy.pid()))
	c.Stdout = &out
	if err := c.Run(); c.ProcessState == nil {
		t.Fatal(err)
	}
	var report struct {
		Verdict  string
		Findings []struct {
			Class  string
			Stream struct{ ID string }
		}
	}
	if err := json.Unmarshal(out.Bytes(), &report); err != nil {
		t.Fatalf("%v:\n%s", err, &out)
	}
	const exitOther = 4
	code := c.ProcessState.ExitCode()
	if code != exitOther || report.Verdict != "leak" || len(report.Findings) == 0 {
		t.Fatalf("diagnose exits with %d:\n%s", code, &out)
	}
	found := false
	for _, f := range report.Findings {
		found = found || f.Stream.ID == d.orphan
		if f.Class != "T3i" {
			t.Errorf("a finding of class %s, should be T3i", f.Class)
		}
	}
	if !found {
		t.Errorf("the orphan %s is not among the findings:\n%s", d.orphan, &out)
	}
}
