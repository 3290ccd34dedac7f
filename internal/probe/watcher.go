package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/sys"
)

// maxRecentResets is the number of resets that are remembered one by one: as many as the ring in the kernel
// holds. Older ones are only in the totals.
const maxRecentResets = 4096

// watcher is level 1 in the kernel: the programs of bpf/socket.bpf.c, their totals and their ring.
type watcher struct {
	collection *ebpf.Collection
	// outgoing is nil when the program that marks outgoing sockets did not load.
	outgoing *ebpf.Collection
	mappings [][]byte
	globals  *socketWatchGlobals
	ring     *ringbuf.Reader
	links    []io.Closer
	recent   []evidence.Reset
	// drained counts the resets that came out of the ring, trimmed those of them that left recent.
	drained, trimmed uint64
}

const (
	hookResets   = "tcp_receive_reset, tcp_send_reset"
	hookOutgoing = "inet_sock_set_state"
)

// loadWatcher loads the programs. It returns a watcher, or why the resets cannot be seen, and why
// outgoing sockets cannot be marked, if so.
func loadWatcher(cache *btf.Cache) (w *watcher, resets, outgoing error) {
	fail := func(err error) (*watcher, error, error) {
		return nil, hookError(loading, "tp_btf/"+hookResets, err), hookError(loading,
			"tp_btf/"+hookOutgoing, err)
	}
	spec, err := loadSocket()
	if err != nil {
		return fail(err)
	}
	spec.Variables = nil
	base := spec.Copy()
	delete(base.Programs, socketProgOnInetSockSetState)
	collection, err := ebpf.NewCollectionWithOptions(base, ebpf.CollectionOptions{Cache: cache})
	if err != nil {
		return fail(err)
	}
	w = &watcher{collection: collection}
	w.globals, err = mapVariable[socketWatchGlobals](&w.mappings, collection, socketVarGlobals, loadSocket)
	if err == nil {
		w.ring, err = ringbuf.NewReader(collection.Maps[socketMapResets])
	}
	if err != nil {
		w.close()
		return fail(err)
	}
	// A deadline that has passed: reading takes what is there and never waits.
	w.ring.SetDeadline(time.Unix(1, 0))
	w.outgoing, err = loadPrograms(spec, []string{socketProgOnInetSockSetState}, collection.Maps, cache)
	return w, nil, hookError(loading, "tp_btf/"+hookOutgoing, err)
}

// attach starts to see resets, and to mark what the process with that global id connects. It returns what
// could not be attached; resets being nil means that resets are seen.
func (w *watcher) attach(tgid uint32) (resets, outgoing error) {
	atomic.StoreUint32(&w.globals.Control.Tgid, tgid)
	for _, name := range []string{socketProgOnTcpReceiveReset, socketProgOnTcpSendReset} {
		l, err := link.AttachTracing(link.TracingOptions{Program: w.collection.Programs[name]})
		if err != nil {
			w.detach()
			return hookError(attaching, "tp_btf/"+hookResets, err), nil
		}
		w.links = append(w.links, l)
	}
	if w.outgoing == nil {
		return nil, nil
	}
	program := w.outgoing.Programs[socketProgOnInetSockSetState]
	l, err := link.AttachTracing(link.TracingOptions{Program: program})
	if err != nil {
		return nil, hookError(attaching, "tp_btf/"+hookOutgoing, err)
	}
	w.links = append(w.links, l)
	return nil, nil
}

func (w *watcher) attached() bool { return len(w.links) > 0 }

func (w *watcher) detach() {
	closeAll(w.links)
	w.links = nil
}

// mark marks a socket of this very process as being on one side.
func (w *watcher) mark(fd int, side socketSide) error {
	err := w.collection.Maps[socketMapMarks].Update(uint32(fd), socketMark{Side: uint32(side)},
		ebpf.UpdateAny)
	if err != nil {
		return fmt.Errorf("marking the socket with descriptor %d: %w", fd, err)
	}
	return nil
}

// drain moves what is in the ring to the recent resets.
func (w *watcher) drain() error {
	for {
		record, err := w.ring.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading the ring of resets: %w", err)
		}
		var raw socketReset
		if _, err := binary.Decode(record.RawSample, binary.NativeEndian, &raw); err != nil {
			return fmt.Errorf("decoding a reset of %d bytes: %w", len(record.RawSample), err)
		}
		w.recent = append(w.recent, decodeReset(&raw))
		w.drained++
	}
	if excess := len(w.recent) - maxRecentResets; excess > 0 {
		w.trimmed += uint64(excess)
		w.recent = append(w.recent[:0], w.recent[excess:]...)
	}
	return nil
}

func decodeReset(raw *socketReset) evidence.Reset {
	r := evidence.Reset{
		At:     ktime.Time(raw.TimeNs),
		Sent:   raw.Sent != 0,
		Cookie: raw.Cookie,
		Local:  addressText(raw.Family, raw.Local, raw.LocalPort),
		Remote: addressText(raw.Family, raw.Remote, raw.RemotePort),
	}
	switch socketSide(raw.Side) {
	case socketSideSIDE_CLIENT:
		r.Side = evidence.SideClient
	case socketSideSIDE_SERVER:
		r.Side = evidence.SideServer
	}
	return r
}

// The address families of include/linux/socket.h.
const (
	familyUNIX  = 1
	familyINET  = 2
	familyINET6 = 10
)

// addressText prints an address as address:port. IPv4 addresses of IPv6 sockets are printed as IPv4, as
// the engine does.
func addressText(family uint16, address [16]uint8, port uint16) string {
	var ip netip.Addr
	switch family {
	case familyINET:
		ip = netip.AddrFrom4([4]byte(address[:4]))
	case familyINET6:
		ip = netip.AddrFrom16(address).Unmap()
	default:
		return ""
	}
	return netip.AddrPortFrom(ip, port).String()
}

// ResetTotals counts resets on the sockets of the process since WatchResets.
type ResetTotals struct {
	Sent, Received uint64
	// Unlisted is how many of them are not in any list: the ring was full, or the list was.
	Unlisted uint64
	// Unmarked counts sockets of the process that could not be marked, whose resets are not counted.
	Unmarked uint64
}

func (w *watcher) totals() ResetTotals {
	t := &w.globals.Totals
	return ResetTotals{
		Sent:     atomic.LoadUint64(&t.Sent),
		Received: atomic.LoadUint64(&t.Received),
		Unlisted: w.dropped() + w.trimmed,
		Unmarked: atomic.LoadUint64(&t.FailedMarks),
	}
}

// dropped counts the resets that found the ring full.
func (w *watcher) dropped() uint64 { return atomic.LoadUint64(&w.globals.Totals.Dropped) }

// close releases everything.
func (w *watcher) close() {
	w.detach()
	if w.ring != nil {
		_ = w.ring.Close()
	}
	for _, memory := range w.mappings {
		_ = sys.UnmapShared(memory)
	}
	w.mappings, w.globals = nil, nil
	if w.outgoing != nil {
		w.outgoing.Close()
	}
	w.collection.Close()
}
