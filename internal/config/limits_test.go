package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestLimits reaches every limit. Each is named in a message, and nothing else goes wrong because of it.
func TestLimits(t *testing.T) {
	socket := "global\n stats socket /run/a.sock\n"
	doubling := "global\n setenv A 0123456789abcdef\n" + strings.Repeat(" setenv A \"$A$A\"\n", 11) // 32 KiB
	tests := []struct {
		name, text string
		want       string // how the first error ends
	}{
		{"the files together", strings.Repeat("#\n", maxTotalBytes/2) + "#\n", "larger than 16777216 bytes"},
		{"a line", socket + "#" + strings.Repeat("x", maxLineBytes) + "\n",
			"the line is longer than 65536 bytes"},
		{"the words of a line", socket + strings.Repeat("x ", maxWords+1) + "\n",
			"more than 256 words in column 513"},
		{"a line that expands", doubling + " setenv A \"$A$A\"\n",
			"expanded line passes 65536 bytes in column 16"},
		{"all lines that expand", doubling + strings.Repeat(" description \"$A\"\n", 2100),
			"with its variables expanded, the configuration is larger than 67108864 bytes"},
		{"the variables", doubling + numbered(" setenv V%d \"$A\"\n", 40),
			`"setenv": the variables that are set take more than 1048576 bytes`},
		{"blocks", socket + strings.Repeat(".if 1\n", maxBlocks+1) + strings.Repeat(".endif\n", maxBlocks+1),
			"more than 100 .if blocks inside each other"},
		{"parentheses", socket + ".if " + strings.Repeat("(", maxConditionDepth+1) + "1\n.endif\n",
			"column 101 of the condition: more than 100 levels of parentheses and negations"},
		{"negations", socket + ".if " + strings.Repeat("!", 5000) + "1\n.endif\n",
			"column 101 of the condition: more than 100 levels of parentheses and negations"},
		{"sections", numbered("backend b%d\n", maxProxies+10), "more than 100000 sections"},
		{"listeners", "frontend f\n bind :1-65535\n bind 127.0.0.1:1-65535\n bind ::1:1-65535\n",
			"more than 131072 listening addresses"},
		{"sockets", "global\n stats socket :1-65535,127.0.0.1:1-65535,::1:1-65535\n",
			"more than 131072 listening addresses"},
		{"servers", "backend b\n" + numbered(" server s%d 192.0.2.1\n", maxServers+1),
			"more than 262144 servers"},
		{"the path of a socket", "frontend f\n bind /" + strings.Repeat("x", maxUnixPath) + "\n",
			"108 bytes of at most 107"},
		{"a host name", "frontend f\n bind " + strings.Repeat("x.", 127) + ":80\n",
			"is neither an IP address nor a host name"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse([]File{{Name: "t", Text: []byte(test.text)}}, Options{})
			var all *Errors
			if !errors.As(err, &all) {
				t.Fatalf("Parse returned %v", err)
			}
			var found []Diagnostic
			for _, d := range all.Diagnostics {
				if d.Severity == Error {
					found = append(found, d)
				}
			}
			if len(found) != 1 || !strings.HasSuffix(found[0].Message, test.want) {
				t.Errorf("%d errors instead of one that ends with %q:\n%v", len(found), test.want, err)
			}
		})
	}
}

// numbered repeats a format with the numbers below n.
func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

func TestTooManyErrorsEndTheReading(t *testing.T) {
	text := "global\n" + strings.Repeat(" nosuch\n", 5000) + "listen l\n bind nosuch\n"
	_, err := Parse([]File{{Name: "t", Text: []byte(text)}}, Options{})
	var all *Errors
	if !errors.As(err, &all) {
		t.Fatalf("Parse returned %v", err)
	}
	last := all.Diagnostics[len(all.Diagnostics)-1].String()
	if len(all.Diagnostics) != maxErrors+1 || all.Omitted != 0 ||
		last != "t:901: more than 900 errors: what follows is not read" {
		t.Errorf("%d messages, %d omitted, the last one %q", len(all.Diagnostics), all.Omitted, last)
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxShown+1 || lines[maxShown] != "and 801 more" {
		t.Errorf("%d lines shown, the last one %q", len(lines), lines[len(lines)-1])
	}
}

func TestTooManyWarningsAreCounted(t *testing.T) {
	text := "global\n stats socket /run/a.sock\n" + strings.Repeat(" noepoll\n", 5000)
	c, err := Parse([]File{{Name: "t", Text: []byte(text)}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	// One more says that there is no listener.
	if len(c.Warnings) != maxDiagnostics || c.OmittedWarnings != 5001-maxDiagnostics {
		t.Errorf("%d warnings kept, %d omitted", len(c.Warnings), c.OmittedWarnings)
	}
	_, err = Parse([]File{{Name: "t", Text: []byte(text + " nosuch\n")}}, Options{})
	var all *Errors
	if !errors.As(err, &all) {
		t.Fatalf("Parse returned %v", err)
	}
	if len(all.Diagnostics) != maxDiagnostics+1 || all.Omitted != 5000-maxDiagnostics {
		t.Errorf("%d messages kept, %d omitted", len(all.Diagnostics), all.Omitted)
	}
	if want := "t:5003: unknown keyword \"nosuch\" in section global\nand 5000 more"; err.Error() != want {
		t.Errorf("the error is not shown among the warnings:\n%v", err)
	}
}

func TestLongWordsAreCutInMessages(t *testing.T) {
	for _, message := range diagnose(t, "global\n "+strings.Repeat("x", 60000)+"\n", Options{}) {
		if len(message) > 200 {
			t.Errorf("message of %d bytes", len(message))
		}
	}
}
