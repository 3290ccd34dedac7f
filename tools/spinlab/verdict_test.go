package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// diagnosis is what "whyspin diagnose --json" says.
type diagnosis struct {
	Verdict  *string
	Window   struct{ Seconds float64 }
	Threads  []thread
	Findings []struct {
		Class *string
		FD    *struct {
			Number        int
			Local, Remote string
		}
		Listener *struct {
			Number  int
			Address string
		}
		Destination string
		Unknown     []string
		Functions   []struct {
			Name    string
			Callers []string
		}
	}
	text string
}

// thread is what is said of one thread; a share that was not observed counts as none.
type thread struct {
	TID int
	CPU float64 `json:"cpu_share"`
}

// verdict is the word, empty for "not observed".
func (d *diagnosis) verdict() string {
	if d.Verdict == nil {
		return ""
	}
	return *d.Verdict
}

// window is for how long a process is diagnosed.
const window = time.Second

// diagnose asks whyspin about a process, as a user does.
func diagnose(t *testing.T, pid int, window time.Duration) *diagnosis {
	t.Helper()
	c := exec.CommandContext(t.Context(), whyspin, "diagnose", "--pid", strconv.Itoa(pid), "--for",
		window.String(), "--json")
	var complaint bytes.Buffer
	c.Stderr = &complaint
	out, err := c.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	d := &diagnosis{text: string(out)}
	if err := json.Unmarshal(out, d); err != nil {
		t.Fatalf("diagnose exits with %d and says %q, %s: %v", c.ProcessState.ExitCode(), out, &complaint,
			err)
	}
	return d
}
