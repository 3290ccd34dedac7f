package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// nextLinkID is BPF_LINK_GET_NEXT_ID, which the library keeps to itself.
func nextLinkID(id uint32) (uint32, error) {
	attribute := struct{ start, next, flags uint32 }{start: id}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_LINK_GET_NEXT_ID,
		uintptr(unsafe.Pointer(&attribute)), unsafe.Sizeof(attribute))
	if errno != 0 {
		return 0, errno
	}
	return attribute.next, nil
}

// addThings lists what is no BPF object.
func (v *inventory) addThings(target int, temporary, program string) error {
	v.addPins()
	v.addDynamicProbes()
	v.addProcesses(program)
	entries, err := os.ReadDir(temporary)
	if err != nil {
		return fmt.Errorf("listing temporary files: %w", err)
	}
	for _, e := range entries {
		v.things["temporary file "+e.Name()] = true
	}
	directory := fmt.Sprintf("/proc/%d", target)
	files, err := os.ReadDir(directory + "/fd")
	if err != nil {
		return fmt.Errorf("listing the descriptors of the target: %w", err)
	}
	for _, f := range files {
		v.things["descriptor "+f.Name()+" of the target"] = true
	}
	status, err := os.ReadFile(directory + "/status")
	if err != nil {
		return fmt.Errorf("reading the state of the target: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		for _, field := range []string{"TracerPid:", "Seccomp", "NoNewPrivs:"} {
			if strings.HasPrefix(line, field) {
				v.things["the target has "+strings.Join(strings.Fields(line), " ")] = true
			}
		}
	}
	if text, err := os.ReadFile(directory + "/stat"); err == nil {
		_, rest, _ := strings.Cut(string(text), ") ")
		if strings.HasPrefix(rest, "T") || strings.HasPrefix(rest, "t") {
			v.things["the target is stopped"] = true
		}
	}
	return nil
}

// addPins lists the mounts that this process sees, and what is pinned in those of BPF.
func (v *inventory) addPins() {
	text, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(text)) {
		left, right, _ := strings.Cut(line, " - ")
		before, after := strings.Fields(left), strings.Fields(right)
		if len(before) < 5 || len(after) == 0 {
			continue
		}
		point := before[4]
		if after[0] == "bpf" || after[0] == "tracefs" || after[0] == "debugfs" {
			v.things["mount of "+after[0]+" on "+point] = true
		}
		if after[0] != "bpf" {
			continue
		}
		_ = filepath.WalkDir(point, func(path string, _ fs.DirEntry, err error) error {
			if err == nil && path != point {
				v.things["pin "+path] = true
			}
			return nil
		})
	}
}

// addDynamicProbes lists the kprobes and uprobes that are defined by name, where tracefs is mounted.
func (v *inventory) addDynamicProbes() {
	text, _ := os.ReadFile("/sys/kernel/tracing/dynamic_events")
	for line := range strings.Lines(string(text)) {
		v.things["dynamic probe "+strings.TrimSpace(line)] = true
	}
}

// addProcesses lists the processes of the program. The kernel has no list of perf events, but they go with
// the last descriptor, and so with the process.
func (v *inventory) addProcesses(program string) {
	want, err := os.Stat(program)
	if err != nil {
		return
	}
	files, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil || !os.SameFile(info, want) {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(f, "/")[2])
		if err == nil && !errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			v.things[fmt.Sprintf("process %d of %s", pid, program)] = true
		}
	}
}
