package proxyheader

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/rules"
)

func session() *rules.Session {
	return &rules.Session{
		Source:      netip.MustParseAddrPort("192.0.2.1:1000"),
		Destination: netip.MustParseAddrPort("192.0.2.2:2000"),
		Client: &rules.TLS{Version: "TLSv1.3", Cipher: "TLS_AES_128_GCM_SHA256", SNI: "name.example",
			ALPN: "h2", Peer: &rules.Certificate{Subject: rules.Name{{Type: "CN", Value: "client"}}}},
	}
}

var everything = config.SendProxy{Version: 2, TLS: true, CommonName: true, Cipher: true, Authority: true,
	Checksum: true}

func format(t *testing.T, o config.SendProxy, s *rules.Session) []byte {
	t.Helper()
	b, err := Format(&o, s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestHeadersComeInPieces: no part of a header is one, and what follows it is not looked at.
func TestHeadersComeInPieces(t *testing.T) {
	for _, o := range []config.SendProxy{{Version: 1}, {Version: 2}, everything} {
		b := format(t, o, session())
		for n := range b {
			if _, got, err := Parse(b[:n]); got != 0 || err != nil {
				t.Fatalf("%q is a header of %d bytes, %v", b[:n], got, err)
			}
		}
		h, n, err := Parse(append(b, "PROXY hello"...))
		if n != len(b) || err != nil || h.Source != session().Source ||
			h.Destination != session().Destination {
			t.Errorf("%q: %d of %d bytes, %+v, %v", b, n, len(b), h, err)
		}
		if want := map[bool]string{true: "name.example"}[o.Authority]; h.Authority != want {
			t.Errorf("authority %q, want %q", h.Authority, want)
		}
	}
}

func TestTheChecksumIsLookedAt(t *testing.T) {
	b := format(t, everything, session())
	for i := 16; i < len(b); i++ {
		damaged := bytes.Clone(b)
		damaged[i] ^= 1
		if _, n, err := Parse(damaged); err == nil && n == len(b) && checksumAt(damaged) == checksumAt(b) {
			t.Errorf("byte %d of %q was changed and nobody minds", i, b)
		}
	}
}

func TestAddressesThatAreNotOfOneFamily(t *testing.T) {
	s := session()
	s.Destination = netip.MustParseAddrPort("[2001:db8::2]:2000")
	for _, version := range []int{1, 2} {
		h, _, err := Parse(format(t, config.SendProxy{Version: version}, s))
		if err != nil || h.Source != s.Source || h.Destination != s.Destination {
			t.Errorf("version %d: %v to %v, %v", version, h.Source, h.Destination, err)
		}
	}
	s.Source = netip.AddrPort{} // of a unix socket
	for _, version := range []int{1, 2} {
		h, n, err := Parse(format(t, config.SendProxy{Version: version}, s))
		if err != nil || n == 0 || h.Source.IsValid() || h.Destination.IsValid() {
			t.Errorf("version %d: %v to %v, %v", version, h.Source, h.Destination, err)
		}
	}
}

func TestWhatIsNoHeader(t *testing.T) {
	tests := []struct {
		bytes string
		want  error
	}{
		{"G", ErrNotHeader}, {"PROXIES", ErrNotHeader}, {"\r\n\r\n\x00\r\nQUIT\r", ErrNotHeader},
		{"\r\n\r\n\x00\r\nQUIT\n\x11", ErrNotHeader}, {"PROXY UDP4 a b c d\r\n", ErrProtocol},
		{"PROXY TCP4 192.0.2.1 192.0.2.2 1000\r\n", ErrProtocol},
		{"PROXY TCP4 192.0.2.1 192.0.2.2 1000 70000\r\n", ErrInvalid},
		{"PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\n", ErrInvalid},
		{"PROXY UNKNOWN " + string(make([]byte, 100)), ErrInvalid},
		{"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", ErrInvalid},
		{"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x00", ErrInvalid},
	}
	for _, test := range tests {
		if _, n, err := Parse([]byte(test.bytes)); n != 0 || err != test.want {
			t.Errorf("%q: %d, %v, want %v", test.bytes, n, err, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(format(&testing.T{}, everything, session()))
	f.Add([]byte("PROXY TCP6 ::1 ::1 1 2\r\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := Parse(b)
		if n < 0 || n > len(b) || n > 0 && err != nil || n > MaxLength {
			t.Fatalf("%d of %d bytes, %v", n, len(b), err)
		}
		if n == 0 && h != (Header{}) {
			t.Fatalf("no header, and %+v", h)
		}
		if err == nil && n == 0 && len(b) > MaxLength {
			t.Fatal("more is waited for than a header has")
		}
	})
}
