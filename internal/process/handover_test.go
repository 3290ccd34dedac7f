package process

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/certificate"
	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/sys"
)

// answering runs a socket on which somebody answers once, after he has read what he is asked.
func answering(t *testing.T, answer func(net.Conn)) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "api")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		if n, err := c.Read(make([]byte, 64)); err == nil && n > 0 {
			answer(c)
		}
	}()
	return path
}

func TestWhatIsNoOfferIsRefused(t *testing.T) {
	for answer, want := range map[string]string{
		"":                                "it gives none",
		"Permission denied\n\n":           `it says "Permission denied"`,
		`{"Format":1,"Tickets":"c2VjcmV0`: "the answer broke off",
		`{"Format":2}` + "\n":             "it speaks format 2",
		`{"Format":1,"Listeners":["127.0.0.1:1"]}` + "\n": "it speaks of 1 listeners, and gave 0",
	} {
		_, err := inherit(answering(t, func(c net.Conn) { _, _ = c.Write([]byte(answer)) }))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "c2Vj") {
			t.Errorf("%q: the error is %v, should hold %q", answer, err, want)
		}
	}
	if _, err := inherit(filepath.Join(t.TempDir(), "nobody")); err == nil {
		t.Error("nobody answers, and there is no error")
	}
}

// TestManyListenersAreHandedOver, more than one message carries; those that nobody takes are closed, and
// after the end of the offer there is none.
func TestManyListenersAreHandedOver(t *testing.T) {
	store, _, err := certificate.Load(&config.Config{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	h := &Handover{certificates: store}
	const many = 300
	var last sys.Address
	for i := range many {
		last = sys.Address{Path: "@whyspin-handover-" + strings.Repeat("x", i%50) + string(rune('a'+i/50))}
		fd, err := sys.Listen(last, sys.ListenOptions{Backlog: 1, UID: -1, GID: -1})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.add(last, fd); err != nil {
			t.Fatal(err)
		}
		sys.Linux{}.Close(fd)
	}
	if err := h.add(sys.Address{Path: "/with/a/file"}, -1); err != nil {
		t.Error("a socket with a file is offered")
	}
	give := make(chan error, 1)
	i, err := inherit(answering(t, func(c net.Conn) { give <- h.Give(c) }))
	if err != nil {
		t.Fatal(err)
	}
	if err := <-give; err != nil {
		t.Fatal(err)
	}
	if len(i.listeners) != many || len(i.tickets) == 0 {
		t.Fatalf("%d listeners and %d bytes of tickets", len(i.listeners), len(i.tickets))
	}
	fd, taken, err := i.take(last, sys.ListenOptions{Backlog: 1})
	if err != nil || !taken {
		t.Fatalf("a listener is not taken: %v", err)
	}
	defer sys.Linux{}.Close(fd)
	if _, again, _ := i.take(last, sys.ListenOptions{}); again {
		t.Error("a listener is taken twice")
	}
	i.close()
	if !h.Close() {
		t.Error("nobody seems to have the listeners")
	}
	if _, err := net.Dial("unix", last.Path); err != nil {
		t.Errorf("the listener that was taken does not listen: %v", err)
	}
	if err := h.Give(&net.UnixConn{}); err == nil {
		t.Error("what is closed is given")
	}
	if err := h.Give(&net.TCPConn{}); err != errNotOffered {
		t.Errorf("over TCP: %v", err)
	}
}
