package haproxy

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// The kernel's view of the processes in testdata/haproxy was not recorded by probes, which did not exist.
// It is put together from what was: 200 system calls of each by strace, whether the process was running,
// and the sockets it had. In a full spin no voluntary switch of context happened; the idle ones slept.

var (
	call = regexp.MustCompile(`^(\d\d):(\d\d):(\d\d\.\d+) (\w+)\((-?\w+)(.*?)(?:\) += (-?\d+)| <detached)`)
	// fd is the descriptor in the last column of ss: users:(("haproxy",pid=17165,fd=9)).
	fd = regexp.MustCompile(`"haproxy[^"]*",pid=(\d+),fd=(\d+)`)
)

// recordedWindow is the kernel's view of a folder, nil for the report that came without any.
func recordedWindow(t *testing.T, folder string, pid int) *evidence.Window {
	t.Helper()
	name := filepath.Base(folder)
	if name == "founding-report" {
		return nil
	}
	w := &evidence.Window{
		PID: pid, Start: asked, End: asked.Add(time.Second),
		Hooks: evidence.Hooks{Syscall: evidence.Know("strace"), Files: evidence.Know("ss")},
	}
	thread := evidence.Thread{TID: pid, Name: "haproxy", Queued: evidence.Know(time.Duration(0)),
		Run: evidence.Know(time.Duration(0)), VoluntarySwitches: evidence.Know[uint64](0)}
	set := evidence.EpollSet{FD: 3}
	var calls uint64
	var first, last time.Duration
	for line := range strings.Lines(string(read(t, folder, "strace-raw.txt"))) {
		m := call.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("%s: not a call: %q", name, line)
		}
		if last = clock(m[1], m[2], m[3]); first == 0 {
			first = last
		}
		switch m[4] {
		case "epoll_wait":
			if m[7] != "" {
				addWait(&set, m[6], m[7])
			}
		case "socket":
			calls++
		default:
			calls++
			addCall(w, m[4], m[5], m[7])
		}
	}
	if last > first {
		w.End = w.Start.Add(last - first)
	}
	if strings.Contains(string(read(t, folder, "status.txt")), "State:\tR") {
		thread.Run = evidence.Know(w.Length())
	}
	thread.Calls = evidence.Know(calls)
	thread.Sets = []evidence.EpollSet{set}
	w.Threads = []evidence.Thread{thread}
	addSockets(w, string(read(t, folder, "ss.txt")), strconv.Itoa(pid))
	if strings.HasPrefix(name, "healthy") {
		w.Hooks.Files = evidence.Observed[string]{}
	}
	return w
}

func clock(hour, minute, second string) time.Duration {
	h, _ := strconv.Atoi(hour)
	m, _ := strconv.Atoi(minute)
	s, _ := strconv.ParseFloat(second, 64)
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s*float64(time.Second))
}

func addWait(set *evidence.EpollSet, arguments, result string) {
	timeout, kind := evidence.TimeoutPositive, evidence.ResultEvents
	if strings.HasSuffix(arguments, ", 0") {
		timeout = evidence.TimeoutZero
	}
	n, _ := strconv.Atoi(result)
	if n == 0 {
		kind = evidence.ResultNone
	}
	set.Waits[timeout][kind]++
	set.Events += uint64(max(n, 0))
}

func addCall(w *evidence.Window, name, descriptor, result string) {
	d := descriptorOf(w, descriptor)
	failed := strings.HasPrefix(result, "-")
	count := func(io *evidence.IO) {
		n, _ := strconv.ParseUint(result, 10, 64)
		io.Calls++
		io.Bytes += n
		if failed {
			io.Again++ // the only error in the recordings
		}
	}
	switch name {
	case "recvfrom":
		count(&d.Read)
	case "sendto":
		count(&d.Write)
	case "accept4":
		if failed {
			d.AcceptErrors++
		} else {
			d.Accepts++
		}
	case "connect":
		d.Connects++
	case "close":
		d.Closes++
	case "shutdown":
		d.Shutdowns++
	case "epoll_ctl":
		d.Controls++
	}
}

func descriptorOf(w *evidence.Window, text string) *evidence.Descriptor {
	n, _ := strconv.Atoi(text)
	for i := range w.Descriptors {
		if w.Descriptors[i].FD == n {
			return &w.Descriptors[i]
		}
	}
	w.Descriptors = append(w.Descriptors, evidence.Descriptor{FD: n, EpollFD: 3})
	return &w.Descriptors[len(w.Descriptors)-1]
}

// addSockets enters the sockets of the process as ss listed them.
func addSockets(w *evidence.Window, table, pid string) {
	states := map[string]string{"ESTAB": "ESTABLISHED", "CLOSE-WAIT": "CLOSE_WAIT"}
	for line := range strings.Lines(table) {
		m := fd.FindStringSubmatch(line)
		columns := strings.Fields(line)
		if m == nil || m[1] != pid || len(columns) < 6 {
			continue
		}
		state := columns[0]
		if long, ok := states[state]; ok {
			state = long
		}
		descriptorOf(w, m[2]).Socket = evidence.Know(evidence.Socket{
			Kind: "tcp", State: state, Local: columns[3], Remote: columns[4],
		})
	}
}
