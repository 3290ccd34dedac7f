package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/fault"
)

// TestTenMistakesTenMessages reads a file with ten mistakes of different kinds: each costs one message at
// its line, and none brings another one with it.
func TestTenMistakesTenMessages(t *testing.T) {
	text, err := os.ReadFile("../../testdata/config/mistakes.cfg")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse([]File{{Name: "mistakes.cfg", Text: text}}, Options{})
	if c != nil {
		t.Error("Parse returned a Config")
	}
	want := []string{
		`mistakes.cfg:4: unknown keyword "maxcon" in section global; did you mean "maxconn"?`,
		`mistakes.cfg:5: "nbthread": "two" is not a whole number`,
		`mistakes.cfg:6: "log": unknown facility "local9", known ones are kern, user, mail, daemon, auth, ` +
			`syslog, lpr, news, uucp, cron, auth2, ftp, ntp, audit, alert, cron2 and local0 to local7`,
		`mistakes.cfg:11: "timeout client": unexpected word "minute"`,
		`mistakes.cfg:15: "bind": options "tfo" and "transparent" are not supported in this version`,
		`mistakes.cfg:16: unclosed quote " in column 17`,
		`mistakes.cfg:17: "default_backend": no backend has the name "mailers"; did you mean "mailer"?`,
		`mistakes.cfg:20: "server ... weight": "300" is not between 0 and 256`,
		`mistakes.cfg:21: "server": the name "mx1" is already taken at mistakes.cfg:20`,
		`mistakes.cfg:24: unknown section "fronted"; did you mean "frontend"?`,
	}
	if diff := cmp.Diff(strings.Join(want, "\n"), err.Error()); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	// The comments in the file count the mistakes.
	for i, message := range want {
		var line int
		if _, err := fmt.Sscanf(message, "mistakes.cfg:%d:", &line); err != nil {
			t.Fatal(err)
		}
		around := strings.Join(strings.Split(string(text), "\n")[max(0, line-2):line], "\n")
		if !strings.Contains(around, fmt.Sprintf("# %d: ", i+1)) {
			t.Errorf("no comment %d at line %d:\n%s", i+1, line, around)
		}
	}
}

// TestSMTPSample checks the facts that other tests rely on.
func TestSMTPSample(t *testing.T) {
	text, err := os.ReadFile("../../testdata/config/smtp.cfg")
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"MX1_PORT": "3526", "WHYSPIN_SOCKET": "/tmp/other.sock"}
	c, err := Parse([]File{{Name: "smtp.cfg", Text: text}}, Options{LookupEnv: lookupIn(env)})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) > 0 {
		t.Errorf("warnings: %v", c.Warnings)
	}
	socket := c.Global.StatsSockets[0]
	if socket.Address.Path != "/tmp/other.sock" || socket.Level != LevelAdmin || socket.Unix.Mode != 0o600 {
		t.Errorf("stats socket: %+v", socket)
	}
	smtp := c.Backend("smtp")
	if smtp == nil || smtp.DefaultBackend != smtp || !smtp.TCPLog || smtp.Retries != 3 ||
		smtp.Redispatch != -1 {
		t.Fatalf("smtp: %+v", smtp)
	}
	want := Timeouts{Connect: time.Second, Client: time.Minute, Server: time.Minute, Tunnel: time.Hour}
	if smtp.Timeouts != want {
		t.Errorf("timeouts: %+v", smtp.Timeouts)
	}
	var addresses []string
	for _, p := range c.Proxies {
		for _, b := range p.Binds {
			addresses = append(addresses, p.Name+" bind "+b.Address.String())
		}
		for _, s := range p.Servers {
			addresses = append(addresses, p.Name+"/"+s.Name+" "+s.Address.String())
		}
	}
	wantAddresses := []string{
		"smtp bind 127.0.0.1:2525", "smtp/mx1 127.0.0.1:3526", "smtp/mx2 127.0.0.1:2527",
		"redis bind 127.0.0.1:6380", "redis/redis1 127.0.0.1:6379",
		"web bind 127.0.0.1:8081", "web/web1 127.0.0.1:8080",
	}
	if diff := cmp.Diff(wantAddresses, addresses); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

func TestMessagesAreInTheOrderOfFilesAndLines(t *testing.T) {
	// The backend that is missing in line 2 of the second file is found missing after everything was read.
	files := []File{
		{Name: "z.cfg", Text: []byte("global\n nosuch\n")},
		{Name: "a.cfg", Text: []byte("frontend f\n default_backend b\n bind nosuch\n")},
	}
	_, err := Parse(files, Options{})
	var all *Errors
	if !errors.As(err, &all) {
		t.Fatalf("Parse returned %v", err)
	}
	var at []string
	for _, d := range all.Diagnostics {
		at = append(at, d.Position.String())
	}
	if diff := cmp.Diff([]string{"z.cfg:2", "a.cfg:2", "a.cfg:3"}, at); diff != "" {
		t.Errorf("positions (-want +got):\n%s", diff)
	}
}

func TestParseDoesNotTouchTheEnvironment(t *testing.T) {
	env := map[string]string{"KEPT": "1"}
	text := "global\n setenv NEW 1\n resetenv\n stats socket /run/a.sock\n"
	if messages := diagnose(t, text, Options{LookupEnv: lookupIn(env)}); len(messages) != 1 {
		t.Fatalf("messages: %q", messages)
	}
	if diff := cmp.Diff(map[string]string{"KEPT": "1"}, env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestUnknownFaultListsTheKnownOnes(t *testing.T) {
	messages := diagnose(t, "global\n whyspin.fault nosuch\n", Options{AllowFaults: true})
	if len(messages) != 1 || !strings.Contains(messages[0], strings.Join(fault.Names(), ", ")) {
		t.Errorf("messages: %q", messages)
	}
}

// TestNoKeywordIsInTwoTables keeps the tables of keywords from contradicting each other.
func TestNoKeywordIsInTwoTables(t *testing.T) {
	for _, place := range []struct {
		name   string
		tables [][]string
	}{
		{"global", [][]string{
			sortedKeys(globalKeywords), sortedKeys(ignoredGlobal), sortedKeys(unsupportedGlobal),
		}},
		{"proxy", [][]string{
			sortedKeys(proxyKeywords), sortedKeys(unsupportedProxy), sortedKeys(removedProxy),
		}},
		{"option", [][]string{
			sortedKeys(options), sortedKeys(spliceOptions), sortedKeys(ignoredOptions),
			sortedKeys(unsupportedOptions),
		}},
		{"bind", [][]string{bindOptions, sortedKeys(unsupportedBind)}},
		{"server", [][]string{serverOptions, sortedKeys(unsupportedServer), sortedKeys(idleServer)}},
	} {
		all := slices.Concat(place.tables...)
		slices.Sort(all)
		for i := 1; i < len(all); i++ {
			if all[i] == all[i-1] {
				t.Errorf("%s: %q is there twice", place.name, all[i])
			}
		}
	}
}

func TestSuggestions(t *testing.T) {
	for _, test := range []struct{ word, want string }{
		{"maxcon", "maxconn"},
		{"maxconnn", "maxconn"},
		{"mxaconn", "maxconn"},
		{"macxonm", "maxconn"},
		{"deamon", "daemon"},
		{"nbthraeds", "nbthread"},
		{"m", ""},
		{"noed", "node"},
		{"completely-different", ""},
		{strings.Repeat("x", 60000), ""},
	} {
		if got := nearest(test.word, globalNames); got != test.want {
			t.Errorf("nearest(%.40q) = %q, want %q", test.word, got, test.want)
		}
	}
}

func TestAddressesReadAsTheyPrint(t *testing.T) {
	use := addressUse{descriptor: true, wildcard: true}
	for _, text := range []string{
		"192.0.2.1:80", "[2001:db8::1]:80", "*:80", "[::]:80", "192.0.2.1", "[2001:db8::1]",
		"192.0.2.1:+5", "[::1]:-5",
		"mail.example:25", "mail.example", "ipv6@mail.example:25", "/run/a.sock", "unix@a.sock",
		"abns@a", "fd@7",
		"*", "[::ffff:192.0.2.1]:80",
	} {
		a, _, err := parseAddress(text, use)
		if err != nil || a.String() != text {
			t.Errorf("%q reads as %q, error %v", text, a, err)
		}
	}
}
