package probe

import (
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/evidence"
)

// resetLog follows the resets that a probe sees.
type resetLog struct {
	t    *testing.T
	p    *Probe
	want ResetTotals
	seen int
}

// next waits until there is exactly one more reset and compares it; its time is not compared.
func (l *resetLog) next(want evidence.Reset) {
	l.t.Helper()
	if want.Sent {
		l.want.Sent++
	} else {
		l.want.Received++
	}
	var totals ResetTotals
	var list []evidence.Reset
	eventually(l.t, "a reset", func() bool {
		var err error
		if totals, list, err = l.p.Resets(); err != nil {
			l.t.Fatal(err)
		}
		return totals.Sent+totals.Received >= l.want.Sent+l.want.Received
	})
	if totals != l.want {
		l.t.Fatalf("totals %+v, want %+v: %+v", totals, l.want, list[l.seen:])
	}
	l.seen++
	got := list[len(list)-1]
	if got.At == 0 {
		l.t.Errorf("a reset without a time: %+v", got)
	}
	want.At = got.At
	if diff := cmp.Diff(want, got); diff != "" {
		l.t.Errorf("reset (-want +got):\n%s", diff)
	}
}

// connect makes a connection to the script's listener and has it accepted. It returns this side of it,
// the script's descriptor, and how the probe is to describe the script's side.
func (s *script) connection(t *testing.T, listener int) (ours, theirs int, r evidence.Reset) {
	t.Helper()
	ours, err := dial(s.do("port %d", listener))
	if err != nil {
		t.Fatal(err)
	}
	theirs = s.do("accept %d", listener)
	r.Remote, r.Local = ends(t, ours)
	r.Cookie = uint64(s.do("cookie %d", theirs))
	return ours, theirs, r
}

// connected makes the script connect to a listener of this process.
func (s *script) connected(t *testing.T, listener int) (ours, theirs int, r evidence.Reset) {
	t.Helper()
	name, err := syscall.Getsockname(listener)
	if err != nil {
		t.Fatal(err)
	}
	theirs = s.do("connect %d", portOf(name))
	ours, _, err = syscall.Accept(listener)
	if err != nil {
		t.Fatal(err)
	}
	r.Remote, r.Local = ends(t, ours)
	r.Cookie = uint64(s.do("cookie %d", theirs))
	return ours, theirs, r
}

func mustReset(t *testing.T, fd int) {
	t.Helper()
	if err := resetClose(fd); err != nil {
		t.Fatal(err)
	}
}

// watched is a script whose resets are watched, and listeners on either side.
type watched struct {
	*script
	p        *Probe
	log      *resetLog
	listener int // the script's
	ours     int // this process's
}

func watchScript(t *testing.T, before func(w *watched)) *watched {
	t.Helper()
	w := &watched{script: startScript(t)}
	w.listener = w.do("listen")
	var err error
	if w.ours, err = bindListen(syscall.AF_INET); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(w.ours) })
	before(w)
	w.p = load(t, Options{PID: w.pid()})
	if err := w.p.WatchResets(); err != nil {
		t.Fatal(err)
	}
	w.log = &resetLog{t: t, p: w.p}
	return w
}

// TestResetsOfExistingSockets resets connections that were there before the watch.
func TestResetsOfExistingSockets(t *testing.T) {
	var accepted, outgoing int
	var wantAccepted, wantOutgoing evidence.Reset
	w := watchScript(t, func(w *watched) {
		accepted, _, wantAccepted = w.connection(t, w.listener)
		outgoing, _, wantOutgoing = w.connected(t, w.ours)
	})
	mustReset(t, accepted)
	w.log.next(wantAccepted)
	mustReset(t, outgoing)
	w.log.next(wantOutgoing)
}

// TestResetsOfNewSockets resets, from either side, connections that the process accepts and that it makes.
func TestResetsOfNewSockets(t *testing.T) {
	w := watchScript(t, func(*watched) {})
	ours, _, want := w.connection(t, w.listener)
	want.Side = evidence.SideClient
	mustReset(t, ours)
	w.log.next(want)

	ours, _, want = w.connected(t, w.ours)
	want.Side = evidence.SideServer
	mustReset(t, ours)
	w.log.next(want)

	_, theirs, want := w.connection(t, w.listener)
	want.Side, want.Sent = evidence.SideClient, true
	w.do("reset %d", theirs)
	w.log.next(want)

	ours, theirs, want = w.connected(t, w.ours)
	want.Side, want.Sent = evidence.SideServer, true
	if _, err := syscall.Write(ours, []byte("unread")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the data to arrive", func() bool { return receiveQueue(t, w.p, theirs) == 6 })
	w.do("close %d", theirs) // with unread data, which also is a reset
	w.log.next(want)
}

// TestWatchAgainMarksWhatIsNew takes an IPv4 connection on an IPv6 listener that nobody has marked.
func TestWatchAgainMarksWhatIsNew(t *testing.T) {
	w := watchScript(t, func(*watched) {})
	ours, _, want := w.connection(t, w.do("listen6"))
	if err := w.p.WatchResets(); err != nil {
		t.Fatal(err)
	}
	mustReset(t, ours)
	w.log.next(want)
}

// TestResetsOfOthers resets connections that are not the process's: of this process with itself, and to a
// port that nobody has, for which the kernel sends a reset without a socket. Then the process itself is
// refused: nobody sends that reset, but its socket receives it.
func TestResetsOfOthers(t *testing.T) {
	w := watchScript(t, func(*watched) {})
	name, err := syscall.Getsockname(w.ours)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := dial(int(portOf(name)))
	if err != nil {
		t.Fatal(err)
	}
	mustReset(t, fd)
	closed, err := bindListen(syscall.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	if name, err = syscall.Getsockname(closed); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Close(closed); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(int(portOf(name))); err != syscall.ECONNREFUSED {
		t.Fatalf("connecting to a closed port: %v", err)
	}

	seen := window(t, w.p, func() {
		w.do("try-connect %d", portOf(name))
		eventually(t, "the reset", func() bool {
			_, list, err := w.p.Resets() // reading it does not take it from the window
			return err == nil && len(list) == 1
		})
	})
	if len(seen.Resets) != 1 || seen.Hooks.Socket != evidence.Know("tp_btf") {
		t.Fatalf("resets %+v by %v, want one by tp_btf", seen.Resets, seen.Hooks.Socket)
	}
	refused := seen.Resets[0]
	inside := refused.At >= seen.Start && refused.At <= seen.End
	if refused.Sent || refused.Side != evidence.SideServer || !inside {
		t.Errorf("the refused connection: %+v, window from %v to %v", refused, seen.Start, seen.End)
	}
	totals, list, err := w.p.Resets()
	if want := (ResetTotals{Received: 1}); err != nil || totals != want || len(list) != 1 {
		t.Errorf("totals %+v, %d listed, %v; want %+v", totals, len(list), err, want)
	}
}

func receiveQueue(t *testing.T, p *Probe, fd int) uint32 {
	t.Helper()
	table, err := p.reader.read(p.pid, false)
	if err != nil {
		t.Fatal(err)
	}
	return table.sockets()[fd].ReceiveQueue
}

// TestOwnListenerIsMarked watches this very process: a listener that it declares hands its mark to what
// it accepts.
func TestOwnListenerIsMarked(t *testing.T) {
	p := load(t, Options{PID: os.Getpid()})
	if err := p.WatchResets(); err != nil {
		t.Fatal(err)
	}
	listener, err := bindListen(syscall.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(listener) }()
	if err := p.MarkListener(listener); err != nil {
		t.Fatal(err)
	}
	s := startScript(t)
	ours, theirs, _ := s.connected(t, listener)
	want := evidence.Reset{Side: evidence.SideClient}
	want.Local, want.Remote = ends(t, ours)
	s.do("reset %d", theirs)
	var list []evidence.Reset
	eventually(t, "the reset", func() bool {
		if _, list, err = p.Resets(); err != nil {
			t.Fatal(err)
		}
		return len(list) > 0
	})
	list[0].At, list[0].Cookie = 0, 0
	if !slices.Equal(list, []evidence.Reset{want}) {
		t.Errorf("resets %+v, want %+v", list, want)
	}
	if err := p.MarkListener(-1); err == nil {
		t.Error("a descriptor that is none was marked")
	}
}

// TestResetStormIsBounded makes more resets than the ring holds before anybody reads it, in a window and
// after it.
func TestResetStormIsBounded(t *testing.T) {
	w := watchScript(t, func(*watched) {})
	port := w.do("port %d", w.listener)
	var all uint64
	storm := func(n int) {
		all += uint64(n)
		for range n {
			fd, err := dial(port)
			if err != nil {
				t.Fatal(err)
			}
			mustReset(t, fd)
			w.do("close %d", w.do("accept %d", w.listener))
		}
		eventually(t, "all resets", func() bool { return w.p.watcher.totals().Received == all })
	}
	const first, second = maxRecentResets + 500, 100
	seen := window(t, w.p, func() { storm(first) })
	if n := uint64(len(seen.Resets)); n > maxRecentResets || n+seen.Losses.RingDrops != first {
		t.Errorf("%d resets in the window and %d lost, want %d together", n, seen.Losses.RingDrops, first)
	}
	seen = window(t, w.p, func() { storm(second) })
	if len(seen.Resets) != second || seen.Losses.RingDrops != 0 {
		t.Errorf("%d resets in the next window and %d lost, want %d and none", len(seen.Resets),
			seen.Losses.RingDrops, second)
	}
	totals, list, err := w.p.Resets()
	if err != nil {
		t.Fatal(err)
	}
	if totals.Received != first+second || uint64(len(list))+totals.Unlisted != first+second {
		t.Errorf("totals %+v, %d listed, want %d in all", totals, len(list), first+second)
	}
	if len(list) != maxRecentResets {
		t.Errorf("%d resets are listed, want %d", len(list), maxRecentResets)
	}
}
