package engine

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/proxyheader"
	"github.com/whyspin/whyspin/internal/stream"
)

const introduction = "PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n"

func acceptProxy(_ *config.Config, p *config.Proxy) { p.Binds[0].AcceptProxy = true }

// TestAHeaderComesInPieces: at each byte of it the proxy may wait. What follows is the stream's, or that of
// its handshake.
func TestAHeaderComesInPieces(t *testing.T) {
	for _, secure := range []bool{false, true} {
		s := settings{change: acceptProxy}
		server, client := testTLS(tls.VersionTLS13)
		if secure {
			s.tls = server
		}
		p := start(t, s, serve(t, echo))
		for cut := 1; cut <= len(introduction); cut += 9 {
			c := p.dial()
			if _, err := io.WriteString(c, introduction[:cut]); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the first piece to be read", func() bool {
				return slices.ContainsFunc(p.views(), func(v StreamView) bool {
					return v.ServerState == stream.Initial && v.Ends[stream.Client].Reads > 0
				})
			})
			rest := &introduced{c, introduction[cut:]}
			conn := halfConn(rest)
			if secure {
				conn = tls.Client(rest, client)
			}
			if _, err := io.WriteString(conn, "hello"); err != nil {
				t.Fatal(err)
			}
			if err := conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(conn); string(got) != "hello" || err != nil {
				t.Fatalf("cut at %d, TLS %v: %q, %v", cut, secure, got, err)
			}
			c.Close()
		}
		for _, r := range p.ended(5) {
			if r.Client.String() != "192.0.2.1:1000" || r.Ending.String() != "--" {
				t.Errorf("TLS %v: the client is %v, %v, %v", secure, r.Client, r.Ending, r.Handshake)
			}
		}
	}
}

// introduced sends the rest of a header with its first bytes.
type introduced struct {
	*net.TCPConn
	header string
}

func (i *introduced) Write(b []byte) (int, error) {
	n, err := i.TCPConn.Write(append([]byte(i.header), b...))
	n -= len(i.header)
	i.header = ""
	return max(n, 0), err
}

// TestAHeaderThatDoesNotCome: every way in which a header can be missing ends the stream, and is named.
func TestAHeaderThatDoesNotCome(t *testing.T) {
	k := newClock()
	p := start(t, settings{kernel: k, change: acceptProxy}, serve(t, echo))
	tests := []struct {
		name, bytes string
		end         func(*net.TCPConn)
		want        error
		ending      string
	}{
		{"nothing", "", func(c *net.TCPConn) { c.Close() }, proxyheader.ErrEmpty, "CR"},
		{"a part", introduction[:20], func(c *net.TCPConn) { c.Close() }, proxyheader.ErrTruncated, "CR"},
		{"a reset", introduction[:20], func(c *net.TCPConn) {
			_ = c.SetLinger(0)
			c.Close()
		}, proxyheader.ErrBroken, "CR"},
		{"something else", "EHLO", func(*net.TCPConn) {}, proxyheader.ErrNotHeader, "CR"},
		{"silence", introduction[:20], func(*net.TCPConn) { k.now.Add(int64(time.Minute)) },
			proxyheader.ErrTimeout, "cR"},
	}
	for i, test := range tests {
		c := p.dial()
		if _, err := io.WriteString(c, test.bytes); err != nil {
			t.Fatal(err)
		}
		if test.want != proxyheader.ErrNotHeader {
			eventually(t, "the proxy to wait", func() bool {
				return slices.ContainsFunc(p.views(), func(v StreamView) bool {
					return test.bytes == "" || v.Ends[stream.Client].Reads > 0
				})
			})
		}
		test.end(c)
		for _, w := range p.engine.workers {
			k.Wake(w.waker)
		}
		r := p.ended(i + 1)[i]
		if !errors.Is(r.Handshake, test.want) || r.Ending.String() != test.ending ||
			r.Event != RecordHandshake {
			t.Errorf("%s: %v, %v, event %v, want %v, %s", test.name, r.Handshake, r.Ending, r.Event,
				test.want, test.ending)
		}
		c.Close()
	}
}

// TestAKillOrderEndsTheWaitForAHeader: as it does everything.
func TestAKillOrderEndsTheWaitForAHeader(t *testing.T) {
	p := start(t, settings{change: acceptProxy}, serve(t, echo))
	c := p.dial()
	eventually(t, "the client to be there", func() bool { return len(p.views()) == 1 })
	if got := p.engine.Kill(p.views()[0].ID, stream.KillAdmin); got == KillUnknown {
		t.Fatal(got)
	}
	if r := p.ended(1)[0]; r.Ending.String() != "KR" {
		t.Errorf("it ended with %v", r.Ending)
	}
	c.Close()
}
