package target

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
)

// dump is a dump of a real HAProxy that spins.
const dump = "../../testdata/haproxy/founding-1.8.0/show-sess-all.txt"

func TestTheStateOfAHAProxyIsTwoDumps(t *testing.T) {
	text, err := os.ReadFile(dump)
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	p := pretend(t, directory, isHAProxy+string(text), directory+"/x.sock")
	h := NewHAProxy(API{Address: directory + "/x.sock"}, p.pid)
	before, err := h.State(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	after, err := h.State(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	h.Confirm(nil)
	if before.StreamCount != 1 || after.StreamCount != 1 || len(before.Streams) != 1 ||
		len(after.Streams) != 1 || after.Process.PID != p.pid || before.At >= after.At {
		t.Fatalf("before %+v, after %+v", before, after)
	}
	if s := after.Streams[0]; s.ID != "0x55e34b661d60" || s.NoProgress.Or(1) != 0 || s.ServerFD != 8 {
		t.Errorf("stream %+v", s)
	}
	if len(after.Unknown) != 1 || !strings.Contains(after.Unknown[0], "stale") {
		t.Errorf("unknown is %q", after.Unknown)
	}
}

func TestAnswersThatCannotBeUsed(t *testing.T) {
	for _, c := range []struct{ name, answer, said string }{
		{"nothing", "", "another process answers: 0"},
		{"no dump", isHAProxy + "Permission denied\n\n", `it begins with "Permission denied"`},
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
