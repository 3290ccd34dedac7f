package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/evidence"
)

var update = flag.Bool("update", false, "rewrite the golden reports")

func spin() *correlate.Diagnosis {
	return &correlate.Diagnosis{
		Process: evidence.Process{PID: 4711, Command: "whyspin", Kind: evidence.KindWhyspin,
			Version: "0.1.0"},
		Verdict: correlate.Spin, Window: 2 * time.Second, Socket: "/run/whyspin.sock",
		Hooks: evidence.Hooks{
			Socket: evidence.Know("tp_btf"), Syscall: evidence.Know("tp_btf"), Files: evidence.Know("iter"),
		},
		Streams: evidence.Know(3400),
		Threads: []correlate.Thread{
			{
				TID: 4712, CPU: evidence.Know(0.991), Slept: evidence.Know(0.0),
				Waits: evidence.Know(350123.4),
				Zero:  evidence.Know(1.0), Empty: evidence.Know(0.9999),
			},
			{TID: 4713, CPU: evidence.Know(0.01), Slept: evidence.Know(0.98)},
		},
		Findings: []correlate.Finding{
			{
				Class: correlate.T3, Confidence: 0.97,
				Stream: &evidence.Stream{
					ID: "0x2a00000003", Frontend: "smtp", Backend: "smtp-out", Server: "mx2",
					Client:   "192.0.2.7:20639",
					Upstream: "192.0.2.9:25", Age: 13*time.Hour + 40*time.Minute, ClientState: "CLO",
					ServerState: "EST", Calls: 310869292,
				},
				FD: &correlate.Descriptor{Number: 1086, Side: "server", Kind: "tcp",
					State: "ESTABLISHED", Mask: evidence.Know("")},
				Timer: &correlate.Timer{Name: "tunnel", Overdue: evidence.Know(49140 * time.Second)},
				Evidence: []correlate.Fact{
					{Text: "client side CLO, server side EST, both channels shut both ways",
						Source: "runtime API"},
					{Text: "epoll_wait(timeout=0)=0 by thread 4712", Count: evidence.Know[uint64](700123),
						Source: "syscall probe"},
				},
				History: []correlate.Step{
					{Since: -2500 * time.Millisecond, Text: "accepted; server side INI -> CON"},
					{Since: -3100 * time.Microsecond, Text: "the client's end of data (FIN); attempt 2"},
					{Text: "woken 700123 times for nothing, over 2.0 s (timer tunnel)"},
				},
				Remedy: `echo "shutdown session 0x2a00000003" | socat - /run/whyspin.sock`,
			},
			{
				Class: correlate.T3i, Confidence: 0.9, Idle: true,
				Stream: &evidence.Stream{ID: "0x2b00000009", ClientState: "CLO", ServerState: "EST",
					Age: 90 * time.Second},
				Remedy: "none",
			},
		},
		Unknown: []string{"CPU samples: not taken"},
	}
}

func unknownSpin() *correlate.Diagnosis {
	return &correlate.Diagnosis{
		Process: evidence.Process{PID: 99, Command: "proxy", Kind: evidence.KindGeneric},
		Verdict: correlate.Spin, Window: time.Second,
		Findings: []correlate.Finding{{
			Class: correlate.Unknown, Confidence: 0.8, Unknown: []string{"the state of its streams"},
			FD: &correlate.Descriptor{Number: 7, Side: "client", Kind: "tcp",
				Mask: evidence.Know("IN|RDHUP x500")},
			Timer:  &correlate.Timer{Name: "server read"},
			Remedy: "keep the process",
		}},
		Threads: []correlate.Thread{{TID: 99}},
	}
}

// foreign is a process that knows nothing of us, with a finding of each kind that has no stream.
func foreign() *correlate.Diagnosis {
	return &correlate.Diagnosis{
		Process: evidence.Process{PID: 99, Command: "server", Kind: evidence.KindGeneric,
			Surroundings: []string{"it runs in container c0ffee", "its control group may use 0.30 CPUs"}},
		Verdict: correlate.Spin, Window: time.Second,
		Findings: []correlate.Finding{
			{
				Class: correlate.F5, Confidence: 0.97, Remedy: "raise its limit of descriptors",
				FD: &correlate.Descriptor{Number: 6, Kind: "tcp", State: "LISTEN", Local: "192.0.2.1:25",
					Mask: evidence.Know("IN x700000")},
				Listener: &correlate.Listener{Number: 6, Address: "192.0.2.1:25",
					Waiting: evidence.Know[uint32](3), Backlog: evidence.Know[uint32](128)},
				Functions: []correlate.Function{{Name: "accept_all", Callers: []string{"run"}, Share: 0.9}},
				Evidence: []correlate.Fact{{Text: "calls of accept on the listener that failed",
					Count: evidence.Know[uint64](700_000), Source: "syscall probe"}},
			},
			{Class: correlate.C1, Confidence: 0.9, Destination: "192.0.2.9:25", Remedy: "bring it up"},
			{Class: correlate.F1, Confidence: 0.8, Partial: true, Remedy: "restart it",
				FD: &correlate.Descriptor{Number: 7, Kind: "pipe", Mask: evidence.Know("OUT x9000")}},
			{Class: correlate.B1, Confidence: 0.8, Remedy: "restart it"},
		},
	}
}

func diagnoses() map[string]*correlate.Diagnosis {
	healthy := &correlate.Diagnosis{
		Process: evidence.Process{PID: 4711, Command: "whyspin", Kind: evidence.KindWhyspin},
		Verdict: correlate.Healthy, Window: 2 * time.Second, Streams: evidence.Know(200),
		Threads: []correlate.Thread{{
			TID: 4712, CPU: evidence.Know(0.4), Slept: evidence.Know(0.58), Waits: evidence.Know(9000.0),
			Zero: evidence.Know(0.1), Empty: evidence.Know(0.05),
		}},
	}
	blind := &correlate.Diagnosis{
		Process: evidence.Process{PID: 4711, Command: "whyspin", Kind: evidence.KindWhyspin},
		Verdict: correlate.NotObserved, Unknown: []string{"system calls: no permission to load probes"},
	}
	return map[string]*correlate.Diagnosis{
		"spin": spin(), "unknown": unknownSpin(), "healthy": healthy, "not-observed": blind,
		"foreign": foreign(), "stall": stall(), "inefficient": inefficient(),
	}
}

// stall is what only a program that describes itself can be told: a lost edge, and beside it a timer that
// lies ahead, a listener with its limit, and a worker that is stuck at a stream.
func stall() *correlate.Diagnosis {
	d := spin()
	held := *d.Findings[0].Stream
	d.Verdict = correlate.Stall
	d.Findings = []correlate.Finding{
		{Class: correlate.S1, Confidence: 0.92, Idle: true, Stalled: true, Stream: &held,
			Remedy: "restart it",
			FD: &correlate.Descriptor{Number: 20, Side: "client", Kind: "tcp", State: "ESTABLISHED",
				Mask: evidence.Know("")},
			Evidence: []correlate.Fact{
				{Text: "bytes wait in descriptor 20 to be read, and the stream waits to be told",
					Count: evidence.Know[uint64](500), Source: "descriptor iterator", Weight: 0.8},
				{Text: "events and calls on descriptor 20 in the window, which is edge-triggered",
					Count: evidence.Know[uint64](0), Source: "syscall probe", Weight: 0.6},
			}},
		{Class: correlate.T2, Confidence: 0.9, Remedy: "restart it",
			Timer: &correlate.Timer{Name: "tunnel", Ahead: evidence.Know(time.Hour)}},
		{Class: correlate.F5, Confidence: 0.9, Remedy: "raise the limit", Listener: &correlate.Listener{
			Number: 6, Address: "192.0.2.1:25", Frontend: "smtp", Limit: "maxconn 10 of the frontend",
			Error: "too many open files"}},
		{Class: correlate.B1, Confidence: 0.9, Remedy: "restart it",
			Stream: &evidence.Stream{ID: "0x2a00000003", ClientFD: -1, ServerFD: -1}},
	}
	return d
}

// inefficient costs more than it need.
func inefficient() *correlate.Diagnosis {
	d := spin()
	slow := d.Findings[0].Stream
	d.Verdict, d.Findings = correlate.Inefficient, nil
	d.Inefficiencies = []correlate.Inefficiency{
		{Class: correlate.B4, CPU: evidence.Know(0.123), By: "call counts", TID: 4712, Calls: 800_000,
			Bytes: 400_000, Descriptors: []int{20, 24}, Streams: []*evidence.Stream{slow},
			Evidence: []correlate.Fact{{Text: "reads that moved 1 to 16 bytes",
				Count: evidence.Know[uint64](400_000), Source: "syscall probe"}}},
		{Class: correlate.B4, Calls: 80_000, Bytes: 80_000, Descriptors: []int{9},
			Unknown: []string{"the share of a CPU that they cost"}},
	}
	return d
}

func TestGoldenReports(t *testing.T) {
	for name, d := range diagnoses() {
		for extension, write := range map[string]func(*bytes.Buffer) error{
			"txt":  func(b *bytes.Buffer) error { return Text(b, d) },
			"json": func(b *bytes.Buffer) error { return JSON(b, d) },
		} {
			t.Run(name+"."+extension, func(t *testing.T) {
				var got bytes.Buffer
				if err := write(&got); err != nil {
					t.Fatal(err)
				}
				path := filepath.Join("testdata", name+"."+extension)
				if *update {
					if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), got.String()); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// TestKeysOfTheContract compares the keys of a full report with those of the interface document.
func TestKeysOfTheContract(t *testing.T) {
	var out bytes.Buffer
	d := spin()
	d.Findings[0].FD.Mask = evidence.Know("IN x3")
	if err := JSON(&out, d); err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	first := func(key string) map[string]any { return doc[key].([]any)[0].(map[string]any) }
	f := first("findings")
	for _, tt := range []struct {
		object map[string]any
		keys   string
	}{
		{doc, "findings inefficiencies schema target threads verdict window"},
		{doc["target"].(map[string]any), "command kind pid version"},
		{doc["window"].(map[string]any), "probes seconds unknown"},
		{first("threads"),
			"blocked_share cpu_share tid waits_per_second zero_return_share zero_timeout_share"},
		{f, "class confidence evidence fd history name remedy stream timer unknown"},
		{f["stream"].(map[string]any),
			"age_seconds backend calls client client_state frontend id server server_state upstream"},
		{f["fd"].(map[string]any), "kind mask number side state"},
		{f["timer"].(map[string]any), "name overdue_seconds"},
		{f["evidence"].([]any)[1].(map[string]any), "count fact source"},
	} {
		if got := sortedKeys(tt.object); got != tt.keys {
			t.Errorf("keys %q, should be %q", got, tt.keys)
		}
	}
}

func sortedKeys(m map[string]any) string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	for i := range keys {
		for j := i + 1; j < len(keys); j++ {
			if keys[j] < keys[i] {
				keys[i], keys[j] = keys[j], keys[i]
			}
		}
	}
	return strings.Join(keys, " ")
}

// TestTextIsNeverLongerThanAScreen has more of everything than can be shown.
func TestTextIsNeverLongerThanAScreen(t *testing.T) {
	d := spin()
	for range 50 {
		d.Findings = append(d.Findings, d.Findings[1])
		d.Threads = append(d.Threads, d.Threads[0])
		d.Unknown = append(d.Unknown, d.Unknown[0])
		d.Findings[0].Evidence = append(d.Findings[0].Evidence, d.Findings[0].Evidence[1])
		d.Findings[0].Unknown = append(d.Findings[0].Unknown, "something")
	}
	var out bytes.Buffer
	if err := Text(&out, d); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n > maxLines {
		t.Errorf("%d lines, should be at most %d", n, maxLines)
	}
	if !strings.Contains(out.String(), d.Findings[0].Remedy) {
		t.Error("the remedy was cut")
	}
}

// TestLogLineFitsIntoOne: HAProxy's default length of a log line is 1024, and the line begins with a header.
func TestLogLineFitsIntoOne(t *testing.T) {
	d := spin()
	for i := range d.Findings {
		text := LogLine(&d.Findings[i])
		if len(text) > 800 || !json.Valid([]byte(text)) {
			t.Errorf("%d bytes: %s", len(text), text)
		}
	}
	if text := LogLine(&d.Findings[0]); !strings.Contains(text, `"id":"0x2a00000003"`) ||
		strings.Contains(text, "evidence") {
		t.Errorf("the line is %s", text)
	}
}

// TestWhatDoesNotApplyIsNotUnknown: of no waits there is no share, which is not the same as not to know it.
func TestWhatDoesNotApplyIsNotUnknown(t *testing.T) {
	for _, c := range []struct {
		waits      evidence.Observed[float64]
		json, text string
	}{
		{evidence.Know(0.0), `"waits_per_second": 0`, "0             -  -"},
		{evidence.Observed[float64]{}, `"zero_return_share": null`, "?             ?  ?"},
	} {
		d := &correlate.Diagnosis{Threads: []correlate.Thread{{TID: 7, Waits: c.waits}}}
		var asJSON, text strings.Builder
		if err := errors.Join(JSON(&asJSON, d), Text(&text, d)); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(asJSON.String(), c.json) || !strings.Contains(text.String(), c.text) ||
			c.waits.IsKnown() && strings.Contains(asJSON.String(), "zero_") {
			t.Errorf("%+v waits: %s%s", c.waits, asJSON.String(), text.String())
		}
	}
}
