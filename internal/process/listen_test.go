package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/sys"
)

// names are the hosts that the tests' resolver knows.
func names(_ context.Context, family, name string) ([]netip.Addr, error) {
	switch name {
	case "both":
		if family == "ip6" {
			return []netip.Addr{netip.MustParseAddr("2001:db8::1")}, nil
		}
		return []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, nil
	case "here":
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	case "empty":
		return nil, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

var noOwner = config.UnixAttributes{UID: -1, GID: -1}

func ipAddress(ip string, port int) config.Address {
	return config.Address{Kind: config.AddressIP, IP: netip.MustParseAddr(ip), Port: port}
}

// relativeAddress is a server's address whose port is that of the client's connection and so much more.
func relativeAddress(offset int) config.Address {
	a := ipAddress("192.0.2.7", offset)
	a.PortOffset = true
	return a
}

// section adds a listen section with these binds and servers.
func section(c *config.Config, name string, binds []config.Address, servers ...config.Address) *config.Proxy {
	p := &config.Proxy{Name: name, IsFrontend: true, IsBackend: true}
	p.DefaultBackend = p
	for i, a := range binds {
		p.Binds = append(p.Binds, &config.Bind{
			Position: config.Position{File: "x.cfg", Line: 10*len(c.Proxies) + i + 1}, Address: a,
			ID: i + 1, Unix: noOwner,
		})
	}
	for i, a := range servers {
		p.Servers = append(p.Servers, &config.Server{
			Position: config.Position{File: "x.cfg", Line: 10*len(c.Proxies) + i + 5},
			Name:     fmt.Sprint("s", i+1), Address: a, Weight: 1,
		})
	}
	c.Proxies = append(c.Proxies, p)
	return p
}

func TestEveryKindOfListener(t *testing.T) {
	directory, err := os.MkdirTemp("", "process")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(directory) })
	inherited, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	defer inherited.Close()
	file, err := inherited.(*net.TCPListener).File()
	must(t, err)
	path := filepath.Join(directory, "mail")
	abstract := fmt.Sprintf("whyspin-test-%d", os.Getpid())

	c := newConfig()
	p := section(c, "mail", []config.Address{
		ipAddress("127.0.0.1", 0), ipAddress("::1", 0), {Kind: config.AddressIP, Wildcard: true},
		{Kind: config.AddressName, Name: "here"}, {Kind: config.AddressUnix, Path: path},
		{Kind: config.AddressUnix, Path: abstract, Abstract: true},
		{Kind: config.AddressFD, FD: int(file.Fd())},
	})
	p.Binds[4].Unix.Mode = 0o606
	disabled := section(c, "off", []config.Address{ipAddress("192.0.2.1", 1)})
	disabled.Disabled = true
	c.Global.StatsSockets = []config.StatsSocket{
		{Address: config.Address{Kind: config.AddressUnix, Path: path + "-api"}, Unix: noOwner,
			Level: config.LevelAdmin},
	}
	got, err := prepare(c, Options{}, names)
	must(t, err)
	if len(got.Listeners) != 7 || len(got.StatsSockets) != 1 ||
		got.StatsSockets[0].Config != &c.Global.StatsSockets[0] {
		t.Fatalf("%d listeners and %d stats sockets were opened, want 7 and 1", len(got.Listeners),
			len(got.StatsSockets))
	}
	var at []string
	for _, l := range got.Listeners {
		address := sys.Linux{}.LocalAddress(l.FD)
		text := address.Path
		if !address.IsUnix() {
			text = address.IP.Addr().String()
			c, err := net.Dial("tcp", net.JoinHostPort("localhost", fmt.Sprint(address.IP.Port())))
			if err == nil {
				c.Close()
			}
		}
		at = append(at, strings.TrimSuffix(text, fmt.Sprintf(".%d.tmp", os.Getpid())))
	}
	want := []string{"127.0.0.1", "::1", "0.0.0.0", "127.0.0.1", path, "@" + abstract, "127.0.0.1"}
	if diff := cmp.Diff(want, at); diff != "" {
		t.Errorf("the listeners are not where they should be (-want +got):\n%s", diff)
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o606 {
		t.Errorf("the unix socket has mode %o, want 606", info.Mode().Perm())
	}
	got.Close()
	for _, name := range []string{path, path + "-api"} {
		if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after Close the socket %s is still there: %v", name, err)
		}
	}
}

func TestEverythingThatIsWrongIsReportedAtOnce(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))

	c := newConfig()
	c.Global.User, c.Global.Group, c.Global.Chroot = "no-such-user", "no-such-group", "/no/such/directory"
	section(c, "mail", []config.Address{
		ipAddress("127.0.0.1", port), ipAddress("192.0.2.1", 2525), {Kind: config.AddressUnix, Path: file},
	}, config.Address{Kind: config.AddressName, Name: "nowhere", Port: 25},
		config.Address{Kind: config.AddressName, Name: "empty", Port: 25},
		config.Address{Kind: config.AddressFD, FD: 7})
	c.Global.StatsSockets = []config.StatsSocket{
		{Position: config.Position{File: "x.cfg", Line: 99},
			Address: config.Address{Kind: config.AddressFD, FD: 9999}},
	}
	_, err = prepare(c, Options{}, names)
	if err == nil {
		t.Fatal("a configuration with mistakes was prepared")
	}
	want := fmt.Sprintf(`user "no-such-user": user: unknown user no-such-user
group "no-such-group": group: unknown group no-such-group
chroot: stat /no/such/directory: no such file or directory
x.cfg:1: frontend "mail": listening on 127.0.0.1:%d: address already in use INUSE
x.cfg:2: frontend "mail": listening on 192.0.2.1:2525: cannot assign requested address ELSEWHERE
x.cfg:3: frontend "mail": listening on unix:%s: the file exists and is not a socket
x.cfg:99: stats socket: inherited descriptor 9999: not a socket: bad file descriptor
x.cfg:5: server "s1" of backend "mail": resolving "nowhere": lookup nowhere: no such host
x.cfg:6: server "s2" of backend "mail": resolving "empty": the name has no address
x.cfg:7: server "s3" of backend "mail": the address is of a kind that cannot be used here`, port, file)
	want = strings.NewReplacer("INUSE", "(another process listens there: see ss -ltnp)",
		"ELSEWHERE", "(no interface of this machine has that address)").Replace(want)
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(err.Error(), "\n")); diff != "" {
		t.Errorf("the report differs (-want +got):\n%s", diff)
	}
}

func TestServerAddresses(t *testing.T) {
	c := newConfig()
	p := section(c, "mail", []config.Address{ipAddress("127.0.0.1", 0)},
		ipAddress("192.0.2.7", 25),
		config.Address{Kind: config.AddressName, Name: "both", Port: 25},
		config.Address{Kind: config.AddressName, Name: "both", Port: 25, Family: 6},
		config.Address{Kind: config.AddressUnix, Path: "/run/mail"},
		config.Address{Kind: config.AddressUnix, Path: "mail", Abstract: true},
		relativeAddress(3), relativeAddress(-3),
		config.Address{Kind: config.AddressIP, IP: netip.MustParseAddr("192.0.2.7"), NoPort: true},
	)
	unused := section(c, "unused", nil, relativeAddress(0))
	unused.IsFrontend = false
	prepared, err := prepare(c, Options{}, names)
	must(t, err)
	defer prepared.Close()
	port := sys.Linux{}.LocalAddress(prepared.Listeners[0].FD).IP.Port()
	want := []string{
		"192.0.2.7:25", "192.0.2.1:25", "[2001:db8::1]:25", "unix:/run/mail", "unix:@mail",
		fmt.Sprint("192.0.2.7:", port+3), fmt.Sprint("192.0.2.7:", port-3), fmt.Sprint("192.0.2.7:", port),
	}
	var got []string
	for _, s := range p.Servers {
		a, err := prepared.Resolve(s)
		must(t, err)
		got = append(got, a.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the addresses differ (-want +got):\n%s", diff)
	}
	if _, err := prepared.Resolve(&config.Server{Name: "other"}); err == nil {
		t.Error("a server that was not prepared has an address")
	}
}

func TestRelativePortsThatCannotBeHad(t *testing.T) {
	c, one := newConfig(), ipAddress("127.0.0.1", 0)
	section(c, "high", []config.Address{one}, relativeAddress(65535))
	section(c, "two", []config.Address{one, one}, relativeAddress(1))
	_, err := prepare(c, Options{}, names)
	if err == nil {
		t.Fatal("ports that do not exist were accepted")
	}
	for i, want := range []string{
		`^x.cfg:5: server "s1" of backend "high": port \d+\+65535 is \d+: ` +
			`there are only ports from 1 to 65535$`,
		`^x.cfg:15: server "s1" of backend "two": its port depends on the port that the client ` +
			`connected to, which is supported only when that is always the same; ` +
			`here it is one of \[\d+ \d+\]: give the server a port$`,
	} {
		if line := strings.Split(err.Error(), "\n")[i]; !match(want, line) {
			t.Errorf("got %q, want the form %q", line, want)
		}
	}
}

func TestTheSystemsResolverIsUsed(t *testing.T) {
	a, err := Resolve(config.Address{Kind: config.AddressName, Name: "localhost", Port: 514, Family: 4})
	must(t, err)
	if a.String() != "127.0.0.1:514" {
		t.Errorf("localhost is %s", a)
	}
}
