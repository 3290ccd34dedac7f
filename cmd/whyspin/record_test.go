package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestADiagnosisIsMadeAgainFromItsRecording: without the process, and by somebody who may see nothing of it.
func TestADiagnosisIsMadeAgainFromItsRecording(t *testing.T) {
	s, err := startSpinner(stranger)
	if err != nil {
		t.Fatal(err)
	}
	defer s.end()
	file := filepath.Join(openDirectory(t), "spin.whyspin")
	pid := strconv.Itoa(s.Process.Pid)
	live := execute(t, program, "diagnose", "--pid", pid, "--for", "300ms", "--record", file)
	if live.code != exitSpin || !strings.HasPrefix(live.out, "SPIN: ") {
		t.Fatalf("diagnose exits with %d: %s%s", live.code, live.out, live.errors)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("the mode of the recording is %v, should be 0600", info.Mode())
	}
	s.end()

	replay := func(flags ...string) output {
		c := exec.Command(program, append([]string{"diagnose", "--replay", file}, flags...)...)
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		return executeCommand(t, c)
	}
	if o := replay(); o.code != exitFailed || !strings.Contains(o.errors, "permission denied") {
		t.Errorf("replay of a file of root exits with %d: %s%s", o.code, o.out, o.errors)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if o := replay(); o.code != live.code || o.out != live.out {
		t.Errorf("replay exits with %d and says\n%s%swhile diagnose said\n%s", o.code, o.out, o.errors,
			live.out)
	}
	o := replay("--json")
	d := parseDiagnosis(t, o)
	if o.code != exitSpin || d.Target.PID != s.Process.Pid || d.Verdict == nil || *d.Verdict != "spin" {
		t.Errorf("replay --json exits with %d and says %s", o.code, o.out)
	}
	if o := replay("--anonymize"); o.code != exitSpin || !strings.HasPrefix(o.out, "SPIN: program-1 (") {
		t.Errorf("replay --anonymize exits with %d and says %s", o.code, o.out)
	}
}

// TestAReportIsPrintedThoughItCannotBeRecorded: what was watched for does not come again.
func TestAReportIsPrintedThoughItCannotBeRecorded(t *testing.T) {
	s, err := startSpinner(stranger)
	if err != nil {
		t.Fatal(err)
	}
	defer s.end()
	o := execute(t, program, "diagnose", "--pid", strconv.Itoa(s.Process.Pid), "--for", "300ms", "--record",
		"/nonexistent/file")
	if o.code != exitFailed || !strings.HasPrefix(o.out, "SPIN: ") ||
		!strings.Contains(o.errors, "/nonexistent/file") {
		t.Errorf("diagnose exits with %d: %s%s", o.code, o.out, o.errors)
	}
}
