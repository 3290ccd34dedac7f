package control

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/evidence"
)

// promised is how fast every command answers, whatever the workers do.
const promised = 100 * time.Millisecond

// spinner stands for the diagnosis.
type spinner struct{}

func (spinner) ShowSpin(w io.Writer) {
	fmt.Fprint(w, "findings: 1\n\n  T3 orphaned half-state\n\n")
	fmt.Fprint(w, "\nend\n")
}

// ShowFinding knows finding 7 only.
func (spinner) ShowFinding(w io.Writer, id string) bool {
	if id == "7" {
		fmt.Fprint(w, "finding 7\n\nT3 orphaned half-state\n")
	}
	return id == "7"
}

// TestEveryCommandAnswersWhileEveryWorkerSpins has as many spinning workers as there are processors.
func TestEveryCommandAnswersWhileEveryWorkerSpins(t *testing.T) {
	workers := runtime.NumCPU()
	p := start(t, setup{workers: workers, stopped: true, spin: spinner{}, change: withFault}, founding(t))
	p.spin(workers)
	for _, command := range []string{
		"show info", "show sess", "show sess all", "show sess susp", "show fd", "show activity", "show spin",
		"show spin json", "help",
	} {
		// The promise is about the program, not about the moment at which the machine does something else:
		// the best of several tries counts.
		best := time.Hour
		for range 5 {
			began := time.Now()
			p.ask(command)
			best = min(best, time.Since(began))
		}
		if best > promised {
			t.Errorf("%q took %v with every worker spinning, promised are %v", command, best, promised)
		}
	}

	victims := p.views()
	for _, v := range victims {
		line := p.ask("show sess " + v.ID)
		if !strings.Contains(line, "exp=<PAST>") || !strings.Contains(line, "state=EST") {
			t.Errorf("the dump of a spinning stream does not show it:\n%s", line)
		}
		ledger := regexp.MustCompile(`ledger=\S+ wakeups=\d+ charged=\d{3,} consecutive=\d{3,} ` +
			`since=\S+ rate=\d+ cause=timer-tunnel timer=tunnel overdue=\S+ suspect=1 orphan=1 worker=\d+\n`)
		if !ledger.MatchString(line) {
			t.Errorf("the ledger does not convict it:\n%s", line)
		}
	}
	text := p.ask("show sess")
	if !strings.Contains(text, " exp=? ") || !strings.Contains(text, " scf=[10,0h,fd=-1]") {
		t.Errorf("the short dump does not show the spin:\n%s", text)
	}
	text = p.ask("show info")
	if !strings.Contains(text, "\nTainted: 0x1\n") || !strings.Contains(text, "\nIdle_pct: 0\n") {
		t.Errorf("show info shows a healthy process:\n%s", text)
	}
	for _, v := range victims {
		if got := p.ask("shutdown session " + v.ID); got != "\n" {
			t.Errorf("the kill of %s is answered %q", v.ID, got)
		}
	}
	eventually(t, "the streams to be gone", func() bool { return p.engine.Streams() == 0 })
}

func TestShowSpin(t *testing.T) {
	p := start(t, setup{stopped: true, spin: spinner{}, change: withFault}, founding(t))
	p.spin(1)
	text := p.ask("show spin")
	form := `^worker 1: thread=\d+ epoll_fd=\d+ streams=\d+ due=\d+ idle=\d+% wakeups=\d+ ` +
		`no_progress=\d+ late=\d+ unnamed=0 timers=\d+ events=\d+ stale=\d+ stuck=0s\n` +
		`  waits timeout=zero: none=\d+ events=\d+ error=0\n` +
		`  waits timeout=positive: none=\d+ events=\d+ error=\d+\n` +
		`  waits timeout=infinite: none=0 events=\d+ error=\d+\n` +
		`  read: calls=\d+ bytes=\d+ tiny=\d+ zero=\d+ eagain=\d+ econnreset=\d+ epipe=\d+ errors=\d+\n` +
		`  write: calls=\d+ .*\n` +
		`(stream 0x[0-9a-f]+: worker=1 client=CLO server=EST fd=-1,\d+ wakeups=\d+ ` +
		`consecutive=\d+ rate=\d+ cause=timer-tunnel timer=tunnel exp=<PAST> suspect=1 orphan=1\n)+` +
		`suspects: \d+\nfindings: 1\n  T3 orphaned half-state\nend\n\n$`
	if !regexp.MustCompile(form).MatchString(text) {
		t.Errorf("show spin is not of the form %s:\n%s", form, text)
	}

	var state evidence.Snapshot
	line := p.ask("show spin json")
	if strings.Count(line, "\n") != 2 || !strings.HasSuffix(line, "}\n\n") {
		t.Errorf("show spin json is not one line and an empty one: %.200q", line)
	}
	must(t, json.Unmarshal([]byte(line), &state))
	if len(state.Workers) != 1 || len(state.Streams) == 0 || state.Process.Version != "2.6.12-whyspin-0.1" {
		t.Errorf("the state has %d workers, %d streams and version %q", len(state.Workers),
			len(state.Streams), state.Process.Version)
	}
	if timer, overdue := state.Streams[0].Overdue(state.At); !overdue || timer.Name != "tunnel" {
		t.Errorf("the first stream's overdue timer is %q (%t), want tunnel", timer.Name, overdue)
	}
}

func TestShowAFinding(t *testing.T) {
	p := start(t, setup{spin: spinner{}})
	const none = "No such finding (use 'show spin').\n\n"
	for command, want := range map[string]string{
		"show spin 7":   "finding 7\nT3 orphaned half-state\n\n",
		"show spin 8":   none,
		"show spin 0x7": none,
	} {
		if text := p.ask(command); text != want {
			t.Errorf("%s answers %q, should answer %q", command, text, want)
		}
	}
	if text := start(t, setup{}).ask("show spin 7"); text != none {
		t.Errorf("without a diagnosis show spin 7 answers %q", text)
	}
}

func TestShowSpinWithoutADiagnosis(t *testing.T) {
	const want = "suspects: 0\nfindings: none, there is no diagnosis\n\n"
	if text := start(t, setup{}).ask("show spin"); !strings.HasSuffix(text, want) {
		t.Errorf("show spin ends with %q", text)
	}
}

// A worker that is stuck in a handler is named with its stack, and what is known of the others is shown.
func TestAWorkerThatIsStuckInAHandler(t *testing.T) {
	p := start(t, setup{}, section{proxy: config.Proxy{Name: "smtp"}, servers: []string{greets(t)}})
	client := p.established("smtp")
	id := p.views()[0].ID
	p.hold(client)
	for _, command := range []string{"show sess", "show sess all", "show fd", "show spin"} {
		began := time.Now()
		text := p.ask(command)
		took := time.Since(began)
		want := regexp.MustCompile(`(?m)^# worker 1 \(thread \d+\) is missing here: .* It had \d+` +
			` streams .*:\n(#   .*\n)+`)
		if !want.MatchString(text) || !strings.Contains(text, "(*worker).pump") {
			t.Errorf("%s does not say that the worker is stuck and where:\n%s", command, text)
		}
		if strings.Contains(strings.TrimSuffix(text, "\n\n"), "\n\n") {
			t.Errorf("%s has an empty line within its answer:\n%q", command, text)
		}
		if took > 5*promised {
			t.Errorf("%s took %v with the worker stuck", command, took)
		}
	}
	if text := p.ask("show info"); !strings.Contains(text, "\nStuckWorkers: 1\n") {
		t.Errorf("show info has no stuck worker:\n%s", text)
	}
	got := p.ask("show sess " + id)
	if !strings.HasPrefix(got, "Worker 1 has been in one turn of its loop for ") {
		t.Errorf("show sess of one session answers %q, though nothing is known of the stream", got)
	}
	got = p.ask("shutdown session " + id)
	if !strings.HasPrefix(got, "Worker 1 has not come back to its loop yet; it ends the session as soon ") {
		t.Errorf("shutdown session answers %q, though the order stands", got)
	}
	p.release()
	eventually(t, "the session to be ended", func() bool {
		return p.ask("show sess "+id) == "Session not found.\n\n"
	})
}

func TestABugInADumpDoesNotEndTheProxy(t *testing.T) {
	p := start(t, setup{spin: panicking{}})
	if text := p.ask("show spin"); !strings.HasSuffix(text, "Internal error: this is the bug\n\n") {
		t.Errorf("show spin answers %q", text)
	}
	alert := <-p.alerts
	if !strings.Contains(alert, "this is the bug") || !strings.Contains(alert, "panicking") {
		t.Errorf("the alert is %q, want the panic and its place", alert)
	}
	if got := p.ask("show version"); got != versionAnswer {
		t.Errorf("after it, another command is answered %q", got)
	}
}

type panicking struct{}

func (panicking) ShowSpin(io.Writer) { panic("this is the bug") }

func (panicking) ShowFinding(io.Writer, string) bool { panic("this is the bug") }

// TestShowSpinJSONNamesTheOwner: a stream in good order is listed when its descriptor is asked for.
func TestShowSpinJSONNamesTheOwner(t *testing.T) {
	p := start(t, setup{}, section{proxy: config.Proxy{Name: "smtp"}, servers: []string{greets(t)}})
	p.established("smtp")
	v := p.views()[0]
	ask := func(command string) (ids []string) {
		t.Helper()
		var state evidence.Snapshot
		must(t, json.Unmarshal([]byte(p.ask(command)), &state))
		for _, s := range state.Streams {
			ids = append(ids, s.ID)
		}
		return ids
	}
	if ids := ask("show spin json"); len(ids) != 0 {
		t.Errorf("streams in good order are listed: %v", ids)
	}
	for _, end := range v.Ends {
		if ids := ask(fmt.Sprintf("show spin json 1 %d", end.FD)); len(ids) != 1 || ids[0] != v.ID {
			t.Errorf("for descriptor %d the streams %v are listed, should be %s", end.FD, ids, v.ID)
		}
	}
	const refusal = "expects the numbers of descriptors"
	if text := p.ask("show spin json x"); !strings.Contains(text, refusal) {
		t.Errorf("the answer to what is no number is %q", text)
	}
}
