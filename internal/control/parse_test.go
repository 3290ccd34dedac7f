package control

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/config"
)

func TestSplitLine(t *testing.T) {
	tests := []struct {
		name, line string
		want       [][]string
	}{
		{"one command", "show info", [][]string{{"show", "info"}}},
		{"blanks and tabs", "  show \t info ", [][]string{{"show", "info"}}},
		{"an empty line is one empty command", "", [][]string{nil}},
		{"several commands", "show info;show sess ;quit", [][]string{{"show", "info"}, {"show", "sess"},
			{"quit"}}},
		{"an empty command between and at the end", "a; ;b;", [][]string{{"a"}, nil, {"b"}, nil}},
		{"an escaped separator", `a\;b`, [][]string{{"a;b"}}},
		{"an escaped blank", `show\ info x`, [][]string{{"show info", "x"}}},
		{"an escaped backslash", `a\\;b`, [][]string{{`a\`}, {"b"}}},
		{"a backslash at the end stands for itself", `a\`, [][]string{{`a\`}}},
		{"quotes are nothing special", `show "info"`, [][]string{{"show", `"info"`}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, splitLine(test.line)); diff != "" {
				t.Errorf("%q splits wrongly (-want +got):\n%s", test.line, diff)
			}
		})
	}
}

// FuzzSplitLine checks that no character is lost or invented: joining the words again, escaped, and
// splitting that, gives the same commands.
func FuzzSplitLine(f *testing.F) {
	for _, seed := range []string{"", "show info;show sess", `a\;b\ c\\`, ";;", "  ", "show sess 0x1 <<",
		"\x00\xff\\"} {
		f.Add(seed)
	}
	escape := strings.NewReplacer(`\`, `\\`, ";", `\;`, " ", `\ `, "\t", "\\\t")
	f.Fuzz(func(t *testing.T, line string) {
		commands := splitLine(line)
		var joined []string
		for _, words := range commands {
			var escaped []string
			for _, w := range words {
				escaped = append(escaped, escape.Replace(w))
			}
			joined = append(joined, strings.Join(escaped, " "))
		}
		if diff := cmp.Diff(commands, splitLine(strings.Join(joined, ";"))); diff != "" {
			t.Errorf("%q does not survive (-first +second):\n%s", line, diff)
		}
		for _, words := range commands {
			closest(commandTable(), words) // must not panic
			_, _ = parseSelection(words)
		}
		rest, is := cutPayloadMark(line)
		if is != strings.HasSuffix(line, "<<") || rest != line && rest+"<<" != line {
			t.Errorf("%q without its payload mark is %q, %t", line, rest, is)
		}
	})
}

func commandTable() []command { return commands() }

func TestClosestCommands(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{`show\ version`, "show version"},
		{"", "abort ssl cert,add ssl crt-list,commit ssl cert,del ssl cert,del ssl crt-list,new ssl cert," +
			"set severity-output,set ssl cert,set ssl ocsp-response,set ssl tls-key,set timeout," +
			"show activity,show fd,show info,show sess,show spin,show ssl cert,show ssl crt-list," +
			"show ssl ocsp-response,show tls-keys,show version,shutdown session"},
		{"show", "show activity,show fd,show info,show sess,show spin,show ssl cert,show ssl crt-list," +
			"show ssl ocsp-response,show tls-keys,show version"},
		{"show ssl", "show ssl cert,show ssl crt-list,show ssl ocsp-response"},
		{"show ssl crt", "show ssl cert"},
		{"show ses", "show sess"},
		{"sho sess", "show sess"},
		{"show foo", "show fd,show info"},
		{"show sess all", "show sess"},
		{"shutdown", "shutdown session"},
		// For these HAProxy 2.6.12 proposes exactly that one.
		{"SHOW VERSION", "show version"},
		{"show VERSION", "show version"},
		{"Show Sess", "show sess"},
		{"show-info", "show info"},
		{"showinfo", "show info"},
		{"sho info", "show info"},
		{"show version<<", "show version"},
	} {
		var got []string
		for _, k := range closest(commands(), splitLine(test.line)[0]) {
			got = append(got, strings.Join(k.words, " "))
		}
		if strings.Join(got, ",") != test.want {
			t.Errorf("%q: proposed %q, want %q", test.line, strings.Join(got, ","), test.want)
		}
	}
}

func TestHelpShowsWhatTheLevelAllows(t *testing.T) {
	p := start(t, setup{})
	admin, user := p.ask("help"), p.askAs(config.LevelUser, "help")
	const line = "  shutdown session [id]                  : kill a specific session\n"
	if !strings.Contains(admin, line) || strings.Contains(user, line) {
		t.Errorf("shutdown session is for admins only; they see\n%s\nand users\n%s", admin, user)
	}
	for _, answer := range []string{admin, user} {
		const end = "  help [<command>]                       : list matching or all commands\n" +
			"  prompt                                 : toggle interactive mode with prompt\n" +
			"  quit                                   : disconnect\n\n"
		if !strings.HasPrefix(answer, "The following commands are valid at this level:\n  ") ||
			!strings.HasSuffix(answer, end) {
			t.Errorf("the help begins or ends otherwise than HAProxy's:\n%s", answer)
		}
	}
}
