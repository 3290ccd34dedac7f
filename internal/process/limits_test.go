package process

import (
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/sys"
)

func match(form, text string) bool { return regexp.MustCompile(form).MatchString(text) }

// limit is a kernel's limit that can be raised up to hard.
type limit struct {
	soft, hard uint64
	err        error
}

func (l *limit) now() (uint64, error) { return l.soft, nil }

func (l *limit) raise(to uint64) (uint64, error) {
	if l.err == nil {
		l.soft = max(l.soft, min(to, l.hard))
	}
	return l.soft, l.err
}

func TestConnectionsFitDescriptors(t *testing.T) {
	const reserve = 100
	tests := []struct {
		name           string
		maxConn, asked int
		limit          limit
		want           int
		warning        string
	}{
		{"what is asked for fits", 200, 0, limit{1000, 1000, nil}, 200, ""},
		{"it fits exactly", 450, 0, limit{1000, 1000, nil}, 450, ""},
		{"the limit is raised", 450, 0, limit{200, 5000, nil}, 450, ""},
		{"the limit ends below it", 451, 0, limit{200, 1000, nil}, 450,
			`^maxconn 451 needs 1002 descriptors, but the process may have only 1000 and may not raise ` +
				`that, for which it lacks CAP_SYS_RESOURCE: maxconn is lowered to 450 ` +
				`\(ulimit -n, or LimitNOFILE= of the unit, raise it\)$`},
		{"raising it fails", 451, 0, limit{200, 1000, errors.New("not here")}, 50,
			`may not raise that \(not here\): .* lowered to 50`},
		{"nothing is asked for", 0, 0, limit{1000, 5000, nil}, 450, ""},
		{"ulimit-n is asked for", 0, 3000, limit{1000, 5000, nil}, 1450, ""},
		{"ulimit-n does not lower the limit", 0, 500, limit{1000, 5000, nil}, 450,
			"^ulimit-n 500 has no effect: the process may have 1000 descriptors already"},
		{"no limit to speak of", 0, 0, limit{1 << 30, 1 << 30, nil}, mostConns, ""},
		{"more than that, on request", 2 * mostConns, 0, limit{1 << 30, 1 << 30, nil}, 2 * mostConns, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, warnings, err := fit(test.maxConn, reserve, test.asked, &test.limit)
			must(t, err)
			warning := strings.Join(warnings, "; ")
			if got != test.want {
				t.Errorf("maxconn is %d, want %d", got, test.want)
			}
			if (warning == "") != (test.warning == "") || !match(test.warning, warning) {
				t.Errorf("the warning is %q, want the form %q", warning, test.warning)
			}
		})
	}
	_, _, err := fit(10, reserve, 0, &limit{101, 101, nil})
	if err == nil || !match("limit of 101 descriptors does not suffice", err.Error()) {
		t.Errorf("a limit that allows no connection at all: %v", err)
	}
}

// What can be opened from outside is counted, or those who open it starve the proxy.
func TestDescriptorsOfTheControlPlaneAreReserved(t *testing.T) {
	plain := newConfig()
	before := reserve(plain, 1)
	plain.Global.StatsSockets = make([]config.StatsSocket, 2)
	plain.Global.StatsMaxConn = 7
	if n := reserve(plain, 1) - before; n != 2+2*7 {
		t.Errorf("two stats sockets with 7 connections each need %d descriptors, want %d", n, 2+2*7)
	}
	before = reserve(plain, 1)
	plain.Global.Whyspin.Admin = config.Address{Kind: config.AddressUnix, Path: "/run/admin"}
	if n := reserve(plain, 1) - before; n != 1+AdminConns {
		t.Errorf("the HTTP endpoints need %d descriptors, want %d", n, 1+AdminConns)
	}
}

// capResource is CAP_SYS_RESOURCE, which allows to raise a hard limit.
const capResource = 24

// playLimit says what became of the limits.
func playLimit() {
	p, err := Prepare(settings(), Options{})
	if err != nil {
		say(err.Error())
		return
	}
	now, _ := sys.OpenFileLimit()
	say(map[string]any{"maxconn": p.MaxConn, "limit": now, "warnings": p.Warnings, "sockets": p.MaxSockets})
}

func TestConnectionsFitTheRealLimit(t *testing.T) {
	under := func(maxConn int) string {
		program, err := os.Executable()
		must(t, err)
		command := exec.Command("/bin/sh", "-c", `ulimit -n 300; exec "$0"`, program)
		return actWith(t, command, "limit",
			withSettings(t, func(g *config.Global) { g.MaxConn, g.NbThread = maxConn, 2 })).line()
	}
	if got := under(50); !match(`"maxconn":50,.*"warnings":null`, got) {
		t.Errorf("50 connections under a limit of 300 descriptors: %s", got)
	}
	want := `"limit":300,"maxconn":\d+,"sockets":(300|299),` +
		`"warnings":\["maxconn 5000 needs 10\d+ descriptors, but `
	if sys.HasCapability(capResource) {
		want = `"limit":10\d+,"maxconn":5000,.*"warnings":null`
	}
	if got := under(5000); !match(want, got) {
		t.Errorf("5000 connections under a limit of 300 descriptors: %s", got)
	}
}
