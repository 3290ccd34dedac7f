package engine

import (
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/fault"
	"github.com/whyspin/whyspin/internal/stream"
)

// insecure is what happens on a client's connection within TLS, or within its handshake.
type insecure struct {
	name  string
	fault fault.Set
	// traffic is what a client does on a new connection.
	traffic func(*testing.T, *tls.Config, *net.TCPConn)
	// tls is how the client's TLS stands then; over is true exactly when a healthy stream has ended.
	tls  string
	over bool
}

var insecureTraffic = []insecure{
	{
		name: "half a hello", fault: fault.TLSWantReadArmedWrite, traffic: halfHello,
		tls: "handshake, want-read, record incomplete",
	},
	{
		name: "half a record", fault: fault.TLSWantReadArmedWrite, traffic: halfRecord,
		tls: "established, want-read, record incomplete",
	},
	{
		name: "a reset in the handshake", fault: fault.TLSErrorSwallowed, over: true,
		traffic: func(t *testing.T, config *tls.Config, c *net.TCPConn) {
			halfHello(t, config, c)
			resetNow(t, c)
		},
		tls: "handshake, error not passed up: connection broken: connection reset by peer",
	},
	{
		name: "a reset", fault: fault.TLSErrorSwallowed, over: true,
		traffic: func(t *testing.T, config *tls.Config, c *net.TCPConn) {
			talk(t, config, c)
			resetNow(t, c)
		},
		tls: "established, error not passed up: connection broken: connection reset by peer",
	},
	{
		name: "a reset in a record", fault: fault.TLSErrorSwallowed, over: true,
		traffic: func(t *testing.T, config *tls.Config, c *net.TCPConn) {
			halfRecord(t, config, c)
			resetNow(t, c)
		},
		tls: "established, error not passed up: connection broken: connection reset by peer",
	},
}

// halfHello sends the first half of a handshake's first message.
func halfHello(t *testing.T, config *tls.Config, c *net.TCPConn) {
	t.Helper()
	hello := recordHello(t, config)
	if _, err := c.Write(hello[:len(hello)/2]); err != nil {
		t.Fatal(err)
	}
}

// halfRecord has a handshake and an answer, and then sends the header of a record and a part of the rest.
func halfRecord(t *testing.T, config *tls.Config, c *net.TCPConn) {
	t.Helper()
	talk(t, config, c)
	if _, err := c.Write([]byte("\x17\x03\x03\x01\x00half")); err != nil {
		t.Fatal(err)
	}
}

// talk has a handshake and an answer from an echo.
func talk(t *testing.T, config *tls.Config, c *net.TCPConn) *tls.Conn {
	t.Helper()
	s := tls.Client(c, config)
	if _, err := s.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	return s
}

func resetNow(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if err := c.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// start runs a proxy with the fault, or without it, and brings the traffic onto it.
func (i *insecure) start(t *testing.T, f fault.Set) *proxy {
	t.Helper()
	server, client := testTLS(0)
	p := start(t, settings{mayBreak: f != 0, change: withFault(f), tls: server}, serve(t, echo))
	i.traffic(t, client, p.dial())
	return p
}

// stands waits until the client's TLS stands so.
func (p *proxy) stands(want string) {
	p.t.Helper()
	got := ""
	eventually(p.t, "the client's TLS to stand at "+want, func() bool {
		if v := p.views(); len(v) == 1 && v[0].Ends[stream.Client].TLS != nil {
			got = v[0].Ends[stream.Client].TLS.String()
		}
		return got == want
	})
}

func TestAFaultInTLSSpinsAndIsKilled(t *testing.T) {
	for _, tt := range insecureTraffic {
		t.Run(tt.name, func(t *testing.T) {
			p := tt.start(t, tt.fault)
			p.stands(tt.tls)
			s := p.nextSuspicion()
			v := p.views()
			if len(v) != 1 || s.Stream != v[0].ID || s.Cause != "client event" {
				t.Errorf("suspicion of %s by %q, should be of the one stream by client event", s.Subject(),
					s.Cause)
			}
			// The ledger's account of a wakeup has what the dump has.
			want, _, _ := strings.Cut(strings.TrimPrefix(tt.tls, "established, "), ": ")
			state := v[0].State()
			if last := state.History[len(state.History)-1]; last.ClientTLS != want || !last.NoProgress {
				t.Errorf("the latest wakeups are %+v, TLS should be %q", last, want)
			}
			if p.engine.Kill(s.Stream, stream.KillSpin) != KillEnded {
				t.Errorf("%s cannot be killed", s.Subject())
			}
			p.ended(1)
			p.sleeps("after the remedy")
		})
	}
}

func TestItsTrafficIsHarmlessWithoutAFaultInTLS(t *testing.T) {
	for _, tt := range insecureTraffic {
		t.Run(tt.name, func(t *testing.T) {
			p := tt.start(t, 0)
			if tt.over {
				p.ended(1)
			} else {
				p.stands(tt.tls)
			}
			p.sleeps("without the fault")
			if w := p.engine.Workers()[0]; w.Charged != 0 {
				t.Errorf("%d of %d wakeups were charged", w.Charged, w.Wakeups)
			}
		})
	}
}

// TestTLSOnALevelTriggeredDescriptor: what the faults do not touch works as ever, though the descriptor is
// of the other kind: the handshake, bytes that wait until the client reads, the end of each direction.
func TestTLSOnALevelTriggeredDescriptor(t *testing.T) {
	const length = 32 << 20
	server, client := testTLS(0)
	p := start(t, settings{change: withFault(fault.TLSErrorSwallowed), tls: server},
		serve(t, func(c *net.TCPConn) {
			_, _ = c.Write(make([]byte, length))
			echo(c)
		}))
	c := talkless(t, client, p.dial())
	eventually(t, "TLS to wait for room to write", func() bool {
		v := p.views()
		return len(v) == 1 && v[0].Ends[stream.Client].TLS.String() == "established, want-write"
	})
	p.sleeps("while the client does not read")
	if _, err := io.CopyN(io.Discard, c, length); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(c); err != nil || string(rest) != "hello" {
		t.Errorf("%q, %v, should be the echo and the end", rest, err)
	}
	c.Close()
	if end := p.ended(1)[0].Ending.String(); end != "--" {
		t.Errorf("the stream ended with %s", end)
	}
	p.sleeps("afterwards")
	if w := p.engine.Workers()[0]; w.Charged != 0 {
		t.Errorf("%d of %d wakeups were charged", w.Charged, w.Wakeups)
	}
}

// TestAHeaderOnALevelTriggeredDescriptor: what introduces a client may come in pieces there, too.
func TestAHeaderOnALevelTriggeredDescriptor(t *testing.T) {
	change := func(c *config.Config, front *config.Proxy) {
		withFault(fault.TLSErrorSwallowed)(c, front)
		acceptProxy(c, front)
	}
	p := start(t, settings{change: change}, serve(t, echo))
	c := p.dial()
	for _, piece := range []string{introduction[:9], introduction[9:] + "hello"} {
		if _, err := io.WriteString(c, piece); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a piece to be read", func() bool {
			v := p.views()
			return len(v) == 1 && v[0].Ends[stream.Client].Reads > 0
		})
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	p.sleeps("while nobody says anything")
}

// talkless has a handshake and nothing else.
func talkless(t *testing.T, config *tls.Config, c *net.TCPConn) *tls.Conn {
	t.Helper()
	s := tls.Client(c, config)
	if err := s.Handshake(); err != nil {
		t.Fatal(err)
	}
	return s
}
