package target

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/ktime"
)

// ErrAmbiguous is the error for a name that several processes have.
var ErrAmbiguous = errors.New("several processes have that name")

// ErrNotFound is the error for a name that no process has.
var ErrNotFound = errors.New("no such process is running")

// ticksPerSecond is the unit of start times in /proc: USER_HZ, which is 100 on every architecture that Go
// runs on.
const ticksPerSecond = 100

// commandLine returns the arguments of a process; none for kernel threads and for processes that have
// ended.
func commandLine(directory string) []string {
	text, err := os.ReadFile(filepath.Join(directory, "cmdline"))
	if err != nil || len(text) == 0 {
		return nil
	}
	var words []string
	for word := range bytes.SplitSeq(bytes.TrimSuffix(text, []byte{0}), []byte{0}) {
		words = append(words, string(word))
	}
	return words
}

// comm returns the name of a process as the kernel knows it, at most 15 bytes.
func comm(directory string) string {
	text, err := os.ReadFile(filepath.Join(directory, "comm"))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(text), "\n")
}

// candidates returns the processes that match, this one left out.
func candidates(matches func(name string, arguments []string) bool) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("looking for processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		directory := filepath.Join("/proc", e.Name())
		if matches(comm(directory), commandLine(directory)) {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// numbers prints process ids as a list.
func numbers(pids []int) string {
	texts := make([]string, len(pids))
	for i, pid := range pids {
		texts[i] = strconv.Itoa(pid)
	}
	return strings.Join(texts, ", ")
}

// withoutMasters leaves out those that have only started another of them, as the master of a HAProxy has.
func withoutMasters(pids []int) []int {
	return slices.DeleteFunc(slices.Clone(pids), func(pid int) bool {
		workers := workersOf(filepath.Join("/proc", strconv.Itoa(pid)))
		return slices.ContainsFunc(pids, func(other int) bool { return slices.Contains(workers, other) })
	})
}

// Find returns the only process of that name: its command as the kernel knows it, or the base name of its
// program. Masters are left out when what they have started has that name, too.
func Find(name string) (int, error) {
	pids, err := candidates(func(comm string, arguments []string) bool {
		return comm == name || len(arguments) > 0 && filepath.Base(arguments[0]) == name
	})
	return only(withoutMasters(pids), name, err)
}

// FindProxy returns the only running whyspin proxy. Other whyspin commands, such as diagnose and demo, are
// none.
func FindProxy() (int, error) {
	pids, err := candidates(func(comm string, arguments []string) bool {
		return comm == "whyspin" && isProxy(arguments)
	})
	return only(pids, "whyspin", err)
}

// isProxy reports whether a whyspin command line runs a proxy: "whyspin run ...", or the flags of the
// haproxy program.
func isProxy(arguments []string) bool {
	if len(arguments) < 2 {
		return false
	}
	return arguments[1] == "run" || strings.HasPrefix(arguments[1], "-") && slices.Contains(arguments,
		"-f") &&
		!slices.Contains(arguments, "-c")
}

// only returns the one process that was found.
func only(pids []int, name string, err error) (int, error) {
	switch {
	case err != nil:
		return 0, err
	case len(pids) == 0:
		return 0, fmt.Errorf("looking for %q: %w", name, ErrNotFound)
	case len(pids) > 1:
		return 0, fmt.Errorf("looking for %q: %w: choose one with --pid: %s", name, ErrAmbiguous,
			numbers(pids))
	}
	return pids[0], nil
}

// Identify says who a process is, as far as /proc tells: its kind is "whyspin" or "haproxy" when its name
// is, and "generic" otherwise. What its runtime API says is surer.
func Identify(pid int) (evidence.Process, error) {
	directory, err := Directory(pid)
	if err != nil {
		return evidence.Process{}, err
	}
	stat, err := os.ReadFile(filepath.Join(directory, "stat"))
	if errors.Is(err, os.ErrNotExist) {
		return evidence.Process{}, fmt.Errorf("looking at process %d: %w", pid, ErrGone)
	}
	if err != nil {
		return evidence.Process{}, fmt.Errorf("looking at process %d: %w", pid, err)
	}
	name, _, started, ok := parseStat(stat)
	if !ok {
		return evidence.Process{}, fmt.Errorf("looking at process %d: its stat has an unknown form", pid)
	}
	p := evidence.Process{PID: pid, Command: name, Kind: evidence.KindGeneric}
	p.Started = evidence.Know(ktime.Time(started) * ktime.Time(time.Second/ticksPerSecond))
	program := ""
	if arguments := commandLine(directory); len(arguments) > 0 {
		program = filepath.Base(arguments[0])
	}
	switch {
	case name == "whyspin" || program == "whyspin":
		p.Kind = evidence.KindWhyspin
	case namedHAProxy(name) || namedHAProxy(program):
		p.Kind = evidence.KindHAProxy
	}
	return p, nil
}

// namedHAProxy reports whether a program of that name is a HAProxy: several versions beside each other
// have names such as "haproxy-2.8".
func namedHAProxy(name string) bool {
	rest, ok := strings.CutPrefix(name, "haproxy")
	return ok && (rest == "" || len(rest) > 1 && rest[0] == '-' && rest[1] >= '0' && rest[1] <= '9')
}
