package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/sys"
)

// lookupPatience is how long the resolution of one name may take. All names are looked up at once, so a
// start is held up no longer than that.
const lookupPatience = 10 * time.Second

// lookup returns the addresses of a host name, of the family "ip", "ip4" or "ip6".
type lookup func(ctx context.Context, family, name string) ([]netip.Addr, error)

var systemLookup lookup = net.DefaultResolver.LookupNetIP

// Resolve returns the socket address of a configured one, resolving a host name. It is for what is not a
// server: log targets.
func Resolve(a config.Address) (sys.Address, error) { return systemLookup.address(&a) }

// address returns the socket address of a configured one.
func (l lookup) address(a *config.Address) (sys.Address, error) {
	ip, port := a.IP, a.Port
	switch a.Kind {
	case config.AddressUnix:
		if a.Abstract {
			return sys.Address{Path: "@" + a.Path}, nil
		}
		return sys.Address{Path: a.Path}, nil
	case config.AddressIP:
		if !ip.IsValid() && a.Wildcard {
			ip = netip.IPv4Unspecified()
		}
	case config.AddressName:
		var err error
		if ip, err = l.name(a.Name, a.Family); err != nil {
			return sys.Address{}, err
		}
	default:
		return sys.Address{}, errors.New("the address is of a kind that cannot be used here")
	}
	if !ip.IsValid() {
		return sys.Address{}, errors.New("the address is missing")
	}
	if port < 0 || port > 65535 {
		return sys.Address{}, fmt.Errorf("port %d: there are only ports up to 65535", port)
	}
	return sys.Address{IP: netip.AddrPortFrom(ip, uint16(port))}, nil
}

// name returns the first address of a host name, as the system orders them.
func (l lookup) name(name string, family int) (netip.Addr, error) {
	of := "ip"
	if family != 0 {
		of = fmt.Sprint("ip", family)
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupPatience)
	defer cancel()
	found, err := l(ctx, of, name)
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return netip.Addr{}, fmt.Errorf("resolving %q: no answer within %v", name, lookupPatience)
	case err != nil:
		return netip.Addr{}, fmt.Errorf("resolving %q: %w", name, err)
	case len(found) == 0:
		return netip.Addr{}, fmt.Errorf("resolving %q: the name has no address", name)
	}
	return found[0].Unmap(), nil
}

// resolveServers finds the addresses of all servers, all names at once.
func (p *Prepared) resolveServers(l lookup) error {
	type result struct {
		server  *config.Server
		address sys.Address
		err     error
	}
	var results []*result
	var running sync.WaitGroup
	for _, backend := range p.config.Proxies {
		if !backend.IsBackend {
			continue
		}
		for _, s := range backend.Servers {
			r := &result{server: s}
			results = append(results, r)
			running.Go(func() {
				if r.address, r.err = p.server(l, backend, s); r.err != nil {
					r.err = fmt.Errorf("%s: server %q of backend %q: %w", s.Position, s.Name, backend.Name,
						r.err)
				}
			})
		}
	}
	running.Wait()
	var wrong []error
	for _, r := range results {
		p.servers[r.server] = r.address
		if r.err != nil && p.options.IgnoreUnresolved && r.server.Address.Kind == config.AddressName {
			p.Warnings = append(p.Warnings, unresolved(r.err))
			r.server.Disabled = true
			continue
		}
		wrong = append(wrong, r.err)
	}
	return errors.Join(wrong...)
}

// server returns the address of a server.
func (p *Prepared) server(l lookup, backend *config.Proxy, s *config.Server) (sys.Address, error) {
	a := s.Address
	if a.PortOffset || a.NoPort {
		port, err := p.relativePort(backend, &a)
		if err != nil {
			return sys.Address{}, err
		}
		a.Port = port
	}
	return l.address(&a)
}

// relativePort returns the port of a server that is given relative to the one the client connected to. The
// engine knows one address per server, so all clients of the backend must come in by the same port.
func (p *Prepared) relativePort(backend *config.Proxy, a *config.Address) (int, error) {
	offset := 0
	if a.PortOffset {
		offset = a.Port
	}
	ports := p.clientPorts(backend)
	switch len(ports) {
	case 0:
		// No client by TCP can reach the server, so its port does not matter.
		return max(offset, 0), nil
	case 1:
		port := ports[0] + offset
		if port < 1 || port > 65535 {
			return 0, fmt.Errorf("port %d%+d is %d: there are only ports from 1 to 65535", ports[0], offset,
				port)
		}
		return port, nil
	}
	return 0, fmt.Errorf("its port depends on the port that the client connected to, which is supported only"+
		" when that is always the same; here it is one of %v: give the server a port", ports)
}

// clientPorts are the ports by which clients reach a backend.
func (p *Prepared) clientPorts(backend *config.Proxy) []int {
	var ports []int
	for _, l := range p.Listeners {
		if l.Proxy.DefaultBackend != backend && !slices.ContainsFunc(l.Proxy.Switches,
			func(s config.Switch) bool { return s.Backend == backend }) {
			continue
		}
		if port := int((sys.Linux{}).LocalAddress(l.FD).IP.Port()); port > 0 {
			ports = append(ports, port)
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// Resolve returns the address of a server; it is what engine.Options.Resolve wants.
func (p *Prepared) Resolve(s *config.Server) (sys.Address, error) {
	a, known := p.servers[s]
	if !known {
		return a, fmt.Errorf("server %q was not prepared", s.Name)
	}
	return a, nil
}
