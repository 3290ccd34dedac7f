package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/evidence"
	"github.com/whyspin/whyspin/internal/freeport"
	"github.com/whyspin/whyspin/internal/target"
)

// proxyConfig is read by whyspin and by HAProxy alike, so both run with the same features on: as many
// threads, a runtime API, the three timeouts.
const proxyConfig = `
global
    nbthread %d
    stats socket %s mode 600 level admin
%s
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
%s
listen bench
    bind 127.0.0.1:%d%s
    server s1 %s
`

// proxyOptions are lines that one of the proxies gets in addition.
type proxyOptions struct {
	global, defaults []string
	threads          int    // 0 for one
	bind             string // what else the bind line says
}

func indented(lines []string) string {
	text := ""
	for _, l := range lines {
		text += "    " + l + "\n"
	}
	return text
}

// startWhyspin starts the proxy to measure in front of a server.
func (b *bench) startWhyspin(server string, o proxyOptions) (*contestant, error) {
	return b.startProxy(whyspinName, server, o, func(file string) (string, []string, error) {
		return b.whyspin, []string{"run", "-f", file}, nil
	})
}

// startHAProxy starts HAProxy in front of a server.
func (b *bench) startHAProxy(name, server string, o proxyOptions) (*contestant, error) {
	return b.startProxy(name, server, o, func(file string) (string, []string, error) {
		program, err := find("haproxy")
		return program, []string{"-db", "-f", file}, err
	})
}

func (b *bench) startProxy(name, server string, o proxyOptions,
	command func(file string) (string, []string, error)) (*contestant, error) {
	port, err := freeport.Get()
	if err != nil {
		return nil, err
	}
	stem := filepath.Join(b.directory, fmt.Sprintf("%s-%d", strings.ReplaceAll(name, " ", "-"), port))
	c := &contestant{name: name, address: fmt.Sprintf("127.0.0.1:%d", port), control: stem + ".sock"}
	text := fmt.Sprintf(proxyConfig, max(1, o.threads), c.control, indented(o.global), indented(o.defaults),
		port, o.bind, server)
	if err := os.WriteFile(stem+".cfg", []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration of %s: %w", name, err)
	}
	program, arguments, err := command(stem + ".cfg")
	if err != nil {
		return nil, err
	}
	if c.proxy, err = b.start(name, program, nil, arguments...); err != nil {
		return nil, err
	}
	return c, b.listens(c.proxy, c.address)
}

// nginxProxy is nginx as a TCP proxy: one process that is master and worker at once.
const nginxProxy = `
load_module %s;
daemon off;
master_process off;
pid %[2]s.pid;
error_log stderr error;
events { worker_connections 16384; }
stream {
    server {
        listen 127.0.0.1:%[3]d backlog=4096%[5]s;
        proxy_connect_timeout 5s;
        proxy_timeout 1m;
        proxy_pass %[4]s;
    }
}
`

// startNginx starts nginx as a TCP proxy in front of a server.
func (b *bench) startNginx(server string) (*contestant, error) { return b.startNginxWith(server, "") }

// startNginxWith does so with more to say after the address that it listens at.
func (b *bench) startNginxWith(server, listen string) (*contestant, error) {
	module, err := nginxStream()
	if err != nil {
		return nil, err
	}
	port, err := freeport.Get()
	if err != nil {
		return nil, err
	}
	stem := filepath.Join(b.directory, fmt.Sprintf("nginx-%d", port))
	c := &contestant{name: "nginx", address: fmt.Sprintf("127.0.0.1:%d", port)}
	c.proxy, err = b.runNginx("nginx", stem, fmt.Sprintf(nginxProxy, module, stem, port, server, listen))
	if err != nil {
		return nil, err
	}
	return c, b.listens(c.proxy, c.address)
}

// nginxStream finds the module that makes nginx a TCP proxy.
func nginxStream() (string, error) {
	for _, directory := range [...]string{"/usr/lib/nginx/modules", "/usr/share/nginx/modules",
		"/usr/lib64/nginx/modules"} {
		path := filepath.Join(directory, "ngx_stream_module.so")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", &missingError{"nginx's stream module (libnginx-mod-stream)"}
}

func (b *bench) runNginx(name, stem, text string) (*process, error) {
	if err := os.WriteFile(stem+".conf", []byte(text), 0o600); err != nil {
		return nil, fmt.Errorf("writing the configuration of %s: %w", name, err)
	}
	program, err := find("nginx")
	if err != nil {
		return nil, err
	}
	return b.start(name, program, nil, "-p", b.directory, "-e", "stderr", "-c", stem+".conf")
}

// The bodies that the web server gives.
const (
	smallBody     = "It works, 23 bytes long"
	bulkBody      = 10 << 20
	bulkBodyShort = 1 << 20 // for a run that only shows that it works
)

// webServer is nginx as the server behind the proxies. It neither limits requests per connection nor logs.
const webServer = `
daemon off;
master_process off;
pid %[1]s.pid;
error_log stderr error;
events { worker_connections 4096; }
http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_body_temp_path %[1]s-body;
    proxy_temp_path %[1]s-proxy;
    fastcgi_temp_path %[1]s-fastcgi;
    uwsgi_temp_path %[1]s-uwsgi;
    scgi_temp_path %[1]s-scgi;
    server {
        listen 127.0.0.1:%[2]d backlog=4096;
        location = / { default_type text/plain; return 200 "%[3]s"; }
        location = /bulk { root %[4]s; }
    }
}
`

// startWebServer starts the server that wrk's requests end at, and returns its address.
func (b *bench) startWebServer() (string, error) {
	size := bulkBody
	if b.short {
		size = bulkBodyShort
	}
	if err := os.WriteFile(filepath.Join(b.directory, "bulk"), make([]byte, size), 0o644); err != nil {
		return "", fmt.Errorf("writing the large body: %w", err)
	}
	port, err := freeport.Get()
	if err != nil {
		return "", err
	}
	stem := filepath.Join(b.directory, "web")
	text := fmt.Sprintf(webServer, stem, port, smallBody, b.directory)
	p, err := b.runNginx("the web server", stem, text)
	if err != nil {
		return "", err
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	return address, b.listens(p, address)
}

// ask sends an order to the runtime API of a contestant.
func (c *contestant) ask(ctx context.Context, order string) (string, error) {
	return target.API{Address: c.control}.Order(ctx, order)
}

// state asks whyspin for its own account.
func (c *contestant) state(ctx context.Context) (*evidence.Snapshot, error) {
	return target.API{Address: c.control}.State(ctx)
}

// dialPatience is how long a connection through a proxy may take.
const dialPatience = 5 * time.Second

func dialer(address string) func() (net.Conn, error) {
	return func() (net.Conn, error) { return dial(address) }
}

func dial(address string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", address, dialPatience)
	if err != nil {
		return nil, err
	}
	return c, nil
}
