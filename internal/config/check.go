package config

import (
	"slices"
	"time"
)

// check looks at the configuration as a whole, after all lines were read, and fills in what depends on
// several of them.
func (p *parser) check() {
	p.resolveLogs()
	p.resolveBackends()
	p.assignIDs()
	p.checkListeners()
	p.checkTLS()
	for _, d := range p.proxies {
		if !d.Disabled && !d.doubtful {
			p.checkFrontend(d)
			p.checkBackend(d)
			p.checkConditions(d)
			p.checkTimeouts(d)
		}
		d.finish()
		p.config.Proxies = append(p.config.Proxies, &d.Proxy)
	}
	p.checkAdmin()
	p.checkFaults()
	p.checkRunnable()
}

// resolveBackends finds the backend of each frontend. A disabled one needs none.
func (p *parser) resolveBackends() {
	for _, r := range p.alsoNamed {
		p.backend(r, "use_backend")
	}
	for _, d := range p.proxies {
		if !d.IsFrontend {
			continue
		}
		p.resolveSwitches(d)
		to, label := d.defaultBackend, "default_backend"
		if d.switched.name != "" {
			to, label = d.switched, "use_backend"
		}
		switch {
		case to.name == "" && d.IsBackend:
			d.DefaultBackend = &d.Proxy
		case to.name == "":
		case d.Disabled && p.backends[to.name] == nil:
		default:
			if b := p.backend(to, label); b == d {
				p.report.errorf(to.Position, "%q: %s would send its connections to itself", label, d.title())
			} else if b != nil {
				d.DefaultBackend = &b.Proxy
			}
		}
	}
}

// backend returns the backend of that name; it reports one that does not exist.
func (p *parser) backend(r reference, label string) *draft {
	b := p.backends[r.name]
	if b != nil || p.lost[r.name] || p.missed[r] {
		return b
	}
	p.missed[r] = true
	if p.frontends[r.name] != nil {
		p.report.errorf(r.Position, "%q: %s is a frontend, not a backend", label, quote(r.name))
	} else {
		p.report.errorf(r.Position, "%q: no backend has the name %s%s", label, quote(r.name),
			nameSuggestion(r.name, p.backends))
	}
	return nil
}

// assignIDs numbers the proxies, listeners and servers that have no explicit number, in their order.
func (p *parser) assignIDs() {
	next := firstProxyID
	for _, d := range p.proxies {
		if d.ID == 0 {
			d.ID = freeID(p.proxyIDs, &next)
		}
		bind, server := 1, 1
		for _, b := range d.Binds {
			if b.ID == 0 {
				b.ID = freeID(d.bindIDs, &bind)
			}
		}
		for _, s := range d.Servers {
			if s.ID == 0 {
				s.ID = freeID(d.serverIDs, &server)
			}
		}
	}
}

// freeID returns the first number from next on that is not taken, and moves next behind it.
func freeID(taken map[int]Position, next *int) int {
	for {
		id := *next
		*next++
		if _, used := taken[id]; !used {
			return id
		}
	}
}

// checkListeners reports addresses that are used twice: one of the two would get no connections, or the
// kernel would share them out. Of each line one address is reported.
func (p *parser) checkListeners() {
	taken := map[string]Position{}
	reported := map[Position]bool{}
	claim := func(at Position, label string, a Address) {
		if a.Kind == AddressNone || reported[at] {
			return
		}
		key := a.String()
		if first, used := taken[key]; used {
			reported[at] = true
			p.report.errorf(at, "%q: %s is already in use at %v", label, key, first)
			return
		}
		taken[key] = at
	}
	g := &p.config.Global
	for _, s := range g.StatsSockets {
		claim(s.Position, "stats socket", s.Address)
	}
	claim(g.Whyspin.AdminPos, "whyspin.admin", g.Whyspin.Admin)
	for _, d := range p.proxies {
		if d.Disabled || !d.IsFrontend {
			continue
		}
		for _, b := range d.Binds {
			claim(b.Position, "bind", b.Address)
		}
	}
}

// checkFrontend warns of a client side that is of no use.
func (p *parser) checkFrontend(d *draft) {
	if !d.IsFrontend {
		return
	}
	if len(d.Binds) == 0 {
		p.report.warnf(d.Position, `%s has no "bind" line: nobody can connect to it`, d.title())
	}
	switch {
	case d.DefaultBackend != nil || d.defaultBackend.name != "" || d.switched.name != "":
	case len(d.switches) == 0:
		p.report.warnf(d.Position, `%s has no "default_backend": %s`, d.title(), closedAtOnce)
	}
	if d.TCPLog && len(d.Logs) == 0 && !p.globalLogFailed {
		what := "option tcplog"
		if d.LogFormat != nil {
			what = "log-format"
		}
		p.report.warnf(d.Position, `%s has %q but no "log" line: nothing is logged`, d.title(), what)
	}
}

// checkBackend warns of a server side without servers.
func (p *parser) checkBackend(d *draft) {
	used := d.IsBackend && !(d.IsFrontend && d.DefaultBackend != &d.Proxy)
	if used && len(d.Servers) == 0 {
		p.report.warnf(d.Position, `%s has no "server" line: %s`, d.title(), closedAtOnce)
	}
}

const closedAtOnce = "its connections are closed at once"

// checkTimeouts warns of sides without a limit to how long a silent peer is waited for. As in HAProxy,
// "timeout tunnel" may stand for "timeout server", and a backend without servers needs none.
func (p *parser) checkTimeouts(d *draft) {
	t := d.Timeouts
	var missing []string
	need := func(name string, value time.Duration) {
		if value == 0 {
			missing = append(missing, "timeout "+name)
		}
	}
	if d.IsFrontend {
		need("client", t.Client)
	}
	if d.IsBackend && len(d.Servers) > 0 {
		need("connect", t.Connect)
		if t.Tunnel == 0 {
			need("server", t.Server)
		}
	}
	if len(missing) > 0 {
		p.report.warnf(d.Position, "%s has no %s: connections to a silent peer stay open for ever",
			d.title(), quoteList(missing, "or"))
	}
}

// checkRunnable reports a configuration without anything to do. Other errors come first: they may be why.
func (p *parser) checkRunnable() {
	if p.report.failed() {
		return
	}
	listening := slices.ContainsFunc(p.proxies, func(d *draft) bool {
		return !d.Disabled && d.IsFrontend && len(d.Binds) > 0
	})
	const none = `no "frontend" or "listen" with a "bind" line: `
	switch {
	case listening:
	case len(p.config.Global.StatsSockets) > 0:
		p.report.warnf(Position{}, none+"only the runtime API will answer")
	default:
		p.report.errorf(Position{}, none+"nothing to do")
		p.idle = true
	}
}
