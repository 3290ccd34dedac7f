package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const scenarios = "../../testdata/differential"

// spread are scenarios of every kind that wait for no timeout; `make differential` runs them all.
var spread = []string{
	"client-bytes-and-fin-before-it-is-accepted",
	"client-fin-while-connecting",
	"client-reset-while-connecting", // a known difference
	"server-speaks-first",
	"no-server",
	"client-half-closes-and-server-answers",
	"server-half-closes-and-client-goes-on",
	"client-resets",
	"server-answers-and-resets",
	"refused",
	"refused-and-redispatched",
	"queued-in-order",
	"client-bytes-and-fin-in-the-queue-abortonclose",
	"slot-freed-by-a-reset-of-the-server",
	"large-request-for-a-slow-reader",
	"urgent-byte-of-the-client",
	"dontlognull-for-a-client-that-leaves",
	"ipv6-request-and-answer",
	"unix-request-and-answer",
	"unix-server-with-a-full-queue",
	"kill-in-the-queue",
	"kill-established", // a known difference
	"leave-with-a-stream-in-the-queue",
	"two-slots-and-five-clients",
}

func TestProxiesAgree(t *testing.T) {
	// A proxy dies with the thread that started it, and a subtest has another one; so there are none.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	program := filepath.Join(t.TempDir(), "whyspin")
	build := exec.Command("go", "build", "-o", program, "../../cmd/whyspin")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building whyspin: %v\n%s", err, out)
	}
	c, err := newContest(program, scenarios, "^("+strings.Join(spread, "|")+")$")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.scenarios) != len(spread) {
		t.Fatalf("%d scenarios for %d names", len(c.scenarios), len(spread))
	}
	for _, s := range c.scenarios {
		o, err := c.judge(s)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if !o.verdict.fine() {
			t.Errorf("%s\n%s", o.line(s), strings.Join(o.diff, "\n"))
		}
	}
}

func TestEveryKindOfScenarioIsThere(t *testing.T) {
	all, err := readScenarios(scenarios)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 60 {
		t.Errorf("%d scenarios, should be at least 60", len(all))
	}
	var lines []string
	used, networks := map[string]bool{}, map[network]bool{}
	for _, s := range all {
		lines = append(lines, s.proxy...)
		for _, m := range s.moves {
			used[m.verb] = true
		}
		networks[s.front], networks[s.back] = true, true
		for _, v := range s.servers {
			used[answerNames[v.answer]] = true
		}
	}
	for _, start := range []string{"timeout connect", "timeout client ", "timeout server ",
		"timeout tunnel", "timeout client-fin", "timeout server-fin", "timeout queue", "retries",
		"option redispatch",
		"option abortonclose", "option dontlognull", "maxconn"} {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, start) }) {
			t.Errorf("no scenario has a line %q", start)
		}
	}
	if len(networks) != len(networkNames) {
		t.Errorf("%d of the networks %v are used", len(networks), networkNames)
	}
	for _, verb := range []string{"send", "urgent", "fin", "close", "reset", "pause", "stop",
		"open", "accept", "refuse", "silent", "kill", "leave", "await-exit",
	} {
		if !used[verb] {
			t.Errorf("no scenario has %q", verb)
		}
	}
}

func TestDifferencesAreToldStepByStep(t *testing.T) {
	a := []string{"client 1: connect", "    server 1 #1: connected", "client 1: reset",
		"    server 1 #1: FIN", "    log of client 1: CD", "server 1: await-end"}
	b := slices.Clone(a)
	if diff := difference(a, b); diff != nil {
		t.Errorf("equal transcripts differ by %q", diff)
	}
	b[3] = "    server 1 #1: RST"
	want := []string{"  client 1: reset", "-     server 1 #1: FIN", "+     server 1 #1: RST"}
	if diff := difference(a, b); !slices.Equal(diff, want) {
		t.Errorf("the difference is %q, should be %q", diff, want)
	}
	// What comes one step later is a difference of two steps.
	b = []string{a[0], a[1], a[2], a[3], a[5], a[4]}
	want = []string{"  client 1: reset", "-     log of client 1: CD", "  server 1: await-end",
		"+     log of client 1: CD"}
	if diff := difference(a, b); !slices.Equal(diff, want) {
		t.Errorf("the difference is %q, should be %q", diff, want)
	}
}

func TestKnownDifferencesHaveAReason(t *testing.T) {
	read := func(text string) (map[string]*known, error) {
		file := filepath.Join(t.TempDir(), "README.md")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return readKnown(file)
	}
	block := "`a`:\n```diff\n  step\n- one\n```\n"
	all, err := read("# Text\n\n### because\n\nMore.\n\n" + block)
	if err != nil {
		t.Fatal(err)
	}
	k := all["a"]
	if k == nil || k.reason != "because" || !slices.Equal(k.diff, []string{"  step", "- one"}) {
		t.Errorf("read as %+v", k)
	}
	for text, want := range map[string]string{
		block:                               "no reason",
		"### because\n" + block + block:     "twice",
		"### because\n`a`:\nand no block\n": "no difference",
	} {
		if _, err := read(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, should mention %q", text, err, want)
		}
	}
}

func TestMistakesInScenariosAreFound(t *testing.T) {
	for text, want := range map[string]string{
		"retries 1\n":                             "before the first scenario",
		"scenario a\nserver sleepy\n":             "sleepy",
		"scenario a\nclient: jump\n":              "jump",
		"scenario a\nclient: connect; ; fin\n":    "empty",
		"scenario a\nclient: send\n":              "too many words or too few",
		"scenario a\nclient: send many\n":         "many",
		"scenario a\nserver: fin\n":               "no server 1",
		"scenario a\nserver accept\nproxy: fin\n": "fin",
		"scenario a\nclient: stop\n":              "stop",
		"scenario a\nclient: kill 1\n":            "kill",
		"scenario a\nclients ipv5\n":              "ipv5",
	} {
		_, err := parseScenarios("file", text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, should mention %q", text, err, want)
		}
	}
}
