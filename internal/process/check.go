package process

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/whyspin/whyspin/internal/certificate"
	"github.com/whyspin/whyspin/internal/config"
)

// Check reports what a start with the configuration would fail on, beside what Prepare opens: users and
// groups that do not exist, names that cannot be resolved and certificates that cannot be used, as
// "haproxy -c" does. It opens no socket and needs no rights but to read the certificates. The warnings are
// about what may be otherwise where, or as whom, the proxy will run.
func Check(c *config.Config, o Options) (warnings []string, err error) {
	return check(c, o, systemLookup)
}

func check(c *config.Config, o Options, l lookup) (warnings []string, err error) {
	g := &c.Global
	var wrong []error
	_, err = identityOf(g)
	wrong = append(wrong, err)
	if err := checkRoot(g); err != nil && !errors.Is(err, os.ErrPermission) {
		// HAProxy's check does not look: the directory may be made by the start of the service.
		warnings = append(warnings, err.Error())
	}
	_, dates, err := certificate.Load(c, time.Now)
	warnings = append(warnings, dates...)
	wrong = append(wrong, err)
	names := &hostNames{lookup: l}
	for i := range g.StatsSockets {
		s := &g.StatsSockets[i]
		wrong = append(wrong, checkOwner(s.Position, "stats socket", &s.Unix))
		names.add(s.Position, "stats socket", &s.Address)
	}
	names.add(g.Whyspin.AdminPos, "whyspin.admin", &g.Whyspin.Admin)
	names.addLogs(g.Logs)
	for _, p := range c.Proxies {
		names.addLogs(p.Logs)
		if p.IsFrontend && !p.Disabled {
			for _, b := range p.Binds {
				what := fmt.Sprintf("frontend %q", p.Name)
				wrong = append(wrong, checkOwner(b.Position, what, &b.Unix))
				names.add(b.Position, what, &b.Address)
			}
		}
		if !p.IsBackend {
			continue
		}
		for _, s := range p.Servers {
			names.addServer(p, s)
		}
	}
	failed, disabled := names.resolve(o)
	return append(warnings, disabled...), errors.Join(append(wrong, failed...)...)
}

// checkOwner reports an owner of a unix socket that does not exist.
func checkOwner(where config.Position, what string, u *config.UnixAttributes) error {
	if _, _, err := ownerOf(u); err != nil {
		return at(where, fmt.Errorf("%s: %w", what, err))
	}
	return nil
}

// hostNames are the host names of a configuration.
type hostNames struct {
	lookup lookup
	all    []hostName
	seen   map[config.Position]bool // log lines, which belong to many proxies
}

// hostName is one host name and where it stands.
type hostName struct {
	where   config.Position
	what    string
	address *config.Address
	server  bool
	err     error
}

func (n *hostNames) add(where config.Position, what string, a *config.Address) {
	if a.Kind == config.AddressName {
		n.all = append(n.all, hostName{where: where, what: what, address: a})
	}
}

func (n *hostNames) addServer(backend *config.Proxy, s *config.Server) {
	if s.Address.Kind == config.AddressName {
		what := fmt.Sprintf("server %q of backend %q", s.Name, backend.Name)
		n.all = append(n.all, hostName{where: s.Position, what: what, address: &s.Address, server: true})
	}
}

func (n *hostNames) addLogs(logs []config.LogTarget) {
	for i := range logs {
		if t := &logs[i]; t.Kind == config.LogUDP && !n.seen[t.Position] {
			if n.seen == nil {
				n.seen = map[config.Position]bool{}
			}
			n.seen[t.Position] = true
			n.add(t.Position, "log", &t.Address)
		}
	}
}

// resolve looks all names up at once. A server that may be without an address gives a warning.
func (n *hostNames) resolve(o Options) (wrong []error, warnings []string) {
	var running sync.WaitGroup
	for i := range n.all {
		running.Go(func() {
			one := &n.all[i]
			if _, err := n.lookup.name(one.address.Name, one.address.Family); err != nil {
				one.err = at(one.where, fmt.Errorf("%s: %w", one.what, err))
			}
		})
	}
	running.Wait()
	for i := range n.all {
		switch one := &n.all[i]; {
		case one.err == nil:
		case one.server && o.IgnoreUnresolved:
			warnings = append(warnings, unresolved(one.err))
		default:
			wrong = append(wrong, one.err)
		}
	}
	return wrong, warnings
}

// unresolved is the warning about a server without an address that is tolerated.
func unresolved(err error) string { return fmt.Sprintf("%v: the server is disabled", err) }
