package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// machine describes where the figures come from.
func machine() string {
	var u unix.Utsname
	release := "unknown"
	if unix.Uname(&u) == nil {
		release = unix.ByteSliceToString(u.Release[:])
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		load = []byte("unknown")
	}
	return fmt.Sprintf("Linux %s, %d CPUs, load %s", release, runtime.NumCPU(),
		strings.TrimSpace(string(load)))
}

// others watches how much of the machine was taken by the host during a row. What other programs of this
// machine take cannot be told from the load that the row itself makes.
type others struct {
	stolen, total uint64
}

// stolenWorthSaying is the share of stolen time above which a row mentions it.
const stolenWorthSaying = 0.01

func watchOthers() others {
	stolen, total := cpuTicks()
	return others{stolen, total}
}

// note says what was stolen, empty when it was next to nothing.
func (o others) note() string {
	stolen, total := cpuTicks()
	if total <= o.total {
		return ""
	}
	share := float64(stolen-o.stolen) / float64(total-o.total)
	if share < stolenWorthSaying {
		return ""
	}
	return fmt.Sprintf("the host took %.1f %% of the CPUs away meanwhile", 100*share)
}

// cpuTicks returns the stolen and all ticks of all CPUs since the start of the machine: the first line of
// /proc/stat, whose fields proc_stat(5) lists. Both are 0 when it cannot be read.
func cpuTicks() (stolen, total uint64) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	const steal, guest = 8, 9 // guest time is in user time already
	for i := 1; i < len(fields) && i < guest; i++ {
		ticks, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return 0, 0
		}
		if i == steal {
			stolen = ticks
		}
		total += ticks
	}
	return stolen, total
}
