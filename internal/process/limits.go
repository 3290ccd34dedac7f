package process

import (
	"fmt"
	"runtime"
	"slices"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/sys"
)

// What a process needs descriptors for, besides two for each stream.
const (
	descriptorsPerStream = 2
	// descriptorsPerPipe: its two ends.
	descriptorsPerPipe = 2
	// descriptorsPerWorker: its epoll set and its waker.
	descriptorsPerWorker = 2
	// descriptorsPerCPU: the perf event by which a diagnosis takes samples.
	descriptorsPerCPU = 1
	// otherDescriptors: the standard streams, the Go runtime's poller, the programs, maps and links of the
	// probes, which are about thirty, and files that are read for a moment.
	otherDescriptors = 64
)

// mostConns is the limit of connections when the configuration gives none and the descriptor limit is very
// high, as it is in many containers: a proxy with more than that is configured.
const mostConns = 1 << 18

// Defaults of HAProxy for a Config that does not set them.
const defaultStatsMaxConn = 10

// AdminConns is the limit of connections to the HTTP endpoints: a few people, and a Prometheus or two.
const AdminConns = 16

// reserve is the number of descriptors that are not for streams.
func reserve(c *config.Config, workers int) int {
	n := otherDescriptors + workers*descriptorsPerWorker + runtime.NumCPU()*descriptorsPerCPU
	logs := map[config.Address]bool{}
	for _, p := range c.Proxies {
		n += len(p.Binds)
		for i := range p.Logs {
			logs[p.Logs[i].Address] = true
		}
	}
	for i := range c.Global.Logs {
		logs[c.Global.Logs[i].Address] = true
	}
	stats := c.Global.StatsMaxConn
	if stats == 0 {
		stats = defaultStatsMaxConn
	}
	if c.Global.Whyspin.Admin.Kind != config.AddressNone {
		n += 1 + AdminConns
	}
	// "stats maxconn" is the limit of each socket.
	n += len(logs) + len(c.Global.StatsSockets)*(1+stats)
	exposes := func(s config.StatsSocket) bool { return s.ExposeListeners }
	if slices.ContainsFunc(c.Global.StatsSockets, exposes) {
		n += listeners(c) // copies, for the process that will replace this one
	}
	return n
}

// listeners is how many listening sockets a configuration has.
func listeners(c *config.Config) int {
	n := len(c.Global.StatsSockets) + 1
	for _, p := range c.Proxies {
		n += len(p.Binds)
	}
	return n
}

// descriptorLimit is the kernel's limit of descriptors: its value now, and the attempt to raise it.
type descriptorLimit interface {
	now() (uint64, error)
	raise(to uint64) (uint64, error)
}

type kernelLimit struct{}

func (kernelLimit) now() (uint64, error)               { return sys.OpenFileLimit() }
func (kernelLimit) raise(least uint64) (uint64, error) { return sys.RaiseOpenFileLimit(least) }

// Without "maxpipes" there may be as many pipes of 1 MiB as the kernel gives to a user without privileges
// (pipe-user-pages-soft), but they shall not take more than one of 16 descriptors.
const (
	defaultPipes       = 64
	descriptorsForPipe = 32
)

// pipeLimit is how many pipes there may be.
func pipeLimit(g *config.Global, limit descriptorLimit) (int, error) {
	switch {
	case g.NoSplice:
		return 0, nil
	case g.MaxPipes > 0:
		return g.MaxPipes, nil
	}
	have, err := limit.now()
	if err != nil {
		return 0, err
	}
	return int(min(defaultPipes, have/descriptorsForPipe)), nil
}

// limitConns fits the limit of connections to that of descriptors.
func (p *Prepared) limitConns() error {
	g := &p.config.Global
	var err error
	if p.MaxPipes, err = pipeLimit(g, kernelLimit{}); err != nil {
		return err
	}
	reserved := reserve(p.config, p.Workers) + p.MaxPipes*descriptorsPerPipe
	conns, warnings, err := fit(g.MaxConn, reserved, g.ULimitN, kernelLimit{})
	if err != nil {
		return err
	}
	p.MaxConn, p.Warnings = conns, append(p.Warnings, warnings...)
	p.MaxSockets = p.MaxConn*descriptorsPerStream + reserved
	return nil
}

// fit returns the limit of connections: the one asked for, lowered if descriptors do not suffice and the
// limit cannot be raised; without one, as many as descriptors allow. asked is "ulimit-n", 0 when not given.
func fit(maxConn, reserve, asked int, limit descriptorLimit) (conns int, warnings []string, err error) {
	have, err := limit.now()
	if err != nil {
		return 0, nil, err
	}
	if asked > 0 && uint64(asked) < have {
		// HAProxy would lower the limit, and with it maxconn when that is not given.
		warnings = append(warnings, fmt.Sprintf("ulimit-n %d has no effect: the process may have %d"+
			" descriptors already, and whyspin never lowers that limit; maxconn limits the connections",
			asked, have))
	}
	need := maxConn*descriptorsPerStream + reserve
	var raising error
	if target := uint64(max(need, asked)); maxConn > 0 || asked > 0 {
		var raised uint64
		if raised, raising = limit.raise(target); raising == nil {
			have = max(have, raised)
		}
	}
	most := 0
	if have > uint64(reserve) {
		most = int((have - uint64(reserve)) / descriptorsPerStream)
	}
	switch {
	case most < 1:
		return 0, nil, fmt.Errorf("the limit of %d descriptors does not suffice for a single connection,"+
			" since %d are needed besides: raise it (ulimit -n, or LimitNOFILE= of the unit)", have, reserve)
	case maxConn == 0:
		return min(most, mostConns), warnings, nil
	case maxConn > most:
		return most, append(warnings, fmt.Sprintf("maxconn %d needs %d descriptors, but the process may"+
			" have only %d and may not raise that%s: maxconn is lowered to %d (ulimit -n, or LimitNOFILE= of"+
			" the unit, raise it)",
			maxConn, need, have, because(raising), most)), nil
	}
	return maxConn, warnings, nil
}

func because(err error) string {
	if err == nil {
		return ", for which it lacks CAP_SYS_RESOURCE"
	}
	return fmt.Sprintf(" (%v)", err)
}
