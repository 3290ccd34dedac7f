package haproxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/ktime"
)

// printed is a stream as it is to be printed in a layout.
type printed struct {
	id, number     int
	calls          uint32
	exp            string
	client, server string // states
	shut           bool   // both channels, both ways
	total, fd      int
}

// old prints it as HAProxy 1.8 does.
func (p printed) old() string {
	flags := "0x808000"
	if p.shut {
		flags = "0x80a020"
	}
	return fmt.Sprintf(`0x%x: [22/Nov/2026:06:13:48.949067] id=%d proto=tcpv4 source=192.0.2.1:39400
  flags=0x1ce, conn_retries=2, srv_conn=0x55e34b667b20, pend_pos=(nil)
  frontend=smtp-in (id=2 mode=tcp), listener=? (id=1)
  backend=smtp-out (id=3 mode=tcp) addr=192.0.2.2:46926
  server=mx2 (id=2) addr=192.0.2.3:25
  task=0x55e34b6620b0 (state=0x04 nice=0 calls=%d exp=%s tmask=0x1, running age=5s)
  si[0]=0x55e34b661f98 (state=%s flags=0x00 endp0=NONE:0x55e34b661d20 exp=<NEVER>, et=0x000)
  si[1]=0x55e34b661fc0 (state=%s flags=0x10 endp1=NONE:0x55e34b660b60 exp=<NEVER>, et=0x000)
  co0=0x55e34b661af0 ctrl=tcpv4 xprt=RAW mux=PASS data=STRM target=LISTENER:0x55e34b6655b0
      flags=0x002c1000 fd=7 fd.state=00 fd.cache=0 updt=0 fd.tmask=0x0
  co1=0x55e34b6afee0 ctrl=tcpv4 xprt=RAW mux=PASS data=STRM target=SERVER:0x55e34b667b20
      flags=0x00203310 fd=%d fd.state=22 fd.cache=0 updt=0 fd.tmask=0x1
  req=0x55e34b661d70 (f=%s an=0x0 pipe=0 tofwd=-1 total=%d)
      an_exp=<NEVER> rex=<NEVER> wex=?
      buf=0x55e32bd2c680 data=0x55e32bd2c694 o=0 p=0 req.next=0 i=0 size=0
  res=0x55e34b661db0 (f=%s an=0x0 pipe=0 tofwd=0 total=0)
      an_exp=<NEVER> rex=? wex=<NEVER>
      buf=0x55e32bd2c680 data=0x55e32bd2c694 o=0 p=0 rsp.next=0 i=0 size=0
`, p.id, p.number, int32(p.calls), p.exp, p.client, p.server, p.fd, flags, p.total, flags)
}

// new prints it as HAProxy 2.8 and later do.
func (p printed) new() string {
	flags := [2]string{"0x00000000", "0x00000001"}
	if p.shut {
		flags = [2]string{"0x00060000", "0x00030001"}
	}
	return fmt.Sprintf(`0x%x: [22/Nov/2026:07:39:17.540269] id=%d proto=tcpv4 source=192.0.2.1:39400
  flags=0x4a, conn_retries=1, conn_exp=<NEVER> conn_et=0x000 srv_conn=0x55e5, pend_pos=(nil) waiting=0 epoch=0
  frontend=smtp-in (id=2 mode=tcp), listener=? (id=1) addr=127.0.0.1:25090
  backend=smtp-out (id=3 mode=tcp) addr=192.0.2.2:46926
  server=mx2 (id=2) addr=192.0.2.3:25
  task=0x55e58bd6dbd0 (state=0x00 nice=0 calls=%d rate=0 exp=%s tid=0(1/0) age=1s)
  scf=0x55e58bd6de80 flags=%s ioto=1m state=%s endp=CONN,0x55e58bd6dd70,0x50640001 sub=1 rex=? wex=<NEVER>
      co0=0x55e58bd6dae0 ctrl=tcpv4 xprt=RAW mux=PASS data=STRM target=LISTENER:0x55e58bd802e0
      flags=0x00000300 fd=7 fd.state=21 updt=0 fd.tmask=0x1
  scb=0x55e58bd6e360 flags=%s ioto=1m state=%s endp=CONN,0x55e58bd6e6f0,0x50600001 sub=1 rex=? wex=<NEVER>
      co1=0x55e58bd6e4d0 ctrl=tcpv4 xprt=RAW mux=PASS data=STRM target=SERVER:0x55e58bd805c0
      flags=0x10000300 fd=%d fd.state=10121 updt=0 fd.tmask=0x1
  req=0x55e58bd6df08 (f=0x808000 an=0x0 tofwd=-1 total=%d)
      an_exp=<NEVER> buf=0x55e58bd6df10 data=(nil) o=0 p=0 i=0 size=0
  res=0x55e58bd6df50 (f=0x80048101 an=0x0 tofwd=-1 total=0)
      an_exp=<NEVER> buf=0x55e58bd6df58 data=(nil) o=0 p=0 i=0 size=0
`, p.id, p.number, p.calls, p.exp, flags[0], p.client, flags[1], p.server, p.fd, p.total)
}

// healthy is a stream that nothing is the matter with.
func healthy() printed {
	return printed{id: 0xabc0, number: 7, calls: 10, exp: "4s", client: "EST", server: "EST", fd: 8}
}

// pair reads two dumps a second apart.
func pair(t *testing.T, first, second string) (before, after *evidence.Snapshot, d *Dumps) {
	t.Helper()
	d = &Dumps{}
	var err error
	if before, err = d.First(strings.NewReader(first+"\n"), Info{}, asked); err != nil {
		t.Fatal(err)
	}
	after, err = d.Second(strings.NewReader(second+"\n"), Info{}, asked.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return before, after, d
}

func TestWhichStreamsAreSuspect(t *testing.T) {
	for _, c := range []struct {
		name          string
		first, second func(*printed)
		suspect       bool
		climbed       uint64
		listedBefore  bool
		noProgress    evidence.Observed[uint64]
	}{
		{"an idle stream is not", func(*printed) {}, func(*printed) {}, false, 0, false, none},
		{"one that moves bytes is not, however often it runs", func(*printed) {}, func(p *printed) {
			p.calls, p.total = 1_000_000, 5
		}, false, 0, false, none},
		{"one that runs now and then is not", func(*printed) {}, func(p *printed) { p.calls = 20 },
			false, 0, false, none},
		{"one that runs all the time and moves nothing is", func(*printed) {},
			func(p *printed) { p.calls = 1_000_010 }, true, 1_000_000, true,
			evidence.Know[uint64](1_000_000)},
		{"its counter may pass the end of 32 bits", func(p *printed) { p.calls = 0xfffffff0 },
			func(p *printed) { p.calls = 999_984 }, true, 1_000_000, true, evidence.Know[uint64](1_000_000)},
		{"a timer in the past makes it suspect", func(p *printed) { p.exp = "<PAST>" },
			func(p *printed) { p.exp, p.calls = "<PAST>", 11 }, true, 1, true, evidence.Know[uint64](1)},
		{"not when bytes moved: it was merely late", func(p *printed) { p.exp = "<PAST>" },
			func(p *printed) { p.exp, p.calls, p.total = "<PAST>", 300, 9 }, false, 0, true, none},
		{"a half-state is, without a timer too", orphan, orphan, true, 0, true, evidence.Know[uint64](0)},
		{"a half-state of this moment is, and how it was before is not told", func(*printed) {}, orphan,
			true, 0, false, none},
		{"the same address may be another stream", func(p *printed) { orphan(p); p.number = 6 }, orphan,
			true, 0, false, none},
	} {
		for layout, print := range map[string]func(printed) string{"old": printed.old, "new": printed.new} {
			t.Run(c.name+", "+layout, func(t *testing.T) {
				first, second := healthy(), healthy()
				c.first(&first)
				c.second(&second)
				before, after, _ := pair(t, print(first), print(second))
				if after.StreamCount != 1 || before.StreamCount != 1 {
					t.Errorf("%d streams before, %d after, want 1", before.StreamCount, after.StreamCount)
				}
				if suspect := len(after.Streams) == 1; suspect != c.suspect {
					t.Fatalf("suspect: %t, want %t", suspect, c.suspect)
				}
				if listed := len(before.Streams) == 1; listed != c.listedBefore {
					t.Fatalf("listed before: %t, want %t", listed, c.listedBefore)
				}
				if !c.suspect {
					return
				}
				if got := after.Streams[0].NoProgress; got != c.noProgress {
					t.Errorf("runs without progress: %+v, want %+v", got, c.noProgress)
				}
				if !c.listedBefore {
					return
				}
				if climbed := after.Streams[0].Calls - before.Streams[0].Calls; climbed != c.climbed {
					t.Errorf("climbed by %d, want %d", climbed, c.climbed)
				}
			})
		}
	}
}

var none evidence.Observed[uint64]

// TestHowAStreamWasIsNotInvented: that it is in the run queue now says nothing of the first look.
func TestHowAStreamWasIsNotInvented(t *testing.T) {
	first, second := healthy(), healthy()
	second.calls = 1_000_010
	running := first.old()
	for dump, want := range map[string]bool{running: true,
		strings.Replace(running, ", running", "", 1): false} {
		before, after, _ := pair(t, dump, second.old())
		if got := before.Streams[0].Runnable; got != want || !after.Streams[0].Runnable {
			t.Errorf("in the run queue: %t, then %t; want %t, then true", got, after.Streams[0].Runnable,
				want)
		}
	}
}

func orphan(p *printed) { p.client, p.shut, p.exp = "CLO", true, "<NEVER>" }

// TestTimersOfChannelsThatNobodyWaitsFor: since 2.8 a side prints as past what its task does not wait for.
func TestTimersOfChannelsThatNobodyWaitsFor(t *testing.T) {
	for exp, want := range map[string][]evidence.Timer{
		"<NEVER>": nil,
		"4s":      {{Name: "stream", Deadline: asked.Add(4 * time.Second)}},
		"0s":      {{Name: "stream", Deadline: asked.Add(time.Second)}},
		"<PAST>": {
			{Name: "server read", Deadline: ktime.Never, Passed: true},
			{Name: "client read", Deadline: ktime.Never, Passed: true},
			{Name: "stream", Deadline: ktime.Never, Passed: true},
		},
	} {
		p := healthy()
		p.exp = exp
		_, err := ReadSessions(strings.NewReader(p.new()), func(s *Session) {
			if diff := cmp.Diff(want, s.Stream(asked).Timers); diff != "" {
				t.Errorf("exp=%s: %s", exp, diff)
			}
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestWhatIsPrintedOfTime(t *testing.T) {
	for text, want := range map[string]Expiry{
		"": {State: Lost}, "<NEVER>": {State: Never}, "<PAST>": {State: Past}, "?": {State: Past},
		"0s": {Future, 0}, "59s": {Future, 59 * time.Second}, "1m": {Future, time.Minute},
		"13h40m": {Future, 13*time.Hour + 40*time.Minute}, "49d17h": {Future, (49*24 + 17) * time.Hour},
		"-1s": {State: Lost}, "s": {State: Lost}, "12": {State: Lost}, "5y": {State: Lost},
		"99999999999d": {State: Lost}, "4000000000d": {State: Lost}, "999999999s": {Future, 999999999e9},
	} {
		if got := expiry([]byte(text)); got != want {
			t.Errorf("%q is %+v, want %+v", text, got, want)
		}
	}
	if got := shortExpiry(nil); got.State != Never {
		t.Errorf("nothing in the short form is %+v", got)
	}
}

// TestStreamsAreNoOlderThanTheirProcess: some 3.x print an age of 49 days in the first second.
func TestStreamsAreNoOlderThanTheirProcess(t *testing.T) {
	p := healthy()
	orphan(&p)
	text := strings.ReplaceAll(p.old(), "age=5s", "age=49d17h")
	var d Dumps
	s, err := d.First(strings.NewReader(text), Info{Uptime: evidence.Know(3 * time.Second)}, asked)
	if err != nil || len(s.Streams) != 1 || s.Streams[0].Age != 3*time.Second {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestTheDumpOfAnother(t *testing.T) {
	var d Dumps
	for _, text := range []string{"", "\n", "Unknown command. Please enter one of the following\n\n",
		"0x1: [x] id=1\n"} {
		if _, err := d.First(strings.NewReader(text), Info{}, asked); !errors.Is(err, ErrNoDump) {
			t.Errorf("%q: %v, want %v", text, err, ErrNoDump)
		}
	}
}

// TestCutShort ends a dump after every byte: what is whole is told, and that something is missing is said.
func TestCutShort(t *testing.T) {
	p := healthy()
	orphan(&p)
	q := p
	q.id, q.number = 0xdef0, 8
	text := p.old() + q.old() + "\n"
	for n := len(p.old()); n < len(text); n++ {
		var d Dumps
		s, err := d.First(strings.NewReader(text[:n]), Info{}, asked)
		if err != nil {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		if s.StreamCount < 1 || len(s.Unknown) != 1 || !strings.Contains(s.Unknown[0], "cut short") {
			t.Fatalf("after %d bytes: %d streams, unknown %q", n, s.StreamCount, s.Unknown)
		}
	}
}

func TestLinesOfANewerVersion(t *testing.T) {
	p := healthy()
	long := strings.Repeat("x", 3*maxLine)
	text := strings.Replace(p.new(), "  req=", "  quantum=1 f=0xffff\n  "+long+"=1\n  req=", 1)
	sum, err := ReadSessions(strings.NewReader(text), func(s *Session) {
		if s.Request.Flags != 0x808000 {
			t.Errorf("request flags 0x%x", s.Request.Flags)
		}
	})
	if err != nil || sum.Sessions != 1 || len(sum.Noted) != 2 || sum.Noted[0] != "quantum" {
		t.Errorf("%+v, %v", sum.Sessions, err)
	}
}

// TestMoreSuspectsThanAreTold has half-states beyond the limit.
func TestMoreSuspectsThanAreTold(t *testing.T) {
	var text strings.Builder
	for i := range maxSuspects + 5 {
		p := healthy()
		orphan(&p)
		p.id, p.number = 0x1000+16*i, i
		text.WriteString(p.old())
	}
	before, after, _ := pair(t, text.String(), text.String())
	for _, s := range []*evidence.Snapshot{before, after} {
		if s.StreamCount != maxSuspects+5 || len(s.Streams) != maxSuspects || len(s.Unknown) != 1 ||
			!strings.HasPrefix(s.Unknown[0], "5 more of its streams are suspect") {
			t.Errorf("%d streams, %d told, unknown %q", s.StreamCount, len(s.Streams), s.Unknown)
		}
	}
}

// crowd prints n streams without ever holding them, and before every thousandth calls look.
type crowd struct {
	n, at  int
	stream []byte // the text of one
	rest   []byte
	look   func()
}

// firstOfCrowd is the stream that all others are like, but for the address and the number.
const firstOfCrowd, firstAddress = 1_000_000, 0x7f0000000000

func newCrowd(n int, calls uint32, look func()) *crowd {
	s := healthy()
	s.id, s.number, s.calls = firstAddress, firstOfCrowd, calls
	return &crowd{n: n, stream: []byte(s.new()), look: look}
}

func (c *crowd) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		switch {
		case c.at > c.n:
			return 0, io.EOF
		case c.at == c.n:
			c.rest = []byte("\n")
		default:
			copy(c.stream, fmt.Sprintf("0x%x", firstAddress+c.at*0x380))
			at := bytes.Index(c.stream, []byte(" id="))
			copy(c.stream[at:], fmt.Sprintf(" id=%d", firstOfCrowd+c.at))
			c.rest = c.stream
		}
		if c.at++; c.at%1000 == 0 {
			c.look()
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// BenchmarkDump is the cost of reading a dump.
func BenchmarkDump(b *testing.B) {
	b.SetBytes(int64(len(newCrowd(1, 5, nil).stream)))
	b.ReportAllocs()
	if _, err := (&Dumps{}).First(newCrowd(b.N, 5, func() {}), Info{}, asked); err != nil {
		b.Fatal(err)
	}
}

// TestMemoryOfALargeDump reads two dumps of 100 000 streams in under 50 MB.
func TestMemoryOfALargeDump(t *testing.T) {
	const streams, limit = 100_000, 50 << 20
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	base, peak := stats.HeapAlloc, uint64(0)
	look := func() {
		runtime.ReadMemStats(&stats)
		peak = max(peak, stats.HeapAlloc-min(base, stats.HeapAlloc))
	}
	var d Dumps
	before, err := d.First(newCrowd(streams, 5, look), Info{}, asked)
	if err != nil {
		t.Fatal(err)
	}
	after, err := d.Second(newCrowd(streams, 1_000_000, look), Info{}, asked.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if before.StreamCount != streams || after.StreamCount != streams || len(after.Streams) != maxSuspects {
		t.Errorf("%d streams before, %d after, %d told", before.StreamCount, after.StreamCount,
			len(after.Streams))
	}
	if peak > limit {
		t.Errorf("%d MB of memory, should be under %d", peak>>20, limit>>20)
	}
	t.Logf("at most %.1f MB of memory", float64(peak)/(1<<20))
}

func TestStaleDescriptorsAreFoundOut(t *testing.T) {
	socket := func(fd int, local, remote string) evidence.Descriptor {
		return evidence.Descriptor{FD: fd, Socket: evidence.Know(evidence.Socket{Kind: "tcp", Local: local,
			Remote: remote, State: "ESTABLISHED"})}
	}
	files := evidence.Hooks{Files: evidence.Know("iter")}
	for _, c := range []struct {
		name   string
		window *evidence.Window
		fd     int
		said   string
	}{
		{"the table was not seen", nil, 8, "may print stale numbers"},
		{"the table says nothing", &evidence.Window{}, 8, "may print stale numbers"},
		{"it is that connection", &evidence.Window{Hooks: files, Descriptors: []evidence.Descriptor{
			socket(8, "192.0.2.2:46926", "192.0.2.3:25")}}, 8, ""},
		{"IPv4 in IPv6", &evidence.Window{Hooks: files, Descriptors: []evidence.Descriptor{
			socket(8, "[::ffff:192.0.2.2]:46926", "[::ffff:192.0.2.3]:25")}}, 8, ""},
		{"it is another connection with the same server", &evidence.Window{Hooks: files,
			Descriptors: []evidence.Descriptor{socket(8, "192.0.2.2:1", "192.0.2.3:25")}}, -1,
			"which is not a connection with 192.0.2.3:25"},
		{"it is another, and that connection is elsewhere", &evidence.Window{Hooks: files,
			Descriptors: []evidence.Descriptor{socket(8, "192.0.2.2:1", "192.0.2.3:25"),
				socket(9, "192.0.2.2:46926", "192.0.2.3:25")}}, 9, ""},
		{"nothing is open there", &evidence.Window{Hooks: files}, -1, "HAProxy prints 8"},
	} {
		p := healthy()
		orphan(&p)
		_, after, d := pair(t, p.old(), p.old())
		d.Confirm(c.window)
		if got := after.Streams[0].ServerFD; got != c.fd {
			t.Errorf("%s: descriptor %d, want %d", c.name, got, c.fd)
		}
		if said := strings.Join(after.Unknown, "; "); c.said == "" && said != "" ||
			!strings.Contains(said, c.said) {
			t.Errorf("%s: unknown is %q, should say %q", c.name, said, c.said)
		}
		if after.Streams[0].ClientFD != -1 {
			t.Errorf("%s: a closed side has descriptor %d", c.name, after.Streams[0].ClientFD)
		}
	}
}

// TestSessionsOfTheRuntimeAPI: the one that asked is left out, and so are others, unless one spins.
func TestSessionsOfTheRuntimeAPI(t *testing.T) {
	api := func(number int, calls uint32) string {
		p := printed{id: 0xcc0, number: number, calls: calls, exp: "10s", client: "EST", server: "EST"}
		text := strings.ReplaceAll(p.old(), "frontend=smtp-in", "frontend=GLOBAL")
		return strings.ReplaceAll(text, "backend=smtp-out", "backend=<NONE>")
	}
	before, after, _ := pair(t, api(1, 1), api(2, 1))
	if before.StreamCount+after.StreamCount+len(before.Streams)+len(after.Streams) != 0 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	_, after, _ = pair(t, api(1, 1), api(1, 5_000_000))
	if after.StreamCount != 0 || len(after.Streams) != 1 {
		t.Errorf("one that spins is not told: %+v", after)
	}
}

func TestAddressesOfSockets(t *testing.T) {
	for text, want := range map[string][]Socket{
		"/run/a.sock":       {{Kind: SocketUnix, Path: "/run/a.sock"}},
		"unix@a.sock":       {{Kind: SocketUnix, Path: "a.sock"}},
		"abns@a":            {{Kind: SocketAbstract, Path: "a", Padded: true}},
		"abnsz@a":           {{Kind: SocketAbstract, Path: "a"}},
		"fd@3":              {{Kind: SocketDescriptor, FD: 3}},
		"127.0.0.1:9999":    {{Kind: SocketTCP, Host: "127.0.0.1", Port: 9999}},
		"ipv4@*:9999-10010": {{Kind: SocketTCP, Port: 9999}},
		":9999":             {{Kind: SocketTCP, Port: 9999}},
		"ipv6@::1:9999":     {{Kind: SocketTCP, Host: "::1", Port: 9999}},
		"[::]:9999":         {{Kind: SocketTCP, Port: 9999}},
		"/a,tcp@mx.example:1": {{Kind: SocketUnix, Path: "/a"},
			{Kind: SocketTCP, Host: "mx.example", Port: 1}},
		"sockpair@3":           nil,
		"fd@x":                 nil,
		"localhost":            nil,
		"localhost:70000":      nil,
		"":                     nil,
		"/a.sock,mode,600,x:y": {{Kind: SocketUnix, Path: "/a.sock"}},
	} {
		if diff := cmp.Diff(want, ParseSockets(text)); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

// FuzzSessions checks that reading ends without a panic whatever an answer holds, and that what is read
// keeps what is promised.
func FuzzSessions(f *testing.F) {
	for _, folder := range folders(f) {
		for _, name := range []string{"show-sess-all.txt", "show-sess.txt", "show-fd.txt", "show-info.txt",
			"show-activity.txt"} {
			f.Add(read(f, folder, name))
		}
	}
	f.Add([]byte(healthy().new()))
	f.Add([]byte("global\n setenv A \"$A${B-x}\"\n no busy-polling\n" +
		" stats socket \"/$A\",*:1-2,fd@3,abns@x,::1:4 level user\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		reader := func() io.Reader { return bytes.NewReader(text) }
		check := func(s *Session) {
			e := s.Stream(asked)
			if !isAddress([]byte(e.ID)) || e.ClientFD < -1 || e.ServerFD < -1 || e.Age < 0 {
				t.Errorf("stream %+v", e)
			}
			for _, timer := range e.Timers {
				if timer.Passed == timer.Deadline.IsSet() || timer.Deadline.Passed(asked) {
					t.Errorf("timer %+v", timer)
				}
			}
		}
		if _, err := ReadSessions(reader(), check); err != nil {
			t.Error(err)
		}
		if _, err := ReadShort(reader(), check); err != nil {
			t.Error(err)
		}
		if err := ReadDescriptors(reader(), func(*Descriptor) {}); err != nil {
			t.Error(err)
		}
		info, err := ReadInfo(reader())
		if err != nil {
			t.Error(err)
		}
		if a, err := ReadActivity(reader()); err != nil || len(a.Counters) > maxCounters {
			t.Errorf("%d counters, %v", len(a.Counters), err)
		}
		c := ScanConfiguration([][]byte{text, text}, map[string]string{"A": string(text[:min(len(text), 9)])})
		for _, s := range c.Sockets {
			if s.Port < 0 || s.FD < 0 || s.Kind == SocketUnix && s.Path == "" {
				t.Errorf("socket %+v", s)
			}
		}
		var d Dumps
		if _, err := d.First(reader(), info, asked); err != nil {
			return
		}
		after, err := d.Second(reader(), info, asked.Add(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		d.Confirm(&evidence.Window{Hooks: evidence.Hooks{Files: evidence.Know("iter")}})
		if len(after.Streams) > after.StreamCount && !slices.ContainsFunc(after.Streams,
			func(e evidence.Stream) bool { return e.Backend == "" }) {
			t.Errorf("%d of %d streams", len(after.Streams), after.StreamCount)
		}
	})
}
