package control

import (
	"flag"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/stream"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// theirs returns a real dump of HAProxy 2.6.12.
func theirs(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "haproxy-2.6.12", name))
	must(t, err)
	return string(text)
}

// shapes replace what differs between two runs of one program by what kind of thing it is.
var shapes = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d\.\d{6}\]`), "[DATE]"},
	{regexp.MustCompile(`0x[0-9a-f]+|\(nil\)`), "HEX"},
	{regexp.MustCompile(`(f|an)=[0-9a-f]+h,`), "$1=HEXh,"},
	{regexp.MustCompile(`,[0-9a-f]+h,`), ",HEXh,"},
	{regexp.MustCompile(`fd\.state=[0-9a-f]+`), "fd.state=HEX"},
	{regexp.MustCompile(`epoch=(0|HEX)`), "epoch=HEX"},
	{regexp.MustCompile(`(exp|rex|wex|age|rx|wx|ax)=(\d+[dhms](\d+[hms])?|<NEVER>|<PAST>|\?)?([ ,)\]\n])`),
		"$1=TIME$4"},
	{regexp.MustCompile(`addr=[0-9.]+:\d+`), "addr=IP:PORT"},
	{regexp.MustCompile(`source=[0-9.]+:\d+|src=[0-9.]+:\d+`), "source=IP:PORT"},
	{regexp.MustCompile(`-?\d+`), "N"},
}

// shape is what is left of a dump when only its layout counts.
func shape(text string) string {
	for _, s := range shapes {
		text = s.what.ReplaceAllString(text, s.by)
	}
	return text
}

// ours are the lines that HAProxy does not have.
var ours = regexp.MustCompile(`(?m)^  ledger=.*\n`)

// blocks splits a full dump into its sessions.
func blocks(dump string) []string {
	var all []string
	for line := range strings.Lines(dump) {
		switch {
		case strings.HasPrefix(line, "0x"):
			all = append(all, line)
		case len(all) > 0 && strings.HasPrefix(line, " "):
			all[len(all)-1] += line
		}
	}
	return all
}

// pick returns the first block, or line, that has the text.
func pick(t *testing.T, from []string, text string) string {
	t.Helper()
	for _, b := range from {
		if strings.Contains(b, text) {
			return b
		}
	}
	t.Fatalf("no session has %q among:\n%s", text, strings.Join(from, "\n"))
	return ""
}

// states starts a proxy that has a stream in each state that lasts, with HAProxy's counterparts in
// show-sess-all-states.txt. The clock stands still.
func states(t *testing.T) *proxy {
	t.Helper()
	greet, full, refused := greets(t), silent(t), refuses(t)
	p := start(t, setup{stopped: true, workers: 1},
		section{proxy: config.Proxy{Name: "smtp"}, servers: []string{greet}, unix: true},
		section{proxy: config.Proxy{Name: "connecting"}, servers: []string{full}},
		section{proxy: config.Proxy{Name: "queued"}, servers: []string{greet}},
		section{proxy: config.Proxy{Name: "tar", Retries: 3}, servers: []string{refused}},
		section{proxy: config.Proxy{Name: "u"}, servers: []string{greet}},
	)
	p.config.Proxies[0].Binds[0].Name = "mx"
	p.established("smtp")
	p.established("smtp/2")
	p.dial("connecting")
	p.await("connecting", stream.Connecting)
	p.established("queued")
	p.dial("queued")
	p.await("queued", stream.Queued)
	p.dial("tar")
	p.await("tar", stream.TurnAround)
	half := p.established("u")
	must(t, half.(*net.TCPConn).CloseWrite())
	eventually(t, "the half-close to arrive", func() bool {
		for _, v := range p.views() {
			if v.Frontend.Name == "u" && v.Request.Out == stream.Shut {
				return true
			}
		}
		return false
	})
	return p
}

func TestFullDumpHasTheLayoutOfHAProxy(t *testing.T) {
	got := blocks(ours.ReplaceAllString(states(t).ask("show sess all"), ""))
	want := blocks(theirs(t, "show-sess-all-states.txt"))
	for _, test := range []struct{ name, has string }{
		{"an established stream", "frontend=smtp (id=2 mode=tcp), listener=mx"},
		{"a client of a unix socket", "proto=unix_stream source=unix:2"},
		{"a stream that is connecting", "frontend=connecting"},
		{"a stream in the queue", "server=<none>"},
		{"a stream between two attempts", "state=TAR"},
		{"the runtime API's own session", "frontend=GLOBAL"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(shape(pick(t, want, test.has)), shape(pick(t, got, test.has))); diff != "" {
				t.Errorf("the layout differs (-haproxy +whyspin):\n%s", diff)
			}
		})
	}
}

func TestFullDumpWithoutABackendHasTheLayoutOfHAProxy(t *testing.T) {
	// A frontend without a backend ends its streams at once here, so the view is made from another stream.
	p := start(t, setup{}, section{proxy: config.Proxy{Name: "nob"}, servers: []string{silent(t)}})
	p.dial("nob")
	v := p.await("nob", stream.Connecting)
	v.Backend, v.Server, v.ServerState, v.Ends[stream.Server].FD = nil, nil, stream.Initial, -1
	c := fakeSession(p.control)
	c.printStreamFull(&v)
	got := shape(ours.ReplaceAllString(c.text(), ""))
	want := shape(pick(t, blocks(theirs(t, "show-sess-all-states.txt")), "frontend=nob"))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the layout differs (-haproxy +whyspin):\n%s", diff)
	}
}

func TestShortDumpHasTheLayoutOfHAProxy(t *testing.T) {
	got := strings.Split(states(t).ask("show sess"), "\n")
	want := strings.Split(theirs(t, "show-sess.txt"), "\n")
	rename := strings.NewReplacer("mx1", "s1", "mx2", "s2")
	for _, has := range []string{"proto=tcpv4", "fe=GLOBAL"} {
		if diff := cmp.Diff(shape(rename.Replace(pick(t, want, has))), shape(pick(t, got, has))); diff != "" {
			t.Errorf("%s: the layout differs (-haproxy +whyspin):\n%s", has, diff)
		}
	}
}

// masks hide in the golden dumps what differs from run to run. The clock stands still, so times stay.
var masks = []struct {
	what *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d\.\d{6}\]`), "[DATE]"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`fd=\d+`), "fd=N"},
	{regexp.MustCompile(`(calls|wakeups)=\d+`), "$1=N"},
	{regexp.MustCompile(`total=\d+`), "total=N"},
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	for _, m := range masks {
		got = m.what.ReplaceAllString(got, m.by)
	}
	file := filepath.Join("testdata", name)
	if *update {
		must(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got); -update rewrites it:\n%s", file, diff)
	}
}

// streamsOf cuts a dump down to the streams of the engine.
func streamsOf(dump string) string {
	at := strings.Index(dump, "fe=GLOBAL")
	if at < 0 {
		at = strings.Index(dump, "  frontend=GLOBAL")
	}
	at = strings.LastIndex(dump[:at], "\n0x") + 1
	return dump[:at]
}

func TestDumpsOfEveryState(t *testing.T) {
	p := states(t)
	golden(t, "show-sess-all.txt", streamsOf(p.ask("show sess all")))
	golden(t, "show-sess.txt", streamsOf(p.ask("show sess")))
}

// keys returns the names of the fields of a line, in order.
var keys = regexp.MustCompile(`([A-Za-z][A-Za-z0-9_.]*)=`)

func keysOf(line string) string {
	var all []string
	for _, m := range keys.FindAllStringSubmatch(line, -1) {
		all = append(all, m[1])
	}
	return strings.Join(all, " ")
}

func TestDescriptorsHaveTheLayoutOfHAProxy(t *testing.T) {
	p := states(t)
	got := strings.Split(strings.TrimRight(p.ask("show fd"), "\n"), "\n")
	want := strings.Split(theirs(t, "show-fd.txt"), "\n")
	for _, test := range []struct{ name, theirs, ours string }{
		{"a listener", "fe=smtp fam=ipv4 lport=25070", "l.st=RDY fe=smtp fam=ipv4"},
		{"a listener on a unix socket", "fe=GLOBAL fam=unix", "l.st=RDY fe=smtp fam=unix"},
		{"a client", "fe=smtp mux=PASS", "back=0 cflg=0x00000300 cerr=0 fam=ipv4"},
		{"a client of a unix socket", "fam=unix fe=GLOBAL mux=PASS", "fam=unix fe=smtp mux=PASS"},
		{"a server", "sv=smtp/mx1", "sv=smtp/s1"},
		{"a socket of the runtime API", "l.st=RDY fe=GLOBAL fam=unix", "l.st=RDY fe=GLOBAL fam=unix"},
		{"a connection of the runtime API", "fam=unix fe=GLOBAL mux=PASS", "fam=unix fe=GLOBAL mux=PASS"},
		{"the waker", "(poller_pipe_io_handler)", "(waker)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			haproxy, whyspin := pick(t, want, test.theirs), pick(t, got, test.ours)
			if a, b := keysOf(haproxy), keysOf(whyspin); !strings.HasPrefix(b, a) {
				t.Errorf("the fields differ:\nhaproxy %s\nwhyspin %s", a, b)
			}
			state := regexp.MustCompile(`^ *\d+ : st=0x[0-9a-f]{6}\([cC][lL] [hH][eE][oO][pP][iI]` +
				` W:[sS][rR][aA] R:[sS][rR][aA]\) ref=\d+ `)
			for _, line := range []string{haproxy, whyspin} {
				if !state.MatchString(line) {
					t.Errorf("the state is not laid out as HAProxy's: %s", line)
				}
			}
		})
	}
	last := -1
	for _, line := range got {
		number, _, _ := strings.Cut(line, " : ")
		n, err := strconv.Atoi(strings.TrimSpace(number))
		must(t, err)
		if n <= last {
			t.Errorf("descriptor %d comes after %d", n, last)
		}
		last = n
	}
	counters := regexp.MustCompile(` events=.*`)
	server := pick(t, got, "sv=smtp/s1")
	number, _, _ := strings.Cut(server, " : ")
	one := p.ask("show fd " + strings.TrimSpace(number))
	if counters.ReplaceAllString(one, "") != counters.ReplaceAllString(server, "")+"\n\n" {
		t.Errorf("show fd %s answers %q, the list has %q", number, one, server)
	}
	for _, nothing := range []string{"show fd 99999", "show fd -1", "show fd x"} {
		if answer := p.ask(nothing); answer != "\n" {
			t.Errorf("%s answers %q", nothing, answer)
		}
	}
}

func TestListenersOfSeveralWorkersAreListedOnce(t *testing.T) {
	p := start(t, setup{workers: 3}, section{proxy: config.Proxy{Name: "smtp"}, servers: []string{greets(t)}})
	answer := p.ask("show fd")
	n := strings.Count(answer, "(accept) l.st=RDY fe=smtp ")
	if n != 1 || !strings.Contains(answer, "tmask=0x7 ") {
		t.Errorf("one listener of three workers is listed %d times:\n%s", n, answer)
	}
	if n := strings.Count(answer, "(waker)"); n != 3 {
		t.Errorf("%d wakers of three workers are listed", n)
	}
}

func TestInfoHasTheFieldsOfHAProxy(t *testing.T) {
	p := start(t, setup{workers: 2}, section{proxy: config.Proxy{Name: "smtp"}, servers: []string{greets(t)}})
	p.established("smtp")
	names := func(text string) (all []string) {
		for line := range strings.Lines(strings.TrimSpace(text)) {
			name, _, found := strings.Cut(line, ": ")
			if !found && strings.TrimSpace(line) != "" {
				t.Errorf("line %q is no field", line)
			}
			all = append(all, name)
		}
		return all
	}
	answer := p.ask("show info")
	want, got := names(theirs(t, "show-info.txt")), names(answer)
	if diff := cmp.Diff(want, got[:len(want)]); diff != "" {
		t.Errorf("the fields differ (-haproxy +whyspin):\n%s", diff)
	}
	for _, line := range []string{
		"Name: whyspin\n", "Version: 2.6.12-whyspin-0.1\n", "Release_date: 2026/11/22\n",
		"Nbthread: 2\n", "CurrConns: 1\n", "CumConns: 2\n", "CumReq: 2\n", "Maxconn: 200\n",
		"node: vm\n", "Stopping: 0\n", "Listeners: 5\n", "Tracing: auto\n", "Probes: unknown\n",
		"SpinAction: report\n", "Tasks: 2\n", "BufferLimit: ", "StuckWorkers: 0\n",
	} {
		if !strings.Contains(answer, "\n"+line) && !strings.HasPrefix(answer, line) {
			t.Errorf("show info has no line %q:\n%s", line, answer)
		}
	}
}

func TestInfoInOtherFormats(t *testing.T) {
	p := start(t, setup{})
	p.config.Global.Description = `a "test"`
	typed := p.ask("show info typed")
	for _, line := range []string{
		"0.Name.1:POS:str:whyspin\n", "17.CurrConns.1:MGP:u32:0\n", "49.Idle_pct.1:MaP:u32:",
		"51.description.1:COS:str:a \"test\"\n", "1000.Tracing.1:CGP:str:auto\n",
	} {
		if !strings.Contains(typed, line) {
			t.Errorf("show info typed has no line %q:\n%s", line, typed)
		}
	}
	p.config.Global.Description = "two\n\nlines\x1b[2J"
	if text := p.ask("show info"); !strings.Contains(text, `description: two\n\nlines\x1b[2J`+"\n") ||
		strings.Contains(strings.TrimSuffix(text, "\n\n"), "\n\n") {
		t.Errorf("a description with control characters is shown as it is:\n%q", text)
	}
	if about := p.ask("show info desc"); !strings.HasPrefix(about, "Name: whyspin:\"product name\"\n") {
		t.Errorf("show info desc begins with %q", about[:40])
	}
	const begin = `[{"field":{"pos":0,"name":"Name"},"processNum":1,` +
		`"tags":{"origin":"Product","nature":"Output","scope":"Service"},` +
		`"value":{"type":"str","value":"whyspin"}},`
	if text := p.ask("show info json"); !strings.HasPrefix(text, begin) || strings.Count(text, "\n") != 2 {
		t.Errorf("show info json begins with %.200q", text)
	}
}

func TestActivityHasTheLinesOfHAProxy(t *testing.T) {
	want := strings.Split(strings.TrimSpace(theirs(t, "show-activity.txt")), "\n")
	p := start(t, setup{workers: 2}, section{proxy: config.Proxy{Name: "smtp"}, servers: []string{greets(t)}})
	p.established("smtp")
	got := strings.Split(p.ask("show activity"), "\n")
	value := regexp.MustCompile(`\d+`)
	for i, line := range want {
		if a, b := value.ReplaceAllString(line, "N"), value.ReplaceAllString(got[i], "N"); a != b {
			t.Errorf("line %d is %q, want the form of %q", i+1, got[i], line)
		}
	}
	single := start(t, setup{}).ask("show activity")
	if strings.Contains(single, "[") {
		t.Errorf("with one worker there are no brackets in HAProxy's; here:\n%s", single)
	}
}

func TestPointersOfAStreamAgree(t *testing.T) {
	p := start(t, setup{}, section{proxy: config.Proxy{Name: "smtp"}, servers: []string{greets(t)}})
	p.established("smtp")
	v := p.await("smtp", stream.Established)
	full, fds := p.ask("show sess "+v.ID), p.ask("show fd")
	id, _ := parseID(v.ID)
	for _, pointer := range []string{
		"co0=" + pointerOf(id, partFrontConnection), "co1=" + pointerOf(id, partBackConnection),
		"CONN," + pointerOf(id, partFrontEndpoint), "CONN," + pointerOf(id, partBackEndpoint),
	} {
		_, number, _ := strings.Cut(strings.ReplaceAll(pointer, ",", "="), "=")
		if !strings.Contains(full, pointer+" ") && !strings.Contains(full, pointer+",") ||
			!strings.Contains(fds, number+" ") {
			t.Errorf("%s should be in both dumps:\n%s\n%s", pointer, full, fds)
		}
	}
}

func TestSelections(t *testing.T) {
	smtp := section{proxy: config.Proxy{Name: "smtp"}, servers: []string{greets(t)}}
	p := start(t, setup{stopped: true}, smtp)
	p.established("smtp")
	v := p.await("smtp", stream.Established)
	p.kernel.stopped.Add(int64(90 * time.Second))
	for _, test := range []struct {
		line string
		want bool
	}{
		{"show sess", true}, {"show sess all", true}, {"show sess susp", false}, {"show sess older 1m", true},
		{"show sess older 90", true}, {"show sess older 2m", false}, {"show sess all older 2m", false},
		{"show sess older 1m susp", false}, {"show sess " + v.ID, true},
	} {
		if answer := p.ask(test.line); strings.Contains(answer, v.ID+":") != test.want {
			t.Errorf("%s lists the stream: %t, want %t:\n%s", test.line, !test.want, test.want, answer)
		}
	}
	const usage = "Session pointer, 'all', 'susp' or 'older <age>' expected.\n\n"
	for line, want := range map[string]string{
		"show sess 0x123400000000": "Session not found.\n\n",
		"show sess xyz":            usage,
		"show sess older":          usage,
		"show sess 0":              usage,
	} {
		if got := p.ask(line); got != want {
			t.Errorf("%s answers %q, want %q", line, got, want)
		}
	}
}
