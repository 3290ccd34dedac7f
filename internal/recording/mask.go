package recording

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// mask gives out replacements, the same for the same.
type mask struct {
	given map[string]string // what was replaced, by what
	keep  map[string]bool   // names that are no secret
	count map[string]int    // replacements of each kind
	hosts map[netip.Addr]netip.Addr
}

func newMask() *mask {
	return &mask{given: map[string]string{}, keep: map[string]bool{}, count: map[string]int{},
		hosts: map[netip.Addr]netip.Addr{}}
}

// name replaces a name. Those in angle brackets are of HAProxy itself: <NOSRV>.
func (m *mask) name(kind, text string) string {
	if text == "" || m.keep[text] || strings.HasPrefix(text, "<") {
		return text
	}
	if m.given[text] == "" {
		m.count[kind]++
		m.given[text] = fmt.Sprintf("%s-%d", kind, m.count[kind])
	}
	return m.given[text]
}

// path replaces the path of a file or a socket, unless it is the same on every machine. What is no path
// stays.
func (m *mask) path(text string) string {
	name, abstract := strings.CutPrefix(text, "@")
	if !abstract && (!strings.HasPrefix(name, "/") || isSystem(name)) {
		return text
	}
	sign := "/"
	if abstract {
		sign = "@"
	}
	return sign + m.name("path", text)
}

// address replaces an address in whatever form it is written: address:port, a path, host:port.
func (m *mask) address(text string) string {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return netip.AddrPortFrom(m.host(at.Addr()), at.Port()).String()
	}
	if ip, err := netip.ParseAddr(text); err == nil {
		return m.host(ip).String()
	}
	if strings.HasPrefix(text, "/") || strings.HasPrefix(text, "@") {
		return m.path(text)
	}
	at := strings.LastIndexByte(text, ':')
	if at < 0 {
		return m.name("host", text)
	}
	if host := text[:at]; host != "" && host != "unix" && host != "*" {
		return m.name("host", host) + text[at:]
	}
	return text
}

// Prefixes of replaced addresses. 240.0.0.0/4 and 2001:db8::/32 belong to nobody: RFC 1112, RFC 3849.
var (
	privatePrefix4 = netip.MustParsePrefix("10.0.0.0/8")
	publicPrefix4  = netip.MustParsePrefix("240.0.0.0/4")
	privatePrefix6 = netip.MustParsePrefix("fd00::/8")
	linkPrefix6    = netip.MustParsePrefix("fe80::/10")
	publicPrefix6  = netip.MustParsePrefix("2001:db8::/32")
)

// host replaces an IP address by one of the same kind.
func (m *mask) host(ip netip.Addr) netip.Addr {
	if ip.Is4In6() {
		mapped := m.host(ip.Unmap())
		return netip.AddrFrom16(mapped.As16())
	}
	ip = ip.WithZone("")
	if ip.IsLoopback() || ip.IsUnspecified() {
		return ip
	}
	if known, ok := m.hosts[ip]; ok {
		return known
	}
	prefix := publicPrefix6
	switch {
	case ip.Is4() && (ip.IsPrivate() || ip.IsLinkLocalUnicast()):
		prefix = privatePrefix4
	case ip.Is4():
		prefix = publicPrefix4
	case ip.IsLinkLocalUnicast():
		prefix = linkPrefix6
	case ip.IsPrivate():
		prefix = privatePrefix6
	}
	m.count[prefix.String()]++
	n := m.count[prefix.String()]
	bytes := prefix.Addr().AsSlice()
	for i := len(bytes) - 1; n > 0; i-- {
		bytes[i] |= byte(n)
		n >>= 8
	}
	m.hosts[ip], _ = netip.AddrFromSlice(bytes)
	return m.hosts[ip]
}

// In sentences, what looks like a container's id, a path or an address, or is a word that was replaced
// elsewhere, is replaced.
var (
	containerID = regexp.MustCompile(`\b[0-9a-f]{64}\b`)
	pathText    = regexp.MustCompile(`"([/@][^"]+)"|(?:^|[^\p{L}\p{N}_./-])([/@][^\s"'(),;:\]]+)`)
	ip4Text     = regexp.MustCompile(`\b\d{1,3}(?:\.\d{1,3}){3}\b`)
	ip6Text     = regexp.MustCompile(`[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F.:]*`)
	// A host stands before a port, or in what Go says when it does not find its address.
	hostText   = regexp.MustCompile(`(?:^|[^\pL\pN_./:@-])([\pL\pN_.-]*\pL[\pL\pN_.-]*):[0-9]{1,5}\b`)
	lookupText = regexp.MustCompile(`\blookup ([\p{L}\p{N}_.-]+)`)
	wordText   = regexp.MustCompile(`[\p{L}\p{N}_.-]+`)
)

func (m *mask) sentences(list []string) {
	for i := range list {
		list[i] = m.sentence(list[i])
	}
}

func (m *mask) sentence(text string) string {
	text = containerID.ReplaceAllStringFunc(text, func(id string) string { return m.name("container", id) })
	text = replaceGroup(pathText, text, m.path)
	for _, pattern := range []*regexp.Regexp{ip4Text, ip6Text} {
		text = pattern.ReplaceAllStringFunc(text, m.embedded)
	}
	for _, pattern := range []*regexp.Regexp{lookupText, hostText} {
		text = replaceGroup(pattern, text, func(host string) string { return m.name("host", host) })
	}
	return wordText.ReplaceAllStringFunc(text, func(word string) string {
		if given := m.given[word]; given != "" {
			return given
		}
		return word
	})
}

// embedded replaces an IP address behind which the colon or the dot of a sentence may stand.
func (m *mask) embedded(found string) string {
	for text := found; text != ""; text = text[:len(text)-1] {
		if ip, err := netip.ParseAddr(text); err == nil {
			return m.host(ip).String() + found[len(text):]
		}
		if !strings.HasSuffix(text, ":") && !strings.HasSuffix(text, ".") {
			break
		}
	}
	return found
}

// replaceGroup replaces what the groups of a pattern match, of which each match has one.
func replaceGroup(pattern *regexp.Regexp, text string, replacement func(string) string) string {
	var out strings.Builder
	done := 0
	for _, at := range pattern.FindAllStringSubmatchIndex(text, -1) {
		group := at[2:]
		for group[0] < 0 {
			group = group[2:]
		}
		out.WriteString(text[done:group[0]])
		out.WriteString(replacement(text[group[0]:group[1]]))
		done = group[1]
	}
	out.WriteString(text[done:])
	return out.String()
}
