package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// scene is what goes on around the proxy.
type scene interface {
	// configuration returns the proxy's sections.
	configuration(directory string) (string, error)
	// begin starts servers and clients.
	begin(c *crew, p *proxy) error
	// measured returns where the latencies are measured, and the server behind it.
	measured() (client, server address)
}

// trial is one run: traffic to warm up, a rest, the traffic that counts, a rest, the judgement, and traffic
// in which the proxy ends.
type trial struct {
	options
	out       io.Writer
	directory string
	scene     scene
	log       *logbook
	proxy     *proxy
	// idle is where another proxy listens, for comparison, in front of the server that is measured.
	idle  address
	wrong []string // what is wrong, one sentence each
}

// The share of the time for warming up, and at most how long that is.
const (
	warmShare = 5
	warmUp    = 2 * time.Minute
	// warmTimes is how many times as many clients as later there are: what is kept for later use, such as
	// buffers, grows with the most that was ever needed, and must not go on growing for hours.
	warmTimes = 2
)

// judgedFrom is how long a run must be for its heap and its latencies to be judged: in a shorter one pools
// are still filled, and a few exchanges make the p99.
const judgedFrom = time.Minute

// heapWithin is by what part the live heap may be larger at the end than after the warm-up.
const heapWithin = 0.10

// play makes the trial and returns what is wrong.
func (o options) play(ctx context.Context, out io.Writer) ([]string, error) {
	t := &trial{options: o, out: out}
	var err error
	if t.directory, err = os.MkdirTemp("", "whyspin-chaos-"); err != nil {
		return nil, fmt.Errorf("making a directory: %w", err)
	}
	defer os.RemoveAll(t.directory)
	if o.soak {
		t.scene, err = newSoak(t.directory, o.seed)
	} else {
		t.scene, err = newStorm(t.directory, o.seed)
	}
	if err != nil {
		return nil, err
	}
	sections, err := t.scene.configuration(t.directory)
	if err != nil {
		return nil, err
	}
	if t.log, err = newLogbook(); err != nil {
		return nil, err
	}
	defer t.log.close()
	idle, err := t.startIdle(ctx)
	if err != nil {
		return nil, err
	}
	defer idle.stop()
	t.proxy, err = startProxy(ctx, o.whyspin, filepath.Join(t.directory, "proxy"), t.log.address(), o.workers,
		o.global+sections)
	if err != nil {
		return nil, err
	}
	defer t.proxy.stop()
	err = t.run(ctx)
	return t.wrong, err
}

// startIdle starts the other proxy.
func (t *trial) startIdle(ctx context.Context) (*proxy, error) {
	var err error
	if t.idle, err = freeAddress(t.directory, "127.0.0.1"); err != nil {
		return nil, err
	}
	_, server := t.scene.measured()
	var b strings.Builder
	b.WriteString(soakDefaults)
	front(&b, "idle", healthyTimeouts, []address{t.idle}, server.String())
	return startProxy(ctx, t.whyspin, filepath.Join(t.directory, "idle"), t.log.address(), t.workers,
		b.String())
}

func (t *trial) complain(format string, arguments ...any) {
	t.wrong = append(t.wrong, fmt.Sprintf(format, arguments...))
}

func (t *trial) say(format string, arguments ...any) { fmt.Fprintf(t.out, format+"\n", arguments...) }

func (t *trial) run(ctx context.Context) error {
	t.say("%s for %v with %d workers, seed %d", t.kind(), t.over, t.workers, t.seed)
	warm := min(t.over/warmShare, warmUp)
	if _, err := t.traffic(ctx, warm, warmTimes); err != nil {
		return err
	}
	reference, err := t.rest(ctx, "after the warm-up")
	if err != nil {
		return err
	}
	c, err := t.traffic(ctx, t.over-warm, 1)
	if err != nil {
		return err
	}
	end, err := t.rest(ctx, "at the end")
	if err != nil {
		return err
	}
	t.judge(c, reference, end)
	err = t.leave(ctx)
	for _, text := range t.log.warned() {
		t.complain("the proxy has logged: %s", text)
	}
	return err
}

// traffic lets the scene go on for a while, with so many times as many clients. In the middle of the usual
// traffic the proxy is diagnosed.
func (t *trial) traffic(ctx context.Context, over time.Duration, times int) (*crew, error) {
	before, err := t.proxy.cpu()
	if err != nil {
		return nil, err
	}
	c, err := t.begin(ctx, over, times)
	if err != nil {
		return nil, err
	}
	defer c.end()
	if c.pause(over / 2); times == 1 {
		if err := t.diagnose(ctx); err != nil {
			return nil, err
		}
	}
	c.pause(time.Until(c.through.began.Add(over)))
	if err := errors.Join(ctx.Err(), t.proxy.alive()); err != nil {
		return nil, err
	}
	used, err := t.proxy.cpu()
	if err != nil {
		return nil, err
	}
	lasted := time.Since(c.through.began)
	c.end()
	t.say("%d conversations, %d messages (%.0f a second), %.2f CPUs used by the proxy", c.begun.Load(),
		c.exchanges.Load(), float64(c.exchanges.Load())/lasted.Seconds(),
		float64(used-before)/float64(lasted))
	t.assess(c)
	return c, nil
}

// begin lets the scene begin. The caller ends it.
func (t *trial) begin(ctx context.Context, over time.Duration, times int) (*crew, error) {
	c := newCrew(ctx, over, times)
	if err := t.scene.begin(c, t.proxy); err != nil {
		c.end()
		return nil, err
	}
	client, _ := t.scene.measured()
	c.measure(client, t.idle, t.seed+1000)
	return c, nil
}

// assess complains about what went wrong for the healthy, after the end of the traffic.
func (t *trial) assess(c *crew) {
	for _, f := range c.failures {
		t.complain("%s", f)
	}
	if more := c.failed - len(c.failures); more > 0 {
		t.complain("%d more failures like these", more)
	}
	begun, verified, n := c.begun.Load(), c.verified.Load(), c.exchanges.Load()
	if begun != verified || n == 0 {
		t.complain("%d of %d healthy conversations were verified, %d messages", verified, begun, n)
	}
}

// leave has the proxy end in an orderly way in the midst of the traffic: who is served is served to the end.
func (t *trial) leave(ctx context.Context) error {
	c, err := t.begin(ctx, patience, 1)
	if err != nil {
		return err
	}
	defer c.end()
	if err := t.proxy.until(ctx, "conversations before the end", func() (bool, error) {
		return c.verified.Load() >= 10, nil
	}); err != nil {
		return err
	}
	began := time.Now()
	c.leaving.Store(true)
	err = t.proxy.leave(ctx)
	took := time.Since(began)
	if ctx.Err() != nil {
		return err
	}
	if err != nil {
		t.complain("%v", err)
	}
	c.end()
	t.say("told to leave in the midst of the traffic, it has ended after %v", round(took))
	t.assess(c)
	return nil
}

// diagnose has the proxy looked at while it is at work. The kernel's view must agree that all is well.
func (t *trial) diagnose(ctx context.Context) error {
	looks := [][]string{{}, {"--without", "state"}}
	if os.Geteuid() != 0 {
		t.say("not root: the kernel is not asked for its view of the proxy")
		looks = looks[:1]
	}
	for _, look := range looks {
		arguments := append([]string{"diagnose", "--for", min(t.over/10, time.Second).String(), "--pid",
			fmt.Sprint(t.proxy.pid())}, look...)
		out, err := exec.CommandContext(ctx, t.whyspin, arguments...).CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return fmt.Errorf("diagnosing the proxy: %w", err)
		}
		if err != nil {
			t.complain("the diagnosis %v ends with %v:\n%s", look, err, out)
		}
	}
	return nil
}

// held is what the proxy holds when it rests.
type held struct {
	heap, memory, peak int64 // bytes: live on the heap, of the process, of buffers at most
	goroutines         int
}

// rest waits until nothing is left of the traffic, and returns what the proxy still holds.
func (t *trial) rest(ctx context.Context, when string) (held, error) {
	var h held
	began := time.Now()
	var streams, secured int64
	var descriptors, pipes int
	waiting := t.proxy.until(ctx, "the streams and descriptors to go", func() (bool, error) {
		info, err := t.proxy.info(ctx)
		if err != nil {
			return false, err
		}
		streams, secured, h.peak = info["CurrConns"], info["CurrSslConns"], info["BufferPeak"]
		pipes = int(info["PipesFree"]) // kept for the next streams, up to a bound
		descriptors, err = t.proxy.descriptors()
		return streams == 0 && secured == 0 && descriptors <= t.proxy.rests+2*pipes, err
	})
	if err := errors.Join(ctx.Err(), t.proxy.alive()); err != nil {
		return h, err
	}
	if waiting != nil {
		t.complain("%s: %v: there are %d streams, %d connections with TLS, %d descriptors (%d before, and "+
			"%d pipes)", when, waiting, streams, secured, descriptors, t.proxy.rests, pipes)
	}
	if err := t.proxy.until(ctx, "the buffers to be given back", func() (bool, error) {
		info, err := t.proxy.info(ctx)
		return info["Buffers"] == 0, err
	}); err != nil {
		t.complain("%s: %v", when, err)
	}
	var err1, err2, err3 error
	h.heap, err1 = t.proxy.liveHeap(ctx)
	h.memory, err2 = t.proxy.memory()
	h.goroutines, err3 = t.proxy.goroutines(ctx)
	t.say("%s: %d streams, %d descriptors (%d before, and %d pipes) within %v; live heap %d KB, process "+
		"%d KB, %d goroutines, buffers %d KB at most", when, streams, descriptors, t.proxy.rests, pipes,
		round(time.Since(began)), h.heap>>10, h.memory>>10, h.goroutines, h.peak>>10)
	return h, errors.Join(err1, err2, err3, t.account(ctx, when), t.keepProfile(ctx, when))
}

// keepProfile writes the profile of the heap to a file, if that is asked for.
func (t *trial) keepProfile(ctx context.Context, when string) error {
	if t.profiles == "" {
		return nil
	}
	text, err := t.proxy.get(ctx, "/debug/pprof/heap")
	if err != nil {
		return err
	}
	name := t.kind() + "-" + strings.ReplaceAll(when, " ", "-") + ".pb.gz"
	if err := os.WriteFile(filepath.Join(t.profiles, name), []byte(text), 0o644); err != nil {
		return fmt.Errorf("keeping the profile of the heap: %w", err)
	}
	return nil
}

// account complains about what the proxy says of itself that must not be.
func (t *trial) account(ctx context.Context, when string) error {
	info, err := t.proxy.info(ctx)
	if err != nil {
		return err
	}
	for _, name := range []string{"WakeupsLate", "StuckWorkers"} {
		if n, found := info[name]; n != 0 || !found {
			t.complain("%s: %s is %d (known: %v), should be 0", when, name, n, found)
		}
	}
	spin, err := t.proxy.order(ctx, "show spin")
	if err != nil {
		return err
	}
	lines := strings.Split(spin, "\n")
	if !slices.Contains(lines, "suspects: 0") || !slices.Contains(lines, "findings: 0") ||
		strings.Count(spin, " unnamed=0 ") != t.workers {
		t.complain("%s: show spin is not without suspects, findings and wakeups without a name:\n%s", when,
			spin)
	}
	return nil
}

// judge compares and prints.
func (t *trial) judge(c *crew, reference, end held) {
	t.say("ends of streams, by termination state: %v", t.log)
	if len(c.done) > 0 {
		t.say("what the wild did: %s", listed(c.done))
	}
	growth := t.growth(reference, end)
	latencies := compare(&c.through, &c.beside)
	t.say("%v", &latencies)
	if t.over < judgedFrom {
		t.say("heap and p99 are not judged in less than %v", judgedFrom)
		return
	}
	t.judgeGrowth(growth)
	if text := latencies.steeper(); text != "" {
		t.complain("%s", text)
	}
}

// growth is by what part the heap has grown.
func (t *trial) growth(reference, end held) float64 {
	growth := float64(end.heap)/float64(reference.heap) - 1
	t.say("live heap: %+.1f %%", 100*growth)
	return growth
}

func (t *trial) judgeGrowth(growth float64) {
	if growth > heapWithin {
		t.complain("the live heap has grown by %.1f %%, more than %.0f %%", 100*growth, 100*heapWithin)
	}
}
