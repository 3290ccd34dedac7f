package control

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/config"
)

// command is one command of the runtime API.
type command struct {
	words []string // by which it is called
	// arguments and help are what "help" shows of it.
	arguments, help string
	level           config.Level // that a connection needs
	run             func(c *session, args []string)
}

// commands are all commands but those that end every list, in alphabetical order. The function is there
// because help lists it.
func commands() []command {
	return []command{
		{[]string{"abort", "ssl", "cert"}, "<certfile>", "abort a transaction for a certificate file",
			config.LevelAdmin, abortSSLCert},
		{[]string{"add", "ssl", "crt-list"}, "<list> <cert> <payload>",
			"add to crt-list file <list> a line <cert> or a payload", config.LevelAdmin, addSSLCrtList},
		{[]string{"commit", "ssl", "cert"}, "<certfile>", "commit a certificate file",
			config.LevelAdmin, commitSSLCert},
		{[]string{"del", "ssl", "cert"}, "<certfile>", "delete an unused certificate file",
			config.LevelAdmin, delSSLCert},
		{[]string{"del", "ssl", "crt-list"}, "<list> <cert[:line]>",
			"delete a line <cert> from crt-list file <list>", config.LevelAdmin, delSSLCrtList},
		{[]string{"new", "ssl", "cert"}, "<certfile>",
			"create a new certificate file to be used in a crt-list or a directory",
			config.LevelAdmin, newSSLCert},
		{[]string{"set", "severity-output"}, "[none|number|string]",
			"set presence of severity level in feedback information", config.LevelUser, setSeverityOutput},
		{[]string{"set", "ssl", "cert"}, "<certfile> <payload>", "replace a certificate file",
			config.LevelAdmin, setSSLCert},
		{[]string{"set", "ssl", "ocsp-response"}, "<resp|payload>",
			"update a certificate's OCSP Response from a base64-encode DER",
			config.LevelAdmin, setSSLOCSPResponse},
		{[]string{"set", "ssl", "tls-key"}, "[id|file] <key>",
			"set the next TLS key for the <id> or <file> listener to <key>", config.LevelAdmin, setSSLTLSKey},
		{[]string{"set", "timeout"}, "[cli] <delay>", "change a timeout setting",
			config.LevelUser, setTimeout},
		{[]string{"show", "activity"}, "", "show per-thread activity stats", config.LevelUser, showActivity},
		{[]string{"show", "fd"}, "[num]", "dump list of file descriptors in use or a specific one",
			config.LevelOperator, showFD},
		{[]string{"show", "info"}, "[desc|json|typed|float]*", "report information about the running process",
			config.LevelUser, showInfo},
		{[]string{"show", "sess"}, "[all|id|susp|older age]*",
			"report the list of current sessions or dump some",
			config.LevelOperator, showSess},
		{[]string{"show", "spin"}, "[json|id]", "report why the workers were awake, and findings",
			config.LevelOperator, showSpin},
		{[]string{"show", "ssl", "cert"}, "[<certfile>]",
			"display the SSL certificates used in memory, or the details of a file",
			config.LevelOperator, showSSLCert},
		{[]string{"show", "ssl", "crt-list"}, "[-n] [<list>]",
			"show the list of crt-lists or the content of a crt-list file <list>",
			config.LevelAdmin, showSSLCrtList},
		{[]string{"show", "ssl", "ocsp-response"}, "[id]",
			"display the IDs of the OCSP responses used in memory", config.LevelOperator,
			showSSLOCSPResponse},
		{[]string{"show", "tls-keys"}, "", "list the files of TLS ticket keys",
			config.LevelAdmin, showTLSKeys},
		{[]string{"show", "version"}, "", "show version of the current process",
			config.LevelUser, showVersion},
		{[]string{"shutdown", "session"}, "[id]", "kill a specific session",
			config.LevelAdmin, shutdownSession},
	}
}

// always are the commands that end every list.
func always() []command {
	return []command{
		{[]string{"help"}, "[<command>]", "list matching or all commands", config.LevelUser, help},
		{[]string{"prompt"}, "", "toggle interactive mode with prompt", config.LevelUser, togglePrompt},
		{[]string{"quit"}, "", "disconnect", config.LevelUser, quit},
	}
}

// usage is how a command is called.
func (c *command) usage() string {
	return strings.TrimSpace(strings.Join(c.words, " ") + " " + c.arguments)
}

// matches reports whether the words begin with those of the command.
func (c *command) matches(words []string) bool {
	return len(words) >= len(c.words) && slices.Equal(c.words, words[:len(c.words)])
}

// execute carries out one command.
func (c *session) execute(words []string) {
	for _, k := range append(commands(), always()...) {
		if !k.matches(words) {
			continue
		}
		if c.level < k.level {
			c.message(severityError, "Permission denied\n")
			return
		}
		k.run(c, words[len(k.words):])
		return
	}
	if len(words) == 1 && words[0] == config.HandOverCommand && c.handOver() {
		return
	}
	if len(words) == 0 {
		c.list("Unknown command. Please enter one of the following commands only:", nil)
		return
	}
	c.list("Unknown command, but maybe one of the following ones is a better match:", words)
}

// handOver gives the listeners to the client, a process that is about to replace this one, if its socket
// offers them. The connection ends with that. It is no command for people, so no list has it.
func (c *session) handOver() bool {
	if !c.socket.config.ExposeListeners || c.server.options.HandOver == nil {
		return false
	}
	if err := c.server.options.HandOver(c.conn); err != nil {
		c.message(severityError, "The listeners are not handed over: %v\n", err)
	}
	c.quit = true
	return true
}

// list shows the commands that the words may mean, all when there are none, under a title.
func (c *session) list(title string, words []string) {
	c.message(severityInfo, "%s\n", title)
	for _, k := range append(closest(commands(), words), always()...) {
		if c.level >= k.level {
			fmt.Fprintf(c.out, "  %-39s: %s\n", k.usage(), k.help)
		}
	}
}

func help(c *session, args []string) { c.list("The following commands are valid at this level:", args) }

func togglePrompt(c *session, _ []string) { c.prompt = !c.prompt }

func quit(c *session, _ []string) { c.quit = true }

func showVersion(c *session, _ []string) { c.message(severityInfo, "%s\n", c.server.version) }

func setSeverityOutput(c *session, args []string) {
	for i, name := range [...]string{"none", "number", "string"} {
		if len(args) > 0 && args[0] == name {
			c.severity = severityOutput(i)
			return
		}
	}
	c.message(severityError, "one of 'none', 'number', 'string' is a required argument\n")
}

func setTimeout(c *session, args []string) {
	switch {
	case len(args) == 0 || args[0] != "cli":
		c.message(severityError, "'set timeout' only supports 'cli'.\n")
	case len(args) == 1:
		c.message(severityError, "Expects an integer value.\n")
	default:
		d, ok := parseDelay(args[1])
		if !ok || d <= 0 {
			c.message(severityError, "Invalid timeout value.\n")
			return
		}
		c.timeout.Store(int64(d))
	}
}

// maxDelay is HAProxy's longest time: 2^31-1 milliseconds.
const maxDelay = (1<<31 - 1) * time.Millisecond

// parseDelay reads a number with one of HAProxy's units, seconds without one.
func parseDelay(text string) (time.Duration, bool) {
	end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(text)
	}
	n, err := strconv.ParseUint(text[:end], 10, 32)
	unit, known := map[string]time.Duration{
		"": time.Second, "us": time.Microsecond, "ms": time.Millisecond, "s": time.Second, "m": time.Minute,
		"h": time.Hour, "d": 24 * time.Hour,
	}[text[end:]]
	if err != nil || !known || n > uint64(maxDelay/unit) {
		return 0, false
	}
	return time.Duration(n) * unit, true
}
