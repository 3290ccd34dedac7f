package engine

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

func TestBytesArriveInBothDirections(t *testing.T) {
	p := start(t, settings{workers: 2}, serve(t, echo))
	const size = 8 << 20
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			c := p.dial()
			sent, got := sha256.New(), sha256.New()
			clients.Go(func() {
				source := rand.NewChaCha8([32]byte{byte(i)})
				if _, err := io.CopyN(io.MultiWriter(c, sent), source, size); err != nil {
					t.Error(err)
				}
				if err := c.CloseWrite(); err != nil {
					t.Error(err)
				}
			})
			n, err := io.Copy(got, c)
			if err != nil || n != size {
				t.Errorf("got %d bytes of %d back: %v", n, size, err)
			}
			if !bytes.Equal(sent.Sum(nil), got.Sum(nil)) {
				t.Error("other bytes came back than were sent")
			}
		})
	}
	clients.Wait()
	for _, r := range p.ended(8) {
		if r.Ending.String() != "--" || r.FromClient != size || r.ToClient != size {
			t.Errorf("logged %s with %d bytes up and %d down, should be -- and %d", r.Ending, r.FromClient,
				r.ToClient, size)
		}
	}
}

func TestServerSpeaksFirst(t *testing.T) {
	p := start(t, settings{}, serve(t, greet))
	c := p.dial()
	got := make([]byte, len(banner))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != banner {
		t.Fatalf("got %q: %v", got, err)
	}
	c.CloseWrite()
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Fatalf("then got %q: %v", rest, err)
	}
	p.ended(1)
}

func TestIPv6AndUnixSockets(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "server"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			c.Close()
		}
	}()
	front := sys.Address{Path: filepath.Join(t.TempDir(), "front")}
	p := start(t, settings{listen: front}, l.Addr().String())
	c, err := net.Dial("unix", front.Path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "over unix sockets"); err != nil {
		t.Fatal(err)
	}
	c.(*net.UnixConn).CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "over unix sockets" {
		t.Fatalf("got %q: %v", got, err)
	}
	c.Close()
	if e := p.ended(1)[0].Ending.String(); e != "--" {
		t.Errorf("ended with %s, should be --", e)
	}

	six, err := parseAddress("[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	p = start(t, settings{listen: six}, serve(t, greet))
	got := make([]byte, len(banner))
	if _, err := io.ReadFull(p.dial(), got); err != nil {
		t.Fatal(err)
	}
}

// TestDescriptorsOnAUnixSocketDoNotStallAStream: a read stops behind a message that carries descriptors,
// though no event says that there is more.
func TestDescriptorsOnAUnixSocketDoNotStallAStream(t *testing.T) {
	k := newClock()
	front := sys.Address{Path: filepath.Join(t.TempDir(), "front")}
	p := start(t, settings{listen: front, kernel: k}, serve(t, echo))
	c, err := net.Dial("unix", front.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, "the stream to be established", func() bool { return p.inState(stream.Established) == 1 })
	k.inOneBatch(t, p.engine, func() {
		if _, _, err := c.(*net.UnixConn).WriteMsgUnix([]byte("one"), unix.UnixRights(0), nil); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "two"); err != nil {
			t.Fatal(err)
		}
	})
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len("onetwo"))
	if n, err := io.ReadFull(c, got); err != nil {
		t.Errorf("got %q: %v", got[:n], err)
	}
}

// TestUrgentDataDoesNotStallAStream: urgent data makes reads stop short, so a short read does not mean that
// the socket is empty.
func TestUrgentDataDoesNotStallAStream(t *testing.T) {
	p := start(t, settings{}, serve(t, echo))
	c := p.dial()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	urgent := func(text string) {
		if err := raw.Control(func(fd uintptr) {
			err = unix.Sendto(int(fd), []byte(text), unix.MSG_OOB,
				nil)
		}); err != nil {
			t.Fatal(err)
		}
	}
	want := ""
	for range 50 {
		if _, err := io.WriteString(c, "before"); err != nil {
			t.Fatal(err)
		}
		urgent("!")
		if _, err := io.WriteString(c, "after"); err != nil {
			t.Fatal(err)
		}
		want += "beforeafter"
	}
	c.CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	// A second urgent byte that arrives before the first was passed makes the first an ordinary byte (RFC
	// 6093), so only what is not urgent is compared.
	if got := string(bytes.ReplaceAll(got, []byte("!"), nil)); got != want {
		t.Errorf("got %q, should be %q", got, want)
	}
}

func TestRefusedServerIsLeftForTheOther(t *testing.T) {
	p := start(t, settings{change: func(_ *config.Config, p *config.Proxy) { p.Redispatch = -1 }},
		refusing(t), serve(t, greet))
	for range 4 {
		got := make([]byte, len(banner))
		if _, err := io.ReadFull(p.dial(), got); err != nil {
			t.Fatal(err)
		}
	}
	redispatched := 0
	for _, v := range p.views() {
		if v.Redispatched && v.Retries == 1 && v.Server.Name == "s2" {
			redispatched++
		}
	}
	if redispatched != 4 {
		t.Errorf("%d of 4 streams were redispatched, should be all: the one that refuses is tried first",
			redispatched)
	}
}

func TestNoServerAnswers(t *testing.T) {
	p := start(t, settings{change: func(_ *config.Config, p *config.Proxy) {
		p.Timeouts.Connect = 20 * time.Millisecond
		p.Retries = 1
	}}, silent(t))
	c := p.dial()
	if got, err := io.ReadAll(c); err != nil || len(got) > 0 {
		t.Fatalf("got %q: %v", got, err)
	}
	if r := p.ended(1)[0]; r.Ending.String() != "sC" || r.Retries != 1 || r.Connect >= 0 {
		t.Errorf("logged %s after %d retries with connect time %v", r.Ending, r.Retries, r.Connect)
	}
}

func TestQueueHandsSlotsOnInOrder(t *testing.T) {
	release := make(chan struct{})
	p := start(t, settings{workers: 2, change: func(_ *config.Config, p *config.Proxy) {
		p.Servers[0].MaxConn = 1
		p.Timeouts.Queue = time.Minute
	}}, serve(t, func(c *net.TCPConn) {
		<-release
		_, _ = io.WriteString(c, banner)
	}))
	var clients []*net.TCPConn
	for i := range 5 {
		clients = append(clients, p.dial())
		eventually(t, "the stream to be placed", func() bool {
			return p.inState(stream.Established) == 1 && p.inState(stream.Queued) == i
		})
	}
	close(release)
	for _, c := range clients {
		if got, err := io.ReadAll(c); err != nil || string(got) != banner {
			t.Fatalf("got %q: %v", got, err)
		}
		c.Close()
	}
	// Each one's position is how many the queue has let go, itself included; the first was never queued.
	var positions []int
	for _, r := range p.ended(5) {
		positions = append(positions, r.BackendQueue)
	}
	slices.Sort(positions)
	if want := []int{0, 1, 2, 3, 4}; !slices.Equal(positions, want) {
		t.Errorf("the positions in the queue are %v, as HAProxy counts they are %v", positions, want)
	}
	if taken, queued := p.engine.Slots(); taken != 0 || queued != 0 {
		t.Errorf("%d slots and %d places in the queue are taken at the end", taken, queued)
	}
}

// TestAStreamThatEndsInTheQueueHasWaited: HAProxy 2.6 logs the wait as the queue time ("1001/-1/1000 0 sQ",
// "107/-1/106 0 CQ", "117/-1/116 0 KQ"), and the position 1 while nobody has left the queue for a server,
// whoever was before it.
func TestAStreamThatEndsInTheQueueHasWaited(t *testing.T) {
	const wait = 90 * time.Second
	clock := newClock()
	p := start(t, settings{kernel: clock, workers: 1, change: func(_ *config.Config, p *config.Proxy) {
		p.Servers[0].MaxConn = 1
		p.Timeouts.Queue = wait
		p.Timeouts.Client, p.Timeouts.Server = time.Hour, time.Hour
	}}, serve(t, greet))
	p.dial() // takes the slot
	eventually(t, "the slot to be taken", func() bool { return p.inState(stream.Established) == 1 })
	leaves := p.dial()
	for i := range 3 {
		if i > 0 {
			p.dial()
		}
		eventually(t, "the stream to be queued", func() bool { return p.inState(stream.Queued) == i+1 })
	}
	pass := func(d time.Duration, logged int) {
		clock.now.Add(int64(d))
		eventually(t, "a stream to be logged", func() bool {
			clock.Wake(p.engine.workers[0].waker)
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.records) == logged
		})
	}
	clock.now.Add(int64(time.Second)) // before the client leaves, so that it has waited
	leaves.Close()
	pass(0, 1)
	for _, v := range p.views() {
		if v.ServerState == stream.Queued {
			p.engine.Kill(v.ID, stream.KillAdmin)
			break
		}
	}
	pass(time.Second, 2)
	pass(wait, 3)
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, r := range p.records {
		want := []string{"CQ", "KQ", "sQ"}[i]
		if r.Ending.String() != want || r.Queue != r.Total || r.Queue < time.Second || r.Connect >= 0 ||
			r.BackendQueue != 1 {
			t.Errorf("logged %s, position %d, queue %v, connect %v, total %v; should be %s, position 1",
				r.Ending, r.BackendQueue, r.Queue, r.Connect, r.Total, want)
		}
	}
}

func TestMaxConnPausesAndResumesAccepting(t *testing.T) {
	p := start(t, settings{workers: 2, maxConn: 3}, serve(t, greet))
	read := func(c *net.TCPConn) {
		t.Helper()
		got := make([]byte, len(banner))
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatal(err)
		}
	}
	var clients []*net.TCPConn
	for range 10 {
		clients = append(clients, p.dial())
	}
	for _, c := range clients {
		read(c)
		if n := p.engine.Streams(); n > 3 {
			t.Errorf("%d streams with maxconn 3", n)
		}
		c.Close()
	}
	p.ended(10)
}

// noFile is a kernel that has no free descriptor for an accepted connection until told otherwise.
type noFile struct {
	sys.Linux
	exhausted atomic.Bool
	refused   atomic.Int64
}

func (k *noFile) Accept(fd int) (int, sys.Address, sys.Errno) {
	if k.exhausted.Load() {
		k.refused.Add(1)
		return -1, sys.Address{}, sys.EMFILE
	}
	return k.Linux.Accept(fd)
}

func TestNoDescriptorRestsTheListener(t *testing.T) {
	k := &noFile{}
	k.exhausted.Store(true)
	p := start(t, settings{kernel: k}, serve(t, greet))
	c := p.dial()
	eventually(t, "a refused accept", func() bool { return k.refused.Load() > 0 })
	w := p.engine.Workers()[0]
	if w.Waits.Total() > uint64(k.refused.Load())*4+10 {
		t.Errorf("%d waits for %d refused accepts: the worker spins on the listener", w.Waits.Total(),
			k.refused.Load())
	}
	k.exhausted.Store(false)
	got := make([]byte, len(banner))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
}

func TestKillEndsAStreamInEveryState(t *testing.T) {
	p := start(t, settings{change: func(_ *config.Config, p *config.Proxy) {
		p.Servers[0].MaxConn = 1
		p.Timeouts.Connect, p.Timeouts.Queue = time.Minute, time.Minute
	}}, silent(t))
	p.dial()
	eventually(t, "a connection attempt", func() bool { return p.inState(stream.Connecting) == 1 })
	p.dial()
	eventually(t, "a queued stream", func() bool { return p.inState(stream.Queued) == 1 })
	for _, v := range p.views() {
		if got := p.engine.Kill(v.ID, stream.KillAdmin); got != KillEnded {
			t.Errorf("the order to end stream %s came to %d", v.ID, got)
		}
	}
	p.ended(2)
	if got := p.endings(); got["KC"]+got["KQ"] != 2 {
		t.Errorf("ended with %v, should be KC or KQ", got)
	}
	for _, id := range []string{"0x123", "nonsense"} {
		if got := p.engine.Kill(id, stream.KillAdmin); got != KillUnknown {
			t.Errorf("the order to end stream %q, which is not there, came to %d", id, got)
		}
	}
}

// TestStormOfResets opens connections and breaks them at random points, with urgent data among what they
// send.
func TestStormOfResets(t *testing.T) {
	const connections = 2000
	p := start(t, settings{workers: 2, change: func(_ *config.Config, p *config.Proxy) { p.Redispatch = -1 }},
		serve(t, func(c *net.TCPConn) {
			_, _ = io.WriteString(c, banner)
			if rand.IntN(4) == 0 {
				c.SetLinger(0)
				return
			}
			_, _ = io.Copy(c, c)
		}), refusing(t))
	runtime.GC()
	before := descriptors(t)
	var clients sync.WaitGroup
	for range 50 {
		clients.Go(func() {
			for range connections / 50 {
				storm(t, p.address)
			}
		})
	}
	clients.Wait()
	p.ended(connections)
	eventually(t, "descriptors to be closed", func() bool { return descriptors(t) <= before })
	for _, w := range p.engine.Workers() {
		if w.Buffers != 0 {
			t.Errorf("worker %d: %d buffers are in use without any stream", w.Index, w.Buffers)
		}
		if w.Late+w.Unnamed != 0 {
			t.Errorf("worker %d: %d late and %d unnamed wakeups", w.Index, w.Late, w.Unnamed)
		}
	}
}

// storm is one connection of the storm.
func storm(t *testing.T, address string) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	tcp := c.(*net.TCPConn)
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Error(err)
		return
	}
	// Errors are what this test is about: the server may have broken the connection already.
	if rand.IntN(2) == 0 {
		_, _ = c.Read(make([]byte, 10)) // of the banner
	}
	for range rand.IntN(5) {
		if rand.IntN(3) == 0 {
			_ = raw.Control(func(fd uintptr) { _ = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) })
			continue
		}
		_, _ = c.Write(make([]byte, 1+rand.IntN(100_000)))
	}
	if rand.IntN(2) == 0 {
		_ = tcp.SetLinger(0)
	}
}
