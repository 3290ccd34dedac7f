package lab

import (
	"testing"

	"github.com/whyspin/whyspin/internal/correlate"
	"github.com/whyspin/whyspin/internal/evidence"
)

const guilty, innocent = "127.0.0.1:40001", "127.0.0.1:40002"

// of is a finding about the stream of a client.
func of(class correlate.Class, client string) correlate.Finding {
	return correlate.Finding{Class: class, Stream: &evidence.Stream{ID: "0x1", Client: client}}
}

// at is a finding about a descriptor.
func at(class correlate.Class, peer string) correlate.Finding {
	return correlate.Finding{Class: class, FD: &correlate.Descriptor{Number: 7, Remote: peer}}
}

// asking is a thread that asks not to sleep.
var asking = []correlate.Thread{{Gated: true, Zero: evidence.Know(1.0)}}

type list = []correlate.Finding

const spin, well = correlate.Spin, correlate.Healthy

// TestJudge: what is right by both witnesses, by the probes alone and by the ledger alone.
func TestJudge(t *testing.T) {
	t1 := Case{Class: "T1", blind: []string{Awake}}
	f1, t7, l1 := Case{Class: "F1"}, Case{Class: "T7"}, Case{Class: "L1"}
	l2 := Case{Class: "L2", verdict: correlate.Configured}
	t3i, b4 := Case{Class: "T3i", blind: []string{"healthy"}}, Case{Class: "B4"}
	for _, tt := range []struct {
		name     string
		c        *Case
		way      Way
		verdict  correlate.Verdict
		findings list
		threads  []correlate.Thread
		column   string
		right    bool
		short    bool
	}{
		{"class and culprit", &t1, Both, spin, list{of("T1", guilty)}, nil, "T1", true,
			false},
		{"another culprit", &t1, Both, spin, list{of("T1", innocent)}, nil, "T1", false,
			false},
		{"another class", &t1, Both, spin, list{of("T4", guilty)}, nil, "T4", false,
			false},
		{"a second finding of another class", &t1, Both, spin,
			list{of("T1", guilty), at("F2", guilty)}, nil, "T1", false, false},
		{"no class", &t1, Both, spin, list{{}}, asking, Awake, false, true},
		{"the family without the state", &t1, Probes, spin, list{{}}, asking, Awake, true,
			true},
		{"no family without the state", &t1, Probes, spin, list{{}}, nil, Spinning, false,
			true},
		{"healthy without the state", &t1, Probes, well, nil, nil, "healthy", false, true},
		{"another class without the state", &t1, Probes, spin, list{at("F1", guilty)}, nil,
			"F1", false, false},
		{"a descriptor without the state", &f1, Probes, spin, list{at("F1", guilty)}, nil,
			"F1", true, false},
		{"another descriptor without the state", &f1, Probes, spin,
			list{at("F1", innocent)}, nil, "F1", false, false},
		{"the ledger does not know the class", &f1, Ledger, spin, list{{}}, nil, Spinning,
			true, true},
		{"the ledger names another class", &f1, Ledger, spin, list{of("F2", guilty)}, nil,
			"F2", false, false},
		{"nobody is to blame", &t7, Both, spin, list{{Class: "T7"}}, nil, "T7", true,
			false},
		{"nobody is to blame, and a stream is", &t7, Both, spin, list{of("T7", guilty)},
			nil, "T7", false, false},
		{"a leak that only the state shows", &t3i, Probes, well, nil, nil, "healthy", true, true},
		{"a leak that nobody sees", &t3i, Both, well, nil, nil, "healthy", false, true},
		{"an inefficiency that nobody sees", &b4, Both, well, nil, nil, "healthy", false, true},
		{"a look-alike that is healthy", &l1, Both, well, nil, nil, "healthy", true, false},
		{"a look-alike that is accused", &l1, Both, spin, list{{}}, nil, Spinning, false,
			false},
		{"a look-alike that is accused by the ledger", &l1, Ledger, correlate.Partial, list{{}}, nil,
			Spinning, false, false},
		{"a look-alike of which too little is seen", &l1, Ledger, correlate.NotObserved, nil, nil,
			silence, true,
			false},
		{"and by both", &l1, Both, correlate.NotObserved, nil, nil, silence, false, false},
		{"busy polling that is configured", &l2, Both, correlate.Configured, nil, nil, "configured",
			true, false},
		{"busy polling that is healthy", &l2, Both, well, nil, nil, "healthy", false, false},
		{"a look-alike that is configured", &l1, Both, correlate.Configured, nil, nil, "configured",
			false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &stage{c: tt.c}
			if tt.c != &t7 {
				s.culprit.connections = []string{guilty}
			}
			d := &correlate.Diagnosis{Verdict: tt.verdict, Findings: tt.findings, Threads: tt.threads}
			j := s.judge(tt.way, d)
			if j.Column != tt.column || (j.Wrong == nil) != tt.right || j.Short != tt.short {
				t.Errorf("column %q, short %t, wrong: %v", j.Column, j.Short, j.Wrong)
			}
		})
	}
}

func TestCulprit(t *testing.T) {
	listener := &correlate.Listener{Address: guilty}
	loop := []correlate.Function{{Name: "runtime.nanotime", Callers: []string{"engine.(*worker).pump"}}}
	for _, tt := range []struct {
		name    string
		culprit culprit
		finding correlate.Finding
		right   bool
	}{
		{"its listener", culprit{listener: guilty}, correlate.Finding{Listener: listener}, true},
		{"another listener", culprit{listener: innocent}, correlate.Finding{Listener: listener}, false},
		{"its destination", culprit{destination: guilty}, correlate.Finding{Destination: guilty}, true},
		{"another destination", culprit{destination: innocent},
			correlate.Finding{Destination: guilty}, false},
		{"its server", culprit{connections: []string{guilty}},
			correlate.Finding{Stream: &evidence.Stream{Upstream: guilty}}, true},
		{"a function among the callers", culprit{functions: []string{"(*worker).pump"}},
			correlate.Finding{Functions: loop},
			true},
		{"another function", culprit{functions: []string{"takeTurn"}},
			correlate.Finding{Functions: loop}, false},
		{"a closed descriptor", culprit{gone: true}, at("F6", ""), true},
		{"an open descriptor", culprit{gone: true}, at("F6", innocent), false},
		{"nobody named", culprit{connections: []string{guilty}}, correlate.Finding{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.culprit.blames(&tt.finding); (err == nil) != tt.right {
				t.Error(err)
			}
		})
	}
}
