package lab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/whyspin/whyspin/internal/target"
)

// Look-alikes that are by their nature those of another program run in that program, which serves the
// healthy traffic, too.

// launchHAProxy starts a HAProxy that polls all the time.
func launchHAProxy(ctx context.Context, s *stage) error {
	file := filepath.Join(s.directory, "haproxy.cfg")
	text := fmt.Sprintf(`global
    nbthread 1
    busy-polling
    stats socket %s level admin
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
listen healthy
    bind %s
    server echo %s
`, s.socket, s.healthyAddress, s.echo.address())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	return s.launchForeign(ctx, target.API{Address: s.socket}, "haproxy", "-db", "-f", file)
}

// script is an echo server that computes in slices: between two of them its loop polls, without a time to
// sleep.
const script = `
const [host, port] = process.argv[2].split(":");
require("net").createServer(c => { c.on("error", () => {}); c.pipe(c); }).listen(port, host);
const slice = () => {
	for (const end = performance.now() + 3; performance.now() < end;);
	setImmediate(slice);
};
slice();
`

// launchNode starts a Node that works in slices.
func launchNode(ctx context.Context, s *stage) error {
	file := filepath.Join(s.directory, "slices.js")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return fmt.Errorf("writing the script: %w", err)
	}
	return s.launchForeign(ctx, target.API{}, "node", file, s.healthyAddress)
}

// launchForeign starts a program and waits until it listens where the healthy traffic goes.
func (s *stage) launchForeign(ctx context.Context, api target.API, name string, arguments ...string) error {
	var err error
	if s.proxy, err = begin(exec.Command(name, arguments...), api); err != nil {
		return err
	}
	s.proxy.foreign = true
	what := strings.Join(s.proxy.command.Args, " ") + " to listen"
	return until(ctx, startPatience, what, func() (bool, error) {
		c, err := net.Dial("tcp", s.healthyAddress)
		if err == nil {
			c.Close()
		}
		return err == nil, s.proxy.alive()
	})
}
