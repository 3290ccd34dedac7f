package correlate

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
)

// counting lets a foreign process count the turns of its loop: that many in the window.
func counting(c *evidence.Case, turns uint64) *evidence.Case {
	at := func(loops, tasks uint64) []evidence.Activity {
		return []evidence.Activity{{Thread: 1, Loops: loops, Counters: map[string]uint64{"wake_tasks": tasks,
			"poll_exp": 7}}}
	}
	c.Process.Kind = evidence.KindHAProxy
	c.Window.PID = foreignTID
	const begin = math.MaxUint32 - 10 // the counters begin anew in the window
	c.Before = &evidence.Snapshot{At: began, Activity: at(begin, 0)}
	c.After = &evidence.Snapshot{At: ended, Activity: at((begin+turns)&math.MaxUint32, 5)}
	return c
}

// factOf returns the first fact of a source, empty for none.
func factOf(f *Finding, source string) (Fact, bool) {
	for _, v := range f.Evidence {
		if v.Source == source {
			return v, true
		}
	}
	return Fact{}, false
}

func TestHAProxysOwnCountIsASecondWitness(t *testing.T) {
	for name, c := range map[string]struct {
		turns  uint64
		change func(*evidence.Case)
		told   bool
	}{
		"it agrees":           {690_000, nil, true},
		"it does not":         {7_000, nil, false},
		"it is far too large": {7_000_000, nil, false},
		"it began to answer only at the end": {690_000, func(c *evidence.Case) { c.Before = nil },
			false},
		"it counts another number of threads": {690_000, func(c *evidence.Case) {
			c.Window.Threads = append(c.Window.Threads, evidence.Thread{TID: 1})
		}, false},
		"it is the second thread": {690_000, func(c *evidence.Case) {
			c.Window.PID = foreignTID + 1
			c.Window.Threads = append(c.Window.Threads, evidence.Thread{TID: foreignTID + 1})
			for _, s := range []*evidence.Snapshot{c.Before, c.After} {
				s.Activity = append([]evidence.Activity{{Thread: 1}}, s.Activity...)
			}
		}, true},
	} {
		e := counting(foreign(), c.turns)
		delivered(e, evidence.EventOut)
		if c.change != nil {
			c.change(e)
		}
		d := Correlate(e)
		if d.Verdict != Spin {
			t.Fatalf("%s: the verdict is %s", name, d.Verdict)
		}
		fact, told := factOf(&d.Findings[0], sourceActivity)
		if told != c.told || told && (fact.Count.Or(0) != c.turns || !strings.HasSuffix(fact.Text,
			": wake_tasks 5")) {
			t.Errorf("%s: the fact is %+v", name, fact)
		}
	}
}

// TestHAProxysOwnCountAloneProvesNothing: what it got done is not counted.
func TestHAProxysOwnCountAloneProvesNothing(t *testing.T) {
	e := counting(foreign(), 690_000)
	e.Window.Hooks.Syscall = evidence.Observed[string]{}
	e.Window.Threads[0].Sets = nil
	d := Correlate(e)
	rate := 690_000 / ended.Sub(began).Seconds()
	if len(d.Threads) != 1 || d.Threads[0].Waits.Or(0) != rate || d.Threads[0].Source != sourceActivity {
		t.Errorf("threads %+v, want %.0f waits per second", d.Threads, rate)
	}
	if d.Verdict == Healthy || d.Verdict == Spin {
		t.Errorf("the verdict is %q", d.Verdict)
	}
	orphaned := spinning()
	orphaned.Window.Hooks.Syscall = evidence.Observed[string]{}
	orphaned.Window.Threads = e.Window.Threads
	orphaned.Window.PID = e.Window.PID
	for _, s := range []struct{ of, from *evidence.Snapshot }{{orphaned.Before, e.Before},
		{orphaned.After, e.After}} {
		s.of.Workers, s.of.Activity = nil, s.from.Activity
	}
	d = Correlate(orphaned)
	if _, told := factOf(&d.Findings[0], sourceActivity); !told || d.Findings[0].Class != T3 {
		t.Errorf("findings %+v", d.Findings)
	}
}

func TestWhatHAProxySaysOfTheDescriptorIsTold(t *testing.T) {
	e := counting(foreign(), 690_000)
	delivered(e, evidence.EventOut)
	e.After.Claims = []evidence.Claim{
		{FD: healthyFD, Reads: true},
		{FD: suspectFD, Writes: true, Events: evidence.EventOut, Handler: "sock_conn_iocb", Threads: "0x1",
			Server: "smtp/mx1"},
	}
	d := Correlate(e)
	fact, _ := factOf(&d.Findings[0], sourceDescriptors)
	if want := "its own table asks to write and not to read on descriptor 9; last event: OUT; handler " +
		"sock_conn_iocb; server smtp/mx1; threads 0x1"; fact.Text != want {
		t.Errorf("the fact is %q, want %q", fact.Text, want)
	}
	if d.Findings[0].Class != F1 || d.Window != 2*time.Second {
		t.Errorf("class %s in %v", d.Findings[0].Class, d.Window)
	}
}
