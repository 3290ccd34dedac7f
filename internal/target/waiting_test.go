package target

import (
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/whyspin/whyspin/internal/evidence"
)

func TestParseSyscall(t *testing.T) {
	tests := []struct {
		name, text string
		want       evidence.Observed[int]
	}{
		{"in epoll_pwait2", "441 0x5 0x7ffd 0x80 0x0 0x0 0x8 0x7ffe 0x7f29\n", evidence.Know(5)},
		{"in another call", "230 0x0 0x0 0x7ffef6060a20 0x7ffef6060a60 0x0 0x0 0x7ffe 0x7f29\n",
			evidence.Know(-1)},
		{"asleep outside of a call", "-1 0x7ffe 0x7f29\n", evidence.Know(-1)},
		{"running", "running\n", evidence.Know(-1)},
		{"empty", "", evidence.Observed[int]{}},
		{"something else", "nothing of this form\n", evidence.Observed[int]{}},
	}
	for _, tt := range tests {
		if got := parseSyscall([]byte(tt.text)); got != tt.want {
			t.Errorf("%s: %v, should be %v", tt.name, got, tt.want)
		}
	}
}

// TestSleeperIsFoundOnItsSet has a thread sleep in epoll_wait without ever coming back.
func TestSleeperIsFoundOnItsSet(t *testing.T) {
	set, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	wake, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(wake[0])}
	if err := syscall.EpollCtl(set, syscall.EPOLL_CTL_ADD, wake[0], &event); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		for {
			_, err := syscall.EpollWait(set, make([]syscall.EpollEvent, 1), -1)
			if err != syscall.EINTR {
				ended <- err
				return
			}
		}
	}()
	s := open(t, os.Getpid())
	eventually(t, "the thread to sleep on its set", func() bool {
		now := read(t, s)
		return slices.ContainsFunc(now.Since(now), func(v evidence.Thread) bool {
			return v.WaitsOn == evidence.Know(set)
		})
	})
	if _, err := syscall.Write(wake[1], []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	for _, fd := range []int{set, wake[0], wake[1]} {
		syscall.Close(fd)
	}
}
