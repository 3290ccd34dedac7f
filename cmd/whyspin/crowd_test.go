package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// crowdSize is how many descriptors the crowd has in its epoll set.
const crowdSize = 15000

// startRole starts a foreign process that prints a number when it is ready.
func startRole(t *testing.T, role string) (pid, number int) {
	t.Helper()
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), roleVariable+"="+role)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	if _, err := fmt.Fscan(out, &number); err != nil {
		t.Fatalf("waiting for the %s: %v", role, err)
	}
	return c.Process.Pid, number
}

// crowd waits as often as it can on a set of many descriptors of which one is ready, and never reads it.
// It prints that one's number.
func crowd() {
	runtime.LockOSThread()
	limit := syscall.Rlimit{Cur: crowdSize + 100, Max: crowdSize + 100}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		panic(err)
	}
	set, err := syscall.EpollCreate1(0)
	if err != nil {
		panic(err)
	}
	ready := 0
	for i := range crowdSize {
		initial := uintptr(0)
		if i == crowdSize/2 {
			initial = 1
		}
		fd, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, initial, syscall.O_NONBLOCK, 0)
		if errno != 0 {
			panic(errno)
		}
		if initial == 1 {
			ready = int(fd)
		}
		event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
		if err := syscall.EpollCtl(set, syscall.EPOLL_CTL_ADD, int(fd), &event); err != nil {
			panic(err)
		}
	}
	fmt.Println(ready)
	var events [8]syscall.EpollEvent
	for {
		_, _, _ = syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(set), uintptr(unsafe.Pointer(&events)),
			uintptr(len(events)), ^uintptr(0), 0, 0)
	}
}

// TestDiagnoseALargeProcess finds the one descriptor of 15 000 that keeps a process awake, which waits more
// than 100 000 times a second. What that costs is measured by make probecost.
func TestDiagnoseALargeProcess(t *testing.T) {
	pid, ready := startRole(t, "crowd")
	o := execute(t, program, "diagnose", "--pid", fmt.Sprint(pid), "--for", "1s", "--json")
	var d struct {
		Verdict string `json:"verdict"`
		Window  struct {
			Unknown []string `json:"unknown"`
		} `json:"window"`
		Findings []struct {
			FD struct {
				Number int `json:"number"`
			} `json:"fd"`
		} `json:"findings"`
	}
	if err := json.Unmarshal([]byte(o.out), &d); err != nil {
		t.Fatalf("diagnose exits with %d and says %s%s: %v", o.code, o.out, o.errors, err)
	}
	if d.Verdict != "spin" || len(d.Findings) == 0 || d.Findings[0].FD.Number != ready {
		t.Errorf("%s, want a spin by descriptor %d", o.out, ready)
	}
	for _, s := range d.Window.Unknown {
		if !strings.HasPrefix(s, "the state of its streams: ") {
			t.Errorf("it could not see: %s", s)
		}
	}
}
