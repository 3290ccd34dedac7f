package profile

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/ktime"
)

var update = flag.Bool("update", false, "rewrite the golden profiles")

// began is the wall-clock time of every case here.
var began = time.Date(2025, 3, 4, 5, 6, 7, 0, time.UTC)

const second = ktime.Time(time.Second)

// server is a foreign program that was sampled: in the kernel, in a named and in an unnamed function.
func server() *evidence.Case {
	main := evidence.Frame{Function: "main", Object: "/usr/sbin/server", Address: 0x1080}
	loop := evidence.Frame{Object: "/usr/sbin/server", Address: 0x2210, Start: 0x2200}
	send := evidence.Frame{Function: "__send", Object: "/lib/libc.so.6", Address: 0xf310}
	hot := evidence.Frame{Function: "parse", Object: "/usr/sbin/server", Address: 0x3010, File: "parse.c",
		Line: 7}
	inKernel := evidence.Frame{Function: "tcp_sendmsg", Object: "[kernel]", Address: 1 << 63}
	return &evidence.Case{
		Process: evidence.Process{PID: 7, Command: "server", Kind: evidence.KindGeneric},
		Window: &evidence.Window{
			PID: 7, Start: 100 * second, End: 102 * second,
			Hooks: evidence.Hooks{Syscall: evidence.Know("tp_btf"), Samples: evidence.Know("perf_event")},
			Threads: []evidence.Thread{{TID: 7, Name: "server", Sets: []evidence.EpollSet{
				{FD: 4, Waits: evidence.Waits{evidence.TimeoutZero: {evidence.ResultNone: 500}}}}}},
			Descriptors: []evidence.Descriptor{{FD: 12, Read: evidence.IO{Calls: 9, Tiny: 5},
				Socket: evidence.Know(evidence.Socket{Kind: "tcp", Remote: "192.0.2.1:40000"})}},
			Resets: []evidence.Reset{{Remote: "192.0.2.1:40000", Side: evidence.SideClient}},
			Samples: &evidence.Samples{
				Period: 10 * time.Millisecond, Lost: 3,
				Stacks: []evidence.Stack{
					{TID: 7, Count: 40, User: []evidence.Frame{hot, loop, main}},
					{TID: 7, Count: 20, User: []evidence.Frame{send, loop, main},
						Kernel: []evidence.Frame{inKernel}},
					{TID: 7, Count: 2, User: []evidence.Frame{{Address: 0x7f0000}}, Truncated: true},
					{TID: 7, Count: 1, Kernel: []evidence.Frame{{Object: "[kernel]", Address: 1<<63 + 1}}},
				},
				Unknown: []string{"1 stacks are deeper than the part of them that was copied"},
			},
		},
	}
}

// spinning is a whyspin with a stream that is woken without progress, beside healthy ones.
func spinning() *evidence.Case {
	snapshot := func(at ktime.Time, calls uint64) *evidence.Snapshot {
		return &evidence.Snapshot{
			At: at,
			Workers: []evidence.Worker{{Index: 1, TID: 21, EpollFD: 5, Wakeups: 2 * calls,
				NoProgress: calls + 3,
				Waits:      evidence.Waits{evidence.TimeoutZero: {evidence.ResultNone: calls}}}},
			Streams: []evidence.Stream{{
				ID: "0x2a", Worker: 1, Frontend: "smtp", Backend: "mail", Server: "s2", Age: time.Hour,
				Client: "192.0.2.9:999", Upstream: "198.51.100.1:25", ClientFD: -1, ServerFD: 31,
				Calls: calls, NoProgress: evidence.Know(calls),
				NoProgressSince: evidence.Know(40 * second), Cause: "timer",
			}},
		}
	}
	return &evidence.Case{
		Process: evidence.Process{PID: 20, Command: "whyspin", Kind: evidence.KindWhyspin},
		Before:  snapshot(100*second, 1000), After: snapshot(101*second, 301000),
		Window: &evidence.Window{
			PID: 20, Start: 100 * second, End: 101 * second,
			Threads: []evidence.Thread{{TID: 21, Name: "worker/1",
				Run: evidence.Know(900 * time.Millisecond)}},
			Descriptors: []evidence.Descriptor{{FD: 31, Write: evidence.IO{Tiny: 2},
				Socket: evidence.Know(evidence.Socket{Kind: "tcp", Remote: "198.51.100.1:25"})}},
			Resets:  []evidence.Reset{{Sent: true, Remote: "192.0.2.9:999", Side: evidence.SideClient}},
			Unknown: []string{"no stacks are sampled: permission denied"},
		},
	}
}

func TestGoldenProfiles(t *testing.T) {
	for name, c := range map[string]*evidence.Case{
		"server": server(), "spinning": spinning(),
		"nothing-observed": {Process: evidence.Process{PID: 1, Command: "x", Kind: evidence.KindGeneric},
			Unknown: []string{"the kernel's view: nothing can be seen of it"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := Build(c, began)
			if err := p.CheckValid(); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".txt")
			got := p.String()
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("run go test ./internal/profile -update if this is meant:\n%s", diff)
			}
		})
	}
}

func TestWakeupsAreThoseOfTheWindow(t *testing.T) {
	row := func(n uint64, since ktime.Time) evidence.Stream {
		return evidence.Stream{ID: "0x1", Age: time.Hour, Calls: 5000 + n, NoProgress: evidence.Know(n),
			NoProgressSince: evidence.Know(since)}
	}
	young := row(40, 0)
	young.Age = 10 * time.Millisecond
	for _, tt := range []struct {
		name            string
		before          []evidence.Stream
		after           evidence.Stream
		all, noProgress uint64
	}{
		{"a row that goes on", []evidence.Stream{row(1000, 3)}, row(3000, 3), 2000, 2000},
		{"a row that began in the window", []evidence.Stream{row(1000, 3)}, row(1500, 9), 500, 1500},
		{"a stream that was in order before", nil, row(300, 9), 300, 300},
		{"a stream that was born in the window", nil, young, 5040, 40},
	} {
		b := &builder{c: &evidence.Case{Before: &evidence.Snapshot{At: second, Streams: tt.before},
			After: &evidence.Snapshot{At: 2 * second}}}
		if all, noProgress := b.wakeups(&tt.after); all != tt.all || noProgress != tt.noProgress {
			t.Errorf("%s: %d and %d, want %d and %d", tt.name, all, noProgress, tt.all, tt.noProgress)
		}
	}
}

func TestSummary(t *testing.T) {
	got := Summarize(server())
	if got.Samples != 63 || got.Lost != 3 || got.Unwound != evidence.Know(60.0/62) {
		t.Errorf("%+v", got)
	}
	if got := Summarize(&evidence.Case{}); got.Unwound.IsKnown() {
		t.Errorf("without samples: %+v", got)
	}
}

// written writes the profile of a case to a file.
func written(t *testing.T, c *evidence.Case) string {
	t.Helper()
	var out bytes.Buffer
	if err := Write(&out, c, began); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "profile.pb.gz")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
