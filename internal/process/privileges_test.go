package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/sys"
)

// dropped is what the role "drop" says of itself.
type dropped struct {
	Error       string
	Credentials sys.Credentials
	BackToRoot  string // the error of trying
	Shadow      string // the error of reading a file outside the new root directory
	Zone        string
	PID         int
}

// playDrop drops its privileges with several threads running, says what became of it, and waits for the end
// of its input.
func playDrop() {
	for range 4 {
		go func() {
			runtime.LockOSThread()
			select {}
		}()
	}
	d := dropped{PID: os.Getpid()}
	defer func() {
		say(d)
		_, _ = os.Stdin.Read(make([]byte, 1))
	}()
	p, err := Prepare(settings(), Options{})
	if err == nil {
		err = p.WritePIDFile()
	}
	if err == nil {
		err = p.DropPrivileges()
	}
	if err != nil {
		d.Error = err.Error()
		return
	}
	d.Credentials, _ = sys.CurrentCredentials()
	d.BackToRoot = fmt.Sprint(syscall.Setresuid(-1, 0, -1))
	_, err = os.ReadFile("/etc/shadow")
	d.Shadow = fmt.Sprint(err)
	d.Zone, _ = time.Unix(0, 0).Zone()
}

func (a *actor) dropped() dropped {
	a.t.Helper()
	var d dropped
	must(a.t, json.Unmarshal([]byte(a.line()), &d))
	return d
}

// ids returns what a line of /proc/PID/task/TID/status has, for every thread of a process.
func ids(t *testing.T, pid int, line string) map[string]int {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	must(t, err)
	seen := map[string]int{}
	value := regexp.MustCompile(`(?m)^` + line + `:[ \t]*(.*?)[ \t]*$`)
	for _, name := range files {
		text, err := os.ReadFile(name)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has ended
		}
		must(t, err)
		seen[value.FindStringSubmatch(string(text))[1]]++
	}
	return seen
}

func TestPrivilegesAreDropped(t *testing.T) {
	needRoot(t)
	nobody, err := user.Lookup("nobody")
	must(t, err)
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	const zone = "Asia/Tokyo"
	tokyo, err := time.LoadLocation(zone)
	must(t, err)
	jail := t.TempDir()
	pidFile := filepath.Join(t.TempDir(), "pid")
	for _, test := range []struct {
		name     string
		edit     func(*config.Global)
		uid, gid int
		chroot   bool
	}{
		{"a user, a group and a root directory", func(g *config.Global) {
			g.User, g.Group, g.Chroot = "nobody", "daemon", jail
		}, uid, 1, true},
		{"numbers", func(g *config.Global) { g.UID, g.GID = 12345, 23456 }, 12345, 23456, false},
		{"a user alone takes its own group", func(g *config.Global) { g.User = "nobody" }, uid, gid, false},
		{"a group alone", func(g *config.Global) { g.Group = "daemon" }, 0, 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := act(t, "drop", withSettings(t, func(g *config.Global) {
				test.edit(g)
				g.PIDFile = pidFile
			}), "TZ="+zone)
			d := a.dropped()
			if d.Error != "" {
				t.Fatal(d.Error)
			}
			if !d.Credentials.Is(test.uid, test.gid) {
				t.Errorf("the process is %+v, want user %d and group %d alone", d.Credentials, test.uid,
					test.gid)
			}
			if test.uid != 0 && d.BackToRoot != "operation not permitted" {
				t.Errorf("the way back to root: %s", d.BackToRoot)
			}
			for line, want := range map[string]string{
				"Uid":    strings.Repeat(fmt.Sprint(test.uid, "\t"), 4),
				"Gid":    strings.Repeat(fmt.Sprint(test.gid, "\t"), 4),
				"Groups": "",
			} {
				seen := ids(t, d.PID, line)
				if len(seen) != 1 || seen[strings.TrimSuffix(want, "\t")] < 4 {
					t.Errorf("the threads have %s %v, want %q in all of them", line, seen, want)
				}
			}
			caps := ids(t, d.PID, "CapPrm")
			if test.uid != 0 && (len(caps) != 1 || caps["0000000000000000"] == 0) {
				t.Errorf("capabilities remain: %v", caps)
			}
			root, err := os.Readlink(fmt.Sprintf("/proc/%d/root", d.PID))
			must(t, err)
			if want := map[bool]string{true: jail, false: "/"}[test.chroot]; root != want {
				t.Errorf("the root directory is %s, want %s", root, want)
			}
			want := map[bool]string{true: "no such file", false: "permission denied"}[test.chroot]
			if test.uid != 0 && !strings.Contains(d.Shadow, want) {
				t.Errorf("reading /etc/shadow: %s, want %s", d.Shadow, want)
			}
			if want, _ := time.Unix(0, 0).In(tokyo).Zone(); d.Zone != want {
				t.Errorf("the time zone is %s, want %s: it is read too late", d.Zone, want)
			}
			text, err := os.ReadFile(pidFile)
			must(t, err)
			if string(text) != fmt.Sprintln(d.PID) {
				t.Errorf("the pidfile has %q, want %d", text, d.PID)
			}
		})
	}
}

func TestWithoutRootNothingIsChanged(t *testing.T) {
	needRoot(t)
	program := copyForOthers(t)
	for _, test := range []struct {
		name string
		edit func(*config.Global)
		want string
	}{
		{"it is that user already", func(g *config.Global) { g.UID, g.GID = 65534, 65534 }, ""},
		{"it is another user", func(g *config.Global) { g.UID, g.GID = 12345, 65534 },
			"changing to user 12345 and group 65534 takes root, the process runs as 65534 and 65534"},
		{"a root directory", func(g *config.Global) { g.Chroot = "/" },
			`changing the root directory to "/": operation not permitted`},
	} {
		t.Run(test.name, func(t *testing.T) {
			command := exec.Command(program)
			other := &syscall.Credential{Uid: 65534, Gid: 65534}
			command.SysProcAttr = &syscall.SysProcAttr{Credential: other}
			got := actWith(t, command, "drop", withSettings(t, test.edit)).dropped()
			if got.Error != test.want {
				t.Errorf("the error is %q, want %q", got.Error, test.want)
			}
		})
	}
}

// copyForOthers copies the test binary to where other users can run it.
func copyForOthers(t *testing.T) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "process")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(directory) })
	must(t, os.Chmod(directory, 0o755))
	text, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	program := filepath.Join(directory, "test")
	must(t, os.WriteFile(program, text, 0o755))
	return program
}

func TestPIDFile(t *testing.T) {
	directory := t.TempDir()
	victim, link := filepath.Join(directory, "victim"), filepath.Join(directory, "pid")
	must(t, os.WriteFile(victim, []byte("precious"), 0o600))
	must(t, os.Symlink(victim, link))
	p := &Prepared{config: newConfig()}
	must(t, p.WritePIDFile()) // none is asked for
	p.config.Global.PIDFile = link
	must(t, p.WritePIDFile())
	if text, err := os.ReadFile(victim); err != nil || string(text) != "precious" {
		t.Errorf("what a link in its place leads to is now %q (%v)", text, err)
	}
	info, err := os.Lstat(link)
	must(t, err)
	if info.Mode() != pidFileMode {
		t.Errorf("the pidfile has mode %v, want %o", info.Mode(), pidFileMode)
	}
	p.config.Global.PIDFile = "/no/such/directory/pid"
	err = p.WritePIDFile()
	if !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(err.Error(), "pidfile: ") {
		t.Errorf("a pidfile that cannot be written: %v", err)
	}
}
