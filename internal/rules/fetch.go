package rules

import (
	"net/netip"
	"strings"
)

// fetch takes a value out of a session.
type fetch struct {
	kind      Kind
	stage     Stage
	needs     Needs
	arguments signature
	get       func(*Session, []argument) (Value, bool)
}

// plain makes a fetch that always has a value and takes no arguments.
func plain(kind Kind, get func(*Session) Value) *fetch {
	return &fetch{kind: kind, get: func(s *Session, _ []argument) (Value, bool) { return get(s), true }}
}

// fetches are the fetches by name; HAProxy's manual, sections 7.3.2 to 7.3.4, describes them.
var fetches = merge(map[string]*fetch{
	"always_false": plain(Boolean, func(*Session) Value { return boolean(false) }),
	"always_true":  plain(Boolean, func(*Session) Value { return boolean(true) }),
	"bool": constant(Boolean, "i", func(a argument) (Value, bool) {
		return boolean(a.number != 0), true
	}),
	"int":  constant(Integer, "i", func(a argument) (Value, bool) { return integer(a.number), true }),
	"str":  constant(String, "s", func(a argument) (Value, bool) { return text(a.text), true }),
	"ipv4": constant(Address, "s", parsedAddress), "ipv6": constant(Address, "s", parsedAddress),

	"src":         addressOf(0, func(s *Session) netip.AddrPort { return s.Source }),
	"src_port":    portOf(0, func(s *Session) netip.AddrPort { return s.Source }),
	"dst":         addressOf(NeedsDestination, func(s *Session) netip.AddrPort { return s.Destination }),
	"dst_port":    portOf(NeedsDestination, func(s *Session) netip.AddrPort { return s.Destination }),
	"fc_src":      addressOf(0, func(s *Session) netip.AddrPort { return s.Source }),
	"fc_src_port": portOf(0, func(s *Session) netip.AddrPort { return s.Source }),
	"fc_dst":      addressOf(NeedsDestination, func(s *Session) netip.AddrPort { return s.Destination }),
	"fc_dst_port": portOf(NeedsDestination, func(s *Session) netip.AddrPort { return s.Destination }),

	"fc_rcvd_proxy":   plain(Boolean, func(s *Session) Value { return boolean(s.Proxied) }),
	"fc_pp_authority": textOf(StageSession, 0, func(s *Session) string { return s.Authority }),
	"fc_pp_unique_id": textOf(StageSession, 0, func(s *Session) string { return s.UniqueID }),

	"fe_id":   plain(Integer, func(s *Session) Value { return integer(s.Frontend.ID) }),
	"fe_name": plain(String, func(s *Session) Value { return text(s.Frontend.Name) }),
	"so_id":   plain(Integer, func(s *Session) Value { return integer(s.Listener.ID) }),
	"so_name": textOf(StageConnection, 0, func(s *Session) string { return s.Listener.Name }),
	"be_id":   idOf(StageBackend, func(s *Session) Named { return s.Backend }),
	"be_name": textOf(StageBackend, 0, func(s *Session) string { return s.Backend.Name }),
	"srv_id":  idOf(StageLog, func(s *Session) Named { return s.Target }),
	"srv_name": textOf(StageLog, 0, func(s *Session) string {
		return s.Target.Name
	}),
	"bc_src":      serverAddress(func(s *Session) netip.AddrPort { return s.Local }),
	"bc_src_port": serverPort(func(s *Session) netip.AddrPort { return s.Local }),
	"bc_dst":      serverAddress(func(s *Session) netip.AddrPort { return s.Remote }),
	"bc_dst_port": serverPort(func(s *Session) netip.AddrPort { return s.Remote }),
}, tlsFetches("ssl_fc", StageSession, NeedsClientTLS, func(s *Session) *TLS { return s.Client }),
	tlsFetches("ssl_bc", StageLog, NeedsServerTLS, func(s *Session) *TLS { return s.Server }),
	clientFetches,
	certificateFetches("ssl_c", StageSession, NeedsClientTLS, func(s *Session) *TLS { return s.Client }),
	certificateFetches("ssl_s", StageLog, NeedsServerTLS, func(s *Session) *TLS { return s.Server }))

// merge joins tables.
func merge[V any](all ...map[string]V) map[string]V {
	m := map[string]V{}
	for _, one := range all {
		for k, v := range one {
			m[k] = v
		}
	}
	return m
}

// constant makes a fetch of what stands in its parentheses.
func constant(kind Kind, arguments string, get func(argument) (Value, bool)) *fetch {
	return &fetch{kind: kind, arguments: signature{arguments, 1},
		get: func(_ *Session, a []argument) (Value, bool) { return get(a[0]) }}
}

func parsedAddress(a argument) (Value, bool) {
	ip, err := netip.ParseAddr(a.text)
	return address(ip), err == nil
}

func addressOf(needs Needs, of func(*Session) netip.AddrPort) *fetch {
	return &fetch{kind: Address, needs: needs, get: func(s *Session, _ []argument) (Value, bool) {
		a := of(s)
		return address(a.Addr()), a.IsValid()
	}}
}

func portOf(needs Needs, of func(*Session) netip.AddrPort) *fetch {
	return &fetch{kind: Integer, needs: needs, get: func(s *Session, _ []argument) (Value, bool) {
		a := of(s)
		return integer(int(a.Port())), a.IsValid()
	}}
}

func serverAddress(of func(*Session) netip.AddrPort) *fetch {
	f := addressOf(NeedsServerAddresses, of)
	f.stage = StageLog
	return f
}

func serverPort(of func(*Session) netip.AddrPort) *fetch {
	f := portOf(NeedsServerAddresses, of)
	f.stage = StageLog
	return f
}

// textOf makes a fetch that has no value where the text is empty.
func textOf(stage Stage, needs Needs, of func(*Session) string) *fetch {
	return &fetch{kind: String, stage: stage, needs: needs,
		get: func(s *Session, _ []argument) (Value, bool) { return named(of(s)) }}
}

func idOf(stage Stage, of func(*Session) Named) *fetch {
	return &fetch{kind: Integer, stage: stage, get: func(s *Session, _ []argument) (Value, bool) {
		n := of(s).ID
		return integer(n), n != 0
	}}
}

// tlsFetches are those about the connection of one side. Without TLS only the truth values have one.
func tlsFetches(prefix string, stage Stage, needs Needs, of func(*Session) *TLS) map[string]*fetch {
	is := func(test func(*TLS) bool) *fetch {
		return &fetch{kind: Boolean, stage: stage, needs: needs,
			get: func(s *Session, _ []argument) (Value, bool) {
				t := of(s)
				return boolean(t != nil && test(t)), true
			}}
	}
	what := func(kind Kind, get func(*TLS) (Value, bool)) *fetch {
		return &fetch{kind: kind, stage: stage, needs: needs,
			get: func(s *Session, _ []argument) (Value, bool) {
				if t := of(s); t != nil {
					return get(t)
				}
				return Value{}, false
			}}
	}
	bits := what(Integer, func(t *TLS) (Value, bool) { return integer(t.KeyBits), t.KeyBits > 0 })
	return map[string]*fetch{
		prefix:                  is(func(*TLS) bool { return true }),
		prefix + "_is_resumed":  is(func(t *TLS) bool { return t.Resumed }),
		prefix + "_protocol":    what(String, func(t *TLS) (Value, bool) { return named(t.Version) }),
		prefix + "_cipher":      what(String, func(t *TLS) (Value, bool) { return named(t.Cipher) }),
		prefix + "_alpn":        what(String, func(t *TLS) (Value, bool) { return named(t.ALPN) }),
		prefix + "_use_keysize": bits, prefix + "_alg_keysize": bits,
	}
}

// clientFetches are the fetches about a client's TLS that have no counterpart for servers.
var clientFetches = map[string]*fetch{
	"ssl_fc_sni": textOf(StageSession, NeedsClientTLS, func(s *Session) string {
		if s.Client == nil {
			return ""
		}
		return s.Client.SNI
	}),
	"ssl_fc_has_sni": clientIs(func(t *TLS) bool { return t.SNI != "" }),
	// A client with a certificate that is not accepted does not come as far as to be asked.
	"ssl_fc_has_crt": clientIs(func(t *TLS) bool { return t.Peer != nil && !t.Resumed }),
	"ssl_c_used":     clientIs(func(t *TLS) bool { return t.Peer != nil }),
	"ssl_c_verify":   verified, "ssl_c_err": verified, "ssl_c_ca_err": verified,
	"ssl_c_ca_err_depth": verified,
}

func clientIs(test func(*TLS) bool) *fetch {
	return &fetch{kind: Boolean, stage: StageSession, needs: NeedsClientTLS,
		get: func(s *Session, _ []argument) (Value, bool) {
			return boolean(s.Client != nil && test(s.Client)), true
		}}
}

// verified is the result of the verification, X509_V_OK: with any other the handshake fails.
var verified = &fetch{kind: Integer, stage: StageSession, needs: NeedsClientTLS,
	get: func(s *Session, _ []argument) (Value, bool) { return integer(0), s.Client != nil }}

// certificateFetches are those about the certificate of the peer of one side.
func certificateFetches(prefix string, stage Stage, needs Needs, of func(*Session) *TLS) map[string]*fetch {
	what := func(kind Kind, get func(*Certificate) (Value, bool)) *fetch {
		return &fetch{kind: kind, stage: stage, needs: needs,
			get: func(s *Session, _ []argument) (Value, bool) {
				if t := of(s); t != nil && t.Peer != nil {
					return get(t.Peer)
				}
				return Value{}, false
			}}
	}
	dn := func(name func(*Certificate) Name) *fetch {
		return &fetch{kind: String, stage: stage, needs: needs, arguments: signature{"sis", 0},
			get: func(s *Session, a []argument) (Value, bool) {
				if t := of(s); t != nil && t.Peer != nil {
					return nameOf(name(t.Peer), a)
				}
				return Value{}, false
			}}
	}
	bytes := func(get func(*Certificate) []byte) *fetch {
		return what(Binary, func(c *Certificate) (Value, bool) { return binary(get(c)), true })
	}
	return map[string]*fetch{
		prefix + "_s_dn":   dn(func(c *Certificate) Name { return c.Subject }),
		prefix + "_i_dn":   dn(func(c *Certificate) Name { return c.Issuer }),
		prefix + "_der":    bytes(func(c *Certificate) []byte { return c.DER }),
		prefix + "_serial": bytes(func(c *Certificate) []byte { return c.Serial }),
		prefix + "_sha1":   bytes(func(c *Certificate) []byte { return c.SHA1 }),
		prefix + "_notbefore": what(String, func(c *Certificate) (Value, bool) {
			return text(c.NotBefore.UTC().Format(certificateTime)), true
		}),
		prefix + "_notafter": what(String, func(c *Certificate) (Value, bool) {
			return text(c.NotAfter.UTC().Format(certificateTime)), true
		}),
		prefix + "_version": what(Integer, func(c *Certificate) (Value, bool) {
			return integer(c.Version), true
		}),
		prefix + "_key_alg": what(String, func(c *Certificate) (Value, bool) { return named(c.Key) }),
		prefix + "_sig_alg": what(String, func(c *Certificate) (Value, bool) { return named(c.Signature) }),
	}
}

// certificateTime is how a certificate's dates are given: YYMMDDhhmmss[Z].
const certificateTime = "060102150405Z"

// nameOf returns a distinguished name, or one of its parts: ssl_c_s_dn(CN), ssl_c_s_dn(OU,2),
// ssl_c_s_dn(,0,rfc2253).
func nameOf(n Name, a []argument) (Value, bool) {
	switch {
	case len(a) > 0 && a[0].text != "":
		occurrence := 1
		if len(a) > 1 && a[1].number != 0 {
			occurrence = int(a[1].number)
		}
		value, ok := n.Get(a[0].text, occurrence)
		return text(value), ok
	case len(a) > 2 && a[2].text == "rfc2253":
		return text(n.rfc2253()), true
	}
	return text(n.String()), true
}

// rfc2253 prints the name from its last attribute to its first.
func (n Name) rfc2253() string {
	var b strings.Builder
	for i := len(n) - 1; i >= 0; i-- {
		b.WriteString(n[i].Type + "=")
		for j, c := range []byte(n[i].Value) {
			if strings.IndexByte(`,+"\<>;`, c) >= 0 || j == 0 && (c == '#' || c == ' ') ||
				j == len(n[i].Value)-1 && c == ' ' {
				b.WriteByte('\\')
			}
			b.WriteByte(c)
		}
		if i > 0 {
			b.WriteByte(',')
		}
	}
	return b.String()
}
