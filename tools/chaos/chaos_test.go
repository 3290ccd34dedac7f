package main

import (
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// buildWhyspin builds the program.
func buildWhyspin(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "whyspin")
	build := exec.Command("go", "build", "-o", program, "../../cmd/whyspin")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building whyspin: %v\n%s", err, out)
	}
	return program
}

// TestNothingIsLeftOfAShortRun is the tool as it is, for seconds; make chaos and make soak are for minutes.
func TestNothingIsLeftOfAShortRun(t *testing.T) {
	program := buildWhyspin(t)
	for _, soak := range []bool{false, true} {
		o := options{whyspin: program, over: 3 * time.Second, workers: 3, seed: 1, soak: soak}
		t.Run(o.kind(), func(t *testing.T) {
			var said strings.Builder
			wrong, err := o.play(t.Context(), &said)
			t.Log(said.String())
			if err != nil || len(wrong) > 0 {
				t.Errorf("%v\n%s", err, strings.Join(wrong, "\n"))
			}
			if soak {
				return
			}
			for _, m := range manners {
				if !strings.Contains(said.String(), "client "+m.name) ||
					!strings.Contains(said.String(), "server "+m.name) {
					t.Errorf("nobody %s", m.name)
				}
			}
		})
	}
}

// TestNothingIsLeftOfHandshakes is make handshakes with fewer of them, and more of them cut: so that it shows
// when something is left.
func TestNothingIsLeftOfHandshakes(t *testing.T) {
	o := options{whyspin: buildWhyspin(t), workers: 3, seed: 1, over: time.Minute, handshakes: 2000, cut: 0.3}
	var said strings.Builder
	wrong, err := o.playHandshakes(t.Context(), &said)
	t.Log(said.String())
	if err != nil || len(wrong) > 0 {
		t.Errorf("%v\n%s", err, strings.Join(wrong, "\n"))
	}
	for _, what := range append(cuttingNames[:], "sessions taken up", endClosed, endBroken, endLate) {
		if !strings.Contains(said.String(), what) {
			t.Errorf("nothing about %q", what)
		}
	}
}

func TestGrowingLatenciesAreFound(t *testing.T) {
	steady := func(from, to time.Duration) *course {
		c := &course{}
		for i := range c.parts {
			for range 200 {
				c.parts[i].add(from + (to-from)*time.Duration(i)/parts)
			}
		}
		return c
	}
	const ms = time.Millisecond
	for _, test := range []struct {
		name            string
		through, beside *course
		found           string
	}{
		{"flat", steady(3*ms, 3*ms), steady(ms, ms), ""},
		{"twice as long at the end", steady(3*ms, 9*ms), steady(ms, ms), "grown by a factor of "},
		{"on a machine that became as busy", steady(3*ms, 9*ms), steady(ms, 3*ms), ""},
		{"shorter at the end", steady(9*ms, 3*ms), steady(ms, ms), ""},
		{"no exchange", &course{}, steady(ms, ms), "no latencies"},
	} {
		latencies := compare(test.through, test.beside)
		if got := latencies.steeper(); !strings.Contains(got, test.found) ||
			(test.found == "") != (got == "") {
			t.Errorf("%s: said is %q, should be %q", test.name, got, test.found)
		}
	}
	// One slow exchange in a hundred is the p99, one in a thousand is not.
	var h histogram
	for range 999 {
		h.add(ms)
	}
	h.add(time.Second)
	if p99, n := h.p99(); n != 1000 || p99 < ms || p99 > ms*105/100 {
		t.Errorf("p99 is %v of %d", p99, n)
	}
	for range 10 {
		h.add(time.Second)
	}
	if p99, _ := h.p99(); p99 < time.Second || p99 > time.Second*105/100 {
		t.Errorf("p99 is %v with 11 slow ones of 1010", p99)
	}
}

func TestWarningsOfTheProxyAreKept(t *testing.T) {
	l, err := newLogbook()
	if err != nil {
		t.Fatal(err)
	}
	c := &crew{}
	c.ctx = t.Context()
	conn, _, err := c.dial(address{"udp", l.address()})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"<134>Nov 22 21:00:00 whyspin[1]: 127.0.0.1:1 [22/Nov/2026:21:00:00.000] wild wild/s1 1/0/5 10 sD " +
			"1/1/0/0/+1 0/0",
		"<133>Nov 22 21:00:00 whyspin[1]: whyspin started",
		"<132>Nov 22 21:00:00 whyspin[1]: stream 0x1 made 1000 wakeups without progress",
	} {
		if _, err := conn.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(patience); len(l.warned()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the warning is not kept")
		}
	}
	l.close()
	if got := l.warned(); len(got) != 1 || !strings.Contains(got[0], "0x1 made 1000 wakeups") {
		t.Errorf("kept is %q", got)
	}
	if l.String() != "sD 1" {
		t.Errorf("the ends are %q", l.String())
	}
}

// TestAServerThatNeverAnswersTimesOut sees that the mute server is one, and what it comes to for a client.
func TestAServerThatNeverAnswersTimesOut(t *testing.T) {
	c := newCrew(t.Context(), time.Minute, 1)
	defer c.end()
	at, err := freeAddress(t.TempDir(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.neverAnswer(at); err != nil {
		t.Fatal(err)
	}
	conn, err := (&net.Dialer{Timeout: 200 * time.Millisecond}).DialContext(c.ctx, at.network, at.at)
	if err == nil {
		conn.Close()
		t.Fatal("it answers")
	}
	if !timedOut(err) {
		t.Errorf("the error is %v, should be one of time", err)
	}
}
