package engine

import (
	"crypto/tls"
	"io"
	"testing"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/rules"
)

// TestTLSServerIsVerifiedForTheNameOfTheExpression: though it is an address, which no server can be asked
// for. Whoever may choose it, a client for example, must not get around the verification by it.
func TestTLSServerIsVerifiedForTheNameOfTheExpression(t *testing.T) {
	server, _ := testTLS(tls.VersionTLS13)
	address := serveTLS(t, server, func(c halfConn) { _, _ = io.WriteString(c, banner) })
	for expression, want := range map[string]string{"fe_name": "mail", "dst": "127.0.0.1"} {
		from, err := rules.ParseExpression(expression)
		if err != nil {
			t.Fatal(err)
		}
		names := make(chan string, 1)
		client := &tls.Config{
			InsecureSkipVerify: true, VerifyConnection: func(cs tls.ConnectionState) error {
				names <- cs.ServerName
				return nil
			},
		}
		p := start(t, settings{serverTLS: client, change: func(_ *config.Config, p *config.Proxy) {
			p.Servers[0].TLS = &config.ServerTLS{SNI: config.SNI{From: from}}
		}}, address)
		c := p.dial()
		if text, err := io.ReadAll(c); err != nil || string(text) != banner {
			t.Errorf("%s: the client reads %q, %v", expression, text, err)
		}
		if name := <-names; name != want {
			t.Errorf("%s: the server is verified for %q, should be %q", expression, name, want)
		}
		c.Close()
		p.ended(1)
	}
}
