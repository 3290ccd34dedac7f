package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/pprof/profile"
)

// TestProfileShowsTheStream takes a profile of the founding case: the wakeups without progress are under the
// frame of the guilty stream, which is under its server's, backend's, frontend's and thread's; and the CPU
// time is in functions of the proxy, under the same thread.
func TestProfileShowsTheStream(t *testing.T) {
	d := founding(t, func(configuration string) string { return configuration })
	if err := awaitOverdue(context.Background(), d.proxy, d.orphan); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "spin.pb.gz")
	out, err := exec.Command(program, "profile", "--pid", fmt.Sprint(d.proxy.pid()), "--for", "1s", "-o",
		name).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	p, err := profile.ParseData(data)
	if err != nil {
		t.Fatal(err)
	}
	value := func(name string) int {
		return slices.IndexFunc(p.SampleType, func(v *profile.ValueType) bool { return v.Type == name })
	}
	// Several clients may have left in the wrong moment: then there are several guilty streams.
	guilty, _ := sums(p, value("no_progress"), "stream "+d.orphan)
	healthy, spinning := sums(p, value("no_progress"), "[other streams]")
	if guilty < 1000 || spinning < 100*healthy {
		t.Errorf("of %d wakeups without progress %d are of the guilty stream, %d of healthy ones:\n%s",
			spinning+healthy, guilty, healthy, p)
	}
	zero, _ := sums(p, value("zero_timeout_waits"), "epoll_wait(timeout=0)")
	if zero < 1000 {
		t.Errorf("%d waits with a timeout of zero:\n%s", zero, p)
	}
	engine, rest := sums(p, value("cpu"), "github.com/whyspin/whyspin/internal/engine.(*worker).loop")
	if engine < rest {
		t.Errorf("%d ns of CPU time in the worker, %d elsewhere:\n%s", engine, rest, p)
	}
	for _, s := range p.Sample {
		if s.Value[value("no_progress")] < 1000 {
			continue
		}
		want := []string{"cause ", "stream ", "server ", "backend ", "frontend ", "thread "}
		for i, l := range s.Location {
			if len(s.Location) != len(want) || l.Line[0].Function.Name[:len(want[i])] != want[i] {
				t.Fatalf("frame %d of the stream is %q, want %q", i, l.Line[0].Function.Name, want)
			}
		}
		frame := s.Location[1].Line[0].Function.Name
		if got := s.Label["stream"]; len(got) != 1 || "stream "+got[0] != frame {
			t.Errorf("the label of the stream is %q, the frame %q", got, frame)
		}
	}
}

// sums adds up a value over the samples that have a function in their stack, and over the others.
func sums(p *profile.Profile, value int, function string) (with, without int64) {
	for _, s := range p.Sample {
		if slices.ContainsFunc(s.Location, func(l *profile.Location) bool {
			return l.Line[0].Function.Name == function
		}) {
			with += s.Value[value]
		} else {
			without += s.Value[value]
		}
	}
	return with, without
}
