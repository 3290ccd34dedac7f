package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// machine is one virtual machine.
type machine struct {
	name              string
	kernel, initramfs string
	accel             string
	limit             time.Duration
	directory         string
}

// machineMegabytes is the memory of a machine: the initial file system, and the descriptor tables of several
// probes at a time. machineCPUs is more than one, so that what is per CPU is tested; emulated on one thread.
const (
	machineMegabytes = "1536"
	machineCPUs      = "2"
)

// run boots the machine, runs the programs and reads their verdicts.
func (m *machine) run(ctx context.Context, programs []program) (*report, error) {
	ctx, cancel := context.WithTimeout(ctx, m.limit)
	defer cancel()
	console := filepath.Join(m.directory, strings.ReplaceAll(m.name, " ", "-")+".console")
	c := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot",
		"-accel", m.accel, "-cpu", "max", "-smp", machineCPUs, "-m", machineMegabytes,
		"-chardev", "file,id=console,path="+console, "-serial", "chardev:console", "-serial", "stdio",
		"-kernel", m.kernel, "-initrd", m.initramfs,
		// An oops ends the machine, and so does a panic: with -no-reboot QEMU exits.
		"-append", "console="+kernelConsole+" quiet oops=panic panic=-1 audit=0")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var complaints bytes.Buffer
	c.Stderr = &complaints
	lines, err := c.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: starting QEMU: %w", m.name, err)
	}
	v := newVerdict(m.name)
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("%s: starting QEMU: %w (package qemu-system-x86)", m.name, err)
	}
	v.read(lines)
	ended := c.Wait()
	v.report.took = time.Since(v.began)
	if err := v.judge(programs); err != nil {
		kernel, _ := os.ReadFile(console) // absent when QEMU did not start
		err = errors.Join(err, ctx.Err(), ended)
		return nil, fmt.Errorf("%s: %w\nthe kernel said:\n%s\nQEMU said:\n%s", m.name, err, kernel,
			complaints.String())
	}
	return v.report, nil
}

// runHere runs the programs on the running kernel, where nothing is left out.
func runHere(ctx context.Context, programs []program) (*report, error) {
	name, err := runningName()
	if err != nil {
		return nil, err
	}
	v := newVerdict(name)
	for _, p := range programs {
		r, w := io.Pipe()
		c := exec.CommandContext(ctx, p.path, p.arguments...)
		c.Dir = p.directory
		c.Stdout, c.Stderr = w, w
		go func() {
			fmt.Fprintf(w, "%s%s\n", markBegin, p.name)
			err := c.Run()
			code := 0
			if err != nil {
				code = max(1, c.ProcessState.ExitCode())
			}
			fmt.Fprintf(w, "\n%s%s %d\n", markEnd, p.name, code)
			_ = w.Close()
		}()
		v.read(r)
	}
	v.done = true
	v.report.took = time.Since(v.began)
	if err := v.judge(programs); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return v.report, nil
}

// runningName names the running kernel by its series.
func runningName() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "", fmt.Errorf("reading the release of the running kernel: %w", err)
	}
	parts := strings.SplitN(strings.TrimSpace(string(text)), ".", 3)
	return "Linux " + strings.Join(parts[:min(2, len(parts))], "."), nil
}

// verdict reads what comes from a machine line by line.
type verdict struct {
	report *report
	began  time.Time
	// codes are the exit codes of the programs that have ended; done is true exactly when all have.
	codes   map[string]string
	done    bool
	current string
	failed  []string // tests
	skipped []string
}

func newVerdict(name string) *verdict {
	return &verdict{report: &report{name: name, said: map[string]*bytes.Buffer{}}, began: time.Now(),
		codes: map[string]string{}}
}

// printing keeps the lines of machines that run at the same time whole.
var printing sync.Mutex

func (v *verdict) read(r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			v.line(line)
		}
		if err != nil {
			return
		}
	}
}

func (v *verdict) line(line string) {
	switch {
	case strings.HasPrefix(line, markBegin):
		v.current = strings.TrimPrefix(line, markBegin)
		v.report.said[v.current] = &bytes.Buffer{}
		return
	case strings.HasPrefix(line, markEnd):
		name, code, _ := strings.Cut(strings.TrimPrefix(line, markEnd), " ")
		v.codes[name] = code
		v.current = ""
		return
	case line == markDone:
		v.done = true
		return
	}
	if said := v.report.said[v.current]; said != nil {
		said.WriteString(line + "\n")
	}
	if v.current == capabilitiesProgram || strings.HasPrefix(line, "=== ") {
		return
	}
	v.count(line)
	printing.Lock()
	defer printing.Unlock()
	fmt.Printf("%-11s | %s\n", v.report.name, line)
}

// count reads the verdict on a test that is not part of another.
func (v *verdict) count(line string) {
	result, rest, ok := strings.Cut(line, ": ")
	if !ok {
		return
	}
	name, _, _ := strings.Cut(rest, " ")
	switch result {
	case "--- PASS":
		v.report.passed++
	case "--- FAIL":
		v.failed = append(v.failed, name)
	case "--- SKIP", "    --- SKIP":
		v.skipped = append(v.skipped, name)
	}
}

// judge says what went wrong.
func (v *verdict) judge(programs []program) error {
	var errs []error
	if len(v.failed) > 0 {
		errs = append(errs, fmt.Errorf("tests failed: %s", strings.Join(v.failed, ", ")))
	}
	if len(v.skipped) > 0 {
		errs = append(errs, fmt.Errorf("tests were skipped, which are not on the list of those left out: %s",
			strings.Join(v.skipped, ", ")))
	}
	for _, p := range programs {
		code, ok := v.codes[p.name]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%s did not come to its end", p.name))
		case code != "0":
			errs = append(errs, fmt.Errorf("%s ended with exit code %s", p.name, code))
		case p.isTest && !strings.Contains(v.report.said[p.name].String(), "\nPASS\n"):
			errs = append(errs, fmt.Errorf("%s did not say PASS", p.name))
		}
	}
	if !v.done {
		errs = append(errs, errors.New("the machine stopped before its programs had ended"))
	}
	if len(errs) == 0 && v.report.passed == 0 {
		errs = append(errs, errors.New("no test ran"))
	}
	return errors.Join(errs...)
}
