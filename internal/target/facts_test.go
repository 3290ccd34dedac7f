package target

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/sys"
)

// copyOf copies a program to a file of its own.
func copyOf(t *testing.T, program string) string {
	t.Helper()
	from, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), filepath.Base(from))
	if err := os.WriteFile(to, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}

func factsOf(t *testing.T, pid int) *Facts {
	t.Helper()
	f, err := ReadFacts(pid)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestReplacedExecutableIsFound upgrades a program under its process: the file is renamed over, then
// removed.
func TestReplacedExecutableIsFound(t *testing.T) {
	program := copyOf(t, "sleep")
	pid := start(t, program, "1000").Process.Pid
	var f *Facts
	eventually(t, "the program to run", func() bool {
		f = factsOf(t, pid)
		// In the middle of an execve what it maps cannot be read.
		return f.Executable == program && f.ReplacedLibraries.IsKnown()
	})
	if f.Replaced != evidence.Know(false) || f.ReplacedLibraries != evidence.Know(0) {
		t.Errorf("before: %+v, want %s, not replaced", f, program)
	}
	if err := os.Rename(copyOf(t, "sleep"), program); err != nil {
		t.Fatal(err)
	}
	if f = factsOf(t, pid); f.Executable != program || f.Replaced != evidence.Know(true) {
		t.Errorf("after: %+v, want %s, replaced", f, program)
	}
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	if f = factsOf(t, pid); f.Executable != program || f.Replaced != evidence.Know(true) {
		t.Errorf("at the end: %+v, want %s, replaced", f, program)
	}
}

// TestNamespacesAreTold starts a process in namespaces of its own.
func TestNamespacesAreTold(t *testing.T) {
	if f := factsOf(t, os.Getpid()); len(f.Namespaces) > 0 {
		t.Errorf("this process is in other namespaces than itself: %v", f.Namespaces)
	}
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if f := factsOf(t, cmd.Process.Pid); !slices.Equal(f.Namespaces, []string{"mnt", "net"}) {
		t.Errorf("namespaces %v, want mnt and net", f.Namespaces)
	}
}

// TestSocketsOfAnotherNamespace describes a socket that sock_diag does not list for this process.
func TestSocketsOfAnotherNamespace(t *testing.T) {
	done := make(chan struct{})
	defer close(done)
	ids := make(chan [2]int)
	var serve func()
	serve = func() { // on a thread with a namespace of its own, which ends with it
		runtime.LockOSThread()
		if syscall.Gettid() == os.Getpid() {
			go serve() // the main thread would take the process with it: keep it busy meanwhile
			<-done
			runtime.UnlockOSThread()
			return
		}
		if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			t.Error(err)
		}
		fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
		if err == nil {
			err = syscall.Bind(fd, &syscall.SockaddrInet6{Port: 8080})
		}
		if err == nil {
			err = syscall.Listen(fd, 5)
		}
		if err != nil {
			t.Error(err)
		}
		ids <- [2]int{syscall.Gettid(), fd}
		<-done
		_ = syscall.Close(fd)
	}
	go serve()
	id := <-ids
	directory := fmt.Sprintf("/proc/self/task/%d", id[0])
	f := &Files{Files: []File{{FD: id[1], Kind: "socket"}}}
	f.Files[0].Inode, _ = sys.Inode(fmt.Sprintf("/proc/self/fd/%d", id[1]))
	f.describeSockets(directory)
	s := f.Files[0].Socket
	const listening = 10
	if s == nil || s.LocalPort != 8080 || s.State != listening || s.Family != sys.FamilyINET6 ||
		s.Local != [16]byte{} {
		t.Fatalf("%+v, unknown %q; want a listener on port 8080", s, f.Unknown)
	}
	if len(f.Unknown) == 0 || !strings.Contains(f.Unknown[0], "another network namespace") {
		t.Errorf("unknown %q, want the cookies to be", f.Unknown)
	}
}

// TestNetAddresses reads addresses as /proc/PID/net has them on a little-endian machine.
func TestNetAddresses(t *testing.T) {
	address, port, ok := parseNetAddress("0100007F:1F90")
	if !ok || address != [16]byte{127, 0, 0, 1} || port != 8080 {
		t.Errorf("%v %d %v", address, port, ok)
	}
	address, port, ok = parseNetAddress("00000000000000000000000001000000:0050")
	if !ok || address != [16]byte{15: 1} || port != 80 {
		t.Errorf("%v %d %v", address, port, ok)
	}
	for _, text := range []string{"", "0100007F", "0100007:1", "zz00007F:1", "0100007F:123456"} {
		if _, _, ok := parseNetAddress(text); ok {
			t.Errorf("%q was read", text)
		}
	}
}

// TestGoneProcessHasNoFacts asks for a process that has ended.
func TestGoneProcessHasNoFacts(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFacts(cmd.Process.Pid); !errors.Is(err, ErrGone) {
		t.Errorf("%v, want %v", err, ErrGone)
	}
	if _, err := ReadFiles(cmd.Process.Pid); !errors.Is(err, ErrGone) {
		t.Errorf("%v, want %v", err, ErrGone)
	}
}

// TestQuotaIsTheLeast reads quotas of a control group and of those above it.
func TestQuotaIsTheLeast(t *testing.T) {
	root := t.TempDir()
	for group, limit := range map[string]string{"/": "max 100000", "/system": "30000 100000",
		"/system/whyspin": "200000 100000", "/free": "max 100000"} {
		directory := filepath.Join(root, group)
		if err := os.MkdirAll(directory, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(directory, "cpu.max"), []byte(limit+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for group, want := range map[string]evidence.Observed[float64]{
		"/system/whyspin": evidence.Know(0.3),
		"/system":         evidence.Know(0.3),
		"/free":           {},
		"/":               {},
		"/nowhere":        {},
	} {
		if got := quota(root, group); got != want {
			t.Errorf("%s: %v, want %v", group, got, want)
		}
	}
}

// TestContainerIsNamed takes the id of a container from its control group.
func TestContainerIsNamed(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for name, text := range map[string]string{
		"version 2": "0::/system.slice/docker-" + id + ".scope\n",
		"version 1": "12:cpu,cpuacct:/docker/" + id + "\n0::/\n",
		"a pod":     "0::/kubepods.slice/pod1/cri-containerd-" + id + ".scope/inner\n",
	} {
		directory := t.TempDir()
		if err := os.WriteFile(filepath.Join(directory, "cgroup"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f := &Facts{}
		f.readCgroup(directory)
		if f.Container != id {
			t.Errorf("%s: container %q, want %s", name, f.Container, id)
		}
	}
}

// TestTimesAreDivided has this thread run in the program, and reads how its time was divided.
func TestTimesAreDivided(t *testing.T) {
	user, system := parseTimes([]byte("12 (a) b) R 1 1 1 0 -1 4194560 1 2 3 4 250 17 5 6 20 0 1 0 99 0 0\n"))
	if user.Or(0).Milliseconds() != 2500 || system.Or(0).Milliseconds() != 170 {
		t.Errorf("%v and %v, want 2.5 s and 170 ms", user, system)
	}
	if user, _ = parseTimes([]byte("12 (a) R 1\n")); user.IsKnown() {
		t.Errorf("%v of a line that is too short", user)
	}
	s := open(t, os.Getpid())
	first := read(t, s)
	eventually(t, "this process to use 30 ms in the program", func() bool {
		var sum float64
		for _, v := range read(t, s).Since(first) {
			sum += v.User.Or(0).Seconds()
		}
		for range 1_000_000 {
			sum += 1e-18
		}
		return sum >= 0.03
	})
}

func TestWhatIsOutOfTheOrdinaryIsSaid(t *testing.T) {
	for want, f := range map[string]Facts{
		"": {Executable: "/usr/sbin/haproxy", Replaced: evidence.Know(false), Cgroup: "/system.slice"},
		"the program on disk (/usr/sbin/haproxy) is not the one that runs": {
			Executable: "/usr/sbin/haproxy", Replaced: evidence.Know(true)},
		"2 of its libraries were replaced on disk since it started": {ReplacedLibraries: evidence.Know(2)},
		"it runs in container c0ffee; its control group may use 0.30 CPUs": {
			Container: "c0ffee", Namespaces: []string{"net"}, Quota: evidence.Know(0.3)},
		"it has namespaces of its own: mnt, net": {Namespaces: []string{"mnt", "net"}},
	} {
		if got := strings.Join(f.Sentences(), "; "); got != want {
			t.Errorf("%+v says %q, should say %q", f, got, want)
		}
	}
}
