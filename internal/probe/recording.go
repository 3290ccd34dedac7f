package probe

import (
	"errors"
	"fmt"
	"io"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/sys"
	"github.com/whyspin/whyspin/internal/target"
)

// Recording is a window that has begun. End ends it; Close of its Probe throws it away.
type Recording struct {
	p     *Probe
	start ktime.Time
	// before is what the scheduler said at the start, nil when it could not be read.
	before *target.Reading
	// hook is the hook that counts, nil when there is none; closing links detaches it.
	hook  *hook
	links []io.Closer
	// misses is the hook's counter at the start, drained and dropped are the watcher's.
	misses           uint64
	traffic          trafficRecording
	drained, dropped uint64
	// first is the pass over the descriptors at the start, nil when there was none; unknown is what could not
	// be seen from the start.
	first   *fileTable
	unknown []string
	// sampling is true exactly when samples are being taken.
	sampling bool
}

// Begin begins a window: it attaches the counter and lets it count. What cannot be attached is missing
// from the window, which says so. It fails with ErrRecording while another window is open, and with
// target.ErrGone when the process has ended.
//
// Attaching takes some milliseconds, all before the window starts; counting starts and stops at an instant.
func (p *Probe) Begin() (*Recording, error) { return p.begin(false) }

// BeginSampling begins a window like Begin in which samples are taken as well, if Options.Samples prepared
// for them. When that fails, the window says so.
func (p *Probe) BeginSampling() (*Recording, error) { return p.begin(true) }

func (p *Probe) begin(sampling bool) (*Recording, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	if p.recording != nil {
		return nil, ErrRecording
	}
	if p.scheduler != nil {
		if err := p.scheduler.Alive(); err != nil {
			return nil, fmt.Errorf("beginning a window: %w", err)
		}
	}
	r := &Recording{p: p}
	if p.counter != nil {
		if err := p.counter.reset(); err != nil {
			r.unknown = append(r.unknown, "counts of an earlier window may be in this one: "+err.Error())
		}
		r.prepare()
	}
	if p.watcher != nil {
		if err := p.watcher.drain(); err != nil {
			r.unknown = append(r.unknown, "resets before the window may be in it: "+err.Error())
		}
		r.drained, r.dropped = p.watcher.drained, p.watcher.dropped()
	}
	if sampling && p.sampler != nil {
		r.startSampling()
	}
	r.traffic = p.beginTraffic()
	r.start = sys.Now()
	if r.traffic.way != nil {
		p.traffic.count(p.tgid)
	}
	if r.hook != nil {
		p.counter.count(p.tgid)
	}
	r.before = r.readScheduler()
	p.recording = r
	return r, nil
}

// prepare attaches the counter and tells it how events find their descriptors: as was declared, otherwise as
// the epoll sets look. The sets are looked at twice: at first to know which they are, and again when the
// programs follow what changes in them, unless all have descriptors as data; so nothing falls between.
func (r *Recording) prepare() {
	p := r.p
	for fd := range p.direct {
		p.counter.declareDirect(fd)
	}
	var names map[uint64]uint32
	var table *fileTable
	var err error
	look := len(p.direct) == 0 && p.available(signalFiles)
	if look {
		if table, err = p.readFiles(); err == nil {
			names = p.counter.declareSets(table)
		}
	}
	hook, links, attachErr := p.counter.attach()
	if attachErr == nil {
		r.hook, r.links, r.misses = hook, links, hook.misses()
		p.counter.follow(p.tgid)
	}
	if look && err == nil && table.hasMapped() {
		table, err = p.readFiles()
	}
	if look && err == nil {
		r.first = table
		err = p.counter.enter(table, names)
	}
	if err != nil {
		r.unknown = append(r.unknown, "which descriptors events are about is not known: "+err.Error())
	}
}

// startSampling starts the CPU clocks.
func (r *Recording) startSampling() {
	if err := r.p.sampler.start(r.p.tgid); err != nil {
		r.unknown = append(r.unknown, fmt.Sprintf("no stacks are sampled: %v", err))
		return
	}
	r.sampling = true
}

func (r *Recording) readScheduler() *target.Reading {
	if r.p.scheduler == nil {
		return nil
	}
	reading, err := r.p.scheduler.Read()
	if err != nil {
		r.unknown = append(r.unknown, "whether the threads slept is not known: "+err.Error())
		return nil
	}
	return reading
}

// End ends the window and returns what was seen in it: every thread, and every descriptor on which
// something happened or which is open at the end. Looking at what is open costs about 3 us of CPU time
// for each descriptor. The Recording cannot be used again.
func (r *Recording) End() (*evidence.Window, error) { return r.end(true) }

// EndCounts ends the window like End but does not look at what is open: it lists only descriptors on which
// something happened, and what they are is not observed. For windows that are recorded all the time.
func (r *Recording) EndCounts() (*evidence.Window, error) { return r.end(false) }

func (r *Recording) end(look bool) (*evidence.Window, error) {
	p := r.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	if p.recording != r {
		return nil, errors.New("ending a window: it has ended already")
	}
	w := &evidence.Window{PID: p.pid, Start: r.start, End: sys.Now()}
	r.stopCounting()
	after := r.readScheduler()
	r.detach()
	p.recording = nil
	if r.sampling {
		w.Samples = p.sampler.finish()
		w.Hooks.Samples = evidence.Know("perf_event")
	}
	w.Unknown = r.unknown
	b := &builder{p: p, r: r, w: w}
	b.build(after, look)
	return w, nil
}

// stopCounting makes the attached programs count nobody, and the clocks stand still.
func (r *Recording) stopCounting() {
	if r.hook != nil {
		r.p.counter.count(0)
	}
	if r.traffic.way != nil {
		r.p.traffic.count(0)
	}
	if r.sampling {
		r.p.sampler.halt()
	}
}

// detach detaches the counter. When it returns, no program counts any more.
func (r *Recording) detach() {
	if r.hook == nil && r.traffic.way == nil {
		return
	}
	closeAll(r.links)
	r.links = nil
	r.traffic.detach()
	// A run that began before may still be under way on another CPU. The call fails on kernels with CPUs
	// that must not be disturbed (nohz_full); there the few microseconds that a run takes are long over
	// when the counters are read.
	_ = sys.AwaitPrograms()
}

// abandon ends the recording without a result.
func (r *Recording) abandon() {
	r.stopCounting()
	if r.sampling {
		r.p.sampler.finish()
	}
	r.detach()
	r.p.recording = nil
}
