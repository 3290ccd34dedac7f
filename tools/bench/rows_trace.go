package main

import (
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/probe"
)

// The duty cycle of "whyspin.tracing auto" is 200 ms every 10 s. Scaled to slices of one second a window is
// open for 20 ms of each, so that a slice has its share of the probes' cost.
const (
	dutySlice  = time.Second
	dutyWindow = 20 * time.Millisecond
	// dutyScale is how many times as often as in production a window begins and ends here.
	dutyScale = 10
	dutyPairs = 20
)

// The row trace-1 is resolved when the median is known this well.
const (
	dutyTarget     = 1.01
	dutyResolution = 0.01
)

// traced is a whyspin whose own probes are off, and the same probes, loaded here: so that they can be
// switched on and off in one running process, which its configuration cannot.
type traced struct {
	*contestant
	probe *probe.Probe
}

// startTraced starts whyspin and loads the probes for it. A row cannot be measured where they do not load:
// then the reason is in blind.
func (b *bench) startTraced(server string) (t *traced, blind string, err error) {
	t = &traced{}
	t.contestant, err = b.startWhyspin(server, proxyOptions{global: []string{"whyspin.tracing off"}})
	if err != nil {
		return nil, "", err
	}
	state, err := t.state(b.ctx)
	if err != nil {
		return nil, "", err
	}
	var sets []int
	for _, w := range state.Workers {
		sets = append(sets, w.EpollFD)
	}
	t.probe, err = probe.Load(probe.Options{PID: t.proxy.pid(), DirectSets: sets})
	if err != nil {
		return nil, err.Error(), nil
	}
	for _, signal := range t.probe.Plan() {
		if _, ok := signal.Taken(); !ok {
			t.close()
			return nil, signal.Unknown(), nil
		}
	}
	if err := t.probe.WatchResets(); err != nil {
		t.close()
		return nil, err.Error(), nil
	}
	return t, "", nil
}

func (t *traced) close() { _ = t.probe.Close() }

// progress is how far whyspin has come: what it has used and what it has done.
type progress struct {
	cpu   time.Duration
	bytes uint64 // written to either side
}

func (b *bench) progress(c *contestant) (progress, error) {
	var p progress
	var err error
	if p.cpu, err = c.proxy.cpu(); err != nil {
		return p, err
	}
	state, err := c.state(b.ctx)
	if err != nil {
		return p, err
	}
	for _, w := range state.Workers {
		p.bytes += w.Write.Bytes
	}
	return p, nil
}

func (b *bench) traceDuty() (*result, error) {
	const unit = "us CPU/request"
	server, err := b.startWebServer()
	if err != nil {
		return unlessMissing(unit, err)
	}
	t, blind, err := b.startTraced(server)
	switch {
	case err != nil:
		return nil, err
	case blind != "":
		return notMeasured(unit, "%s", blind), nil
	}
	defer t.close()
	slice, pairs := dutySlice, dutyPairs
	if b.short {
		slice, pairs = 4*dutyWindow, 1
	} else if b.rounds > 0 {
		pairs = b.rounds
	}
	request, err := b.bytesPerRequest(t.contestant)
	if err != nil {
		return nil, err
	}
	// One load for all slices: starting one disturbs more than the probes do.
	loading := make(chan error, 1)
	go func() {
		_, err := b.wrk(t.address, load{connections: smallConnections, path: "/",
			over: time.Duration(2*pairs)*(slice+dutyWindow) + 2*time.Second})
		loading <- err
	}()
	if err := b.pause(time.Second / 2); err != nil {
		return nil, err
	}
	d := duty{bench: b, traced: t, slice: slice, request: request}
	for pair := range pairs {
		if err := d.pair(pair%2 == 1); err != nil {
			return nil, err
		}
	}
	if err := <-loading; err != nil {
		return unlessMissing(unit, err)
	}
	return d.result(unit), nil
}

// bytesPerRequest is how many bytes whyspin writes for one request and its answer.
func (b *bench) bytesPerRequest(c *contestant) (float64, error) {
	before, err := b.progress(c)
	if err != nil {
		return 0, err
	}
	const some = 100
	_, err = schedule{address: c.address, connections: 1, request: smallRequest, total: some}.play(b.ctx)
	if err != nil {
		return 0, err
	}
	after, err := b.progress(c)
	if err != nil {
		return 0, err
	}
	// One more was sent to learn how long an answer is.
	own := float64(after.bytes-before.bytes) / (some + 1)
	// wrk's request is longer: it has the port in its Host header.
	return own + float64(len("\r\nHost: "+c.address)-len("\r\nHost: bench")), nil
}

// duty takes slices of a running load, in pairs with the probes' duty cycle and without.
type duty struct {
	*bench
	traced   *traced
	slice    time.Duration
	request  float64 // bytes per request
	off, on  []float64
	overhead []time.Duration // of beginning and ending a window, in the tracing process
}

// pair takes two slices. Their order alternates, so that a drift does not look like a cost.
func (d *duty) pair(onFirst bool) error {
	for _, on := range [...]bool{onFirst, !onFirst} {
		before, err := d.progress(d.traced.contestant)
		if err != nil {
			return err
		}
		began := time.Now()
		var own time.Duration
		if on {
			if own, err = d.window(); err != nil {
				return err
			}
		}
		if err := d.pause(d.slice - time.Since(began)); err != nil {
			return err
		}
		after, err := d.progress(d.traced.contestant)
		if err != nil {
			return err
		}
		requests := float64(after.bytes-before.bytes) / d.request
		if requests < 1 {
			return fmt.Errorf("no request was done in a slice of %v", d.slice)
		}
		// In production beginning and ending a window is the proxy's own work, once in a whole cycle.
		cpu := after.cpu - before.cpu + own/dutyScale
		cost := cpu.Seconds() * 1e6 / requests
		if on {
			d.on, d.overhead = append(d.on, cost), append(d.overhead, own)
		} else {
			d.off = append(d.off, cost)
		}
	}
	return nil
}

// window records one window and returns the CPU time that beginning and ending it took on this thread.
func (d *duty) window() (time.Duration, error) {
	before, err := threadCPU()
	if err != nil {
		return 0, err
	}
	r, err := d.traced.probe.Begin()
	if err != nil {
		return 0, err
	}
	if err := d.pause(dutyWindow); err != nil {
		return 0, err
	}
	w, err := r.EndCounts()
	if err != nil {
		return 0, err
	}
	if received, sent := counted(w); received.Calls == 0 || sent.Calls == 0 {
		return 0, errors.New("the probes counted nothing in a window in which requests were done")
	}
	after, err := threadCPU()
	return after - before, err
}

func threadCPU() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0, fmt.Errorf("reading the CPU time of this thread: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// counted adds up what the kernel saw of reads and writes on TCP connections. A descriptor that has been
// closed since is of no known kind any more; in a proxy it was a connection.
func counted(w *evidence.Window) (received, sent evidence.IO) {
	for i := range w.Descriptors {
		d := &w.Descriptors[i]
		socket, known := d.Socket.Get()
		if known && socket.Kind != "tcp" && socket.Kind != evidence.SocketClosed {
			continue
		}
		addIO(&received, &d.Read)
		addIO(&sent, &d.Write)
	}
	return received, sent
}

func addIO(sum, io *evidence.IO) {
	sum.Calls += io.Calls
	sum.Bytes += io.Bytes
	sum.Tiny += io.Tiny
	sum.Zero += io.Zero
	sum.Again += io.Again
	sum.Reset += io.Reset
	sum.Pipe += io.Pipe
	sum.Errors += io.Errors
}

func (d *duty) result(unit string) *result {
	ratios := make([]float64, len(d.on))
	var overhead []float64
	for i := range ratios {
		ratios[i] = d.on[i] / d.off[i]
		overhead = append(overhead, d.overhead[i].Seconds()*1e3)
	}
	r := newResult(unit, d.on)
	p := r.compare("off", median(d.off), ratios, goal{ratio: dutyTarget}, nil)
	half := halfWidth(ratios)
	r.note("%d pairs of slices of %v; the median ratio is %.4f +- %.4f (95 %%)", len(ratios), d.slice,
		p.Ratio,
		half)
	if half > dutyResolution || math.IsNaN(half) {
		p.Met = false
		r.note("not resolved: the half-width is above %.2f", dutyResolution)
	}
	r.note("beginning and ending a window takes %.2f ms of CPU in the tracing process, charged at a tenth:"+
		" in production it is once in 10 s", median(overhead))
	return r
}
