package config

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/google/go-cmp/cmp"
)

// The tests in this file compare with the real HAProxy. They fail where it is missing: a comparison that is
// skipped proves nothing.

// runHAProxy runs HAProxy and returns its output and whether it ended well. The environment holds env only.
func runHAProxy(t *testing.T, env map[string]string, args ...string) (output string, ok bool) {
	t.Helper()
	path, err := exec.LookPath("haproxy")
	if err != nil {
		path = "/usr/sbin/haproxy" // not in the PATH of ordinary users
	}
	cmd := exec.Command(path, args...)
	cmd.Env = []string{"COMPARED=1"} // none at all would mean the environment of this process
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() < 0) {
		t.Fatalf("running haproxy, which this test compares with (make test installs it): %v\n%s", err, out)
	}
	return string(out), err == nil
}

// haproxy runs "haproxy -c" on a configuration and returns whether it is accepted, and what was printed.
func haproxy(t *testing.T, text string, env map[string]string) (accepted bool, output string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "test.cfg")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	output, accepted = runHAProxy(t, env, "-c", "-f", file)
	return accepted, output
}

// accepted reports whether Parse takes a configuration, and its messages.
func accepted(t *testing.T, text string, env map[string]string) (bool, string) {
	t.Helper()
	_, err := Parse([]File{{Name: "t", Text: []byte(text)}}, Options{LookupEnv: lookupIn(env)})
	return err == nil, strings.Join(diagnose(t, text, Options{LookupEnv: lookupIn(env)}), "\n")
}

// differences are the configurations of differential.txt on which whyspin decides otherwise than HAProxy,
// with the reason.
var differences = map[string]string{
	"a-balance-algorithm-that-is-not-there-yet":   "leastconn is not supported yet",
	"a-bind-address-that-is-used-twice":           "the kernel would share out the connections by chance",
	"a-bind-list-that-ends-with-a-comma":          "an empty address is what an unset variable leaves",
	"a-check-of-a-server":                         "checks are not supported yet",
	"a-condition-with-a-predicate-without-parens": "HAProxy takes it as one with an empty name",
	"a-condition-with-a-version-that-is-none":     "HAProxy reads anything as version 0",
	"a-count-that-is-not-a-number":                "HAProxy reads it as 0",
	"a-default-option-that-is-documented":         "HAProxy 2.6 documents it and fails to read it",
	"a-global-user-by-name-and-number":            "the two contradict each other; HAProxy takes the first",
	"a-keyword-of-mode-http":                      "HTTP is not supported yet",
	"a-limit-of-the-handshake":                    "HAProxy 2.6 does not have it yet",
	"a-list-of-protocols-with-an-empty-one":       "RFC 7301 has no empty names",
	"a-listen-section-named-like-a-backend":       "HAProxy finds this only in the opposite order",
	"a-log-line-to-a-ring":                        "rings are not supported yet",
	"a-mode-that-is-not-there-yet":                "HTTP is not supported yet",
	"a-section-line-with-an-address":              "HAProxy prints an alert and goes on without the address",
	"a-section-that-is-not-there-yet":             "peers are not supported yet",
	"a-server-at-the-clients-address":             "transparent proxying is not supported yet",
	"a-time-with-something-after-its-unit":        "HAProxy announces that it will be an error",
	"a-variable-in-an-address-that-is-not-closed": "HAProxy takes a missing brace for granted",
	"a-variable-without-quotes":                   "HAProxy reads any word as a number",
	"an-abbreviated-ipv4-address":                 "10.1 for 10.0.0.1 is a typing mistake far more often",
	"an-empty-word-before-options":                "HAProxy ignores the options after it silently",
	"an-id-for-default-server":                    "HAProxy prints an alert and goes on",
	"an-sni-from-a-header":                        "HTTP is not supported yet",
	"busy-polling":                                "whyspin does not poll busily",
	"ciphers-of-a-finite-field-only":              "crypto/tls has no DHE",
	"nbproc-1":                                    "it is what whyspin does anyway",
	"old-versions-only":                           "TLS below 1.2 is not supported",
	"options-of-a-socket-that-are-not-there-yet":  "binding to an interface is not supported yet",
	"seventy-words-in-a-line":                     "HAProxy takes 64",
	"v6only-and-v4v6":                             "the two contradict each other",
	"whyspin-keywords":                            "HAProxy does not have them",
}

// TestDecidesAsHAProxy runs every configuration of differential.txt through both and requires the same
// decision, or a reason in differences why not.
func TestDecidesAsHAProxy(t *testing.T) {
	env := map[string]string{"PORT": "8026", "HOST": "127.0.0.1", "EMPTY": "", "WORDS": "weight 5 backup"}
	seen := map[string]bool{}
	path := "../../testdata/config/differential.txt"
	datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
		text := d.Input + "\n"
		seen[d.Cmd] = true
		theirs, output := haproxy(t, text, env)
		ours, messages := accepted(t, text, env)
		reason, known := differences[d.Cmd]
		if (theirs != ours) != known {
			t.Errorf("%s: %s: accepted by HAProxy: %v, by whyspin: %v; reason to differ: %q\n"+
				"HAProxy says:\n%s\nwhyspin says:\n%s",
				d.Pos, d.Cmd, theirs, ours, reason, output, messages)
		}
		return map[bool]string{true: "accepted", false: "refused"}[ours]
	})
	if len(seen) < 80 {
		t.Errorf("only %d configurations to compare", len(seen))
	}
	for name := range differences {
		if !seen[name] {
			t.Errorf("difference %q: there is no such configuration", name)
		}
	}
}

// TestDecidesAsHAProxyOnOddBytes compares what a text file of configurations cannot hold.
func TestDecidesAsHAProxyOnOddBytes(t *testing.T) {
	tests := []struct {
		name, text string
		differs    string // the reason, when the decisions differ
	}{
		{name: "lines may end as on Windows", text: strings.ReplaceAll(frame, "\n", "\r\n")},
		{name: "the last line must end", text: strings.TrimSuffix(frame, "\n")},
		{name: "a last line of blanks must end, too", text: frame + "  "},
		{name: "a last line that is a comment must end, too", text: frame + "# end"},
		{name: "a zero byte", text: frame + " description a\x00b\n"},
		{name: "a zero byte in a comment", text: frame + " # a\x00b\n"},
		{name: "bytes that are not UTF-8", text: frame + " description \xe9\n"},
		{name: "bytes that are not UTF-8 in a comment", text: frame + " # \xe9\n"},
		{name: "a byte order mark", text: "\ufeff" + frame},
		{name: "control characters", text: frame + " description \x01\x7f\n"},
		{name: "a blank that is not one", text: frame + " description\u00a0a\n"},
		{name: "vertical tabs and form feeds", text: frame + "\v\fdescription\va\n"},
		{name: "a carriage return inside a comment", text: frame + " # a\rb\n"},
		{
			name: "a carriage return inside a line", text: frame + " description a\rnosuch\n",
			differs: "HAProxy ignores the rest of the line silently",
		},
		{name: "a carriage return before a keyword", text: frame + "\rnosuch\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			theirs, output := haproxy(t, test.text, nil)
			ours, messages := accepted(t, test.text, nil)
			if (theirs != ours) != (test.differs != "") {
				t.Errorf("accepted by HAProxy: %v, by whyspin: %v\n%s\n%s", theirs, ours, output, messages)
			}
		})
	}
}

// TestSamplesSuitHAProxy keeps the sample configurations readable for HAProxy.
func TestSamplesSuitHAProxy(t *testing.T) {
	text, err := os.ReadFile("../../testdata/config/smtp.cfg")
	if err != nil {
		t.Fatal(err)
	}
	if ok, output := haproxy(t, string(text), nil); !ok {
		t.Errorf("HAProxy refuses smtp.cfg:\n%s", output)
	}
	if ok, messages := accepted(t, string(text), nil); !ok || messages != "" {
		t.Errorf("whyspin says about smtp.cfg:\n%s", messages)
	}
}

// frame is a configuration that both accept, up to a place inside a backend.
const frame = `defaults
 timeout connect 1s
 timeout client 1s
 timeout server 1s
frontend front
 bind 127.0.0.1:8025
 default_backend back
backend back
 server s 127.0.0.1:25
`

// firstWords are lines that begin with words of every kind. HAProxy knows none of the words as a keyword and
// so prints it as it has read it. The last three are syntax errors for both.
var firstWords = []string{
	`x\y`, `"x\y"`, `'x\y'`, `x\\y`, `"x\\y"`, `'x\\y'`, `x\'y`, `"x\'y"`, `x\"y`, `"x\"y"`, `'x"y'`,
	`"x'y"`,
	`x\$y`, `"x\$y"`, `'x\$y'`, `x\#y`, `"x\#y"`, `x#y`, `"x#y"`, `'x#y'`, `x\ y`, `"x y"`, `'x y'`,
	`"x\ y"`,
	`x\x41y`, `"x\x41y"`, `'x\x41y'`, `x\qy`, `x\`, `x\	y`, `"x\	y"`, `x"y"'z'w`, `x""y`, "x\vy",
	"x\fy", "x\ty",
	`$X`, `'$X'`, `"$X"`, `"x$X"`, `"${X}y"`, `"$X-y"`, `"$Xy"`, `"${X-y}z"`, `"x${N-y}z"`, `"x${N-y z}w"`,
	`"x${N-"y"}z"`, `"x${N-'y'}z"`, `"x${N-\}z"`, `"x${N-\x41}z"`, `"x${N-$X}z"`, `"x${N}y"`, `"x$N.y"`,
	`"x${E-y}z"`, `"x${W}y"`, `"x${W[*]}y"`, `"x${N[*]-y z}w"`, `"x${N[*]}y"`, `x"${W[*]-y}"`, `"x$.LINE"`,
	`"x${.LINE}y"`, `"x$.SECTION"`, `"x${.SECTION}"`, `"\x24X"`, `x\x22y`, "x\xe9y", "x\xc3\xa9y",
	`"x`, `'x`, `"x${X"`,
}

var theirKeyword = regexp.MustCompile(`(?s) : unknown keyword '(.*?)' in 'backend' section`)

// TestWordsAsHAProxy lets HAProxy cut the same lines into words.
func TestWordsAsHAProxy(t *testing.T) {
	env := map[string]string{"X": "value", "E": "", "W": "1 2  3"}
	first := strings.Count(frame, "\n") + 1
	for _, line := range firstWords {
		_, output := haproxy(t, frame+line+" tail\n", env)
		theirs := ""
		if m := theirKeyword.FindStringSubmatch(output); m != nil {
			theirs = m[1]
		}
		e := newEnvironment(lookupIn(env))
		x := lexer{text: line + " tail", lookup: func(name string) (string, bool) {
			switch name {
			case ".LINE":
				return strconv.Itoa(first), true
			case ".SECTION":
				return "back", true
			}
			return e.get(name)
		}}
		words, err := x.split()
		ours := ""
		if err == nil {
			ours = words[0]
		}
		if theirs != ours {
			t.Errorf("first word of %q: HAProxy reads %q, whyspin %q (error %v)", line, theirs, ours, err)
		}
	}
}

// conditions are expressions on whose value both must agree; HAProxy prints none for a mistake.
var conditions = []string{
	"", "0", "1", "00", "01", "-1", "-0", "2", "99999999999999999999", "!1", "! 1", "!!1", "!0 && !0",
	"1 && 0", "1&&1", "0||1", "0 || 0", "0 || 0 && 1", "1 || 1 && 0", "(1 || 1) && 0", "1 && (0 || 1)",
	"(1)",
	"( 1 )", "((0))", "!(1)", "! (0)", "1 ||1", "1|| 1", `"1 && 1"`, `"1" && "0"`, `"$EMPTY"`, `"$ONE"`,
	`"$NONE"`,
	"defined(ONE)", "defined(EMPTY)", "defined(NONE)", "defined()", "defined( ONE )", "!defined(NONE)||0",
	"streq(a,a)", "streq(a,b)", "streq(a, a)", "streq(,)", `streq("$ONE",1)`, `streq("$NONE",)`,
	`streq("$BLANK","a b")`, "streq(a b,a b)", "streq(a  b,a b)", "strneq(a,b)", "strneq(a,a)",
	"streq('a','a')",
	`streq(\"a\",a)`, `streq(\'a,b\',\'a,b\')`, `streq(\'a\ b\',\'a\ b\')`, `streq(a\\ b,a)`,
	`streq(\\n,\\x)`,
	`streq(a\\,b,a)`, `streq(\"a)\",\"a)\")`,
	"feature(EPOLL)", "feature(epoll)", "feature(NOSUCH)", "feature(THREAD) && feature(ACCEPT4)",
	"feature(GETADDRINFO)", "version_atleast(2.6)", "version_atleast(2.6.12)", "version_atleast(2.6.13)",
	"version_atleast(2.6-dev1)", "version_atleast(2.6.12-1)", "version_atleast(2.7)", "version_atleast(2)",
	"version_atleast(3)", "version_atleast(2.6.12-rc1)", "version_before(2.7-dev0)", "version_before(2.7)",
	"version_before(2.6.12)", "version_before(2.6.12-2)", "version_before(2.6.12-1+deb12u5)",
	"version_before(2.6)",
	"a", "1a", "1 1", "1 &&", "&& 1", "1 & 1", "(1", "(1))", "()", "!", "true", "foo(a)", "defined (ONE)",
	"defined(ONE,TWO)", "defined(ONE", "streq(a)", "streq(a,b,c)", "1.5", "1 || foo", "0 && foo",
	`"$EMPTY" || 1`,
	"defined(ONE)1", "(1)(1)",
}

var theirAlert = regexp.MustCompile(`parsing \[[^]]*:(\d+)\]: '(true|false)'`)

// TestConditionsAsHAProxy lets HAProxy evaluate the same conditions.
func TestConditionsAsHAProxy(t *testing.T) {
	env := map[string]string{"ONE": "1", "EMPTY": "", "BLANK": "a b"}
	for _, c := range conditions {
		text := frame + ".if " + c + "\n.alert true\n.else\n.alert false\n.endif\n"
		_, output := haproxy(t, text, env)
		theirs := "error"
		if m := theirAlert.FindStringSubmatch(output); m != nil {
			theirs = m[2]
		}
		ours := "error"
		last := diagnose(t, text, Options{LookupEnv: lookupIn(env)})[0]
		if _, value, _ := strings.Cut(last, ": "); value == "true" || value == "false" {
			ours = value
		}
		if theirs != ours {
			t.Errorf(".if %s: HAProxy finds %s, whyspin %s\n%s\n%s", c, theirs, ours, output, last)
		}
	}
}

// TestKnowsTheKeywordsOfHAProxy reads the list HAProxy prints of its keywords: each is supported or in a
// table, so that nobody is told that it does not exist.
func TestKnowsTheKeywordsOfHAProxy(t *testing.T) {
	out, _ := runHAProxy(t, nil, "-dKcfg", "-q", "-c", "-f", os.DevNull)
	var missing []string
	section, count := "", 0
	for line := range strings.Lines(out) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		if !strings.HasPrefix(line, "\t") {
			section = words[0]
			continue
		}
		count++
		if section == "global" && !knownGlobal(words[0]) || section == "listen" && !knownProxy(words) {
			missing = append(missing, section+": "+strings.Join(words, " "))
		}
	}
	if count < 300 {
		t.Errorf("haproxy has printed %d keywords; has the format changed?\n%s", count, out)
	}
	if diff := cmp.Diff([]string(nil), missing); diff != "" {
		t.Errorf("keywords in no table (-want +missing):\n%s", diff)
	}
}

func knownGlobal(word string) bool {
	return globalKeywords[word] != nil || ignoredGlobal[word] || unsupportedGlobal[word]
}

// knownProxy looks at a line such as "bind <addr> name +1", "option tcplog [ FE ]" or "acl".
func knownProxy(words []string) bool {
	_, supported := proxyKeywords[words[0]]
	_, removed := removedProxy[words[0]]
	switch words[0] {
	case "bind":
		name := words[2]
		if name == "ssl" && len(words) > 3 && !strings.HasPrefix(words[3], "+") {
			name = words[3]
		}
		_, known := unsupportedStats[name]
		return known || socketOptions[name]
	case "server":
		_, known := unsupportedServer[words[3]]
		return known || idleServer[words[3]] || slices.Contains(serverOptions, words[3])
	case "option":
		_, known := options[words[1]]
		return known || spliceOptions[words[1]] || ignoredOptions[words[1]] || unsupportedOptions[words[1]]
	}
	return supported || removed || unsupportedProxy[words[0]]
}
