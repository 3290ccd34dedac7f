package probe

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/btf"

	"github.com/whyspin/whyspin/internal/sys"
)

// BenchmarkSampledThread is the CPU time of a thread that does the same work without and with samples being
// taken of it, in turns: the median of the ratios.
func BenchmarkSampledThread(b *testing.B) {
	p := load(b, Options{PID: os.Getpid(), Samples: true})
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	work := func() time.Duration {
		began := threadTime()
		for range 100 {
			spinSink += spinMiddle(spinSink)
		}
		return threadTime() - began
	}
	work()
	var ratios []float64
	for b.Loop() {
		without := work()
		r, err := p.BeginSampling()
		if err != nil {
			b.Fatal(err)
		}
		with := work()
		if _, err := r.End(); err != nil {
			b.Fatal(err)
		}
		ratios = append(ratios, float64(with)/float64(without))
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "ratio")
}

// BenchmarkSample takes over samples of a HAProxy under load, most of which have stacks in the kernel and in
// the program.
func BenchmarkSample(b *testing.B) {
	web, front := freePort(b), freePort(b)
	serveNginx(b, web)
	haproxy := serve(b, front, strings.NewReplacer("PORT", strconv.Itoa(front), "TO", strconv.Itoa(web)).
		Replace(proxyConfiguration), "haproxy", "-db", "-f", "FILE")
	wrk(b, front)
	load(b, Options{PID: haproxy.Process.Pid, Samples: true})
	s, err := loadSampler(haproxy.Process.Pid, btf.NewCache())
	if err != nil {
		b.Fatal(err)
	}
	defer s.close()
	if err := s.start(uint32(haproxy.Process.Pid)); err != nil {
		b.Fatal(err)
	}
	close(s.stop) // the samples go to this benchmark
	s.done.Wait()
	var records [][]byte
	const enough = 200
	eventually(b, "samples", func() bool {
		for _, c := range s.clocks {
			c.Drain(func(kind uint32, body []byte) {
				if kind == sys.PerfRecordSample {
					records = append(records, slices.Clone(body))
				}
			})
		}
		return len(records) >= enough
	})
	s.halt()
	n := 0
	for b.Loop() {
		s.add(records[n%len(records)])
		n++
	}
	s.stop = nil
}
