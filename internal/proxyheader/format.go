package proxyheader

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/rules"
)

// Format returns the header that tells a server of a client. As in HAProxy one without addresses, of a unix
// socket, is told as a connection of the proxy itself.
func Format(o *config.SendProxy, s *rules.Session) ([]byte, error) {
	h := proxyproto.Header{Version: byte(o.Version), Command: proxyproto.PROXY}
	source, destination := s.Source, s.Destination
	switch {
	case !source.IsValid() || !destination.IsValid():
		h.Command, h.TransportProtocol = proxyproto.LOCAL, proxyproto.UNSPEC
	case source.Addr().Unmap().Is4() && destination.Addr().Unmap().Is4():
		h.TransportProtocol = proxyproto.TCPv4
	default:
		h.TransportProtocol = proxyproto.TCPv6
	}
	if h.Command == proxyproto.PROXY {
		h.SourceAddr, h.DestinationAddr = tcpAddr(source), tcpAddr(destination)
	}
	if o.Version == 1 {
		return h.Format()
	}
	options, err := optionsOf(o, s)
	if err != nil {
		return nil, err
	}
	if err := h.SetTLVs(options); err != nil {
		return nil, err
	}
	b, err := h.Format()
	if err != nil {
		return nil, err
	}
	if o.Checksum {
		if at := checksumAt(b); at >= 0 {
			binary.BigEndian.PutUint32(b[at:], crc32.Checksum(b, castagnoli))
		}
	}
	return b, nil
}

func tcpAddr(a netip.AddrPort) *net.TCPAddr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()))
}

// optionsOf returns the parts of a header that come after the addresses, in HAProxy's order.
func optionsOf(o *config.SendProxy, s *rules.Session) (all []proxyproto.TLV, err error) {
	add := func(kind proxyproto.PP2Type, value []byte) {
		all = append(all, proxyproto.TLV{Type: kind, Value: value})
	}
	if o.Checksum {
		add(proxyproto.PP2_TYPE_CRC32C, make([]byte, crcLength))
	}
	if s.Client != nil && s.Client.ALPN != "" {
		add(proxyproto.PP2_TYPE_ALPN, []byte(s.Client.ALPN))
	}
	authority := s.Authority
	if authority == "" && s.Client != nil {
		authority = s.Client.SNI
	}
	if o.Authority && authority != "" {
		add(proxyproto.PP2_TYPE_AUTHORITY, []byte(authority))
	}
	if o.TLS {
		t, err := tlsOptions(o, s.Client).Marshal()
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// tlsOptions are what the server is told of the client's TLS.
func tlsOptions(o *config.SendProxy, t *rules.TLS) (p tlvparse.PP2SSL) {
	if t == nil {
		return p
	}
	add := func(kind proxyproto.PP2Type, value string) {
		if value != "" {
			p.TLV = append(p.TLV, proxyproto.TLV{Type: kind, Value: []byte(value)})
		}
	}
	p.Client = tlvparse.PP2_BITFIELD_CLIENT_SSL
	add(proxyproto.PP2_SUBTYPE_SSL_VERSION, t.Version)
	if t.Peer != nil {
		p.Client |= tlvparse.PP2_BITFIELD_CLIENT_CERT_SESS
		if !t.Resumed {
			p.Client |= tlvparse.PP2_BITFIELD_CLIENT_CERT_CONN
		}
		if o.CommonName {
			name, _ := t.Peer.Subject.Get("CN", 1)
			add(proxyproto.PP2_SUBTYPE_SSL_CN, name)
		}
	}
	if o.Cipher {
		add(proxyproto.PP2_SUBTYPE_SSL_CIPHER, t.Cipher)
	}
	return p
}
