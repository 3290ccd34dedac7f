package config

import (
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

var update = flag.Bool("update", false, "rewrite the goldens with what the tests find")

func TestMain(m *testing.M) {
	flag.Parse()
	if *update {
		// datadriven has its own flag for the same thing.
		if err := flag.Set("rewrite", "true"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// TestGolden runs the files of testdata/config/golden. "parse" reads the configuration under it and prints
// the messages and the result; "messages" prints the messages only. Arguments: env=(NAME=VALUE,...), faults,
// file=NAME; "also" reads the configuration under it as a file of its own before the next command.
func TestGolden(t *testing.T) {
	datadriven.Walk(t, "../../testdata/config/golden", func(t *testing.T, path string) {
		var before []File
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			f := File{Name: "test.cfg", Text: []byte(d.Input + "\n")}
			env := map[string]string{}
			opts := Options{LookupEnv: lookupIn(env)}
			for _, arg := range d.CmdArgs {
				switch arg.Key {
				case "env":
					for _, v := range arg.Vals {
						name, value, _ := strings.Cut(v, "=")
						env[name] = value
					}
				case "faults":
					opts.AllowFaults = true
				case "file":
					f.Name = arg.Vals[0]
				default:
					d.Fatalf(t, "unknown argument %q", arg.Key)
				}
			}
			files := append(before, f)
			before = nil
			switch d.Cmd {
			case "also":
				before = files
				return ""
			case "parse":
				messages, c := parseForGolden(files, opts)
				if c == nil {
					return messages
				}
				return messages + describe(c)
			case "messages":
				messages, c := parseForGolden(files, opts)
				if c != nil && messages == "" {
					return "ok\n"
				}
				return messages
			}
			d.Fatalf(t, "unknown command %q", d.Cmd)
			return ""
		})
	})
}

// parseForGolden returns the messages, one per line, and the configuration if there is one.
func parseForGolden(files []File, opts Options) (string, *Config) {
	c, err := Parse(files, opts)
	if err != nil {
		return err.Error() + "\n", nil
	}
	var b strings.Builder
	for _, d := range c.Warnings {
		b.WriteString(d.String() + "\n")
	}
	return b.String(), c
}

// lookupIn returns a LookupEnv for the variables in env.
func lookupIn(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}
}

// diagnose parses one file and returns its messages.
func diagnose(t *testing.T, text string, opts Options) []string {
	t.Helper()
	c, err := Parse([]File{{Name: "t", Text: []byte(text)}}, opts)
	var list []Diagnostic
	var all *Errors
	switch {
	case errors.As(err, &all):
		list = all.Diagnostics
	case err != nil:
		t.Fatalf("Parse returned a %T instead of an *Errors: %v", err, err)
	default:
		list = c.Warnings
	}
	var messages []string
	for _, d := range list {
		messages = append(messages, d.String())
	}
	return messages
}
