package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// String prints the address as a configuration could write it.
func (a Address) String() string {
	port := strconv.Itoa(a.Port)
	if a.PortOffset && a.Port >= 0 {
		port = "+" + port
	}
	host := ""
	switch a.Kind {
	case AddressNone:
		return ""
	case AddressUnix:
		if a.Abstract {
			return "abns@" + a.Path
		}
		if !strings.HasPrefix(a.Path, "/") {
			return "unix@" + a.Path
		}
		return a.Path
	case AddressFD:
		return "fd@" + strconv.Itoa(a.FD)
	case AddressIP:
		host = "*"
		if !a.Wildcard {
			host = a.IP.String()
		}
	case AddressName:
		host = a.Name
		if a.Family != 0 {
			host = fmt.Sprintf("ipv%d@%s", a.Family, a.Name)
		}
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if a.NoPort {
		return host
	}
	return host + ":" + port
}

// addressUse says what an address is for, and so which forms of it make sense.
type addressUse struct {
	// listen is true for sockets that accept connections: they need a port and may have a range of ports.
	listen bool
	// datagram is true for sockets that send datagrams: logs.
	datagram bool
	// port is the one taken when none is given; 0 when there is no such.
	port int
	// descriptor allows fd@N.
	descriptor bool
	// wildcard allows "*" and the empty host.
	wildcard bool
}

var (
	listenUse = addressUse{listen: true, descriptor: true, wildcard: true}
	adminUse  = addressUse{listen: true, wildcard: true}
	serverUse = addressUse{}
	logUse    = addressUse{datagram: true, port: defaultSyslogPort, descriptor: true}
)

// family is what the prefix of an address ("ipv4@") says about it.
type family struct {
	kind AddressKind
	// ip is 4 or 6 when only that version is meant.
	ip int
	// stream and datagram are true when the prefix also says the type of socket.
	stream, datagram bool
	abstract         bool
}

var families = map[string]family{
	"ip": {}, "ipv4": {ip: 4}, "ipv6": {ip: 6},
	"tcp": {stream: true}, "tcp4": {ip: 4, stream: true}, "tcp6": {ip: 6, stream: true},
	"udp": {datagram: true}, "udp4": {ip: 4, datagram: true}, "udp6": {ip: 6, datagram: true},
	"unix": {kind: AddressUnix}, "uxst": {kind: AddressUnix, stream: true},
	"uxdg": {kind: AddressUnix, datagram: true},
	"abns": {kind: AddressUnix, abstract: true}, "fd": {kind: AddressFD},
}

// unsupportedFamilies are the other prefixes of HAProxy.
var unsupportedFamilies = []string{"sockpair", "ring", "quic4", "quic6"}

// address reads one address of the configuration. In addresses, and only there, HAProxy expands $NAME and
// ${NAME} in words of any quoting: a habit from the time before double quotes.
func (p *parser) address(text string, use addressUse) (Address, int, error) {
	expanded, err := p.env.expand(text)
	if err != nil {
		return Address{}, 0, err
	}
	return parseAddress(expanded, use)
}

// parseAddress reads one address without variables. The second result is the last port of a range, or that
// of the address.
func parseAddress(text string, use addressUse) (Address, int, error) {
	f, rest, err := parseFamily(text, use)
	if err != nil {
		return Address{}, 0, err
	}
	switch f.kind {
	case AddressUnix:
		a, err := unixAddress(rest, f.abstract)
		return a, 0, err
	case AddressFD:
		n, err := strconv.ParseUint(rest, 10, 31)
		if err != nil {
			return Address{}, 0, fmt.Errorf("%s is not the number of a descriptor", quote(rest))
		}
		return Address{Kind: AddressFD, FD: int(n)}, 0, nil
	default:
		return networkAddress(rest, f.ip, use)
	}
}

// parseFamily splits the prefix from an address and checks that it fits the use.
func parseFamily(text string, use addressUse) (family, string, error) {
	if text == "" {
		return family{}, "", errors.New("empty address (a variable that is not set?)")
	}
	if text[0] == '/' {
		return family{kind: AddressUnix}, text, nil
	}
	prefix, rest, ok := strings.Cut(text, "@")
	if !ok {
		return family{}, text, nil
	}
	name, stream := strings.CutPrefix(prefix, "stream+")
	name, datagram := strings.CutPrefix(name, "dgram+")
	f, known := families[name]
	if !known {
		for _, u := range unsupportedFamilies {
			if name == u {
				return f, "", fmt.Errorf("address family %q %s", name, notYet)
			}
		}
		return f, "", fmt.Errorf("unknown address family %s in %s%s",
			quote(prefix), quote(text), suggestion(prefix, sortedKeys(families)))
	}
	f.stream, f.datagram = f.stream || stream, f.datagram || datagram
	switch {
	case f.kind == AddressFD && !use.descriptor:
		return f, "", fmt.Errorf("%s: a descriptor cannot be used here", quote(text))
	case f.datagram && !use.datagram:
		return f, "", fmt.Errorf("%s: a datagram address cannot be used here", quote(text))
	case f.stream && use.datagram:
		return f, "", fmt.Errorf("%s: a stream address cannot be used here", quote(text))
	}
	return f, rest, nil
}

// unixAddress checks the path, or the name in the abstract namespace.
func unixAddress(path string, abstract bool) (Address, error) {
	if path == "" {
		return Address{}, errors.New("empty path of a unix socket (a variable that is not set?)")
	}
	if len(path) > maxUnixPath {
		return Address{}, fmt.Errorf("socket path %s is too long: %d bytes of at most %d",
			quote(path), len(path), maxUnixPath)
	}
	return Address{Kind: AddressUnix, Path: path, Abstract: abstract}, nil
}

// networkAddress reads HOST, HOST:PORT or HOST:LOW-HIGH. The version is 4 or 6 when the prefix asked for
// one.
func networkAddress(text string, version int, use addressUse) (Address, int, error) {
	host, port, ok := splitPort(text)
	if !ok {
		return Address{}, 0, fmt.Errorf("%s is not of the form [ADDRESS]:PORT", quote(text))
	}
	if port == "" && use.listen {
		return Address{}, 0, fmt.Errorf("missing port in %s", quote(text))
	}
	a, err := parseHost(host, version, use)
	if err != nil {
		ip, notIP := netip.ParseAddr(text)
		if notIP == nil && ip.Is6() && ip.Zone() == "" && !isIP(host) {
			// "::1" and "::80" fall apart at the last colon, as in HAProxy.
			err = fmt.Errorf("%w (write an IPv6 address in brackets: [ADDRESS]:PORT)", err)
		}
		return a, 0, err
	}
	if port == "" {
		a.Port, a.NoPort = use.port, use.port == 0
		return a, a.Port, nil
	}
	last, err := a.parsePort(port, text, use)
	return a, last, err
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// splitPort cuts the port off at the last colon; a host in brackets keeps its colons. ok is false when
// something else than a port follows the brackets.
func splitPort(text string) (host, port string, ok bool) {
	if strings.HasPrefix(text, "[") {
		host, rest, closed := strings.Cut(text, "]")
		port, colon := strings.CutPrefix(rest, ":")
		return host + "]", port, closed && (colon || rest == "")
	}
	if i := strings.LastIndexByte(text, ':'); i >= 0 {
		return text[:i], text[i+1:], true
	}
	return text, "", true
}

// parseHost reads an IP address, a host name, or "*" and "" for any address.
func parseHost(host string, version int, use addressUse) (Address, error) {
	if host == "" || host == "*" {
		if host == "" && !use.wildcard {
			return Address{}, errors.New("missing host in the address (a variable that is not set?)")
		}
		if !use.wildcard {
			return Address{}, use.noWildcard(host)
		}
		if version == 6 {
			return Address{Kind: AddressIP, IP: netip.IPv6Unspecified()}, nil
		}
		return Address{Kind: AddressIP, Wildcard: true}, nil
	}
	bare, bracketed := host, false
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		bare, bracketed = host[1:len(host)-1], true
	}
	if ip, err := netip.ParseAddr(bare); err == nil && ip.Zone() == "" && (ip.Is6() || !bracketed) {
		if version == 4 && ip.Is6() || version == 6 && ip.Is4() {
			return Address{}, fmt.Errorf("%s is not an IPv%d address", quote(host), version)
		}
		if ip.IsUnspecified() && !use.wildcard {
			return Address{}, use.noWildcard(host)
		}
		if ip == netip.IPv4Unspecified() {
			return Address{Kind: AddressIP, Wildcard: true}, nil
		}
		return Address{Kind: AddressIP, IP: ip}, nil
	}
	if !validHostName(bare) || bracketed {
		return Address{}, fmt.Errorf("%s is neither an IP address nor a host name", quote(host))
	}
	return Address{Kind: AddressName, Name: bare, Family: version}, nil
}

// noWildcard says why "any address" is none to send to. For HAProxy it is, on a server line, the address the
// client has asked for.
func (u addressUse) noWildcard(host string) error {
	if u.datagram {
		return fmt.Errorf("%s is not an address to send to", quote(host))
	}
	return fmt.Errorf("%s, to connect to the address the client has asked for, %s", quote(host), notYet)
}

// validHostName reports whether a resolver could know the name. Digits and dots alone are an IPv4 address
// with a mistake: 256.1.1.1, 10.0.1.
func validHostName(name string) bool {
	if len(name) > maxHostName || strings.Trim(name, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !isNameByte(c) && c != '-' {
				return false
			}
		}
	}
	return true
}

// parsePort reads PORT, LOW-HIGH for a socket that listens, or +N and -N for a server. It returns the last
// port.
func (a *Address) parsePort(port, text string, use addressUse) (int, error) {
	if port[0] == '+' || port[0] == '-' {
		if use.listen || use.datagram {
			return 0, fmt.Errorf("port offset in %s: only a server may have one", quote(text))
		}
		n, err := strconv.ParseInt(port, 10, 32)
		if err != nil || n < -maxPort || n > maxPort {
			return 0, fmt.Errorf("%s is not an offset between -%d and +%d", quote(port), maxPort, maxPort)
		}
		a.Port, a.PortOffset = int(n), true
		return a.Port, nil
	}
	lowText, highText, isRange := strings.Cut(port, "-")
	if isRange && !use.listen {
		return 0, fmt.Errorf("port range in %s: only bind may have one", quote(text))
	}
	if !isRange {
		highText = lowText
	}
	low, err := portNumber(lowText)
	if err != nil {
		return 0, err
	}
	high, err := portNumber(highText)
	if err != nil {
		return 0, err
	}
	if low > high {
		return 0, fmt.Errorf("port range %s ends before it begins", quote(port))
	}
	a.Port = low
	return high, nil
}

func portNumber(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s is not a port between 1 and %d", quote(text), maxPort)
	}
	return int(n), nil
}
