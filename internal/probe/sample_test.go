package probe

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/freeport"
)

// sampleSource is a program without frame pointers that spends its time in one function, called by two
// others, on the stack of a thread that is started when the program has read a byte.
const sampleSource = `
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static volatile unsigned long sink;

__attribute__((noinline)) static unsigned long hot(unsigned long n)
{
	volatile unsigned long room[64];
	for (unsigned long i = 0; i < 1000000; i++)
		room[i % 64] = n += i * 2654435761UL;
	return n + room[3];
}

__attribute__((noinline)) static unsigned long middle(unsigned long n)
{
	return hot(n) + 1;
}

__attribute__((noinline)) static void *outer(void *argument)
{
	for (;;)
		sink += middle(sink) * 3;
	return argument;
}

int main(void)
{
	pthread_t thread;
	char byte;

	if (write(1, "r", 1) != 1 || read(0, &byte, 1) != 1)
		return 1;
	if (pthread_create(&thread, NULL, outer, NULL))
		return 1;
	pthread_join(thread, NULL);
	return 0;
}
`

// compileC compiles a program.
func compileC(t *testing.T, source string, flags ...string) string {
	t.Helper()
	directory := t.TempDir()
	file := filepath.Join(directory, "program.c")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(directory, "program")
	arguments := append([]string{"-O2", "-fomit-frame-pointer", "-pthread", "-o", program, file}, flags...)
	if out, err := exec.Command("gcc", arguments...).CombinedOutput(); err != nil {
		t.Fatalf("compiling a program takes gcc, which make deps installs: %v\n%s", err, out)
	}
	return program
}

// startC starts a program that writes a byte when it is ready, and returns a function that lets it go on.
func startC(t *testing.T, program string, change func(*exec.Cmd)) (pid int, goAhead func()) {
	t.Helper()
	c := exec.Command(program)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if change != nil {
		change(c)
	}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return c.Process.Pid, func() {
		if _, err := in.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
	}
}

// sample takes samples until there are at least so many, or something else has gone wrong for a minute.
func sample(t *testing.T, p *Probe, least uint64, begun func()) *evidence.Window {
	t.Helper()
	r, err := p.BeginSampling()
	if err != nil {
		t.Fatal(err)
	}
	if begun != nil {
		begun()
	}
	run := func() time.Duration {
		var sum time.Duration
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", p.pid))
		var n int64
		fmt.Sscan(string(text), &n)
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.pid))
		for _, name := range tasks {
			text, _ := os.ReadFile(name)
			fmt.Sscan(string(text), &n)
			sum += time.Duration(n)
		}
		return sum
	}
	from := run()
	eventually(t, "CPU time", func() bool { return run()-from > time.Duration(least)*samplePeriod })
	w, err := r.End()
	if err != nil {
		t.Fatal(err)
	}
	if w.Samples == nil {
		t.Fatalf("there are no samples: %q", w.Unknown)
	}
	return w
}

// share is the part of the samples that a condition holds for.
func share(s *evidence.Samples, holds func(k *evidence.Stack) bool) float64 {
	var all, good uint64
	for i := range s.Stacks {
		all += s.Stacks[i].Count
		if holds(&s.Stacks[i]) {
			good += s.Stacks[i].Count
		}
	}
	if all == 0 {
		return 0
	}
	return float64(good) / float64(all)
}

func names(frames []evidence.Frame) (all []string) {
	for _, f := range frames {
		all = append(all, f.Function)
	}
	return all
}

func TestProgramWithoutFramePointersIsNamedWithItsCallers(t *testing.T) {
	program := compileC(t, sampleSource)
	pid, goAhead := startC(t, program, nil)
	p := load(t, Options{PID: pid, Samples: true})
	w := sample(t, p, 20, goAhead)
	mustBeIn(t, w.Samples, "hot", "middle", "outer")
	if len(w.Samples.Unknown) > 0 || w.Samples.Lost > 0 || w.Hooks.Samples != evidence.Know("perf_event") {
		t.Errorf("unknown %q, lost %d, hooks %+v", w.Samples.Unknown, w.Samples.Lost, w.Hooks)
	}
}

// busiest is what was sampled of the thread that has the most samples. Beside it a runtime has threads of its
// own, which on a slow machine take a good part of the time.
func busiest(s *evidence.Samples) *evidence.Samples {
	counts := map[int]uint64{}
	most := 0
	for _, k := range s.Stacks {
		counts[k.TID] += k.Count
		if counts[k.TID] > counts[most] {
			most = k.TID
		}
	}
	return &evidence.Samples{Stacks: slices.DeleteFunc(slices.Clone(s.Stacks),
		func(k evidence.Stack) bool { return k.TID != most })}
}

// mustBeIn checks that most samples of the busiest thread are in the first function, called by the second and
// so on, and are unwound to the thread's first one.
func mustBeIn(t *testing.T, s *evidence.Samples, want ...string) {
	t.Helper()
	got := share(busiest(s), func(k *evidence.Stack) bool {
		all := names(k.User)
		return len(all) > len(want) && slices.Equal(all[:len(want)], want) && !k.Truncated
	})
	if got >= 0.8 {
		return
	}
	t.Errorf("%.0f %% of the samples are in %s; unknown %q", 100*got, strings.Join(want, ", called by "),
		s.Unknown)
	for _, k := range s.Stacks[:min(len(s.Stacks), 20)] {
		t.Logf("%d times, truncated %t: %q %q", k.Count, k.Truncated, names(k.User), names(k.Kernel))
	}
}

// TestProgramWithoutSymbolsIsNotGuessed takes the symbols away: what is left of a function is its begin.
func TestProgramWithoutSymbolsIsNotGuessed(t *testing.T) {
	program := compileC(t, sampleSource, "-s")
	pid, goAhead := startC(t, program, nil)
	w := sample(t, load(t, Options{PID: pid, Samples: true}), 10, goAhead)
	got := share(w.Samples, func(k *evidence.Stack) bool {
		named := func(f evidence.Frame) bool {
			return f.Function != "" || f.Start == 0 || f.Start > f.Address || f.Object != program
		}
		return len(k.User) > 3 && !k.Truncated && !slices.ContainsFunc(k.User[:3], named)
	})
	if got < 0.8 {
		t.Errorf("%.0f %% of the samples have three functions without a name: %+v", 100*got, w.Samples)
	}
}

// TestReplacedProgramIsTheOneThatRuns puts another file in the place of the executable, in namespaces of its
// own.
func TestReplacedProgramIsTheOneThatRuns(t *testing.T) {
	program := compileC(t, sampleSource)
	pid, goAhead := startC(t, program, func(c *exec.Cmd) {
		c.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID | syscall.CLONE_NEWNS
	})
	other := compileC(t, "int main(void) { return 0; }")
	if err := os.Rename(other, program); err != nil {
		t.Fatal(err)
	}
	w := sample(t, load(t, Options{PID: pid, Samples: true}), 10, goAhead)
	mustBeIn(t, w.Samples, "hot", "middle", "outer")
	if got := w.Samples.Stacks[0].User[0].Object; got != program {
		t.Errorf("the program is %q, want %q", got, program)
	}
}

func init() {
	children["spin"] = func() { spinOuter(make([]byte, 1)) }
	children["spin-leaf"] = func() { spinLeafCaller(make([]byte, 1)) }
}

//go:noinline
func spinLeafCaller(b []byte) {
	for len(b) > 0 {
		spinSink += spinLeaf(spinSink)
	}
}

var spinSink uint64

//go:noinline
func spinHot(n uint64) uint64 {
	var room [64]uint64
	for i := range uint64(1_000_000) {
		n += i * 2654435761
		room[i%64] = n
	}
	return n + room[3]
}

//go:noinline
func spinMiddle(n uint64) uint64 { return spinHot(n) + 1 }

//go:noinline
func spinOuter(b []byte) {
	for len(b) > 0 {
		spinSink += spinMiddle(spinSink) * 3
	}
}

// spinLeaf calls no other function, so it has no frame.
//
//go:noinline
func spinLeaf(n uint64) uint64 {
	for i := range uint64(1_000_000) {
		n += i * 2654435761
	}
	return n
}

// TestGoFunctionWithoutAFrameHasItsCaller has samples of a function that no frame pointer leads from.
func TestGoFunctionWithoutAFrameHasItsCaller(t *testing.T) {
	c := startChild(t, "spin-leaf", nil)
	w := sample(t, load(t, Options{PID: c.pid(), Samples: true}), 20, nil)
	const pkg = "github.com/whyspin/whyspin/internal/probe."
	mustBeIn(t, w.Samples, pkg+"spinLeaf", pkg+"spinLeafCaller")
}

func TestGoProgramIsNamedWithItsCallers(t *testing.T) {
	c := startChild(t, "spin", nil)
	w := sample(t, load(t, Options{PID: c.pid(), Samples: true}), 20, nil)
	const pkg = "github.com/whyspin/whyspin/internal/probe."
	mustBeIn(t, w.Samples, pkg+"spinHot", pkg+"spinMiddle", pkg+"spinOuter")
	if f := w.Samples.Stacks[0].User[0]; !strings.HasSuffix(f.File, "sample_test.go") || f.Line == 0 {
		t.Errorf("the place in the source is %s:%d", f.File, f.Line)
	}
}

// unwound is the share of the samples with a stack in the program that was unwound to its first function.
func unwound(s *evidence.Samples) float64 {
	inProgram := &evidence.Samples{}
	for _, k := range s.Stacks {
		if len(k.User) > 0 {
			inProgram.Stacks = append(inProgram.Stacks, k)
		}
	}
	return share(inProgram, func(k *evidence.Stack) bool { return !k.Truncated })
}

// serve runs a program with a configuration file until the test ends, and waits until the port answers.
func serve(t testing.TB, port int, configuration string, command ...string) *exec.Cmd {
	t.Helper()
	file := filepath.Join(t.TempDir(), "configuration")
	if err := os.WriteFile(file, []byte(configuration), 0o644); err != nil {
		t.Fatal(err)
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		t.Fatalf("%s is missing: make deps installs what the tests need: %v", command[0], err)
	}
	for i := range command {
		command[i] = strings.ReplaceAll(command[i], "FILE", file)
	}
	c := exec.Command(path, command[1:]...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", command[0], said.String())
		}
	})
	eventually(t, command[0]+" to listen", func() bool {
		connection, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = connection.Close()
		}
		return err == nil
	})
	return c
}

// load for a server, until the test ends.
func wrk(t testing.TB, port int) {
	t.Helper()
	path, err := exec.LookPath("wrk")
	if err != nil {
		t.Fatalf("wrk is missing: make deps installs what the tests need: %v", err)
	}
	c := exec.Command(path, "-t1", "-c20", "-d600s", fmt.Sprintf("http://127.0.0.1:%d/", port))
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
}

// freePort returns a port of loopback that was free a moment ago.
func freePort(t testing.TB) int {
	t.Helper()
	port, err := freeport.Get()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

const webConfiguration = `
daemon off; master_process off; worker_processes 1; pid FILE.pid; error_log stderr;
events { worker_connections 256; }
http { access_log off; server { listen 127.0.0.1:PORT; location / { return 200 "good morning\n"; } } }
`

const proxyConfiguration = `
global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 5s
  timeout server 5s
listen web
  bind 127.0.0.1:PORT
  server s 127.0.0.1:TO
`

// serveNginx runs an nginx with one worker that answers by itself.
func serveNginx(t testing.TB, port int) *exec.Cmd {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nginx")
	return serve(t, port, strings.NewReplacer("PORT", strconv.Itoa(port), "FILE", file).
		Replace(webConfiguration), "nginx", "-e", "stderr", "-c", "FILE")
}

// TestServersWithoutFramePointersAreUnwound takes samples of Debian's packages under load. Nearly all of them
// must be unwound to the first function; the bound leaves room for functions in assembly.
func TestServersWithoutFramePointersAreUnwound(t *testing.T) {
	const least = 100
	web, front := freePort(t), freePort(t)
	nginx := serveNginx(t, web)
	haproxy := serve(t, front, strings.NewReplacer("PORT", strconv.Itoa(front), "TO", strconv.Itoa(web)).
		Replace(proxyConfiguration), "haproxy", "-db", "-f", "FILE")
	wrk(t, front)
	for _, server := range []*exec.Cmd{nginx, haproxy} {
		name := filepath.Base(server.Path)
		t.Run(name, func(t *testing.T) {
			p := load(t, Options{PID: server.Process.Pid, Samples: true})
			w := sample(t, p, least, nil)
			got := unwound(w.Samples)
			t.Logf("%.1f %% of the samples unwound to the start; lost %d, %q", 100*got, w.Samples.Lost,
				w.Samples.Unknown)
			if got < 0.8 {
				t.Errorf("only %.0f %% of the samples were unwound to the start", 100*got)
			}
			inKernel := share(w.Samples, func(k *evidence.Stack) bool {
				return len(k.Kernel) > 0 && k.Kernel[0].Function != ""
			})
			if inKernel < 0.1 {
				t.Errorf("only %.0f %% of the samples are in named functions of the kernel", 100*inKernel)
			}
		})
	}
}

// TestLostSamplesAreCounted lets the rings run full.
func TestLostSamplesAreCounted(t *testing.T) {
	c := startChild(t, "spin", nil)
	p := load(t, Options{PID: c.pid()})
	s, err := loadSampler(c.pid(), btf.NewCache())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if err := s.start(p.tgid); err != nil {
		t.Fatal(err)
	}
	close(s.stop) // nobody empties the rings
	s.done.Wait()
	eventually(t, "a ring to be full", func() bool {
		for i, clock := range s.clocks {
			if lost, err := clock.Lost(); err != nil || lost > s.before[i] {
				return true
			}
		}
		return false
	})
	s.halt()
	s.drain()
	s.stop = make(chan struct{})
	samples := s.finish()
	if samples.Lost == 0 || share(samples, func(*evidence.Stack) bool { return true }) != 1 {
		t.Errorf("%d samples were lost, %d stacks found", samples.Lost, len(samples.Stacks))
	}
}
