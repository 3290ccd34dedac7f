package config

import "strings"

// sendProxyOptions are the names that readSendProxy takes.
var sendProxyOptions = []string{"send-proxy", "send-proxy-v2", "send-proxy-v2-ssl", "send-proxy-v2-ssl-cn",
	"no-send-proxy", "no-send-proxy-v2", "no-send-proxy-v2-ssl", "no-send-proxy-v2-ssl-cn",
	"proxy-v2-options"}

// readSendProxy reads an option of a server about the PROXY protocol; it returns false for another one. As in
// HAProxy version 2 comes before version 1 when both are asked for, and what is said of the former has no
// effect without it.
func (p *parameters) readSendProxy(name string, to *SendProxy) bool {
	switch name {
	case "send-proxy":
		to.Version = max(to.Version, 1)
	case "send-proxy-v2":
		to.Version = 2
	case "send-proxy-v2-ssl":
		to.Version, to.TLS = 2, true
	case "send-proxy-v2-ssl-cn":
		to.Version, to.TLS, to.CommonName = 2, true, true
	case "no-send-proxy", "no-send-proxy-v2":
		to.Version = 0
	case "no-send-proxy-v2-ssl":
		to.Version, to.TLS = 0, false
	case "no-send-proxy-v2-ssl-cn":
		to.Version, to.TLS, to.CommonName = 0, false, false
	case "proxy-v2-options":
		if text, ok := p.value(name); ok {
			p.readProxyOptions(text, to)
		}
	default:
		return false
	}
	return true
}

// readProxyOptions reads the list after "proxy-v2-options".
func (p *parameters) readProxyOptions(text string, to *SendProxy) {
	known := []string{"authority", "cert-cn", "crc32c", "ssl", "ssl-cipher"}
	for word := range strings.SplitSeq(text, ",") {
		switch word {
		case "ssl":
			to.TLS = true
		case "cert-cn":
			to.TLS, to.CommonName = true, true
		case "ssl-cipher":
			to.TLS, to.Cipher = true, true
		case "authority":
			to.Authority = true
		case "crc32c":
			to.Checksum = true
		case "cert-sig", "cert-key":
			p.errorf(`%q: "proxy-v2-options": %q cannot be had: crypto/tls does not say which certificate `+
				"was shown to the client", p.label, word)
		case "unique-id":
			p.errorf(`%q: "proxy-v2-options": %q %s`, p.label, word, notYet)
		default:
			p.errorf(`%q: "proxy-v2-options": unknown option %s, known ones are %s%s`, p.label, quote(word),
				quoteAll(known), suggestion(word, known))
		}
	}
}
