package control

import (
	"regexp"
	"strings"
	"testing"

	"github.com/whyspin/whyspin/internal/config"
)

// TestDescriptorsAndSessionsAgree compares what the two dumps say of every connection; HAProxy 2.6.12, too,
// prints the same numbers in both. One of the clients has half-closed, one server is being connected to.
func TestDescriptorsAndSessionsAgree(t *testing.T) {
	p := states(t)
	text := p.ask("show fd;show sess all")
	inSess := regexp.MustCompile(`(?m)^      flags=(0x[0-9a-f]+) fd=(\d+) fd\.state=([0-9a-f]+) `)
	inFD := regexp.MustCompile(`(?m)^ *(\d+) : st=0x0*([0-9a-f]+)\(.* cflg=(0x[0-9a-f]+) `)
	descriptors := map[string][]string{}
	for _, m := range inFD.FindAllStringSubmatch(text, -1) {
		descriptors[m[1]] = []string{m[3], strings.TrimLeft(m[2], "0")}
	}
	seen := inSess.FindAllStringSubmatch(text, -1)
	if len(seen) != len(descriptors) || len(seen) < 10 {
		t.Errorf("%d connections are in show sess all, %d in show fd", len(seen), len(descriptors))
	}
	halfClosed := false
	for _, m := range seen {
		flags, number, state := m[1], m[2], strings.TrimLeft(m[3], "0")
		if d := descriptors[number]; d == nil || d[0] != flags || d[1] != state {
			t.Errorf("show sess all has descriptor %s with flags %s and state %s, show fd has %v", number,
				flags, state, d)
		}
		halfClosed = halfClosed || flags == "0x00040300" && state == "20"
	}
	if !halfClosed {
		t.Errorf("no client is shown as half-closed:\n%s", text)
	}
}

// The states are those of HAProxy 2.6.12 for a frontend, a bind line and a process with a maxconn of 1.
func TestListenersAtALimit(t *testing.T) {
	p := start(t, setup{},
		section{proxy: config.Proxy{Name: "frontend", MaxConn: 1}, servers: []string{greets(t)}},
		section{proxy: config.Proxy{Name: "bind"}, servers: []string{greets(t)}, maxConn: 1},
		section{proxy: config.Proxy{Name: "free"}, servers: []string{greets(t)}},
	)
	shown := func(frontend, state string) bool {
		return regexp.MustCompile(`l\.st=` + state + ` fe=` + frontend + ` `).MatchString(p.ask("show fd"))
	}
	for frontend, full := range map[string]string{"frontend": "LIM", "bind": "FUL", "free": "RDY"} {
		if !shown(frontend, "RDY") {
			t.Errorf("without a connection, the listener of %s does not show as ready", frontend)
		}
		p.established(frontend)
		if !shown(frontend, full) {
			t.Errorf("with a connection, the listener of %s does not show as %s:\n%s", frontend, full,
				p.ask("show fd"))
		}
		if full == "RDY" {
			continue
		}
		waits := p.dial(frontend)
		paused := `: st=0x100000\(cl heopi W:sra R:sra\) ref=0 gid=1 tmask=0x1 umask=0x0 prmsk=0x0 ` +
			`.* l\.st=` + full + ` fe=` + frontend + ` `
		eventually(t, "the listener to be shown as taken out of the epoll set", func() bool {
			return regexp.MustCompile(paused).MatchString(p.ask("show fd"))
		})
		waits.Close()
		eventually(t, "the listener to be ready again", func() bool {
			for _, v := range p.views() {
				p.ask("shutdown session " + v.ID)
			}
			return shown(frontend, "RDY")
		})
	}
}

func TestSocketsOfTheRuntimeAPIAtTheirLimit(t *testing.T) {
	p := start(t, setup{change: func(c *config.Config) { c.Global.StatsMaxConn = 2 }})
	p.prompts(config.LevelUser, 2)
	answer := p.ask("show fd")
	if n := strings.Count(answer, "l.st=LIM fe=GLOBAL fam=unix"); n != 1 {
		t.Errorf("one socket is at its limit, %d are shown so:\n%s", n, answer)
	}
	if n := strings.Count(answer, "l.st=RDY fe=GLOBAL fam="); n != 3 {
		t.Errorf("three sockets are ready, %d are shown so:\n%s", n, answer)
	}
	if n := strings.Count(answer, "fam=unix fe=GLOBAL mux=PASS"); n != 3 {
		t.Errorf("the runtime API has three connections, %d are shown:\n%s", n, answer)
	}
	at := `l\.st=RDY fe=GLOBAL fam=ipv4 lport=` + p.tcp[strings.LastIndex(p.tcp, ":")+1:]
	if !regexp.MustCompile(at + `\n`).MatchString(answer) {
		t.Errorf("no line has %s:\n%s", at, answer)
	}
}
