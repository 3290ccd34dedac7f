package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// roleVariable makes the test binary run as one of the foreign processes below.
const roleVariable = "WHYSPIN_TEST_ROLE"

func init() {
	switch role := os.Getenv(roleVariable); role {
	case "":
		return
	case "spinner":
		spin()
	case "crowd":
		crowd()
	case "namespace":
		diagnoseInNamespace()
	default:
		panic("no role " + role)
	}
	os.Exit(0)
}

// spin asks an epoll set without sleeping, again and again, after it has said so.
func spin() {
	runtime.LockOSThread()
	set, err := syscall.EpollCreate1(0)
	if err != nil {
		panic(err)
	}
	var pair [2]int
	if err := syscall.Pipe2(pair[:], syscall.O_NONBLOCK); err != nil {
		panic(err)
	}
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(pair[0])}
	if err := syscall.EpollCtl(set, syscall.EPOLL_CTL_ADD, pair[0], &event); err != nil {
		panic(err)
	}
	fmt.Println(syscall.Gettid())
	var events [8]syscall.EpollEvent
	for {
		_, _, _ = syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(set), uintptr(unsafe.Pointer(&events)),
			uintptr(len(events)), 0, 0, 0)
	}
}

// spinner is a running foreign process that spins.
type spinner struct {
	*exec.Cmd
	tid int // of the thread that spins
}

// startSpinner starts a spinner as some user. It dies with the calling process.
func startSpinner(user uint32) (*spinner, error) {
	s := &spinner{Cmd: exec.Command("/proc/self/exe")}
	s.Env = append(os.Environ(), roleVariable+"=spinner")
	s.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL,
		Credential: &syscall.Credential{Uid: user, Gid: user}}
	out, err := s.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.Start(); err != nil {
		return nil, err
	}
	_, err = fmt.Fscan(out, &s.tid)
	return s, err
}

func (s *spinner) end() {
	_ = s.Process.Kill()
	_ = s.Wait()
}

// verdict is what the tests read of a report in JSON.
type verdict struct {
	Target struct {
		PID int `json:"pid"`
	} `json:"target"`
	Window struct {
		Probes  map[string]*string `json:"probes"`
		Unknown []string           `json:"unknown"`
	} `json:"window"`
	Verdict *string `json:"verdict"`
	Threads []struct {
		TID            int      `json:"tid"`
		CPUShare       *float64 `json:"cpu_share"`
		WaitsPerSecond *float64 `json:"waits_per_second"`
		ZeroTimeout    *float64 `json:"zero_timeout_share"`
	} `json:"threads"`
	Findings []struct {
		Name string `json:"name"`
	} `json:"findings"`
}

func parseDiagnosis(t *testing.T, o output) *verdict {
	t.Helper()
	d := &verdict{}
	if err := json.Unmarshal([]byte(o.out), d); err != nil {
		t.Fatalf("diagnose exits with %d and says %s%s: %v", o.code, o.out, o.errors, err)
	}
	return d
}

// finding is the name of the first finding, "" when there is none.
func (d *verdict) finding() string {
	if len(d.Findings) == 0 {
		return ""
	}
	return d.Findings[0].Name
}

// The capabilities that a diagnosis uses: include/uapi/linux/capability.h.
var capabilities = map[string]uintptr{"CAP_DAC_READ_SEARCH": 2, "CAP_SYS_PTRACE": 19, "CAP_SYSLOG": 34,
	"CAP_PERFMON": 38, "CAP_BPF": 39}

// stranger is the user whose process is diagnosed.
const stranger = nobody - 1

// diagnoseWith diagnoses a process as nobody with some capabilities, as setpriv(1) gives them.
func diagnoseWith(t *testing.T, pid int, ambient []uintptr) *verdict {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	c := exec.CommandContext(ctx, program, "diagnose", "--pid", fmt.Sprint(pid), "--for", "1s", "--json")
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{AmbientCaps: ambient,
		Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return parseDiagnosis(t, executeCommand(t, c))
}

// TestCapabilities diagnoses a process of another user: with the five capabilities everything is seen;
// without one of them the report names it, and the verdict is what can be said without.
func TestCapabilities(t *testing.T) {
	s, err := startSpinner(stranger)
	if err != nil {
		t.Fatalf("this test needs root: %v", err)
	}
	defer s.end()
	asRoot := parseDiagnosis(t, execute(t, program, "diagnose", "--pid", fmt.Sprint(s.Process.Pid), "--for",
		"1s", "--json"))
	if asRoot.finding() == "" || asRoot.Verdict == nil || *asRoot.Verdict != "spin" {
		t.Fatalf("as root: %+v, want a spin", asRoot)
	}
	if missing := asRoot.mention("CAP_"); len(missing) > 0 {
		t.Fatalf("as root: %q", missing)
	}
	all := slices.Sorted(maps.Values(capabilities))
	with := diagnoseWith(t, s.Process.Pid, all)
	if with.finding() != asRoot.finding() || len(with.mention("CAP_")) > 0 ||
		!slices.Equal(with.Window.Unknown, asRoot.Window.Unknown) {
		t.Errorf("with the capabilities %+v, want what root sees: %+v", with, asRoot)
	}
	for name, without := range capabilities {
		t.Run("without "+name, func(t *testing.T) {
			d := diagnoseWith(t, s.Process.Pid,
				slices.DeleteFunc(slices.Clone(all), func(c uintptr) bool { return c == without }))
			if len(d.mention(name)) == 0 {
				t.Errorf("%s is not named: %q", name, d.Window.Unknown)
			}
			checkVerdict(t, d, s.tid, name != "CAP_BPF" && name != "CAP_PERFMON", asRoot.finding())
		})
	}
	t.Run("without any", func(t *testing.T) {
		d := diagnoseWith(t, s.Process.Pid, nil)
		for name := range capabilities {
			if len(d.mention(name)) == 0 {
				t.Errorf("%s is not named: %q", name, d.Window.Unknown)
			}
		}
		checkVerdict(t, d, s.tid, false, "")
	})
}

// mention returns the sentences about what is not known that name something.
func (d *verdict) mention(what string) []string {
	return slices.DeleteFunc(slices.Clone(d.Window.Unknown),
		func(s string) bool { return !strings.Contains(s, what) })
}

// checkVerdict requires the finding where there are probes, and otherwise what the scheduler says of the
// thread that spins, and no word of health.
func checkVerdict(t *testing.T, d *verdict, tid int, probes bool, finding string) {
	t.Helper()
	if probes {
		if d.finding() != finding {
			t.Errorf("finding %q, want %q: %+v", d.finding(), finding, d)
		}
		return
	}
	if d.Verdict != nil && *d.Verdict == "healthy" {
		t.Errorf("a process that spins is called healthy, without probes: %+v", d)
	}
	for _, thread := range d.Threads {
		if thread.TID == tid && thread.CPUShare != nil && thread.WaitsPerSecond == nil {
			return
		}
	}
	t.Errorf("thread %d has no CPU share, or has waits that nobody saw: %+v", tid, d.Threads)
}

// TestDiagnoseInAPidNamespace diagnoses from inside a pid namespace, as in a container, a process in it: the
// threads have the numbers that they have there, and their waits are counted.
func TestDiagnoseInAPidNamespace(t *testing.T) {
	self, err := filepath.EvalSymlinks("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	c := exec.CommandContext(ctx, need(t, "unshare"), "--pid", "--fork", "--mount-proc", "--kill-child", self)
	c.Env = append(os.Environ(), roleVariable+"=namespace", "WHYSPIN_TEST_PROGRAM="+program)
	o := executeCommand(t, c)
	d := parseDiagnosis(t, o)
	if d.Target.PID < 2 || d.Target.PID > 100 {
		t.Errorf("the process has number %d, want that of a new namespace", d.Target.PID)
	}
	if d.Verdict == nil || *d.Verdict != "spin" || d.finding() == "" {
		t.Errorf("%+v, want a spin", d)
	}
	waits := false
	for _, thread := range d.Threads {
		if thread.TID < d.Target.PID || thread.TID > d.Target.PID+100 {
			t.Errorf("thread %d of process %d", thread.TID, d.Target.PID)
		}
		if thread.WaitsPerSecond != nil && *thread.WaitsPerSecond > 1 && *thread.ZeroTimeout == 1 {
			waits = true
		}
	}
	if !waits {
		t.Errorf("no thread waits without sleeping: %s", o.out)
	}
}

// diagnoseInNamespace starts a spinner and diagnoses it.
func diagnoseInNamespace() {
	s, err := startSpinner(stranger)
	if err != nil {
		panic(err)
	}
	defer s.end()
	c := exec.Command(os.Getenv("WHYSPIN_TEST_PROGRAM"), "diagnose", "--pid", fmt.Sprint(s.Process.Pid),
		"--for", "1s", "--json")
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	_ = c.Run() // its exit code is its verdict
}
