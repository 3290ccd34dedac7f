package target

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/sys"
)

// Facts are what surrounds a process: things that explain a verdict, or why one cannot be had.
type Facts struct {
	// Executable is the path of its program as the process sees it.
	Executable string `json:"executable,omitempty"`
	// Replaced is true exactly when that path now leads to another file, or to none: the program on disk is
	// not the one that runs, as after an upgrade without a restart.
	Replaced evidence.Observed[bool] `json:"replaced"`
	// ReplacedLibraries are files mapped into it to be executed that are no longer on disk.
	ReplacedLibraries evidence.Observed[int] `json:"replaced_libraries"`
	// Namespaces are those that are not the observer's own: "mnt", "net", "pid".
	Namespaces []string `json:"namespaces,omitempty"`
	// Cgroup is its path in the hierarchy of version 2, "" when it is in none.
	Cgroup string `json:"cgroup,omitempty"`
	// Container is the id of the container that the control group is named after, "" for none.
	Container string `json:"container,omitempty"`
	// Quota is how many CPUs the control group may use on average, the least of those above it included. Not
	// observed without one, or when it may not be read.
	Quota evidence.Observed[float64] `json:"quota_cpus"`
	// Unknown are sentences about what could not be read.
	Unknown []string `json:"unknown,omitempty"`
}

// maxMappings is how many lines of /proc/PID/maps are read: the kernel's own limit on mappings
// (sysctl vm.max_map_count) by default.
const maxMappings = 65530

// ReadFacts reads what surrounds a process. It fails with ErrGone when there is no such process; what may not
// be read is said in Facts.Unknown.
func ReadFacts(pid int) (*Facts, error) {
	directory, err := Directory(pid)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(directory); err != nil {
		return nil, fmt.Errorf("looking at process %d: %w", pid, gone(err))
	}
	f := &Facts{}
	f.readExecutable(directory)
	f.readLibraries(directory)
	for _, kind := range []string{"mnt", "net", "pid"} {
		if !sameNamespace(directory, kind) {
			f.Namespaces = append(f.Namespaces, kind)
		}
	}
	f.readCgroup(directory)
	return f, nil
}

// Sentences says for the person who reads a verdict what of it is out of the ordinary.
func (f *Facts) Sentences() []string {
	var text []string
	if f.Replaced.Or(false) {
		text = append(text, fmt.Sprintf("the program on disk (%s) is not the one that runs", f.Executable))
	}
	if n := f.ReplacedLibraries.Or(0); n > 0 {
		text = append(text, fmt.Sprintf("%d of its libraries were replaced on disk since it started", n))
	}
	switch {
	case f.Container != "":
		text = append(text, "it runs in container "+f.Container)
	case len(f.Namespaces) > 0:
		text = append(text, "it has namespaces of its own: "+strings.Join(f.Namespaces, ", "))
	}
	if quota, known := f.Quota.Get(); known {
		text = append(text, fmt.Sprintf("its control group may use %.2f CPUs", quota))
	}
	return text
}

func (f *Facts) unknown(what string, err error) {
	if errors.Is(err, fs.ErrPermission) && !sys.HasCapability(sys.CapPtrace) {
		f.Unknown = append(f.Unknown, fmt.Sprintf("%s: %v: it takes CAP_SYS_PTRACE", what, err))
		return
	}
	f.Unknown = append(f.Unknown, fmt.Sprintf("%s: %v", what, err))
}

// deletedSuffix is what the kernel appends to the path of a file that is no longer in its directory: d_path()
// in fs/d_path.c.
const deletedSuffix = " (deleted)"

func (f *Facts) readExecutable(directory string) {
	link := filepath.Join(directory, "exe")
	name, err := os.Readlink(link)
	if err != nil {
		f.unknown("which program runs", err)
		return
	}
	f.Executable = strings.TrimSuffix(name, deletedSuffix)
	if f.Executable != name {
		f.Replaced = evidence.Know(true)
		return
	}
	// The path means something in the file system that the process sees.
	same, err := sys.SameFile(link, filepath.Join(directory, "root", name))
	switch {
	case err == nil:
		f.Replaced = evidence.Know(!same)
	case errors.Is(err, fs.ErrNotExist):
		f.Replaced = evidence.Know(true)
	default:
		f.unknown("whether the program was replaced on disk", err)
	}
}

// readLibraries counts the files that are mapped to be executed and were deleted: proc_pid_maps(5).
func (f *Facts) readLibraries(directory string) {
	text, err := os.ReadFile(filepath.Join(directory, "maps"))
	if err != nil {
		f.unknown("whether libraries were replaced on disk", err)
		return
	}
	deleted := map[string]bool{}
	lines := 0
	for line := range strings.Lines(string(text)) {
		if lines++; lines > maxMappings {
			break
		}
		fields := strings.Fields(line)
		if len(fields) < 6 || !strings.Contains(fields[1], "x") || !strings.HasPrefix(fields[5], "/") {
			continue
		}
		name := strings.TrimSpace(line[strings.IndexByte(line, '/'):])
		file, gone := strings.CutSuffix(name, deletedSuffix)
		if gone && file != f.Executable && !strings.HasPrefix(file, "/memfd:") {
			deleted[file] = true
		}
	}
	f.ReplacedLibraries = evidence.Know(len(deleted))
}

// cgroupRoot is where the hierarchy of version 2 is mounted.
const cgroupRoot = "/sys/fs/cgroup"

// containerID is what container engines name control groups after: 64 hexadecimal digits.
var containerID = regexp.MustCompile(`[0-9a-f]{64}`)

func (f *Facts) readCgroup(directory string) {
	text, err := os.ReadFile(filepath.Join(directory, "cgroup"))
	if err != nil {
		f.unknown("its control group", err)
		return
	}
	for line := range strings.Lines(string(text)) {
		// cgroups(7): the hierarchy of version 2 has the number 0 and no controllers.
		if group, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			f.Cgroup = group
		}
		// A container of version 1 has its id in the other lines.
		if id := containerID.FindAllString(line, -1); id != nil && f.Container == "" {
			f.Container = id[len(id)-1]
		}
	}
	if f.Cgroup != "" {
		f.Quota = quota(cgroupRoot, f.Cgroup)
	}
}

// quota returns the smallest quota of a control group and those above it, in CPUs.
func quota(root, group string) (least evidence.Observed[float64]) {
	for group = path.Clean("/" + group); ; group = path.Dir(group) {
		text, err := os.ReadFile(filepath.Join(root, group, "cpu.max"))
		if cpus, ok := parseQuota(string(text)); err == nil && ok && cpus < least.Or(cpus+1) {
			least = evidence.Know(cpus)
		}
		if group == "/" {
			return least
		}
	}
}

// parseQuota reads cpu.max, "QUOTA PERIOD" in microseconds: Documentation/admin-guide/cgroup-v2.rst.
func parseQuota(text string) (cpus float64, ok bool) {
	fields := strings.Fields(text)
	if len(fields) != 2 {
		return 0, false
	}
	allowed, err1 := strconv.ParseFloat(fields[0], 64)
	period, err2 := strconv.ParseFloat(fields[1], 64)
	if err1 != nil || err2 != nil || period <= 0 {
		return 0, false // "max": no quota
	}
	return allowed / period, true
}
