package config

import "slices"

// proxyServer reads "server NAME ADDRESS [options]".
func (p *parser) proxyServer(d *draft, s *statement) {
	name, ok := s.argument("server", 1, "a name and an address")
	if !ok {
		return
	}
	text, ok := s.argument("server", 2, "a name and an address")
	if !ok {
		return
	}
	if c, bad := badNameChar(name); bad {
		s.errorf(`"server": character %q is not permitted in the name %s`, c, quote(name))
		return
	}
	a, _, err := p.address(text, serverUse)
	if err != nil {
		s.errorf(`"server": %v`, err)
		return
	}
	server := d.template
	server.Position, server.Name, server.Address = s.Position, name, a
	errors := p.report.counts[Error]
	options := &parameters{statement: s, label: "server", at: 3}
	options.readServer(&server)
	if first, taken := d.serverNames[name]; taken {
		s.errorf(`"server": the name %s is already taken at %v`, quote(name), first)
		return
	}
	d.serverNames[name] = s.Position
	if server.ID != 0 {
		if first, taken := d.serverIDs[server.ID]; taken {
			s.errorf(`"server": id %d is already taken at %v`, server.ID, first)
			return
		}
		d.serverIDs[server.ID] = s.Position
	}
	if p.servers == maxServers {
		s.errorf("more than %d servers", maxServers)
		p.stopped = true
		return
	}
	p.servers++
	if server.options.ssl && p.report.counts[Error] == errors {
		t := server.tls
		t.Position = s.Position
		server.TLS = &t
		p.tls = append(p.tls, pendingTLS{statement: *s, label: "server", options: server.options, server: &t,
			owner: name})
	}
	d.Servers = append(d.Servers, &server.Server)
}

// proxyDefaultServer reads "default-server [options]": the settings of the server lines that follow.
func (p *parser) proxyDefaultServer(d *draft, s *statement) {
	options := &parameters{statement: s, label: "default-server", at: 1}
	options.readServer(&d.template)
	if d.template.ID != 0 {
		s.errorf(`"default-server": option "id" belongs to one server`)
		d.template.ID = 0
	}
}

// serverOptions are the options of server and default-server lines for messages.
var serverOptions = slices.Concat(
	[]string{"weight", "maxconn", "backup", "no-backup", "disabled", "enabled", "id"},
	sendProxyOptions, tlsServerOnly, tlsCommon)

// readServer reads the options of a server into to.
func (p *parameters) readServer(to *serverTemplate) {
	for name, ok := p.next(); ok; name, ok = p.next() {
		switch name {
		case "weight":
			to.Weight = p.numberValue(name, 0, maxWeight)
		case "maxconn":
			to.MaxConn = p.numberValue(name, 0, maxCount)
		case "id":
			to.ID = p.numberValue(name, 1, maxCount)
		case "backup":
			to.Backup = true
		case "no-backup":
			to.Backup = false
		case "disabled":
			to.Disabled = true
		case "enabled":
			to.Disabled = false
		default:
			if !idleServer[name] && !p.readSendProxy(name, &to.SendProxy) && !p.readServerTLS(name, to) {
				p.other(name, unsupportedServer, serverOptions)
			}
		}
	}
	p.finish()
}

// badNameChar returns the first character that may not stand in the name of a section or server.
func badNameChar(name string) (rune, bool) {
	for _, c := range name {
		if c > 0x7f || !isNameByte(byte(c)) && c != '-' && c != '.' && c != ':' {
			return c, true
		}
	}
	return 0, false
}
