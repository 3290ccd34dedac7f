//go:build amd64

package probe

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"unsafe"

	"github.com/whyspin/whyspin/internal/evidence"
)

const (
	loadThreads = 4
	loadRounds  = 25
	// crowd is the number of ready descriptors in the large set: more than the 256 events that one wait
	// asks for.
	crowd = 300
)

// world is what one thread of the load works on.
type world struct {
	t        *tally
	empty    int // an epoll set in which nothing is ever ready
	single   int // a set with one eventfd
	event    int
	large    int // a set with many ready eventfds
	mixed    int // a set with descriptors in every state
	listener int
	address  syscall.RawSockaddrInet4
	refusing syscall.RawSockaddrInet4
	file     int
	shared   int // an eventfd on which all threads read and write
	compat   func()
	pair     [2]int32
	affinity uint64
}

func must(n int, err error) int {
	if err != nil {
		panic(err)
	}
	return n
}

func register(set, fd int, mask uint32) {
	event := syscall.EpollEvent{Events: mask, Fd: int32(fd),
		Pad: int32(fd % 5)} // a generation above the number
	if err := syscall.EpollCtl(set, syscall.EPOLL_CTL_ADD, fd, &event); err != nil {
		panic(err)
	}
}

func eventfd(initial uint) int {
	const nonblock = syscall.O_NONBLOCK
	fd, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, uintptr(initial), nonblock, 0)
	if errno != 0 {
		panic(errno)
	}
	return int(fd)
}

// newWorld sets up, before the window, what the load needs.
func newWorld(shared int) *world {
	w := &world{t: &tally{limit: tallyDescriptors}, shared: shared, compat: compatCall()}
	w.empty = must(syscall.EpollCreate1(0))
	idle := eventfd(0)
	register(w.empty, idle, syscall.EPOLLIN)
	w.single, w.event = must(syscall.EpollCreate1(0)), eventfd(0)
	register(w.single, w.event, syscall.EPOLLIN)
	w.large = must(syscall.EpollCreate1(0))
	for range crowd {
		register(w.large, eventfd(1), syscall.EPOLLIN)
	}
	w.mixed = must(syscall.EpollCreate1(0))
	w.fillMixed()

	w.listener, w.address = listen()
	refusing, address := listen()
	w.refusing = address
	_ = syscall.Close(refusing)
	f, err := os.CreateTemp("", "whyspin-load")
	if err != nil {
		panic(err)
	}
	_ = os.Remove(f.Name())
	if _, err := f.Write(make([]byte, 4096)); err != nil {
		panic(err)
	}
	w.file = must(syscall.Dup(int(f.Fd())))
	_ = f.Close()
	return w
}

// fillMixed registers descriptors whose events are every bit that the kernel reports.
func (w *world) fillMixed() {
	var p [2]int
	check(syscall.Pipe2(p[:], syscall.O_NONBLOCK))
	register(w.mixed, p[0], syscall.EPOLLIN) // HUP
	_ = syscall.Close(p[1])
	check(syscall.Pipe2(p[:], syscall.O_NONBLOCK))
	register(w.mixed, p[1], syscall.EPOLLOUT) // OUT, ERR
	_ = syscall.Close(p[0])

	l, address := listen()
	for kind := range 3 {
		c, a := tcpPair(l, &address)
		register(w.mixed, a, syscall.EPOLLIN|syscall.EPOLLPRI|syscall.EPOLLOUT|syscall.EPOLLRDHUP)
		switch kind {
		case 0: // IN, PRI, OUT
			check(syscall.Sendto(c, []byte("urgent"), syscall.MSG_OOB, nil))
		case 1: // IN, OUT, RDHUP
			check(syscall.Shutdown(c, syscall.SHUT_WR))
		case 2: // IN, OUT, ERR, HUP, RDHUP
			check(syscall.SetsockoptLinger(c, syscall.SOL_SOCKET, syscall.SO_LINGER,
				&syscall.Linger{Onoff: 1}))
			_ = syscall.Close(c)
		}
	}
	_ = syscall.Close(l)
}

func listen() (int, syscall.RawSockaddrInet4) {
	fd := must(syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0))
	check(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	check(syscall.Listen(fd, 128))
	name, err := syscall.Getsockname(fd)
	check(err)
	port := uint16(name.(*syscall.SockaddrInet4).Port)
	address := syscall.RawSockaddrInet4{Family: syscall.AF_INET, Addr: [4]byte{127, 0, 0, 1}}
	address.Port = port<<8 | port>>8
	return fd, address
}

// tcpPair returns a connected client and the accepted side of it.
func tcpPair(listener int, to *syscall.RawSockaddrInet4) (client, accepted int) {
	client = must(syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0))
	port := int(to.Port<<8 | to.Port>>8)
	check(syscall.Connect(client, &syscall.SockaddrInet4{Addr: to.Addr, Port: port}))
	for {
		fd, _, err := syscall.Accept(listener)
		if err == nil {
			return client, fd
		}
		if err != syscall.EAGAIN {
			panic(err)
		}
	}
}

// compatCall returns a function that calls getpid through the 32-bit entry: mov $20, %eax; int $0x80; ret.
func compatCall() func() {
	code := must2(syscall.Mmap(-1, 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE|syscall.PROT_EXEC,
		syscall.MAP_PRIVATE|syscall.MAP_ANON))
	copy(code, []byte{0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xc3})
	entry := &struct{ code uintptr }{uintptr(unsafe.Pointer(&code[0]))}
	return *(*func())(unsafe.Pointer(&entry))
}

func must2(b []byte, err error) []byte { check(err); return b }

// times are the timeouts of epoll_pwait2.
var times = struct{ zero, millisecond, invalid syscall.Timespec }{
	millisecond: syscall.Timespec{Nsec: 1e6},
	invalid:     syscall.Timespec{Nsec: -1},
}

// sizes are the sizes of calls around the border of what is tiny, most the numbers of events that waits
// ask for around the borders at which the probe reads the next chunk.
var (
	sizes = [...]int{1, 16, 17, 300, 0}
	most  = [...]int{1, 63, 64, 65, 128, 256, 512}
)

// round makes every call that the probe knows, in every way that it tells apart.
//
//go:nosplit
//go:norace
func (w *world) round(number int) {
	w.waits()
	w.pipes()
	w.sockets()
	w.tcp()
	w.descriptors()
	w.files()
	w.t.idle()
	w.concurrently()
	w.pin(number)
	w.compat()
	w.t.Compat++
}

//go:nosplit
//go:norace
func (w *world) waits() {
	t := w.t

	t.epollWait(w.empty, 8, 0)
	t.epollWait(w.empty, 8, 1)
	t.epollPwait(w.empty, 8, 0)
	t.epollPwait(w.empty, 8, 2)
	t.epollPwait2(w.empty, 8, &times.zero)
	t.epollPwait2(w.empty, 8, &times.millisecond)
	t.epollPwait2(w.empty, 8, &times.invalid)
	t.epollPwait2Fault(w.empty)
	t.epollWait(w.empty, 0, 0)  // EINVAL
	t.epollWait(w.event, 8, 0)  // not an epoll set
	t.epollWait(w.event, 8, 10) // not an epoll set
	t.epollWait(2000, 8, -1)    // not open
	t.epollWait(w.single, 8, 0) // nothing yet

	t.buffer[0] = 1
	t.write(w.event, 8)
	t.epollWait(w.single, 8, -1)
	t.epollPwait(w.single, 1, 1000)
	t.epollPwait2(w.single, 8, nil)
	t.epollPwait2(w.single, 8, &times.millisecond)
	t.read(w.event, 8)
	t.read(w.event, 8) // EAGAIN
	t.read(w.event, 4) // EINVAL

	for i := range most {
		t.epollWait(w.large, most[i], -1)
	}
	t.epollWait(w.mixed, 64, 100)
}

// pipes makes calls of every size around the border of what is tiny.
//
//go:nosplit
//go:norace
func (w *world) pipes() {
	t := w.t
	_, _ = t.call(syscall.SYS_PIPE2, uintptr(unsafe.Pointer(&w.pair)), syscall.O_NONBLOCK, 0, 0, 0, 0)
	in, out := int(w.pair[0]), int(w.pair[1])
	for i := range sizes {
		n := sizes[i]
		t.write(out, n)
		t.read(in, n)
		t.writev(out, n)
		t.readv(in, n)
	}
	t.read(in, 10) // EAGAIN
	for {
		if _, errno := t.write(out, 4096); errno != 0 {
			break // EAGAIN: full
		}
	}
	_, _ = t.call(syscall.SYS_PIPE2, uintptr(unsafe.Pointer(&w.pair)), syscall.O_NONBLOCK, 0, 0, 0, 0)
	t.splice(in, int(w.pair[1]), 4096, 2)
	t.splice(in, int(w.pair[1]), 10, 2)
	t.splice(int(w.pair[0]), out, 64, 2) // EAGAIN, or what fits
	t.sendfile(int(w.pair[1]), w.file, 8)
	t.sendfile(int(w.pair[1]), w.file, 2000)
	t.close(out)
	for {
		if n, _ := t.read(in, 4096); n <= 0 {
			break // 0: end of file
		}
	}
	t.splice(in, int(w.pair[1]), 10, 2) // 0
	t.close(in)
	t.close(int(w.pair[0]))
	t.close(int(w.pair[1]))
	t.close(3999)   // EBADF
	t.read(-1, 1)   // EBADF, of no descriptor
	t.read(5000, 1) // EBADF, beyond the table
}

// files makes the calls that take a position, several messages, or pages.
//
//go:nosplit
//go:norace
func (w *world) files() {
	t := w.t
	t.readAt(w.file, 100)
	t.readAt(w.file, 7)
	t.writeAt(w.file, 16)
	t.writeAt(w.event, 8) // ESPIPE
	t.copyRange(w.file, 512)
	_, _ = t.call(syscall.SYS_SOCKETPAIR, syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK, 0,
		uintptr(unsafe.Pointer(&w.pair)), 0, 0)
	a, b := int(w.pair[0]), int(w.pair[1])
	t.recvmmsg(b, 10) // EAGAIN
	t.sendmmsg(a, 6)
	t.recvmmsg(b, 10)
	t.sendmmsg(a, 300)
	t.recvmmsg(b, 200)
	t.close(a)
	t.close(b)
	_, _ = t.call(syscall.SYS_PIPE2, uintptr(unsafe.Pointer(&w.pair)), syscall.O_NONBLOCK, 0, 0, 0, 0)
	in, out := int(w.pair[0]), int(w.pair[1])
	t.vmsplice(out, 30)
	_, _ = t.call(syscall.SYS_PIPE2, uintptr(unsafe.Pointer(&w.pair)), syscall.O_NONBLOCK, 0, 0, 0, 0)
	t.tee(in, int(w.pair[1]), 20)
	t.close(in)
	t.close(out)
	t.close(int(w.pair[0]))
	t.close(int(w.pair[1]))
}

//go:nosplit
//go:norace
func (w *world) sockets() {
	t := w.t
	_, _ = t.call(syscall.SYS_SOCKETPAIR, syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK, 0,
		uintptr(unsafe.Pointer(&w.pair)), 0, 0)
	a, b := int(w.pair[0]), int(w.pair[1])
	for i := range sizes[:4] {
		n := sizes[i]
		t.send(a, n, 0)
		t.recv(b, n, syscall.MSG_PEEK)
		t.recv(b, n, 0)
		t.sendmsg(a, n)
		t.recvmsg(b, n, syscall.MSG_PEEK)
		t.recvmsg(b, n, 0)
	}
	t.recv(b, 1, 0) // EAGAIN
	t.shutdown(a, syscall.SHUT_WR)
	t.recv(b, 1, syscall.MSG_PEEK) // 0
	t.recv(b, 1, 0)                // 0
	t.recvmsg(b, 1, 0)             // 0
	t.send(a, 1, 0)                // EPIPE
	t.close(b)
	t.send(a, 1, 0) // EPIPE
	t.close(a)
}

//go:nosplit
//go:norace
func (w *world) tcp() {
	t := w.t
	t.accept(w.listener, sysAccept4) // EAGAIN
	c := t.socket()
	t.connect(c, &w.address)
	a := t.accept(w.listener, syscall.SYS_ACCEPT)
	t.send(c, 5, 0)
	t.recv(a, 100, 0)
	t.sendfile(a, w.file, 1000)
	t.recv(c, 4096, 0)
	t.resetOnClose(c)
	t.close(c)
	t.read(a, 1)    // ECONNRESET
	t.send(a, 1, 0) // EPIPE
	t.close(a)

	c = t.socket()
	t.connect(c, &w.refusing) // ECONNREFUSED
	t.connect(c, &w.address)
	a = t.accept(w.listener, sysAccept4)
	t.shutdown(c, syscall.SHUT_RDWR)
	t.read(a, 1) // 0
	t.close(a)
	t.close(c)
}

//go:nosplit
//go:norace
func (w *world) descriptors() {
	t := w.t
	e := t.dup(w.event)
	t.dupTo(syscall.SYS_DUP2, w.event, e)
	t.dupTo(sysDup3, w.event, e)
	t.control(w.empty, syscall.EPOLL_CTL_ADD, e, syscall.EPOLLIN)
	t.control(w.empty, syscall.EPOLL_CTL_MOD, e, syscall.EPOLLPRI)
	t.control(w.empty, syscall.EPOLL_CTL_DEL, e, 0)
	t.control(w.empty, syscall.EPOLL_CTL_DEL, e, 0) // ENOENT
	t.close(e)
}

// concurrently works on a descriptor that every thread works on at the same time.
//
//go:nosplit
//go:norace
func (w *world) concurrently() {
	t := w.t
	for range 200 {
		t.buffer[0] = 1
		t.write(w.shared, 8)
		t.read(w.shared, 8)
		t.epollWait(w.large, 3, 0)
	}
}

var cpus = runtime.NumCPU()

// pin moves the thread to another CPU.
//
//go:nosplit
//go:norace
func (w *world) pin(number int) {
	w.affinity = 1 << (number % cpus)
	_, _ = w.t.call(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(w.affinity),
		uintptr(unsafe.Pointer(&w.affinity)), 0, 0, 0)
}

// record makes the calls that count.
//
//go:nosplit
//go:norace
func (w *world) record(number int) {
	w.t.read(childGo, 1)
	for i := range loadRounds {
		w.round(number + i)
	}
	w.t.write(childDone, 1)
	_, _, _ = syscall.RawSyscall(syscall.SYS_READ, childStop, w.t.address(), 1)
}

// runLoad is the child: every thread goes through its world once to warm up, waits for the parent, and
// then does it again for the record.
func runLoad() {
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(loadThreads + 2)
	shared := eventfd(0)
	tallies := make(chan *tally)
	for number := range loadThreads {
		go func() {
			runtime.LockOSThread()
			w := newWorld(shared)
			t := w.t
			t.TID = syscall.Gettid()
			w.round(number)
			t.clear()
			_, _ = t.write(childDone, 1)
			t.clear()
			w.record(number)
			tallies <- t
		}()
	}
	report := loadReport{}
	for range loadThreads {
		report.add(<-tallies)
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// loadReport is what the threads of the load say that they did.
type loadReport struct {
	Threads []threadReport
	FDs     map[int]*fdTally
	Beyond  uint64
	Compat  uint64
}

type threadReport struct {
	TID                              int
	Calls, Progress, Yields, Futexes uint64
	Polls                            evidence.Waits
	Sets                             []setTally
}

func (r *loadReport) add(t *tally) {
	r.Beyond += t.Beyond
	r.Compat += t.Compat
	r.Threads = append(r.Threads, threadReport{TID: t.TID, Calls: t.Calls, Progress: t.Progress,
		Yields: t.Yields, Futexes: t.Futexes, Polls: t.Polls, Sets: t.Sets[:t.sets]})
	if r.FDs == nil {
		r.FDs = map[int]*fdTally{}
	}
	for fd := range t.FDs {
		d := &t.FDs[fd]
		if !d.Used {
			continue
		}
		sum := r.FDs[fd]
		if sum == nil {
			sum = &fdTally{}
			r.FDs[fd] = sum
		}
		sum.add(d)
	}
}

func (d *fdTally) add(o *fdTally) {
	d.Epoll = max(d.Epoll, o.Epoll)
	addIO(&d.Read, &o.Read)
	addIO(&d.Write, &o.Write)
	d.Accepts += o.Accepts
	d.AcceptErrors += o.AcceptErrors
	d.Connects += o.Connects
	d.Closes += o.Closes
	d.Shutdowns += o.Shutdowns
	d.Controls += o.Controls
	d.Dups += o.Dups
	for i, n := range o.Deliveries {
		d.Deliveries[i] += n
		d.DeliveredMask[i] |= o.DeliveredMask[i]
	}
}

func addIO(a, b *evidence.IO) {
	a.Calls += b.Calls
	a.Bytes += b.Bytes
	a.Tiny += b.Tiny
	a.Zero += b.Zero
	a.Again += b.Again
	a.Reset += b.Reset
	a.Pipe += b.Pipe
	a.Errors += b.Errors
}
