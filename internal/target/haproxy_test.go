package target

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/whyspin/whyspin/internal/evidence"
)

// dump is a dump of a real HAProxy that spins.
const dump = "../../testdata/haproxy/founding-1.8.0/show-sess-all.txt"

func TestTheStateOfAHAProxyIsTwoDumps(t *testing.T) {
	text, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	activity := "loops: 7\nwake_tasks: 5\n\n"
	descriptor := "   8 : st=0x22(R:pRa W:pRA) ev=0x00(heopI) [nuLc] iocb=0x1(conn_fd_handler) sv=a/b\n\n"
	answers := []string{"show info: " + strings.Replace(isHAProxy, "\n\n", "\nNbthread: 1\n\n", 1),
		"show activity: " + activity, "show sess all: " + string(text), "show fd 8: " + descriptor}
	p := pretend(t, directory, strings.Join(answers, orderMark), directory+"/x.sock")
	h := NewHAProxy(API{Address: directory + "/x.sock"}, p.pid)
	before, err := h.State(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	after, err := h.State(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	socket := evidence.Socket{Kind: "tcp", Local: "127.0.0.1:46926", Remote: "127.0.0.1:17027"}
	h.Confirm(context.Background(), &evidence.Window{
		Descriptors: []evidence.Descriptor{{FD: 8, EpollFD: 3, Socket: evidence.Know(socket)}}})
	claims := []evidence.Claim{{FD: 8, Writes: true, Events: evidence.EventIn, Handler: "conn_fd_handler",
		Server: "a/b"}}
	loops := after.Activity
	if len(loops) != 1 || loops[0].Loops != 7 || loops[0].Counters["wake_tasks"] != 5 {
		t.Errorf("activity %+v", loops)
	}
	if !slices.Equal(after.Claims, claims) {
		t.Errorf("claims %+v", after.Claims)
	}
	if before.StreamCount != 1 || after.StreamCount != 1 || len(before.Streams) != 1 ||
		len(after.Streams) != 1 || after.Process.PID != p.pid || before.At >= after.At {
		t.Fatalf("before %+v, after %+v", before, after)
	}
	if s := after.Streams[0]; s.ID != "0x55e34b661d60" || s.NoProgress.Or(1) != 0 || s.ServerFD != 8 {
		t.Errorf("stream %+v", s)
	}
	if len(after.Unknown) != 0 {
		t.Errorf("unknown is %q", after.Unknown)
	}
}

// TestWhatAHAProxyRefusesIsSaid: one that does not know an order, or does not heed what stands behind it, has
// the rest of what it says read all the same.
func TestWhatAHAProxyRefusesIsSaid(t *testing.T) {
	text, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	for name, activity := range map[string]string{
		"it does not know one":           "show activity: Unknown command. Please\n  help: this\n\n",
		"it heeds nothing that follows":  "",
		"it may not say what it refuses": "show activity: Permission denied\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			answers := []string{"show info: " + isHAProxy, "show sess all: " + string(text), activity,
				"show fd 8: Unknown command\n\n"}
			p := pretend(t, directory, strings.Join(answers, orderMark), directory+"/x.sock")
			h := NewHAProxy(API{Address: directory + "/x.sock"}, p.pid)
			var after *evidence.Snapshot
			for range 2 {
				if after, err = h.State(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			h.Confirm(context.Background(), nil)
			if len(after.Streams) != 1 || len(after.Activity) != 0 || len(after.Claims) != 0 {
				t.Errorf("after %+v", after)
			}
			for _, said := range []string{"what its event loops count: ",
				"what HAProxy says of descriptor 8: "} {
				if !strings.Contains(strings.Join(after.Unknown, "; "), said) {
					t.Errorf("unknown is %q, should say %q", after.Unknown, said)
				}
			}
		})
	}
}

func TestAnswersThatCannotBeUsed(t *testing.T) {
	for _, c := range []struct{ name, answer, said string }{
		{"nothing", "", "another process answers: 0"},
		{"no dump", isHAProxy + "Unknown command\n\n", `it begins with "Unknown command"`},
		{"no permission", isHAProxy + "Permission denied\n\n", "it takes a stats socket of level operator"},
		{"the dump of another process", isAnother + "0x1: x\n", "another process answers: 1"},
	} {
		directory := t.TempDir()
		p := pretend(t, directory, c.answer, directory+"/x.sock")
		_, err := NewHAProxy(API{Address: directory + "/x.sock"}, p.pid).State(context.Background())
		if err == nil || !strings.Contains(err.Error(), c.said) {
			t.Errorf("%s: %v, should say %q", c.name, err, c.said)
		}
	}
}

// endless is a connection that never stops to send.
type endless struct{ net.Conn }

func (endless) Read(p []byte) (int, error) { return copy(p, bytes.Repeat([]byte("x"), len(p))), nil }

func TestAnAnswerThatDoesNotEndIsGivenUp(t *testing.T) {
	one, other := net.Pipe()
	defer one.Close()
	defer other.Close()
	n, err := io.Copy(io.Discard, &reply{c: endless{one}, left: 1 << 20})
	if n != 1<<20 || !errors.Is(err, ErrTooLong) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestWhoeverGivesUpWaitsForNoAnswer(t *testing.T) {
	directory := t.TempDir()
	l, err := net.Listen("unix", directory+"/x.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		// The question has arrived, and nobody is going to answer.
		if c, err := l.Accept(); err == nil {
			_, _ = c.Read(make([]byte, 1))
			cancel()
		}
	}()
	if _, err := (API{Address: directory + "/x.sock"}).Order(ctx, "show info"); !errors.Is(err,
		context.Canceled) {
		t.Errorf("error %v", err)
	}
}
