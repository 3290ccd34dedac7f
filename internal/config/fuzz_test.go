package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// FuzzParse checks that Parse ends without a panic whatever it is given, that an error comes with at least
// one Error, and that a Config it returns holds what its documentation promises.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"*.cfg", "*.txt", "golden/*.txt"} {
		names, err := filepath.Glob("../../testdata/config/" + pattern)
		if err != nil || len(names) == 0 {
			f.Fatalf("no seeds match %s: %v", pattern, err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			for _, seed := range seeds(string(text)) {
				f.Add([]byte(seed), "1 2")
			}
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, value string) {
		opts := Options{
			LookupEnv:   func(name string) (string, bool) { return value, len(name)%2 == 0 },
			AllowFaults: true,
		}
		c, err := Parse([]File{{Name: "a", Text: text}, {Name: "b", Text: []byte("global\n")}}, opts)
		var all *Errors
		switch {
		case err == nil:
			checkConfig(t, c)
		case c != nil:
			t.Error("both a Config and an error")
		case !errors.As(err, &all):
			t.Errorf("error of type %T", err)
		case !slices.ContainsFunc(all.Diagnostics, func(d Diagnostic) bool { return d.Severity == Error }):
			t.Errorf("no Error among the diagnostics:\n%v", err)
		case err.Error() == "":
			t.Error("empty error")
		}
	})
}

// seeds returns the configurations in a file of goldens, or the file itself when it is none.
func seeds(text string) []string {
	if !strings.Contains(text, "\n----\n") {
		return []string{text}
	}
	var all []string
	for block := range strings.SplitSeq(text, "\n\n") {
		if input, _, ok := strings.Cut(block, "\n----"); ok {
			_, input, _ = strings.Cut(input, "\n")
			all = append(all, input+"\n")
		}
	}
	return all
}

// checkConfig reports what a Config must not hold.
func checkConfig(t *testing.T, c *Config) {
	for _, d := range c.Warnings {
		if d.Severity == Error || d.Message == "" {
			t.Errorf("warning %+v", d)
		}
	}
	ids, fronts, backs := map[int]bool{}, map[string]bool{}, map[string]bool{}
	for _, p := range c.Proxies {
		if p.ID < 1 || ids[p.ID] {
			t.Errorf("proxy %q has id %d", p.Name, p.ID)
		}
		ids[p.ID] = true
		if p.Name == "" || !p.IsFrontend && !p.IsBackend {
			t.Errorf("proxy %q has no name or side", p.Name)
		}
		if p.IsFrontend && fronts[p.Name] || p.IsBackend && backs[p.Name] {
			t.Errorf("proxy %q is there twice", p.Name)
		}
		fronts[p.Name] = fronts[p.Name] || p.IsFrontend
		backs[p.Name] = backs[p.Name] || p.IsBackend
		checkProxy(t, c, p)
	}
	g := c.Global
	if g.NbThread < 0 || g.NbThread > maxThreads || g.BufferSize < minBufferSize || g.StatsTimeout <= 0 ||
		g.StatsMaxConn < 1 {
		t.Errorf("global %+v", g)
	}
	if (g.User != "" && g.UID >= 0) || (g.Group != "" && g.GID >= 0) {
		t.Errorf("both a name and a number: %+v", g)
	}
	for _, s := range g.StatsSockets {
		checkAddress(t, s.Address, false)
	}
	for _, f := range g.Whyspin.Faults {
		if !(f.Probability > 0 && f.Probability <= 1) {
			t.Errorf("fault %+v", f)
		}
	}
	checkLogs(t, g.Logs)
}

func checkProxy(t *testing.T, c *Config, p *Proxy) {
	if b := p.DefaultBackend; b != nil && (!p.IsFrontend || !b.IsBackend || !slices.Contains(c.Proxies, b)) {
		t.Errorf("proxy %q has the backend %q", p.Name, b.Name)
	}
	if len(p.Binds) > 0 && !p.IsFrontend || len(p.Servers) > 0 && !p.IsBackend {
		t.Errorf("proxy %q has listeners or servers for a side it does not have", p.Name)
	}
	times := p.Timeouts
	for _, d := range []time.Duration{
		times.Client, times.ClientFin, times.Connect, times.Queue, times.Server, times.ServerFin,
		times.Tunnel,
	} {
		if d < 0 || d > maxTime || d%time.Millisecond != 0 {
			t.Errorf("proxy %q has the timeout %v", p.Name, d)
		}
	}
	ids := map[int]bool{}
	for _, b := range p.Binds {
		if b.ID < 1 || ids[b.ID] || b.V6Only && b.V4V6 || b.MaxConn < 0 || b.Backlog < 0 {
			t.Errorf("bind %+v", *b)
		}
		ids[b.ID] = true
		checkAddress(t, b.Address, false)
	}
	ids, names := map[int]bool{}, map[string]bool{}
	for _, s := range p.Servers {
		if s.ID < 1 || ids[s.ID] || s.Name == "" || names[s.Name] || s.Weight < 0 || s.Weight > maxWeight ||
			s.MaxConn < 0 {
			t.Errorf("server %+v", *s)
		}
		ids[s.ID], names[s.Name] = true, true
		checkAddress(t, s.Address, true)
	}
	checkLogs(t, p.Logs)
}

func checkLogs(t *testing.T, logs []LogTarget) {
	for _, l := range logs {
		known := l.Format <= LogRaw && l.Facility >= 0 && l.Facility < 24 &&
			l.MaxLevel >= 0 && l.MaxLevel < 8 && l.MinLevel >= 0 && l.MinLevel < 8 &&
			l.MaxLen >= minLogLength && l.MaxLen <= maxLogLength
		if l.Kind == LogGlobal || !known {
			t.Errorf("log %+v", l)
		}
		checkAddress(t, l.Address, false)
	}
}

// checkAddress reports an address that cannot be used; that of a server may depend on the port of the
// client.
func checkAddress(t *testing.T, a Address, server bool) {
	low, high := 1, maxPort
	if a.PortOffset {
		low = -maxPort
	}
	okPort := a.NoPort && a.Port == 0 || a.Port >= low && a.Port <= high
	ok := false
	switch a.Kind {
	case AddressIP:
		ok = okPort && a.IP.IsValid() != a.Wildcard && a.IP.Zone() == ""
	case AddressName:
		ok = okPort && a.Name != "" && (a.Family == 0 || a.Family == 4 || a.Family == 6)
	case AddressUnix:
		ok = a.Path != "" && len(a.Path) <= maxUnixPath
	case AddressFD:
		ok = a.FD >= 0
	case AddressNone:
	}
	network := a.Kind == AddressIP || a.Kind == AddressName
	if !ok || network && !server && (a.NoPort || a.PortOffset) {
		t.Errorf("address %+v", a)
	}
}
