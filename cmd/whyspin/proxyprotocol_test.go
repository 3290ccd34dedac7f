package main

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/whyspin/whyspin/internal/proxyheader"
)

// The tests in this file compare with HAProxy what is sent and what is taken of the PROXY protocol.

// sendOptions are the options of a server that gets a header.
var sendOptions = []string{"send-proxy", "send-proxy-v2", "send-proxy-v2-ssl", "send-proxy-v2-ssl-cn",
	"send-proxy send-proxy-v2", "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,authority,crc32c",
	"send-proxy-v2 proxy-v2-options authority", "send-proxy-v2 proxy-v2-options crc32c",
	"proxy-v2-options ssl send-proxy"}

// startCapture runs a server that hands over what it is sent before its client says "end".
func startCapture(t *testing.T) (address string, sent <-chan []byte) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	all := make(chan []byte, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			var got []byte
			for b := make([]byte, 4096); !bytes.HasSuffix(got, []byte("end")); {
				n, err := c.Read(b)
				if got = append(got, b[:n]...); err != nil {
					break
				}
			}
			all <- bytes.TrimSuffix(got, []byte("end"))
			c.Close()
		}
	}()
	return l.Addr().String(), all
}

// neutral returns a header without what differs between two runs, after it was read: the ports, the checksum
// of them and the cipher that each proxy prefers.
func neutral(t *testing.T, header []byte, from, to string) string {
	t.Helper()
	h, n, err := proxyheader.Parse(header)
	if err != nil || n != len(header) {
		t.Fatalf("%x is a header of %d bytes: %v", header, n, err)
	}
	if h.Source.String() != from || h.Destination.String() != to {
		t.Errorf("the header is of %v to %v, want %s to %s", h.Source, h.Destination, from, to)
	}
	if header[0] == 'P' {
		return strings.NewReplacer(portOf(t, from), "PORT", portOf(t, to), "PORT").Replace(string(header))
	}
	for at := 28; at+3 <= len(header); at += 3 + int(binary.BigEndian.Uint16(header[at+1:])) {
		if header[at] == 3 {
			clear(header[at+3 : at+7])
		}
	}
	clear(header[24:28])
	text := strings.ReplaceAll(string(header), "TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256")
	return hex.EncodeToString([]byte(text))
}

func TestProxyHeadersAreThoseOfHAProxy(t *testing.T) {
	a := newAuthority(t)
	a.issue("server.pem", "server.example", newECDSA(t))
	pair := a.pair("client.pem", "client")
	server, sent := startCapture(t)
	clients := []struct {
		name   string
		config *tls.Config // nil for one without TLS
	}{
		{"a client without TLS", nil},
		{"a client with a name and a protocol", &tls.Config{ServerName: "name.example",
			NextProtos: []string{"h2"}}},
		{"a client with a certificate", &tls.Config{Certificates: []tls.Certificate{pair}}},
	}
	observe := func(haproxy bool) map[string]string {
		p := runRuled(t, a, haproxy, func(p *ruledProxy) string {
			p.ports["drops"] = freePort(t)
			text := fmt.Sprintf("listen drops\n bind 127.0.0.1:%s\n tcp-request connection reject\n",
				p.ports["drops"])
			for i, options := range sendOptions {
				for _, secure := range []bool{false, true} {
					port, how := freePort(t), ""
					if secure {
						how = "ssl crt DIR/server.pem alpn h2 verify optional ca-file DIR/ca.pem"
					}
					p.ports[fmt.Sprint(options, secure)] = port
					text += fmt.Sprintf("listen l%d%t\n bind 127.0.0.1:%s %s\n server s %s %s\n", i, secure,
						port, how, server, options)
				}
			}
			return text
		})
		seen := map[string]string{}
		for _, options := range sendOptions {
			for _, client := range clients {
				c, err := net.Dial("tcp", "127.0.0.1:"+p.ports[fmt.Sprint(options, client.config != nil)])
				if err != nil {
					t.Fatal(err)
				}
				from, to := c.LocalAddr().String(), c.RemoteAddr().String()
				if client.config != nil {
					config := client.config.Clone()
					config.InsecureSkipVerify = true
					c = tls.Client(c, config)
				}
				if _, err := io.WriteString(c, "end"); err != nil {
					t.Fatal(err)
				}
				select {
				case header := <-sent:
					seen[options+", "+client.name] = neutral(t, header, from, to)
				case <-time.After(patience):
					t.Fatalf("%s, %s: nothing has come", options, client.name)
				}
				c.Close()
			}
		}
		return seen
	}
	want, got := observe(true), observe(false)
	for name, header := range want {
		if got[name] != header {
			t.Errorf("%s:\nwhyspin sends %s\nhaproxy sends %s", name, got[name], header)
		}
	}
	if len(want) != len(sendOptions)*len(clients) {
		t.Errorf("%d headers were compared", len(want))
	}
}

// introductions are what clients begin with.
var introductions = []struct{ name, bytes string }{
	{"TCP4", "PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\nhello"},
	{"TCP6", "PROXY TCP6 2001:db8::1 2001:db8::2 1000 2000\r\nhello"},
	{"unknown", "PROXY UNKNOWN\r\nhello"},
	{"unknown with a rest", "PROXY UNKNOWN ffff::1 ffff::1 65535 65535\r\nhello"},
	{"no header", "EHLO client.example with a long name\r\n"},
	{"half a signature", "PROXIES\r\n and so on and on and on"},
	{"an invalid protocol", "PROXY UDP4 192.0.2.1 192.0.2.2 1000 2000\r\nhello"},
	{"an invalid address", "PROXY TCP4 192.0.2.256 192.0.2.2 1000 2000\r\nhello"},
	{"an endless line", "PROXY UNKNOWN " + strings.Repeat("x", 200)},
	{"nothing", ""},
	{"version 2", v2 + "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x03\xe8\x07\xd0hello"},
	{"version 2, IPv6", v2 + "\x21\x21\x00\x24" + strings.Repeat("\x20\x01\x0d\xb8\x00\x00\x00\x00", 4) +
		"\x03\xe8\x07\xd0hello"},
	{"version 2, local", v2 + "\x20\x00\x00\x00hello"},
	{"version 2, authority", v2 + "\x21\x11\x00\x17\xc0\x00\x02\x01\xc0\x00\x02\x02\x03\xe8\x07\xd0" +
		"\x02\x00\x01a\x05\x00\x04\x31\x32\x33\x34hello"},
	{"version 2, a wrong checksum", v2 + "\x21\x11\x00\x13\xc0\x00\x02\x01\xc0\x00\x02\x02\x03\xe8\x07\xd0" +
		"\x03\x00\x04\x00\x00\x00\x00hello"},
	{"version 3", v2 + "\x31\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x03\xe8\x07\xd0hello"},
	{"a wrong command", v2 + "\x2f\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x03\xe8\x07\xd0hello"},
	{"an address that is too short", v2 + "\x21\x11\x00\x04\xc0\x00\x02\x01hello"},
}

const v2 = "\r\n\r\n\x00\r\nQUIT\n"

func TestProxyHeadersAreTakenAsByHAProxy(t *testing.T) {
	a := newAuthority(t)
	a.issue("server.pem", "server.example", newECDSA(t))
	server := startNamed(t, "one")
	const format = ` log-format "%ci:%cp %[dst]:%[dst_port] %[src] %[fc_rcvd_proxy] %[fc_pp_authority] ` +
		`%[fc_pp_unique_id] %ts %U %sslv"` + "\n"
	observe := func(haproxy bool) map[string]string {
		p := runRuled(t, a, haproxy, func(p *ruledProxy) string {
			p.ports["drops"], p.ports["plain"], p.ports["tls"] = freePort(t), freePort(t), freePort(t)
			return fmt.Sprintf("frontend drops\n bind 127.0.0.1:%s\n tcp-request connection reject\n"+
				" default_backend b\nfrontend plain\n bind 127.0.0.1:%s accept-proxy\n%s default_backend b\n"+
				"frontend tls\n bind 127.0.0.1:%s accept-proxy ssl crt DIR/server.pem\n%s"+
				" use_backend b if { src 192.0.2.0/24 } { dst_port 2000 }\n"+
				"backend b\n server s %s\n",
				p.ports["drops"], p.ports["plain"], format, p.ports["tls"], format, server)
		})
		seen := map[string]string{}
		for _, way := range introductions {
			c, err := net.Dial("tcp", "127.0.0.1:"+p.ports["plain"])
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, way.bytes); err != nil {
				t.Fatal(err)
			}
			_ = c.(*net.TCPConn).CloseWrite() // the proxy may have closed by now
			said, _ := io.ReadAll(c)
			c.Close()
			line := strings.ReplaceAll(p.lines(t, 1), portOf(t, c.LocalAddr().String()), "PORT")
			line = strings.ReplaceAll(line, p.ports["plain"], "PORT")
			seen[way.name] = string(said) + line
		}
		for _, header := range []string{introductions[0].bytes, introductions[10].bytes} {
			header = strings.TrimSuffix(header, "hello")
			c, err := net.Dial("tcp", "127.0.0.1:"+p.ports["tls"])
			if err != nil {
				t.Fatal(err)
			}
			s := tls.Client(&behindHeader{Conn: c, header: header}, &tls.Config{InsecureSkipVerify: true})
			said := make([]byte, 100)
			n, err := s.Read(said)
			if err != nil {
				t.Fatalf("TLS behind the header %q: %v", header, err)
			}
			s.Close()
			seen["TLS behind "+header] = string(said[:n]) + p.lines(t, 1)
		}
		return seen
	}
	differences := map[string]string{
		"unknown with a rest": "the specification has what follows ignored",
		"an endless line":     "HAProxy says that the protocol is unknown",
		"an invalid address":  "HAProxy reads 192.0.2.256 as 192.0.3.0",

		"version 2, a wrong checksum": "HAProxy has taken the address over by then",
	}
	want, got := observe(true), observe(false)
	for name, line := range want {
		if (got[name] != line) != (differences[name] != "") {
			t.Errorf("%s:\nwhyspin %q\nhaproxy %q", name, got[name], line)
		}
		t.Logf("%s: %q", name, line)
	}
}

// behindHeader sends a header together with the first bytes.
type behindHeader struct {
	net.Conn
	header string
}

func (b *behindHeader) Write(p []byte) (int, error) {
	if b.header != "" {
		all := append([]byte(b.header), p...)
		b.header = ""
		if _, err := b.Conn.Write(all); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	return b.Conn.Write(p)
}
