package accesslog

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
	"github.com/whyspin/whyspin/internal/tlsconn"
)

// accepted is the moment of the records in the tables: in local time, as the lines are.
var accepted = time.Date(2026, time.November, 6, 12, 13, 14, 655_999_000, time.Local)

func address(text string) sys.Address { return sys.Address{IP: netip.MustParseAddrPort(text)} }

// record returns an orderly ended stream of listen section "smtp", server "mx1", changed by f.
func record(f func(*engine.Record)) *engine.Record {
	smtp := &config.Proxy{Name: "smtp"}
	r := &engine.Record{
		Accepted: accepted, Frontend: smtp, Bind: &config.Bind{ID: 2}, Backend: smtp,
		Server: &config.Server{Name: "mx1"},
		Client: address("10.0.1.2:33313"), Front: address("10.0.1.1:25"),
		Queue: 0, Connect: 2900 * time.Microsecond, Total: 5007 * time.Millisecond,
		ToClient: 212, ProcessConns: 5, FrontendConns: 4, BackendConns: 3, ServerConns: 2,
	}
	f(r)
	return r
}

func TestLines(t *testing.T) {
	tests := []struct {
		name string
		edit func(*engine.Record)
		want string
	}{
		{"an orderly stream", func(*engine.Record) {},
			"10.0.1.2:33313 [06/Nov/2026:12:13:14.655] smtp smtp/mx1 0/2/5007 212 -- 5/4/2/2/0 0/0"},
		{"IPv6 without brackets and zone",
			func(r *engine.Record) { r.Client = address("[fe80::1%eth0]:33313") },
			"fe80::1:33313 [06/Nov/2026:12:13:14.655] smtp smtp/mx1 0/2/5007 212 -- 5/4/2/2/0 0/0"},
		{"a unix client is the number of its listener", func(r *engine.Record) { r.Client = sys.Address{} },
			"unix:2 [06/Nov/2026:12:13:14.655] smtp smtp/mx1 0/2/5007 212 -- 5/4/2/2/0 0/0"},
		{"redispatched after two retries", func(r *engine.Record) { r.Retries, r.Redispatched = 2, true },
			"10.0.1.2:33313 [06/Nov/2026:12:13:14.655] smtp smtp/mx1 0/2/5007 212 -- 5/4/2/2/+2 0/0"},
		{"no connection came about", func(r *engine.Record) {
			r.Connect, r.ToClient, r.Ending = -1, 0, stream.Ending{By: 's', During: 'C'}
		}, "10.0.1.2:33313 [06/Nov/2026:12:13:14.655] smtp smtp/mx1 0/-1/5007 0 sC 5/4/2/2/0 0/0"},
		{"the client left the queue", func(r *engine.Record) {
			r.Server, r.ServerConns, r.Queue, r.Connect, r.BackendQueue = nil, 0, -1, -1, 7
			r.ToClient, r.Ending = 0, stream.Ending{By: 'C', During: 'Q'}
		}, "10.0.1.2:33313 [06/Nov/2026:12:13:14.655] smtp smtp/<NOSRV> -1/-1/5007 0 CQ 5/4/2/0/0 0/7"},
		{"a frontend without a backend", func(r *engine.Record) {
			r.Backend, r.Server, r.BackendConns, r.ServerConns, r.Queue, r.Connect = nil, nil, 0, 0, -1, -1
			r.Total, r.ToClient, r.Ending = 0, 0, stream.Ending{By: 'S', During: 'C'}
		}, "10.0.1.2:33313 [06/Nov/2026:12:13:14.655] smtp smtp/<NOSRV> -1/-1/0 0 SC 5/4/0/0/0 0/0"},
		{"logged as soon as the server is reached", func(r *engine.Record) {
			r.Event, r.Total, r.ToClient = engine.RecordEstablished, 3*time.Millisecond, 0
		}, "10.0.1.2:33313 [06/Nov/2026:12:13:14.655] smtp smtp/mx1 0/2/+3 +0 -- 5/4/3/2/0 0/0"},
		{"killed for spinning", func(r *engine.Record) { r.Ending = stream.Ending{By: 'I', During: 'D'} },
			"10.0.1.2:33313 [06/Nov/2026:12:13:14.655] smtp smtp/mx1 0/2/5007 212 ID 5/4/2/2/0 0/0"},
		{"a client with TLS", func(r *engine.Record) { r.TLS = true },
			"10.0.1.2:33313 [06/Nov/2026:12:13:14.655] smtp~ smtp/mx1 0/2/5007 212 -- 5/4/2/2/0 0/0"},
		{"the client left its handshake", func(r *engine.Record) {
			r.Event, r.TLS, r.Ending = engine.RecordHandshake, true, stream.Ending{By: 'C', During: 'R'}
			r.Handshake = &tlsconn.Error{Cause: tlsconn.CauseCut, Err: io.EOF}
		}, "10.0.1.2:33313 [06/Nov/2026:12:13:14.655] smtp/2: Connection closed during SSL handshake"},
		{"the client's handshake took too long", func(r *engine.Record) {
			r.Event, r.TLS, r.Ending = engine.RecordHandshake, true, stream.Ending{By: 'c', During: 'R'}
			r.Handshake = &tlsconn.Error{Cause: tlsconn.CauseAborted, Err: io.EOF}
		}, "10.0.1.2:33313 [06/Nov/2026:12:13:14.655] smtp/2: Timeout during SSL handshake"},
		{"the client's handshake failed", func(r *engine.Record) {
			r.Event, r.TLS, r.Ending = engine.RecordHandshake, true, stream.Ending{By: 'C', During: 'R'}
			r.Handshake = &tlsconn.Error{Cause: tlsconn.CausePlainHTTP, Err: io.EOF}
			r.Bind = &config.Bind{ID: 2, Name: "outside"}
		}, "10.0.1.2:33313 [06/Nov/2026:12:13:14.655] smtp/outside: SSL handshake failure"},
		{"the default format", func(r *engine.Record) { r.Event = engine.RecordConnect },
			"Connect from 10.0.1.2:33313 to 10.0.1.1:25 (smtp/TCP)"},
		{"the default format, from IPv6", func(r *engine.Record) {
			r.Event, r.Client, r.Front = engine.RecordConnect, address("[::1]:40001"), address("[::1]:25")
		}, "Connect from ::1:40001 to ::1:25 (smtp/TCP)"},
		{"the default format, by a unix socket", func(r *engine.Record) {
			r.Event, r.Client, r.Front = engine.RecordConnect, sys.Address{}, sys.Address{Path: "/run/a"}
		}, "Connect to unix:2 (smtp/TCP)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := string(appendBody(nil, &entry{record: record(test.edit)}, &processFacts{}))
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestMessagesStayOneLine(t *testing.T) {
	got := string(appendBody(nil, &entry{text: "stuck\n\tat läng\x7f"}, &processFacts{}))
	if want := "stuck#0A#09at läng#7F"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHeaders(t *testing.T) {
	at := time.Date(2026, time.November, 6, 2, 3, 4, 567_890_999, time.Local)
	zone := at.Format("-07:00")
	tests := []struct {
		format          config.LogFormat
		plain, withHost string
	}{
		{config.LogRFC3164, "<134>Nov  6 02:03:04 localhost tag[7]: text\n",
			"<134>Nov  6 02:03:04 mail tag[7]: text\n"},
		{config.LogLocal, "<134>Nov  6 02:03:04 tag[7]: text\n", "<134>Nov  6 02:03:04 tag[7]: text\n"},
		{config.LogRFC5424, "<134>1 2026-11-06T02:03:04.567890" + zone + " - tag 7 - - text\n",
			"<134>1 2026-11-06T02:03:04.567890" + zone + " mail tag 7 - - text\n"},
		{config.LogPriority, "<134>text\n", "<134>text\n"},
		{config.LogShort, "<6>text\n", "<6>text\n"},
		{config.LogTimed, "<6>2026-11-06T02:03:04.567890" + zone + " text\n",
			"<6>2026-11-06T02:03:04.567890" + zone + " text\n"},
		{config.LogISO, "2026-11-06T02:03:04.567890" + zone + " text\n",
			"2026-11-06T02:03:04.567890" + zone + " text\n"},
		{config.LogRaw, "text\n", "text\n"},
	}
	for _, test := range tests {
		f := formatter{body: []byte("text")}
		to := target{format: test.format, facility: 16, maxLen: defaultMaxLen}
		if got := string(f.line(&to, "tag", 7, Info, at)); got != test.plain {
			t.Errorf("format %d: got %q, want %q", test.format, got, test.plain)
		}
		to.hostname = "mail"
		if got := string(f.line(&to, "tag", 7, Info, at)); got != test.withHost {
			t.Errorf("format %d with a host name: got %q, want %q", test.format, got, test.withHost)
		}
	}
}

func TestLinesAreCutAtTheLengthOfTheirTarget(t *testing.T) {
	f := formatter{body: []byte("0123456789")}
	for _, test := range []struct {
		name string
		to   target
		want string
	}{
		{"the header counts", target{format: config.LogShort}, "<6>01234\n"},
		{"without a header the line end counts", target{format: config.LogRaw}, "0123456\n"},
		{"on a descriptor it does, too", target{format: config.LogShort, descriptor: true}, "<6>0123\n"},
	} {
		test.to.maxLen = 8
		if got := string(f.line(&test.to, "tag", 7, Info, accepted)); got != test.want {
			t.Errorf("%s: got %q, HAProxy writes %q", test.name, got, test.want)
		}
	}
}

func BenchmarkLine(b *testing.B) {
	r := record(func(*engine.Record) {})
	f := formatter{}
	to := target{format: config.LogLocal, facility: 16, maxLen: defaultMaxLen}
	b.ReportAllocs()
	for b.Loop() {
		f.body = appendBody(f.body[:0], &entry{record: r}, &processFacts{})
		f.line(&to, "tag", 7, Info, accepted)
	}
}
