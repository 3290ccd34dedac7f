package probe

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/sys"
)

// signalTraffic is the name of the signal.
const signalTraffic = "traffic"

// traffic is the programs of bpf/traffic.bpf.c: what the process moves through each socket.
type traffic struct {
	maps     *ebpf.Collection // and the iterator
	mappings [][]byte
	globals  *trafficTrafficGlobals
	ways     []*trafficWay // in order of preference
}

// trafficWay is one way to see what is received and sent.
type trafficWay struct {
	try Try
	// programs are needed; extra are programs that only some kernels run, each for itself.
	programs, extra []string
	loaded          []*ebpf.Collection
	// all is true exactly when every kind of socket is seen, not TCP alone.
	all bool
}

// newTrafficWays returns the ways that count by socket, best first.
func newTrafficWays() []*trafficWay {
	return []*trafficWay{
		{
			try: Try{Hook: "tp_btf", On: "sock_recv_length, sock_send_length",
				Loses: "receives by splice, where fexit/tcp_splice_read is refused; sendfile before 6.5"},
			programs: []string{trafficProgOnSockRecvLength, trafficProgOnSockSendLength},
			extra:    []string{trafficProgOnTcpSpliceRead},
			all:      true,
		}, {
			try: Try{Hook: "fexit", On: "tcp_recvmsg, tcp_sendmsg, tcp_splice_read",
				Loses: "sockets that are not TCP, and TLS done by the kernel"},
			programs: []string{trafficProgOnTcpRecvmsg, trafficProgOnTcpSendmsg, trafficProgOnTcpSpliceRead},
			extra:    []string{trafficProgOnTcpSendpage},
		},
	}
}

// byDescriptor is the last way: the counts by descriptor number are all there is.
func byDescriptor(hooks []*hook) Try {
	t := Try{Hook: "sys_exit", On: "calls by descriptor",
		Loses: "which socket it was, when a number was closed and used again, and what went through io_uring"}
	for _, h := range hooks {
		if h.try.Err == nil {
			return t
		}
	}
	t.Err = &HookError{Doing: attaching, Hook: "sys_exit", Reason: "system calls are not seen"}
	return t
}

// failTraffic returns ways that all failed for one reason.
func failTraffic(err error) []*trafficWay {
	ways := newTrafficWays()
	for _, w := range ways {
		w.try.Err = hookError(loading, w.try.Hook+"/"+w.try.On, err)
	}
	return ways
}

// loadTrafficCounter loads the map, the iterator over it and every way that loads. It is nil when none can be
// used; the ways say why.
func loadTrafficCounter(cache *btf.Cache) (*traffic, []*trafficWay) {
	spec, err := loadTraffic()
	if err != nil {
		return nil, failTraffic(err)
	}
	spec.Variables = nil
	t := &traffic{ways: newTrafficWays()}
	if t.maps, err = loadPrograms(spec, []string{trafficProgOnSocket}, nil, cache); err != nil {
		return nil, failTraffic(err)
	}
	t.globals, err = mapVariable[trafficTrafficGlobals](&t.mappings, t.maps, trafficVarGlobals, loadTraffic)
	if err != nil {
		t.close()
		return nil, failTraffic(err)
	}
	usable := false
	for _, w := range t.ways {
		err := w.load(spec, t.maps.Maps, cache)
		w.try.Err = hookError(loading, w.try.Hook+"/"+w.try.On, err)
		usable = usable || err == nil
	}
	if !usable {
		ways := t.ways
		t.close()
		return nil, ways
	}
	return t, t.ways
}

// load loads the programs of a way, and of its extra ones those that load.
func (w *trafficWay) load(spec *ebpf.CollectionSpec, maps map[string]*ebpf.Map, cache *btf.Cache) error {
	base, err := loadPrograms(spec, w.programs, maps, cache)
	if err != nil {
		return err
	}
	w.loaded = append(w.loaded, base)
	for _, name := range w.extra {
		if extra, err := loadPrograms(spec, []string{name}, maps, cache); err == nil {
			w.loaded = append(w.loaded, extra)
		}
	}
	return nil
}

// attach attaches the first way that can be, for nobody yet, and forgets what was counted before.
func (t *traffic) attach() (*trafficWay, []io.Closer, error) {
	var errs []error
	for _, w := range t.ways {
		if w.try.Err != nil {
			continue
		}
		links, err := w.attach()
		if err == nil {
			err = t.forget()
		}
		if err == nil {
			return w, links, nil
		}
		closeAll(links)
		w.try.Err = hookError(attaching, w.try.Hook+"/"+w.try.On, err)
		errs = append(errs, w.try.Err)
	}
	return nil, nil, errors.Join(errs...)
}

func (w *trafficWay) attach() (links []io.Closer, err error) {
	for i, collection := range w.loaded {
		for _, program := range collection.Programs {
			l, err := link.AttachTracing(link.TracingOptions{Program: program})
			switch {
			case err == nil:
				links = append(links, l)
			case i == 0: // the extra ones may fail
				closeAll(links)
				return nil, err
			}
		}
	}
	return links, nil
}

// count makes the attached programs count the process with that global id; 0 makes them stop.
func (t *traffic) count(tgid uint32) { atomic.StoreUint32(&t.globals.Control.Tgid, tgid) }

// forget sets every count to 0. Nobody may be counted.
func (t *traffic) forget() error {
	t.globals.Control.Forget = 1
	_, err := t.iterate()
	t.globals.Control.Forget = 0
	t.globals.Totals = trafficTrafficTotals{}
	return err
}

// iterate runs the iterator over all sockets that have storage and returns what it wrote.
func (t *traffic) iterate() ([]byte, error) {
	it, err := link.AttachIter(link.IterOptions{Program: t.maps.Programs[trafficProgOnSocket],
		Map: t.maps.Maps[trafficMapSockets]})
	if err != nil {
		return nil, fmt.Errorf("creating the iterator over sockets: %w", err)
	}
	defer func() { _ = it.Close() }()
	r, err := it.Open()
	if err != nil {
		return nil, fmt.Errorf("opening the iterator over sockets: %w", err)
	}
	defer func() { _ = r.Close() }()
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading the iterator over sockets: %w", err)
	}
	return raw, nil
}

// read returns what was counted, by socket cookie.
func (t *traffic) read() (map[uint64]trafficTrafficRecord, error) {
	raw, err := t.iterate()
	if err != nil {
		return nil, err
	}
	size := int(unsafe.Sizeof(trafficTrafficRecord{}))
	records := make(map[uint64]trafficTrafficRecord, len(raw)/size)
	for ; len(raw) >= size; raw = raw[size:] {
		r := *(*trafficTrafficRecord)(unsafe.Pointer(&raw[0]))
		records[r.Cookie] = r
	}
	return records, nil
}

// close releases programs, maps and memory.
func (t *traffic) close() {
	for _, w := range t.ways {
		for _, c := range w.loaded {
			c.Close()
		}
		w.loaded = nil
	}
	for _, memory := range t.mappings {
		_ = sys.UnmapShared(memory)
	}
	t.mappings, t.globals = nil, nil
	t.maps.Close()
}

// trafficPlan is the signal in the plan, none when it was not asked for.
func (p *Probe) trafficPlan() []Signal {
	if p.ways == nil {
		return nil
	}
	s := Signal{
		Name:    signalTraffic,
		Shows:   "bytes received and sent by socket",
		Missing: "what goes through the sockets is not seen",
	}
	for _, w := range p.ways {
		s.Tries = append(s.Tries, w.try)
	}
	s.Tries = append(s.Tries, byDescriptor(p.hooks))
	return []Signal{s}
}

// trafficRecording is what a window needs of it.
type trafficRecording struct {
	way   *trafficWay // nil when nothing counts
	links []io.Closer
}

func (p *Probe) beginTraffic() (r trafficRecording) {
	if p.traffic == nil {
		return r
	}
	way, links, err := p.traffic.attach()
	if err == nil {
		r.way, r.links = way, links
	}
	return r
}

// detach detaches the programs. Runs that began before may still be under way.
func (r *trafficRecording) detach() {
	closeAll(r.links)
	r.links = nil
}

// addTraffic gives the sockets what went through them. The table has to be there: it tells the sockets.
func (b *builder) addTraffic() {
	way := b.r.traffic.way
	if way == nil || b.table == nil {
		return
	}
	records, err := b.p.traffic.read()
	if err != nil {
		b.unknown("what went through each socket is not known: %v", err)
		return
	}
	b.w.Hooks.Traffic = evidence.Know(way.try.Hook)
	totals := &b.p.traffic.globals.Totals
	if totals.Unstored > 0 {
		b.unknown("what went through %d calls on sockets cannot be said by socket", totals.Unstored)
	}
	sum := evidence.Traffic{Received: totals.ReceivedBytes, Sent: totals.SentBytes,
		GoneReceived: totals.ReceivedBytes, GoneSent: totals.SentBytes}
	seen := map[uint64]bool{}
	for i := range b.w.Descriptors {
		socket, ok := b.w.Descriptors[i].Socket.Get()
		if !ok || socket.Cookie == 0 || !way.all && socket.Kind != "tcp" {
			continue
		}
		r := records[socket.Cookie].Traffic
		socket.Received, socket.Sent = evidence.Know(r.ReceivedBytes), evidence.Know(r.SentBytes)
		b.w.Descriptors[i].Socket = evidence.Know(socket)
		if !seen[socket.Cookie] {
			sum.GoneReceived -= r.ReceivedBytes
			sum.GoneSent -= r.SentBytes
		}
		seen[socket.Cookie] = true
	}
	b.w.Traffic = evidence.Know(sum)
}
