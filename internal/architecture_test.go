// Package internal_test holds the rules of the house that a machine can check: who may import whom, and how
// large things may get. internal/README.md says why.
package internal_test

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const module = "github.com/whyspin/whyspin/"

// pure packages make no system calls, read no clock, start no goroutines and do not log.
var pure = []string{
	"internal/balance", "internal/config", "internal/correlate", "internal/evidence", "internal/fault",
	"internal/haproxy", "internal/ktime", "internal/profile", "internal/recording", "internal/report",
	"internal/rules", "internal/stream",
}

// pureImports is what a pure package may import beside pure packages.
var pureImports = []string{
	"bufio", "bytes", "cmp", "compress/flate", "compress/gzip", "container/heap", "container/list",
	"encoding/base64", "encoding/hex", "encoding/json", "errors", "fmt", "io", "iter", "maps", "math",
	"net/netip", "path", "regexp", "slices", "strconv", "strings", "time", "unicode", "unicode/utf8",
	"github.com/google/pprof/profile", // a format: it reads and writes what it is given
}

// clock are the functions of package time that read a clock or wait.
var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}

const (
	maxFileLines     = 600
	maxFunctionLines = 70
	maxColumns       = 110
)

// source is one Go file that is written by hand.
type source struct {
	path    string // relative to the module, with slashes
	pkg     string // its directory
	text    string
	file    *ast.File
	fset    *token.FileSet
	isTest  bool
	imports []string
}

func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	for _, top := range []string{"../cmd", ".", "../tools"} {
		err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil || strings.Contains(string(text), "\n// Code generated") ||
				strings.HasPrefix(string(text), "// Code generated") {
				return err
			}
			s := source{text: string(text), fset: token.NewFileSet(),
				isTest: strings.HasSuffix(path, "_test.go")}
			s.path = strings.TrimPrefix(filepath.ToSlash(filepath.Join("internal", path)), "internal/../")
			s.pkg = filepath.ToSlash(filepath.Dir(s.path))
			if s.file, err = parser.ParseFile(s.fset, path, text, parser.ParseComments); err != nil {
				return err
			}
			for _, i := range s.file.Imports {
				s.imports = append(s.imports, strings.Trim(i.Path.Value, `"`))
			}
			all = append(all, s)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(all) < 50 {
		t.Fatalf("only %d source files were found: the search is broken", len(all))
	}
	return all
}

func TestPurePackagesStayPure(t *testing.T) {
	for _, s := range sources(t) {
		if s.isTest || !slices.Contains(pure, s.pkg) {
			continue
		}
		for _, i := range s.imports {
			own, isOwn := strings.CutPrefix(i, module)
			if isOwn && !slices.Contains(pure, own) || !isOwn && !slices.Contains(pureImports, i) {
				t.Errorf("%s: a pure package imports %s", s.path, i)
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s: a pure package starts a goroutine", s.fset.Position(n.Pos()))
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, n.Sel.Name) {
					t.Errorf("%s: a pure package calls time.%s", s.fset.Position(n.Pos()), n.Sel.Name)
				}
			}
			return true
		})
	}
}

// keepers are those who may import what holds the keys of TLS.
var keepers = []string{"internal/process", "internal/control"}

func TestDataFlowsOneWay(t *testing.T) {
	forbidden := func(s *source, imported string) string {
		own := strings.TrimPrefix(imported, module)
		switch {
		case imported == "golang.org/x/sys/unix":
			if s.pkg != "internal/sys" && !strings.HasPrefix(s.pkg, "tools/") {
				return "only internal/sys talks to the kernel by itself"
			}
		case s.pkg == "internal/engine" &&
			slices.Contains([]string{"internal/probe", "internal/correlate", "internal/diagnose"}, own):
			return "the engine knows nothing of probes and verdicts"
		case own == "internal/certificate" && !slices.Contains(keepers, s.pkg) &&
			!strings.HasPrefix(s.pkg, "cmd/"):
			return "who has no business with keys does not get near them"
		case own == "internal/fault":
			users := []string{"internal/engine", "internal/stream", "internal/config", "internal/sim",
				"internal/lab"}
			if !slices.Contains(users, s.pkg) && !strings.HasPrefix(s.pkg, "cmd/") &&
				!strings.HasPrefix(s.pkg, "tools/") {
				return "faults belong to the engine, the stream and those who ask for them"
			}
		case s.pkg == "internal/correlate" && slices.Contains([]string{"internal/engine", "internal/probe"},
			own):
			return "the correlator never knows where its evidence comes from"
		}
		return ""
	}
	for _, s := range sources(t) {
		if s.isTest {
			continue
		}
		for _, i := range s.imports {
			if why := forbidden(&s, i); why != "" {
				t.Errorf("%s imports %s: %s", s.path, i, why)
			}
		}
	}
}

func TestNothingIsCalledUtil(t *testing.T) {
	for _, s := range sources(t) {
		if name := filepath.Base(s.pkg); slices.Contains([]string{"util", "utils", "common", "types",
			"helpers"}, name) {
			t.Errorf("package %s: a package is named after its one idea", s.pkg)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, s := range sources(t) {
		if n := strings.Count(s.text, "\n"); n > maxFileLines && !s.isTest {
			t.Errorf("%s has %d lines, should have at most %d", s.path, n, maxFileLines)
		}
		lines := bufio.NewScanner(strings.NewReader(s.text))
		for n := 1; lines.Scan(); n++ {
			if strings.HasPrefix(lines.Text(), "//go:") {
				continue // a directive cannot be broken
			}
			if c := utf8.RuneCountInString(strings.ReplaceAll(lines.Text(), "\t", "    ")); c > maxColumns {
				t.Errorf("%s:%d has %d columns, should have at most %d", s.path, n, c, maxColumns)
			}
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || s.isTest {
				continue
			}
			if n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; n > maxFunctionLines {
				t.Errorf("%s:%d: %s has %d lines, should have at most %d", s.path,
					s.fset.Position(f.Pos()).Line,
					f.Name.Name, n, maxFunctionLines)
			}
		}
	}
}
