package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// The situations in which a spinning process gets less of a CPU than it asks for. They work on a running
// process, so that its start does not take longer.

// quotaPeriod and quotaTime, in microseconds, leave a process 30 % of one CPU.
const (
	quotaPeriod = 100_000
	quotaTime   = 30_000
)

// underQuota puts a process into a control group with a CPU quota and waits until that bites.
func underQuota(t *testing.T, pid int) {
	t.Helper()
	root, second := cpuController(t)
	group, err := os.MkdirTemp(root, "spinlab-")
	if err != nil {
		t.Fatalf("making a control group: %v", err)
	}
	if second {
		// Where it is enabled already this changes nothing.
		enter(t, root, "cgroup.subtree_control", "+cpu")
		enter(t, group, "cpu.max", fmt.Sprintf("%d %d", quotaTime, quotaPeriod))
	} else {
		enter(t, group, "cpu.cfs_period_us", strconv.Itoa(quotaPeriod))
		enter(t, group, "cpu.cfs_quota_us", strconv.Itoa(quotaTime))
	}
	enter(t, group, "cgroup.procs", strconv.Itoa(pid))
	t.Cleanup(func() {
		enter(t, root, "cgroup.procs", strconv.Itoa(pid))
		if err := os.Remove(group); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the quota to bite", func() bool {
		text, err := os.ReadFile(filepath.Join(group, "cpu.stat"))
		if err != nil {
			t.Fatal(err)
		}
		_, count, _ := strings.Cut(string(text), "nr_throttled ")
		return count != "" && count[0] != '0'
	})
}

// enter writes a setting of a control group.
func enter(t *testing.T, group, name, value string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(group, name), []byte(value), 0); err != nil {
		t.Fatalf("setting up a control group: %v", err)
	}
}

// cpuController returns the root of the control groups that limit CPU time, and whether they are of the
// second version.
func cpuController(t *testing.T) (root string, second bool) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		// device, directory, type, options: "cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0"
		f := strings.Fields(line)
		if f[2] == "cgroup" && strings.Contains(","+f[3]+",", ",cpu,") {
			return f[1], false
		}
		controllers, _ := os.ReadFile(filepath.Join(f[1], "cgroup.controllers"))
		if f[2] == "cgroup2" && strings.Contains(" "+strings.TrimSpace(string(controllers))+" ", " cpu ") {
			return f[1], true
		}
	}
	t.Fatal("no control group limits CPU time here")
	return "", false
}

// besideNeighbour puts a process on one CPU, and another one that computes for ever.
func besideNeighbour(t *testing.T, pid int) {
	t.Helper()
	cpu := strconv.Itoa(runtime.NumCPU() - 1)
	out, err := exec.Command(need(t, "taskset"), "--all-tasks", "--cpu-list", "--pid", cpu,
		strconv.Itoa(pid)).CombinedOutput()
	if err != nil {
		t.Fatalf("taskset: %v: %s", err, out)
	}
	neighbour := background(t, "taskset", "--cpu-list", cpu, "sh", "-c", "while :; do :; done")
	loaded(t, neighbour)
}
