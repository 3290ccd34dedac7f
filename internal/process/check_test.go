package process

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/whyspin/whyspin/internal/config"
)

// known is a resolver that knows one name.
func known(_ context.Context, _, name string) ([]netip.Addr, error) {
	if name == "mx.example" {
		return []netip.Addr{netip.MustParseAddr("192.0.2.1")}, nil
	}
	return nil, errors.New("no such host")
}

// TestCheckFindsWhatAStartWouldFailOn: each of these is an ALERT of "haproxy -c", too, except for the root
// directory, which haproxy does not look at.
func TestCheckFindsWhatAStartWouldFailOn(t *testing.T) {
	const text = `
global
    user no-such-user
    group 65534
    chroot /no/such/directory
    log nosuch.invalid local0
    stats socket /tmp/s.sock user no-such-owner
defaults
    mode tcp
    log global
    timeout connect 1s
    timeout client 1m
    timeout server 1m
listen a
    bind nosuch.invalid:80
    server s1 mx.example:25
    server s2 nosuch.invalid:25
`
	c, err := config.Parse([]config.File{{Name: "x.cfg", Text: []byte(text)}}, config.Options{})
	must(t, err)
	wrong := []string{
		`x.cfg:3: user "no-such-user": `, `x.cfg:4: group "65534": `,
		`x.cfg:7: stats socket: user "no-such-owner": `,
		`x.cfg:6: log: resolving "nosuch.invalid": `, `x.cfg:15: frontend "a": resolving "nosuch.invalid": `,
	}
	const server = `x.cfg:17: server "s2" of backend "a": resolving "nosuch.invalid": no such host`
	const root = "x.cfg:5: chroot: stat /no/such/directory: no such file or directory"
	for _, test := range []struct {
		name            string
		options         Options
		wrong, warnings []string
	}{
		{"as it is", Options{}, append(wrong, server), []string{root}},
		{"with -dr", Options{IgnoreUnresolved: true}, wrong,
			[]string{root, server + ": the server is disabled"}},
	} {
		warnings, err := check(c, test.options, known)
		if err == nil {
			t.Fatalf("%s: nothing is wrong", test.name)
		}
		got := strings.Split(err.Error(), "\n")
		if len(got) != len(test.wrong) {
			t.Errorf("%s: %d messages, should be %d:\n%v", test.name, len(got), len(test.wrong), err)
		}
		for _, want := range test.wrong {
			if !strings.Contains("\n"+err.Error(), "\n"+want) {
				t.Errorf("%s: no message begins with %q:\n%v", test.name, want, err)
			}
		}
		if strings.Join(warnings, "\n") != strings.Join(test.warnings, "\n") {
			t.Errorf("%s: the warnings are %q, should be %q", test.name, warnings, test.warnings)
		}
	}
}

// TestAnUnresolvedServerIsDisabledOnRequest: as with "haproxy -dr".
func TestAnUnresolvedServerIsDisabledOnRequest(t *testing.T) {
	c := newConfig()
	s := &config.Server{Name: "s1", Address: config.Address{Kind: config.AddressName, Name: "nosuch.invalid"}}
	c.Proxies = []*config.Proxy{{Name: "a", IsBackend: true, Servers: []*config.Server{s}}}
	if _, err := prepare(c, Options{}, known); err == nil || s.Disabled {
		t.Errorf("without the option: %v, disabled %v", err, s.Disabled)
	}
	p, err := prepare(c, Options{IgnoreUnresolved: true}, known)
	must(t, err)
	defer p.Close()
	if _, err := p.Resolve(s); err != nil || !s.Disabled || len(p.Warnings) != 1 {
		t.Errorf("with it: %v, disabled %v, warnings %q", err, s.Disabled, p.Warnings)
	}
}

// TestCertificatesAreChecked: what is wrong with them is found by a check and by a start alike, with the line
// that names them.
func TestCertificatesAreChecked(t *testing.T) {
	const text = `
defaults
    timeout connect 1s
    timeout client 1m
    timeout server 1m
listen a
    bind 127.0.0.1:1,127.0.0.2:1 ssl crt /no/such/file
    server s1 192.0.2.1:25 ssl verify required ca-file /no/such/ca
`
	c, err := config.Parse([]config.File{{Name: "x.cfg", Text: []byte(text)}}, config.Options{})
	must(t, err)
	want := "x.cfg:7: \"crt\": stat /no/such/file: no such file or directory\n" +
		"x.cfg:8: \"ca-file\": open /no/such/ca: no such file or directory"
	if _, err := check(c, Options{}, known); err == nil || err.Error() != want {
		t.Errorf("a check says %v", err)
	}
	p, err := prepare(c, Options{}, known)
	if err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("a start says %v", err)
	}
	if p != nil {
		p.Close()
	}
}
