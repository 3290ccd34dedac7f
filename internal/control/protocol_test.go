package control

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/stream"
)

const versionAnswer = "2.6.12-whyspin-0.1\n\n"

// The expectations of this table were taken from HAProxy 2.6.12, with its version in place of ours.
func TestConversations(t *testing.T) {
	p := start(t, setup{})
	usage := p.ask("")
	if !strings.HasPrefix(usage, "Unknown command. Please enter one of the following commands only:\n  ") {
		t.Fatalf("an empty command answers %q", usage)
	}
	const prompted = "\n> 2.6.12-whyspin-0.1\n\n> "
	tests := []struct{ name, send, want string }{
		{"one command", "show version\n", versionAnswer},
		{"more words than needed", "  show   version  extra\n", versionAnswer},
		{"a line that ends as on Windows", "show version\r\n", versionAnswer},
		{"two commands in a line", "show version;show version\n", versionAnswer + versionAnswer},
		{"two lines at once", "show version\nshow version\n", versionAnswer + versionAnswer},
		{"an empty command between", "show version; ;show version\n", versionAnswer + usage + versionAnswer},
		{"an empty command at the end", "show version;\n", versionAnswer + usage},
		{"nothing comes after quit", "show version;quit;show version\n", versionAnswer},
		{"quit alone", "quit\n", ""},
		{"a line that is not complete is not carried out", "show version\nshow version", versionAnswer},
		{"the prompt", "prompt\nshow version\nquit\n", prompted},
		{"the prompt within a line", "prompt;show version;quit\n", prompted},
		{"the prompt is a switch", "prompt\nshow version;prompt\nshow version\n", prompted + "\n" +
			versionAnswer},
		{"an empty line at the prompt", "prompt\n\nquit\n", "\n> " + usage + "> "},
		{"a payload that nobody wants", "show version <<\nabc\nshow info\n\nshow version\n",
			versionAnswer + versionAnswer},
		{"a payload at the prompt", "prompt\nshow version <<\nabc\n\nquit\n",
			"\n> + + 2.6.12-whyspin-0.1\n\n> "},
		{"a << alone announces a payload", "<<\nquit\n\nshow version\n", usage + versionAnswer},
		{"a glued << does, too, and the payload has to end", "show version<<\nquit\n", ""},
		{"a glued << stays in its word", "show version<<\nquit\n\nshow version\n",
			"Unknown command, but maybe one of the following ones is a better match:\n" +
				"  show version                           : show version of the current process\n" +
				"  help [<command>]                       : list matching or all commands\n" +
				"  prompt                                 : toggle interactive mode with prompt\n" +
				"  quit                                   : disconnect\n\n" + versionAnswer},
		{"a << within the line is a word", "show version << x\n", versionAnswer},
		{"set timeout", "set timeout cli 5\n", "\n"},
		{"set timeout without a delay", "set timeout cli\n", "Expects an integer value.\n\n"},
		{"set timeout to nothing", "set timeout cli 0\n", "Invalid timeout value.\n\n"},
		{"set timeout to something", "set timeout cli abc\n", "Invalid timeout value.\n\n"},
		{"set timeout of something else", "set timeout\n", "'set timeout' only supports 'cli'.\n\n"},
		{"severity as a number", "set severity-output number;show version;shutdown session\n",
			"\n[6]: " + versionAnswer + "[3]: Session pointer expected (use 'show sess').\n\n"},
		{"severity as a word", "set severity-output string;shutdown session\n",
			"\n[err]: Session pointer expected (use 'show sess').\n\n"},
		{"severity as something", "set severity-output foo\n",
			"one of 'none', 'number', 'string' is a required argument\n\n"},
		{"shutdown session without a session", "shutdown session abc\n",
			"Session pointer expected (use 'show sess').\n\n"},
		{"shutdown session of none", "shutdown session 0x100000000\n",
			"No such session (use 'show sess').\n\n"},
		{"show spin of something", "show spin foo\n",
			"'show spin' only supports 'json', a finding's number and a stream's id.\n\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := ""
			// A worker that gets no CPU for a while is said to be away, which is no matter of this test.
			eventually(t, "an answer of a worker that runs", func() bool {
				c := p.admin()
				_, err := io.WriteString(c, test.send)
				must(t, err)
				must(t, c.(*net.UnixConn).CloseWrite())
				answer, err := io.ReadAll(c)
				must(t, err)
				got = string(answer)
				return !strings.Contains(got, "has not come back to its loop yet")
			})
			if got != test.want {
				t.Errorf("%q is answered\n%q, want\n%q", test.send, got, test.want)
			}
		})
	}
}

func TestUnknownCommands(t *testing.T) {
	p := start(t, setup{})
	const want = "Unknown command, but maybe one of the following ones is a better match:\n" +
		"  show sess [all|id|susp|older age]*     : report the list of current sessions or dump some\n" +
		"  help [<command>]                       : list matching or all commands\n" +
		"  prompt                                 : toggle interactive mode with prompt\n" +
		"  quit                                   : disconnect\n\n"
	if got := p.ask("show ses"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLevels(t *testing.T) {
	p := start(t, setup{})
	for command, needs := range map[string]config.Level{
		"show info": config.LevelUser, "show activity": config.LevelUser, "show version": config.LevelUser,
		"help": config.LevelUser, "set timeout cli 5": config.LevelUser,
		"show sess": config.LevelOperator, "show sess all": config.LevelOperator,
		"show fd":       config.LevelOperator,
		"show ssl cert": config.LevelOperator, "show ssl crt-list": config.LevelAdmin,
		"set ssl cert a": config.LevelAdmin, "commit ssl cert a": config.LevelAdmin,
		"abort ssl cert a": config.LevelAdmin,
		"show spin":        config.LevelOperator, "show spin json": config.LevelOperator,
		"shutdown session 0x1": config.LevelAdmin,
	} {
		for level := config.LevelUser; level <= config.LevelAdmin; level++ {
			denied := p.askAs(level, command) == "Permission denied\n\n"
			if denied != (level < needs) {
				t.Errorf("%q at level %s: denied is %t, it needs %s", command, level, denied, needs)
			}
		}
	}
}

func TestTCPSocket(t *testing.T) {
	p := start(t, setup{})
	c := dial(t, "tcp", p.tcp)
	answer := exchange(t, c, "show sess\n")
	want := fmt.Sprintf(": proto=tcpv4 src=%s fe=GLOBAL be=<NONE> srv=<none> ", c.LocalAddr())
	if !strings.Contains(answer, want) {
		t.Errorf("the connection should be listed with %q:\n%s", want, answer)
	}
}

func TestALineThatIsTooLong(t *testing.T) {
	p := start(t, setup{})
	for _, test := range []struct{ name, text string }{
		{"with an end", "show version " + strings.Repeat("a", 2*maxLine) + "\n"},
		{"without an end", strings.Repeat("a", 2*maxLine)},
		{"a long payload", "show version <<\n" + strings.Repeat("a\n", maxLine)},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := p.admin()
			_, err := io.WriteString(c, test.text)
			must(t, err)
			must(t, c.(*net.UnixConn).CloseWrite())
			answer, err := io.ReadAll(c)
			must(t, err)
			if !strings.HasSuffix(string(answer), "is too long: it may have up to 16383 bytes.\n\n") {
				t.Errorf("answered %q", answer)
			}
		})
	}
	longest := "show version " + strings.Repeat("a", maxLine-1-len("show version "))
	if got := p.ask(longest[:maxLine-1]); got != versionAnswer {
		t.Errorf("the longest line is answered %q", got)
	}
}

func TestIdleConnectionsAreClosed(t *testing.T) {
	p := start(t, setup{change: func(c *config.Config) { c.Global.StatsTimeout = 50 * time.Millisecond }})
	for _, begin := range []string{"", "prompt\n", "show vers"} {
		c := p.admin()
		_, err := io.WriteString(c, begin)
		must(t, err)
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("after %q the connection was not closed for idleness: %v", begin, err)
		}
	}
	c := p.admin()
	_, err := io.WriteString(c, "set timeout cli 1h;prompt\n")
	must(t, err)
	_, err = io.ReadFull(c, make([]byte, len("\n\n> ")))
	must(t, err)
	must(t, c.SetReadDeadline(time.Now().Add(300*time.Millisecond)))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("with a longer timeout the connection should be open: %v", err)
	}
}

// prompts opens that many connections that stay at the prompt.
func (p *proxy) prompts(level config.Level, n int) []net.Conn {
	p.t.Helper()
	var open []net.Conn
	for range n {
		c := dial(p.t, "unix", p.sockets[level])
		_, err := io.WriteString(c, "prompt\n")
		must(p.t, err)
		_, err = io.ReadFull(c, make([]byte, len("\n> ")))
		must(p.t, err)
		open = append(open, c)
	}
	return open
}

// As with HAProxy 2.6.12, whose fourth client of "stats maxconn 3" has no answer until one of the three has
// left, and then that to what it sent at first.
func TestAClientAboveTheLimitWaitsForItsTurn(t *testing.T) {
	p := start(t, setup{change: func(c *config.Config) { c.Global.StatsMaxConn = 2 }})
	open := p.prompts(config.LevelAdmin, 2)
	third := p.admin()
	_, err := io.WriteString(third, "show version\n")
	must(t, err)
	must(t, third.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	if n, err := third.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("with all places taken, a client is answered %d bytes and %v", n, err)
	}
	if n := len(p.control.allSessions()); n != 2 {
		t.Errorf("%d connections were accepted, two are allowed", n)
	}
	open[0].Close()
	must(t, third.SetDeadline(time.Now().Add(patience)))
	answer, err := io.ReadAll(third)
	must(t, err)
	if got := string(answer); got != versionAnswer {
		t.Errorf("after one has left, the next is answered %q", got)
	}
}

func TestABurstOfClientsIsAnsweredToTheLast(t *testing.T) {
	p := start(t, setup{change: func(c *config.Config) { c.Global.StatsMaxConn = 2 }})
	var clients []net.Conn
	for range 50 {
		c := p.admin()
		_, err := io.WriteString(c, "show version\n")
		must(t, err)
		clients = append(clients, c)
	}
	for i, c := range clients {
		if answer, err := io.ReadAll(c); string(answer) != versionAnswer || err != nil {
			t.Errorf("client %d is answered %q and %v", i+1, answer, err)
		}
	}
}

// In HAProxy all sockets share "stats maxconn".
func TestUsersDoNotLockOutTheAdmin(t *testing.T) {
	p := start(t, setup{change: func(c *config.Config) { c.Global.StatsMaxConn = 2 }})
	p.prompts(config.LevelUser, 2)
	if got := p.ask("show version"); got != versionAnswer {
		t.Errorf("an admin is answered %q", got)
	}
}

func TestIdlePromptsMakeRoom(t *testing.T) {
	p := start(t, setup{change: func(c *config.Config) {
		c.Global.StatsMaxConn, c.Global.StatsTimeout = 2, 50*time.Millisecond
	}})
	p.prompts(config.LevelAdmin, 2)
	if got := p.ask("show version"); got != versionAnswer {
		t.Errorf("after the timeout, the next is answered %q", got)
	}
}

// A client that does not read must hold nothing: neither the engine, nor other clients, nor its own place
// for ever.
func TestAClientThatDoesNotRead(t *testing.T) {
	p := start(t, setup{change: func(c *config.Config) { c.Global.StatsTimeout = 200 * time.Millisecond }},
		section{proxy: config.Proxy{Name: "smtp"}, servers: []string{greets(t)}})
	for range 100 {
		p.established("smtp")
	}
	lazy := p.admin()
	_, err := io.WriteString(lazy, strings.Repeat("show sess all;", 1000)+"show version\n")
	must(t, err)
	eventually(t, "the lazy client's answer to be stuck", func() bool {
		before := p.control.session(1)
		return before != nil && before.written.Load() > 64<<10
	})
	began := time.Now()
	if n := strings.Count(p.ask("show sess"), "fe=smtp"); n != 100 {
		t.Errorf("another client is shown %d of 100 streams", n)
	}
	p.established("smtp").Close()
	if took := time.Since(began); took > patience/2 {
		t.Errorf("others had to wait %v", took)
	}
	eventually(t, "the lazy client to be given up", func() bool { return p.control.session(1) == nil })
}

func TestClosingEndsEveryConnection(t *testing.T) {
	p := start(t, setup{})
	c := p.admin()
	_, err := io.WriteString(c, "prompt\n")
	must(t, err)
	_, err = io.ReadFull(c, make([]byte, len("\n> ")))
	must(t, err)
	p.control.Close()
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("the connection was not closed: %v", err)
	}
	if _, err := net.Dial("unix", p.sockets[config.LevelAdmin]); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the socket should refuse: %v", err)
	}
	p.control.Close() // a second time is harmless
}

func TestShutdownSession(t *testing.T) {
	p := start(t, setup{}, section{proxy: config.Proxy{Name: "smtp"}, servers: []string{greets(t)}})
	client := p.established("smtp")
	v := p.await("smtp", stream.Established)
	if got := p.askAs(config.LevelOperator, "shutdown session "+v.ID); got != "Permission denied\n\n" {
		t.Errorf("an operator is answered %q", got)
	}
	if got := p.ask("shutdown session " + v.ID); got != "\n" {
		t.Errorf("the kill is answered %q", got)
	}
	if _, err := io.ReadAll(client); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client's connection was not closed: %v", err)
	}
	eventually(t, "the stream to be gone", func() bool { return p.engine.Streams() == 0 })
	if got := p.ask("shutdown session " + v.ID); got != "No such session (use 'show sess').\n\n" {
		t.Errorf("the kill of a session that is gone is answered %q", got)
	}
}

func TestShutdownOfARuntimeAPISession(t *testing.T) {
	p := start(t, setup{})
	victim := p.admin()
	_, err := io.WriteString(victim, "prompt\n")
	must(t, err)
	_, err = io.ReadFull(victim, make([]byte, len("\n> ")))
	must(t, err)
	if got := p.ask("shutdown session 0x1"); got != "\n" {
		t.Errorf("the kill is answered %q", got)
	}
	if _, err := io.ReadAll(victim); err != nil {
		t.Errorf("the victim's connection was not closed: %v", err)
	}
}
