package tlsconn

import (
	"errors"
	"io"
	"runtime"
	"testing"
)

// The peer's bytes are cut at every position of its handshake and of the two records after it, in three ways:
// an end of file, a reset, silence. What came whole before the cut is read; the cut is named.

var errReset = errors.New("connection reset by peer")

var twoRecords = [2]string{"the first record", "the second record, a longer one"}

// conversation is where in the peer's bytes the records end.
type conversation struct {
	data [2]int       // the end of each of the two records
	ends map[int]bool // the ends of all records
	all  int          // with the word that nothing more comes
}

// talk makes the peer send two records and say that no more will come.
func (l *link) talk() (c conversation) {
	l.t.Helper()
	for i, record := range twoRecords {
		if err := l.peer.Write([]byte(record)); err != nil {
			l.t.Fatal(err)
		}
		c.data[i] = len(l.its.all)
	}
	l.peer.CloseWrite()
	c.all = len(l.its.all)
	c.ends = map[int]bool{}
	for at := 0; at < c.all; c.ends[at] = true {
		at += 5 + int(l.its.all[at+3])<<8 + int(l.its.all[at+4])
	}
	return c
}

// cuts are the ways in which a conversation can stop at a byte, with the cause that is to be named.
// how it stopped.
func (l *link) cut(at int) (data string, err error) {
	l.limit = at
	l.shake()
	if l.peer.Done() {
		l.talk()
		l.shake()
	}
	if !l.tested.Done() {
		return "", l.mineErr
	}
	read, err := drain(l.tested)
	return string(read), err
}

// step makes the tested side look at what there is now.
func (l *link) step() error {
	if l.tested.Done() {
		_, err := drain(l.tested)
		return err
	}
	_, err := l.tested.Handshake()
	return err
}

// cuts are the ways in which a conversation can stop at a byte, with the cause that is to be named in the
// end.
var cuts = []struct {
	name string
	make func(*link)
	want func(l *link, c conversation, at int) Cause
}{
	{"end of file", func(l *link) { l.mine.eof = true }, func(l *link, c conversation, at int) Cause {
		switch {
		case at == 0:
			return CauseClosed
		case !l.tested.Done():
			return CauseCut
		case !c.ends[at]:
			return CauseTruncated
		}
		return CauseNone
	}},
	{"reset", func(l *link) { l.mine.broken = errReset }, func(*link, conversation, int) Cause {
		return CauseBroken
	}},
	{"silence", func(l *link) {
		if !l.tested.Done() {
			l.tested.Close()
		}
	}, func(l *link, _ conversation, _ int) Cause {
		if l.tested.Done() {
			return CauseNone
		}
		return CauseAborted
	}},
}

func TestCutAtEveryByte(t *testing.T) {
	variants(t, func(t *testing.T, version uint16, server bool) {
		serverConfig, clientConfig := configs(version)
		whole := newLink(t, serverConfig, clientConfig, server)
		whole.mustShake()
		c := whole.talk()
		if least := 250; c.data[0] < least {
			t.Fatalf("the first record ends at %d: there was no handshake before it", c.data[0])
		}
		before := runtime.NumGoroutine()
		for _, way := range cuts {
			for at := range c.all {
				l := newLink(t, serverConfig, clientConfig, server)
				data, err := l.cut(at)
				want := ""
				for i, end := range c.data {
					if at >= end {
						want += twoRecords[i]
					}
				}
				if data != want {
					t.Fatalf("%s at %d of %d: read %q, want %q", way.name, at, c.all, data, want)
				}
				if inside := l.tested.InRecord(); inside == (at == 0 || c.ends[at]) {
					t.Fatalf("%s at %d of %d: within a record: %t", way.name, at, c.all, inside)
				}
				if err != nil && !errors.Is(err, ErrWouldBlock) {
					t.Fatalf("%s at %d of %d: an error before the cut: %v", way.name, at, c.all, err)
				}
				way.make(l)
				first := l.step()
				if got, want := causeOf(first), way.want(l, c, at); got != want {
					t.Fatalf("%s at %d of %d: the cause is %q, want %q", way.name, at, c.all, got, want)
				}
				if again := l.step(); again != first {
					t.Fatalf("%s at %d: asked again, it says %v after %v", way.name, at, again, first)
				}
				l.peer.Close()
				l.tested.Close()
			}
		}
		if after := runtime.NumGoroutine(); after > before {
			t.Errorf("%d goroutines are left of handshakes that were cut", after-before)
		}
	})
}

func TestTheEndIsAnnouncedOrNot(t *testing.T) {
	variants(t, func(t *testing.T, version uint16, server bool) {
		for _, announced := range []bool{true, false} {
			serverConfig, clientConfig := configs(version)
			l := newLink(t, serverConfig, clientConfig, server)
			l.mustShake()
			if announced {
				l.peer.CloseWrite()
			}
			l.carry()
			l.mine.eof = true
			if _, err := drain(l.tested); err != io.EOF {
				t.Errorf("announced %t: the end is %v", announced, err)
			}
			if l.tested.Unannounced() == announced {
				t.Errorf("announced %t: unannounced is %t", announced, l.tested.Unannounced())
			}
			// The direction to the peer is still open.
			if err := l.tested.Write([]byte("after your end")); err != nil {
				t.Errorf("announced %t: writing after the peer's end: %v", announced, err)
			}
			l.carry()
			if data, _ := drain(l.peer); string(data) != "after your end" {
				t.Errorf("announced %t: after its end the peer read %q", announced, data)
			}
		}
	})
}
