package control

import (
	"encoding/json"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/config"
)

// info returns a number of "show info".
func (p *proxy) info(name string) int {
	p.t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + `: (\d+)$`).FindStringSubmatch(p.ask("show info"))
	if m == nil {
		p.t.Fatalf("show info has no number %s", name)
	}
	n, err := strconv.Atoi(m[1])
	must(p.t, err)
	return n
}

// With HAProxy 2.6.12 the first "show info" counts itself, a connection counts whether it says something or
// not, and commands after the first on a connection do not count. So do the bytes of the answers.
func TestConnectionsOfTheRuntimeAPIAreCounted(t *testing.T) {
	p := start(t, setup{}, section{proxy: config.Proxy{Name: "smtp"}, servers: []string{greets(t)}})
	for _, name := range []string{"CumConns", "CumReq"} {
		before := p.info(name)
		if after := p.info(name); after != before+1 {
			t.Errorf("%s is %d, and at the next connection %d", name, before, after)
		}
		prompt := p.prompts(config.LevelAdmin, 1)[0]
		_, err := io.WriteString(prompt, "show version;show version\n")
		must(t, err)
		_, err = io.ReadFull(prompt, make([]byte, 2*len(versionAnswer+"> ")))
		must(t, err)
		p.established("smtp")
		if after := p.info(name); after != before+4 {
			t.Errorf("after a prompt with two commands and a client, %s grew from %d to %d, want by 4", name,
				before, after)
		}
	}
	sent := p.info("TotalBytesOut")
	if n := len(p.ask("show sess all")); p.info("TotalBytesOut") < sent+n {
		t.Errorf("an answer of %d bytes is not in TotalBytesOut", n)
	}
}

func TestBytesOutRate(t *testing.T) {
	p := start(t, setup{stopped: true},
		section{proxy: config.Proxy{Name: "smtp"}, servers: []string{greets(t)}})
	client := p.established("smtp")
	const sent = 1 << 20
	_, err := client.Write(make([]byte, sent))
	must(t, err)
	eventually(t, "the bytes to be in the total", func() bool { return p.info("TotalBytesOut") > sent })
	if rate := p.info("BytesOutRate"); rate < sent {
		t.Errorf("%d bytes were sent in this second, and the rate is %d", sent, rate)
	}
	p.move(2 * time.Second)
	// The runtime API's own part goes by the real clock.
	if rate := p.info("BytesOutRate"); rate == 0 || rate > sent/2 {
		t.Errorf("after two seconds with nothing but a few answers, the rate is %d", rate)
	}
}

// The connections of each second go to the two workers as it happens.
func TestHighestRatesAreThoseOfTheProcess(t *testing.T) {
	p := start(t, setup{workers: 2, stopped: true},
		section{proxy: config.Proxy{Name: "smtp"}, servers: []string{greets(t)}})
	const together = 9
	for range 10 {
		for range together {
			p.established("smtp")
		}
		if rate := p.info("ConnRate"); rate != together {
			t.Errorf("%d connections in a second are a rate of %d", together, rate)
		}
		for _, v := range p.views() {
			p.ask("shutdown session " + v.ID)
		}
		eventually(t, "the streams to be gone", func() bool { return p.engine.Streams() == 0 })
		p.move(2 * time.Second)
	}
	for _, name := range []string{"MaxConnRate", "MaxSessRate"} {
		if n := p.info(name); n != together {
			t.Errorf("%d connections in a second, never more, are shown as %s %d", together, name, n)
		}
	}
}

// Which fields have a fraction, and how it is printed, is as in HAProxy 2.6.12.
func TestInfoWithFractions(t *testing.T) {
	p := start(t, setup{})
	kinds := regexp.MustCompile(`(?m)^(\d+)\..*:flt:\d+(\.\d{1,6})?$`)
	var positions []string
	for _, m := range kinds.FindAllStringSubmatch(p.ask("show info typed float"), -1) {
		positions = append(positions, m[1])
	}
	if got := strings.Join(positions, " "); got != "8 26 29 32 35 37 38 42 43 70" {
		t.Errorf("the fields at %s have a fraction", got)
	}
	if text := p.ask("show info typed"); strings.Contains(text, ":flt:") {
		t.Errorf("without being asked, fields have a fraction:\n%s", text)
	}
	if text := p.ask("show info float"); !regexp.MustCompile(`\nUptime_sec: \d+\.\d+\n`).MatchString(text) {
		t.Errorf("the time since the start has no fraction:\n%s", text)
	}
	var all []jsonField
	must(t, json.Unmarshal([]byte(p.ask("show info json float")), &all))
	if value := all[8].Value; value.Type != "flt" || value.Value.(float64) <= 0 {
		t.Errorf("in JSON the time since the start is %v", value)
	}
	for value, want := range map[decimal]string{0: "0", 10: "10", 0.5: "0.5", 1e9 + 0.25: "1000000000.25"} {
		if got := value.String(); got != want {
			t.Errorf("%v prints as %q", float64(value), got)
		}
	}
}
