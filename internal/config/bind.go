package config

import (
	"slices"
	"strings"
)

// proxyBind reads "bind ADDRESS[,ADDRESS...] [options]". Every address and every port of a range becomes a
// Bind.
func (p *parser) proxyBind(d *draft, s *statement) {
	text, ok := s.argument("bind", 1, "an address")
	if !ok {
		return
	}
	options := &parameters{statement: s, label: "bind", at: 2}
	binds, ok := p.bindAddresses(s, text)
	if !ok {
		return
	}
	errors := p.report.counts[Error]
	common, set, secure := options.readBind()
	addresses := make([]Address, len(binds))
	for i, b := range binds {
		addresses[i] = b.Address
	}
	options.checkSocket(set, addresses)
	if common.V6Only != common.V4V6 {
		options.checkV6(addresses)
	}
	var tls *BindTLS
	if p.report.counts[Error] == errors {
		tls = p.bindTLS(s, secure)
	}
	id := d.bindID(s, set.id, len(binds))
	for _, b := range binds {
		b.Name, b.ID, b.Unix = set.name, id, set.unix
		b.MaxConn, b.Backlog, b.V6Only, b.V4V6 = common.MaxConn, common.Backlog, common.V6Only, common.V4V6
		b.AcceptProxy, b.TLS = common.AcceptProxy, tls
	}
	d.Binds = append(d.Binds, binds...)
}

// tlsOfBind is what the line says about TLS while it is read.
type tlsOfBind struct {
	options tlsOptions
	bind    BindTLS
}

// bindTLS returns how the listeners of the line speak TLS, nil when they do not.
func (p *parser) bindTLS(s *statement, of *tlsOfBind) *BindTLS {
	if !of.options.ssl {
		if of.options.first != "" {
			s.warnf(`"bind": %q has no effect without "ssl": what is sent is not encrypted`, of.options.first)
		}
		return nil
	}
	b := &of.bind
	b.Position = s.Position
	p.tls = append(p.tls, pendingTLS{statement: *s, label: "bind", options: of.options, bind: b})
	return b
}

// bindID takes an explicit id for a line with n addresses. It returns 0 when there is none, or it cannot be
// had.
func (d *draft) bindID(s *statement, id, n int) int {
	if id == 0 {
		return 0
	}
	if n > 1 {
		s.errorf(`"bind": "id" is for a single address, here are %d`, n)
		return 0
	}
	if first, taken := d.bindIDs[id]; taken {
		s.errorf(`"bind": id %d is already taken at %v`, id, first)
		return 0
	}
	d.bindIDs[id] = s.Position
	return id
}

// checkV6 warns of the first address that the options v6only and v4v6 cannot be meant for.
func (p *parameters) checkV6(addresses []Address) {
	for _, a := range addresses {
		if a.Kind != AddressName && !(a.Kind == AddressIP && a.IP.Is6()) {
			p.warnf(`"bind": "v6only" and "v4v6" have no effect on %v, which is not an IPv6 address`, a)
			return
		}
	}
}

// bindAddresses reads the list of addresses.
func (p *parser) bindAddresses(s *statement, text string) ([]*Bind, bool) {
	var binds []*Bind
	for part := range strings.SplitSeq(text, ",") {
		a, last, err := p.address(part, listenUse)
		if err != nil {
			s.errorf(`"bind": %v`, err)
			return nil, false
		}
		for port := a.Port; port <= last; port++ {
			if !p.roomForListener(s) {
				return nil, false
			}
			b := &Bind{Position: s.Position, Address: a}
			b.Address.Port = port
			binds = append(binds, b)
		}
	}
	return binds, true
}

// roomForListener counts a listening address.
func (p *parser) roomForListener(s *statement) bool {
	if p.listeners == maxListeners {
		s.errorf("more than %d listening addresses", maxListeners)
		p.stopped = true
		return false
	}
	p.listeners++
	return true
}

// bindOptions are the options of bind lines for messages.
var bindOptions = slices.Concat(sortedKeys(socketOptions),
	[]string{"accept-proxy", "maxconn", "backlog", "v6only", "v4v6"},
	tlsBindOnly, tlsCommon)

// readBind reads the options. The Bind it returns holds those that are not a socket's.
func (p *parameters) readBind() (Bind, socket, *tlsOfBind) {
	var b Bind
	secure := &tlsOfBind{}
	set := newSocket()
	for name, ok := p.next(); ok; name, ok = p.next() {
		switch {
		case socketOptions[name]:
			p.readSocketOption(name, &set)
		case name == "maxconn":
			b.MaxConn = p.numberValue(name, 0, maxCount)
		case name == "backlog":
			b.Backlog = p.numberValue(name, 0, maxCount)
		case name == "accept-proxy":
			b.AcceptProxy = true
		case name == "v6only":
			b.V6Only = true
		case name == "v4v6":
			b.V4V6 = true
		case p.readBindTLS(name, &secure.options, &secure.bind):
		default:
			p.other(name, unsupportedBind, bindOptions)
		}
	}
	p.finish()
	if b.V6Only && b.V4V6 {
		p.errorf(`"bind": "v6only" and "v4v6" contradict each other: use one of them`)
	}
	return b, set, secure
}
