package probe

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/whyspin/whyspin/internal/evidence"
)

// openedFile returns what the iterator says of a descriptor of this process.
func openedFile(t *testing.T, p *Probe, fd int) evidence.Socket {
	t.Helper()
	table, err := p.reader.read(os.Getpid(), false)
	if err != nil {
		t.Fatal(err)
	}
	s, ok := table.sockets()[fd]
	if !ok {
		t.Fatalf("descriptor %d is not listed", fd)
	}
	return s
}

// TestListenerOfMultipathTCPIsATCPListener: Go's net package makes its listeners so by default.
func TestListenerOfMultipathTCPIsATCPListener(t *testing.T) {
	p := load(t, Options{PID: os.Getpid()})
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	if err == unix.EPROTONOSUPPORT || err == unix.ENOPROTOOPT {
		t.Logf("this kernel has no Multipath TCP: %v; Go's listeners are plain ones then", err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 7); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port}
	c, err := net.Dial("tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := openedFile(t, p, fd)
	if s.Kind != "tcp" || s.State != "LISTEN" || s.Local != address.String() || s.ReceiveQueue != 1 ||
		s.Backlog != 7 {
		t.Errorf("the listener is %+v, should be a TCP listener at %v with one of 7 waiting", s, &address)
	}
}

// TestConnectionThatIsOverKeepsItsAddress: the kernel gives the port back when a reset ends it.
func TestConnectionThatIsOverKeepsItsAddress(t *testing.T) {
	p := load(t, Options{PID: os.Getpid()})
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: l.Addr().(*net.TCPAddr).Port}
	if err := unix.Connect(fd, to); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	own := net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := peer.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	if err := peer.Close(); err != nil {
		t.Fatal(err)
	}
	if s := openedFile(t, p, fd); s.State != "CLOSE" || s.Local != own.String() {
		t.Errorf("the connection is %+v, should be closed and at %v", s, &own)
	}
}
