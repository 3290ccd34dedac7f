package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests of this file hear a witness that shares nothing with whyspin: what strace and /proc show of each
// program must be the kernel's signature of its class in the catalogue.

// sample is how many system calls of a program are looked at.
const sample = 1000

// signature is what the system calls of a class look like. FD stands for the culprit's descriptor, PORT for
// the port of the destination.
type signature struct {
	// turns are patterns of calls and the share of all calls that each makes up at least.
	turns map[string]float64
	// never is a pattern that no call has.
	never string
	// threads is how many threads at least make such calls.
	threads int
}

const (
	polled  = `^epoll_p?wait\(.*, 0(, NULL, 0)?\) += 0$`
	reads   = `^(read|recvfrom|recvmsg)\(FD,`
	writes  = `^(write|sendto|sendmsg)\(FD,`
	refused = `ECONNREFUSED`
)

// delivered is a wait that returned one event with that mask.
func delivered(mask string) string { return `^epoll_p?wait\(.*\[\{events=` + mask + `,.* = 1$` }

var signatures = map[string]signature{
	"T1": {turns: map[string]float64{polled: 0.9}},
	"T6": {turns: map[string]float64{polled: 0.4, reads + `.*EAGAIN`: 0.4}},
	"F1": {turns: map[string]float64{delivered("EPOLLOUT"): 0.9}, never: writes},
	"F2": {turns: map[string]float64{delivered("EPOLLIN"): 0.9}, never: reads},
	"F3": {turns: map[string]float64{delivered(`EPOLLIN\|EPOLLRDHUP`): 0.4, reads + `.* = 0$`: 0.4}},
	"F4": {turns: map[string]float64{delivered(`EPOLLERR\|EPOLLHUP`): 0.9}},
	"F5": {turns: map[string]float64{delivered("EPOLLIN"): 0.4, `^accept4\(FD,.*EMFILE`: 0.4}},
	"F6": {turns: map[string]float64{delivered("EPOLLIN"): 0.9}, never: reads},
	// The thread that may act makes calls, too, and under strace the others are slow.
	"F7": {turns: map[string]float64{delivered("EPOLLIN"): 0.7}, threads: 2},
	"F8": {
		turns: map[string]float64{delivered("EPOLLIN"): 0.4, `^epoll_ctl\(.*EPOLL_CTL_MOD, FD,`: 0.4},
		never: reads,
	},
	// socket, fcntl, connect, epoll_ctl, epoll_wait, getsockopt, close: some of them, on the way to an error.
	"C1": {turns: map[string]float64{`^connect\(.*htons\(PORT\)`: 0.08, refused: 0.08}},
	"B2": {turns: map[string]float64{`^sched_yield\(`: 0.9}},
}

// In ordinary Go a handler that tries again at once does not come back to the poller.
var netpollSignatures = map[string]signature{
	"F3": {turns: map[string]float64{reads + `.* = 0$`: 0.9}},
	"F5": {turns: map[string]float64{`^accept4\(FD,.*EMFILE`: 0.9}},
}

func TestEachProgramShowsTheSignatureOfItsClass(t *testing.T) {
	strace := need(t, "strace")
	eachSpinner(t, func(t *testing.T, p *program, class string) {
		s := spin(t, p, class, 0)
		if s.truth.Class != class {
			t.Fatalf("the program says that it has %q", s.truth.Class)
		}
		if class == "B1" {
			requireHandlerLoop(t, s)
			return
		}
		want := signatures[class]
		if own, ok := netpollSignatures[class]; ok && p.name == "netpoll-go" {
			want = own
		}
		requireSignature(t, s, want, trace(t, strace, s.pid()))
		if class == "F6" {
			if _, err := os.Stat(fmt.Sprintf("/proc/%d/fd/%d", s.pid(), s.truth.FD)); err == nil {
				t.Errorf("descriptor %d is still open", s.truth.FD)
			}
		}
	})
}

// call is one system call as strace prints it.
type call struct{ tid, text string }

// trace returns what strace prints of a process until it has seen enough calls, without the housekeeping of
// runtimes.
func trace(t *testing.T, strace string, pid int) []call {
	t.Helper()
	c := exec.CommandContext(t.Context(), strace, "-f", "-qq", "-e", "signal=none", "-p", strconv.Itoa(pid))
	out, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
	defer timer.Stop()
	var calls []call
	unfinished := map[string]string{}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		text := lines.Text()
		tid := strconv.Itoa(pid) // a process with one thread has no prefix
		if rest, ok := strings.CutPrefix(text, "[pid "); ok {
			tid, text, _ = strings.Cut(strings.TrimSpace(rest), "] ")
		}
		if begin, ok := strings.CutSuffix(text, " <unfinished ...>"); ok {
			unfinished[tid] = begin
			continue
		}
		if _, end, ok := strings.Cut(text, " resumed>"); ok && strings.HasPrefix(text, "<... ") {
			text = unfinished[tid] + end
		}
		if housekeeping.MatchString(text) {
			continue
		}
		if calls = append(calls, call{tid, text}); len(calls) == sample {
			_ = c.Process.Signal(unix.SIGINT) // it lets the process go, and the pipe ends
		}
	}
	_ = c.Wait()
	if len(calls) < sample {
		t.Fatalf("strace printed %d calls: %v", len(calls), calls)
	}
	return calls[:sample]
}

var housekeeping = regexp.MustCompile(`^(nanosleep|futex|rt_sig|tgkill|getpid|madvise)`)

func requireSignature(t *testing.T, s *spinner, want signature, calls []call) {
	t.Helper()
	_, port, _ := strings.Cut(s.truth.Destination, ":")
	fill := strings.NewReplacer("FD", strconv.Itoa(s.truth.FD), "PORT", port)
	for pattern, share := range want.turns {
		expression := regexp.MustCompile(fill.Replace(pattern))
		n, threads := 0, map[string]bool{}
		for _, c := range calls {
			if expression.MatchString(c.text) {
				n++
				threads[c.tid] = true
			}
		}
		if float64(n) < share*float64(len(calls)) || len(threads) < want.threads {
			t.Errorf("%d of %d calls, by %d threads, are like %s; the first calls are %v", n, len(calls),
				len(threads), expression, calls[:20])
		}
	}
	if want.never == "" {
		return
	}
	expression := regexp.MustCompile(fill.Replace(want.never))
	for _, c := range calls {
		if expression.MatchString(c.text) {
			t.Errorf("a call is like %s: %s", expression, c.text)
			return
		}
	}
}

// requireHandlerLoop checks that a thread burns its time in the program and hardly any in the kernel.
func requireHandlerLoop(t *testing.T, s *spinner) {
	t.Helper()
	const enough = 30 // ticks of 10 ms
	before := account(t, s.pid())
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		for tid, now := range account(t, s.pid()) {
			user, system := now.user-before[tid].user, now.system-before[tid].system
			if user < enough {
				continue
			}
			// Ticks are sampled, and interrupts count as the kernel's.
			if system*2 > user {
				t.Errorf("thread %s ran %d ticks in the program and %d in the kernel", tid, user, system)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no thread is busy")
		}
	}
}

// times are a thread's time in the program and in the kernel, in ticks.
type times struct{ user, system int }

func account(t *testing.T, pid int) map[string]times {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]times{}
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		user, err1 := strconv.Atoi(fields[11])
		system, err2 := strconv.Atoi(fields[12])
		if err := errors.Join(err1, err2); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[filepath.Base(filepath.Dir(file))] = times{user, system}
	}
	return all
}
