package engine

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whyspin/whyspin/internal/ktime"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// bulk is bytes of which no two parts are alike.
func bulk(seed uint64, n int) []byte {
	b := make([]byte, n)
	random := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = random.Read(b) // never fails
	return b
}

// download asks for the end of what the server sends and checks all of it.
func download(t *testing.T, c *net.TCPConn, want []byte) {
	t.Helper()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("after %d bytes: %v", len(got), err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %d other bytes than the %d that were sent", len(got), len(want))
	}
}

// TestBulkGoesThroughPipes: in both directions at the same time, unchanged, up to the ends; afterwards no
// pipe is in use, and few are kept.
func TestBulkGoesThroughPipes(t *testing.T) {
	p := start(t, settings{}, serve(t, echo))
	for i := range 4 {
		want := bulk(uint64(i), 6<<20)
		c := p.dial()
		go func() {
			_, _ = c.Write(want) // what fails is seen by who reads
			_ = c.CloseWrite()
		}()
		download(t, c, want)
		c.Close()
	}
	p.ended(4)
	w := p.engine.Workers()[0]
	if w.Spliced == 0 || w.Spliced > w.Write.Bytes {
		t.Errorf("of %d bytes %d went through pipes", w.Write.Bytes, w.Spliced)
	}
	if w.Read.Bytes != w.Write.Bytes || w.Read.Bytes != 2*4*6<<20 {
		t.Errorf("%d bytes read and %d written, should be %d", w.Read.Bytes, w.Write.Bytes, 2*4*6<<20)
	}
	if w.Pipes != 0 || w.Buffers != 0 || w.BufferBytes != 0 {
		t.Errorf("%d pipes and %d buffers of %d bytes in use without a stream", w.Pipes, w.Buffers,
			w.BufferBytes)
	}
	if w.PipesFree != 0 {
		t.Errorf("%d pipes are kept without a stream", w.PipesFree)
	}
}

// flood sends the same bulk on every connection.
func flood(t *testing.T, b []byte) string {
	return serve(t, func(c *net.TCPConn) {
		_, _ = c.Write(b) // breaks when a stream is killed
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	})
}

// TestBytesOfAKilledStreamGoToNobody: a client does not read, so bytes wait in a pipe; its stream is killed.
func TestBytesOfAKilledStreamGoToNobody(t *testing.T) {
	want := bulk(1, 48<<20) // more than the sockets on the way hold
	p := start(t, settings{}, flood(t, want))
	p.dial()
	eventually(t, "a pipe to be held", func() bool {
		w := p.engine.Workers()[0]
		return w.Pipes == 1 && w.Queue == 0 && w.Write.Again > 0
	})
	for _, v := range p.views() {
		if v.ResponseSize != pipeBytes || v.Response.Buffered == 0 {
			t.Errorf("%d bytes wait in a buffer of %d", v.Response.Buffered, v.ResponseSize)
		}
		if got := p.engine.Kill(v.ID, stream.KillAdmin); got != KillEnded {
			t.Fatalf("the order to end the stream came to %d", got)
		}
	}
	p.ended(1)
	if w := p.engine.Workers()[0]; w.Pipes != 0 || w.BufferBytes != 0 {
		t.Errorf("%d pipes and %d bytes in use without a stream", w.Pipes, w.BufferBytes)
	}
	download(t, p.dial(), want)
}

// miser is a kernel that grants only small pipes, and of those as many as are left.
type miser struct {
	sys.Linux
	largest, left int
	refusal       sys.Errno
	asked         atomic.Int64
}

func (k *miser) Pipe(size int) (int, int, sys.Errno) {
	k.asked.Add(1)
	if size > k.largest {
		return -1, -1, sys.EPERM
	}
	if k.left--; k.left < 0 {
		return -1, -1, k.refusal
	}
	return k.Linux.Pipe(size)
}

// TestPipesThatAreRefused: smaller ones are taken, down to a size; without any, buffers do; and the kernel is
// not asked again at once.
func TestPipesThatAreRefused(t *testing.T) {
	for name, v := range map[string]struct {
		kernel       *miser
		asked, size  int
		pipes, wants int
	}{
		"half the size is granted":      {&miser{largest: 512 << 10, left: 10}, 2, 512 << 10, 1, 0},
		"only small ones are":           {&miser{largest: 128 << 10, left: 10}, 3, 0, 0, 1},
		"there are no descriptors":      {&miser{largest: 1 << 20, refusal: sys.EMFILE}, 1, 0, 0, 1},
		"the user has too many already": {&miser{largest: 1 << 20, refusal: sys.EPERM}, 3, 0, 0, 1},
	} {

		t.Run(name, func(t *testing.T) {
			want := bulk(2, 4<<20)
			p := start(t, settings{kernel: v.kernel}, serve(t, func(c *net.TCPConn) {
				_, _ = io.Copy(io.Discard, c)
				_, _ = c.Write(want)
			}))
			p.dial() // asks for nothing, and its stream stays
			eventually(t, "its stream", func() bool { return p.inState(stream.Established) == 1 })
			for range 3 {
				c := p.dial()
				c.CloseWrite()
				download(t, c, want)
			}
			eventually(t, "the others to end", func() bool { return p.engine.Streams() == 1 })
			w := p.engine.Workers()[0]
			if got := v.kernel.asked.Load(); int(got) != v.asked {
				t.Errorf("%d pipes were asked for, should be %d", got, v.asked)
			}
			if w.PipesFree != v.pipes || w.PipesRefused != uint64(v.wants) {
				t.Errorf("%d pipes are there and %d were refused", w.PipesFree, w.PipesRefused)
			}
			if (w.Spliced > 0) != (v.pipes > 0) {
				t.Errorf("%d bytes went through pipes", w.Spliced)
			}
			if got := p.engine.workers[0].pipes.size; v.size > 0 && got != v.size {
				t.Errorf("pipes of %d bytes, should be %d", got, v.size)
			}
		})
	}
}

// TestPipesCountAsBufferMemory: where the limit leaves no room for one, none is taken.
func TestPipesCountAsBufferMemory(t *testing.T) {
	want := bulk(3, 4<<20)
	p := start(t, settings{maxConn: 16}, flood(t, want))
	c := p.dial()
	c.CloseWrite()
	download(t, c, want)
	p.ended(1)
	if w := p.engine.Workers()[0]; w.Spliced > 0 || w.BufferPeak > w.BufferLimit {
		t.Errorf("%d bytes went through pipes; at the peak %d bytes of %d", w.Spliced, w.BufferPeak,
			w.BufferLimit)
	}
}

// plumber is a kernel that knows the pipes of its only worker by the descriptors that are read from.
type plumber struct {
	sys.Linux
	outlets map[int]bool
}

func (k *plumber) Pipe(size int) (int, int, sys.Errno) {
	from, to, errno := k.Linux.Pipe(size)
	if k.outlets == nil {
		k.outlets = map[int]bool{}
	}
	k.outlets[from] = true
	return from, to, errno
}

func (k *plumber) Close(fd int) sys.Errno {
	delete(k.outlets, fd)
	return k.Linux.Close(fd)
}

// urgency is a kernel in which urgent data, more and the end arrive just before one call that splices bytes
// out of a socket.
type urgency struct {
	plumber
	before atomic.Pointer[func(fd int)]
}

func (k *urgency) Splice(from, to, n int) (int, sys.Errno) {
	if !k.outlets[from] {
		if f := k.before.Swap(nil); f != nil {
			(*f)(from)
		}
	}
	return k.Linux.Splice(from, to, n)
}

// TestTheEndIsNotWhereSpliceStops: splice(2) does not pass urgent data, and behind a shutdown it calls that
// the end. The server sends block after block, each when the one before has arrived, until one is spliced.
func TestTheEndIsNotWhereSpliceStops(t *testing.T) {
	k := &urgency{}
	block := bulk(4, 128<<10) // fits into the socket's queue
	const tail = "behind the urgent byte"
	p := start(t, settings{kernel: k}, serve(t, func(c *net.TCPConn) {
		var finished atomic.Bool
		finish := func(fd int) {
			defer finished.Store(true)
			raw, err := c.SyscallConn()
			if err != nil {
				t.Error(err)
				return
			}
			_ = raw.Control(func(fd uintptr) { _ = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) })
			_, _ = io.WriteString(c, tail)
			_ = c.CloseWrite()
			eventually(t, "the end to arrive", func() bool {
				events := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP | unix.POLLPRI}}
				_, err := unix.Poll(events, 0)
				return err == nil && events[0].Revents == unix.POLLRDHUP|unix.POLLPRI
			})
		}
		k.before.Store(&finish)
		for !finished.Load() {
			_, _ = c.Write(block)
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				return // the client says why
			}
		}
		_, _ = io.Copy(io.Discard, c)
	}))
	c := p.dial()
	got := make([]byte, len(block))
	for {
		n, err := io.ReadFull(c, got)
		if err == nil && bytes.Equal(got, block) {
			_, err = c.Write([]byte{1})
		}
		if err == nil {
			continue
		}
		if text := string(got[:n]); text != tail {
			t.Errorf("the last %d bytes are not those behind the urgent one: %.40q, %v", n, text, err)
		}
		break
	}
}

// TestAPipeIsGivenBackEmptyOrNotAtAll: what is kept is what nobody's bytes are in.
func TestAPipeIsGivenBackEmptyOrNotAtAll(t *testing.T) {
	before := descriptors(t)
	p := newPipePool(sys.Linux{}, &Options{MaxPipes: 17, Workers: 2}, 1)
	var taken []*buffer
	for range 8 {
		taken = append(taken, p.take(1))
	}
	if b := p.take(1); b != nil || taken[7] == nil {
		t.Fatal("the limit is 8, and another one was given out, or not all of them")
	}
	taken[7].w = 1
	for i := range taken {
		p.give(taken[len(taken)-1-i])
	}
	if p.used != 0 || len(p.free) != 2 {
		t.Errorf("%d in use and %d kept of 8", p.used, len(p.free))
	}
	for _, b := range p.free {
		if b == taken[7] {
			t.Error("the one that holds a byte is kept")
		}
	}
	p.close()
	if now := descriptors(t); now != before {
		t.Errorf("%d descriptors are open, %d were", now, before)
	}
	var moment ktime.Time = 1
	k := &miser{largest: pipeBytes, refusal: sys.EMFILE}
	p = newPipePool(k, &Options{MaxPipes: 17, Workers: 2}, 0)
	if p.limit != 9 {
		t.Errorf("the first of two workers may have %d of 17 pipes", p.limit)
	}
	p.take(moment)
	p.take(moment.Add(pipePause - 1))
	if k.asked.Load() != 1 {
		t.Error("asked again within the pause")
	}
	if p.take(moment.Add(pipePause)); k.asked.Load() != 2 {
		t.Error("not asked again after the pause")
	}
}
