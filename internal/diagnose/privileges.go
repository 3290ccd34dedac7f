package diagnose

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/whyspin/whyspin/internal/sys"
	"github.com/whyspin/whyspin/internal/target"
)

// kernelSymbols is where the kernel lists its functions; without permission every address is 0.
const kernelSymbols = "/proc/kallsyms"

// lacking says what may not be seen of a process for want of a capability, one sentence for each. What the
// probes lack is in the window; this is what /proc refuses: proc_pid_exe(5), proc_pid_fd(5),
// proc_kallsyms(5). It tries, instead of asking for capabilities: a process of the same user needs fewer.
func lacking(pid int) (sentences []string) {
	note := func(what string, capability uint, name string) {
		why := "this process lacks " + name
		if sys.HasCapability(capability) {
			why = "a user namespace or a security module refuses it"
		}
		sentences = append(sentences, fmt.Sprintf("%s: permission denied: %s", what, why))
	}
	directory, err := target.Directory(pid)
	if err != nil {
		return nil // the process is gone, which is said elsewhere
	}
	if _, err := os.Readlink(filepath.Join(directory, "exe")); errors.Is(err, fs.ErrPermission) {
		note("its executable with the names of its functions, and files as it sees them, its configuration"+
			" among them", sys.CapPtrace, "CAP_SYS_PTRACE")
	}
	if d, err := os.Open(filepath.Join(directory, "fd")); err == nil {
		_ = d.Close()
	} else if errors.Is(err, fs.ErrPermission) {
		note("its descriptors in /proc, which tell its sockets where the probes cannot", sys.CapReadSearch,
			"CAP_DAC_READ_SEARCH")
	}
	if hidden(kernelSymbols) {
		note("the names of functions of the kernel", sys.CapSyslog, "CAP_SYSLOG")
	}
	return sentences
}

// hidden reports whether a list of symbols shows no addresses.
func hidden(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return errors.Is(err, fs.ErrPermission)
	}
	defer func() { _ = f.Close() }()
	// Some symbols of a CPU's own data are at address 0; none of the first ten that are functions is.
	lines := bufio.NewScanner(f)
	for functions := 0; functions < 10 && lines.Scan(); {
		address, rest, _ := strings.Cut(lines.Text(), " ")
		if !strings.HasPrefix(strings.ToLower(rest), "t ") {
			continue
		}
		functions++
		if strings.Trim(address, "0") != "" {
			return false
		}
	}
	return true
}
