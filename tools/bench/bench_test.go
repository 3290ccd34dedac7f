package main

import (
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestEveryRowWorks plays every row for a fraction of a second: that the work is done, that nothing of it is
// lost, that the probes count what the ledger counts and that the spinning stream is named. It judges no
// speed.
func TestEveryRowWorks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("the rows about tracing need root")
	}
	directory := t.TempDir()
	program := filepath.Join(directory, "whyspin")
	build := exec.Command("go", "build", "-o", program, "github.com/whyspin/whyspin/cmd/whyspin")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building whyspin: %v\n%s", err, out)
	}
	b := &bench{ctx: t.Context(), whyspin: program, rounds: 1, short: true, say: t.Logf}
	results, failed := b.runAll(rows())
	if failed {
		t.Fatal("a row could not be measured")
	}
	var table strings.Builder
	printTable(&table, results)
	t.Logf("%s", &table)
	for _, r := range results {
		if r.NotMeasured != "" {
			t.Errorf("%s was not measured: %s", r.Case, r.NotMeasured)
			continue
		}
		if *r.Whyspin <= 0 {
			t.Errorf("%s: %g %s", r.Case, *r.Whyspin, r.Unit)
		}
		for name, p := range r.Peers {
			if p.Value <= 0 || !(p.RatioMin <= p.Ratio && p.Ratio <= p.RatioMax) {
				t.Errorf("%s against %s: %+v", r.Case, name, p)
			}
		}
		if !strings.Contains(table.String(), r.Case) {
			t.Errorf("%s is not in the table", r.Case)
		}
	}
	checkFile(t, filepath.Join(directory, "deep", "bench.json"), results)
}

// checkFile writes the results and reads them as another program would.
func checkFile(t *testing.T, file string, results []*result) {
	t.Helper()
	if err := writeJSON(file, results); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var read struct {
		Cases []struct {
			Case, Unit string
			Rounds     int
			Whyspin    float64
			Peers      map[string]struct {
				Value, Ratio float64
				Target       *float64
				Met          bool
			}
		}
	}
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatal(err)
	}
	if len(read.Cases) != len(rows()) {
		t.Fatalf("the file has %d rows, should have %d", len(read.Cases), len(rows()))
	}
	for i, row := range rows() {
		if c := read.Cases[i]; c.Case != row.name || c.Whyspin <= 0 || len(c.Peers) == 0 {
			t.Errorf("row %s is %+v in the file", row.name, c)
		}
	}
}

func TestRatiosAreTakenRoundByRound(t *testing.T) {
	at := func(cpu ...time.Duration) (all []sample) {
		for _, c := range cpu {
			all = append(all, sample{units: 1000, cpu: c, wall: time.Second})
		}
		return all
	}
	const ms = time.Millisecond
	// The third round was disturbed, for both alike.
	r := compare("us", map[string][]sample{
		whyspinName: at(10*ms, 9*ms, 40*ms), "peer": at(10*ms, 10*ms, 50*ms), "other": at(5*ms, 10*ms, 20*ms),
	}, map[string]goal{"peer": {ratio: 0.9, throughput: 1}}, sample.microseconds)
	if *r.Whyspin != 10 || r.Rounds != 3 {
		t.Errorf("the median is %g of %d rounds, should be 10 of 3", *r.Whyspin, r.Rounds)
	}
	p := r.Peers["peer"]
	if p.Value != 10 || p.Ratio != 0.9 || p.RatioMin != 0.8 || p.RatioMax != 1 || *p.ThroughputRatio != 1 {
		t.Errorf("against the peer: %+v with throughput %g", *p, *p.ThroughputRatio)
	}
	if !p.Met {
		t.Error("a ratio of 0.9 meets a target of 0.9")
	}
	if o := r.Peers["other"]; o.Ratio != 2 || o.Target != nil || !o.Met {
		t.Errorf("a peer without a target: %+v", *o)
	}
	missed := compare("us", map[string][]sample{whyspinName: at(10 * ms), "peer": at(10 * ms)},
		map[string]goal{"peer": {ratio: 0.95}}, sample.microseconds)
	if missed.Peers["peer"].Met {
		t.Error("a ratio of 1 does not meet a target of 0.95")
	}
}

func TestHalfWidthIsThatOfTheOrderStatistics(t *testing.T) {
	var values []float64
	for i := range 40 {
		values = append(values, float64(i+1))
	}
	// Of 40 values the 14th and the 27th enclose the median with 96.2 %: tables of the sign test.
	if got, want := halfWidth(values), (27.0-14.0)/2; got != want {
		t.Errorf("the half-width of 1 to 40 is %g, should be %g", got, want)
	}
	if got := halfWidth(values[:5]); !math.IsInf(got, 1) {
		t.Errorf("five values cannot tell, but the half-width is %g", got)
	}
	if got := median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("the median is %g, should be 2.5", got)
	}
}

// wrkSays is what wrk 4.1.0 of Debian prints.
const wrkSays = `Running 2s test @ http://127.0.0.1:8080/
  1 threads and 50 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   405.94us  104.35us   3.51ms   92.63%
    Req/Sec    95.90k     1.57k   98.02k    71.43%
  Latency Distribution
     50%  387.00us
     75%  429.00us
     90%  480.00us
     99%    1.10ms
  200350 requests in 2.10s, 29.04MB read
Requests/sec:  95409.61
Transfer/sec:     13.83MB
`

func TestLostWorkOfWrkIsAnError(t *testing.T) {
	s, err := parseWrk(wrkSays)
	if err != nil {
		t.Fatal(err)
	}
	want := sample{units: 200350, wall: 2100 * time.Millisecond, p50: 387 * time.Microsecond,
		p99: 1100 * time.Microsecond}
	if s != want {
		t.Errorf("wrk's output is read as %+v, should be %+v", s, want)
	}
	for _, line := range []string{
		"  Socket errors: connect 0, read 3, write 0, timeout 0\n", "  Non-2xx or 3xx responses: 12\n",
	} {
		if _, err := parseWrk(wrkSays + line); err == nil {
			t.Errorf("wrk reports %q, and that is no error", line)
		}
	}
	if _, err := parseWrk("unable to connect to 127.0.0.1:8080 Connection refused"); err == nil {
		t.Error("an output without figures is no error")
	}
}

func TestUnknownRowsAreRefused(t *testing.T) {
	if _, err := choose("tcp-small,tcp-smal"); err == nil || !strings.Contains(err.Error(), "tcp-churn") {
		t.Errorf("the error is %v, should list the rows that there are", err)
	}
	chosen, err := choose("latency,tcp-small")
	if err != nil || len(chosen) != 2 || chosen[0].name != "tcp-small" {
		t.Errorf("the chosen rows are %v, %v, should be in the order of the table", chosen, err)
	}
}
