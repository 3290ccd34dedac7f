// Package process is the life of the process around the proxy: opening what it needs while it still may,
// giving up its privileges, going to the background, signals, and telling whoever started it.
//
// The order in which main uses it matters:
//
//	startup := BeginStartup()      who wants to hear how the start goes
//	prepared := Prepare(config)    sockets, names, limits, users
//	...                            log targets are opened, probes are loaded: both need rights, and /dev
//	prepared.WritePIDFile()
//	prepared.DropPrivileges()      no way back from here
//	...                            engine, runtime API
//	startup.Ready()
//	signals.Run(...)               until the end
package process

import (
	"errors"
	"net"
	"runtime"

	"github.com/whyspin/whyspin/internal/certificate"
	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/sys"
)

// The exit codes of "whyspin run".
const (
	// ExitOK is an end that was asked for.
	ExitOK = 0
	// ExitFailure is a start that failed, or an end that was not asked for.
	ExitFailure = 1
)

// Prepared is what a configuration needs of the system, opened.
type Prepared struct {
	// Listeners are for engine.Options, StatsSockets for the runtime API. Whoever takes them owns them.
	Listeners    []engine.Listener
	StatsSockets []StatsSocket
	// Admin is the socket of the HTTP endpoints, nil when they are not asked for.
	Admin net.Listener
	// Workers is the number of workers to run, MaxConn the limit of client connections that the descriptor
	// limit allows, MaxPipes how many pipes there may be, MaxSockets the number of descriptors needed for
	// that.
	Workers, MaxConn, MaxPipes, MaxSockets int
	// Warnings are sentences about what is not as the configuration asks.
	Warnings []string
	// Certificates are those of the lines that speak TLS.
	Certificates *certificate.Store
	// Handover is what the next process may have, nil unless a socket of the runtime API offers it.
	Handover *Handover

	config   *config.Config
	options  Options
	servers  map[*config.Server]sys.Address
	identity identity
	created  []socketFile
	// inherited is what the process that is replaced has given, nil when none was asked.
	inherited *inheritance
}

// StatsSocket is an open socket of a "stats socket" line.
type StatsSocket struct {
	FD     int
	Config *config.StatsSocket
}

// Options are what the command line says about a start.
type Options struct {
	// IgnoreUnresolved disables, with a warning, a server whose name cannot be resolved, as "haproxy -dr"
	// does. Without it such a server is an error.
	IgnoreUnresolved bool
	// TakeFrom is a socket of the runtime API of the process that is replaced, which is asked for its
	// listeners ("haproxy -x"); empty for none.
	TakeFrom string
	// Replaces is true when another process is replaced ("haproxy -sf", "-st"): its ports are shared until it
	// lets go of them, and the files of its unix sockets are replaced.
	Replaces bool
}

// Prepare opens the listeners, resolves the names of servers and users, and fits the limit of connections
// to that of descriptors. It reports everything that is wrong at once, and has then left nothing open.
func Prepare(c *config.Config, o Options) (*Prepared, error) {
	return prepare(c, o, systemLookup)
}

func prepare(c *config.Config, o Options, l lookup) (*Prepared, error) {
	p := &Prepared{config: c, options: o, servers: map[*config.Server]sys.Address{}, Workers: workers(c)}
	var wrong []error
	note := func(err error) {
		if err != nil {
			wrong = append(wrong, err)
		}
	}
	note(p.loadCertificates())
	note(p.findIdentity())
	note(p.limitConns())
	if err := p.takeOver(); err != nil {
		note(err) // that the ports are in use follows from it
	} else {
		note(p.listen(l))
	}
	p.inherited.close()
	note(p.resolveServers(l))
	if err := errors.Join(wrong...); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// workers is the number of workers: as configured, or one for each CPU that the process may run on.
func workers(c *config.Config) int {
	if c.Global.NbThread > 0 {
		return min(c.Global.NbThread, engine.MaxWorkers)
	}
	return min(runtime.NumCPU(), engine.MaxWorkers)
}

// Close closes the sockets that nobody has taken over and removes the files of the unix sockets among them.
// It is for a start that failed.
func (p *Prepared) Close() {
	for _, l := range p.Listeners {
		sys.Linux{}.Close(l.FD)
	}
	for _, s := range p.StatsSockets {
		sys.Linux{}.Close(s.FD)
	}
	if p.Admin != nil {
		p.Admin.Close()
	}
	for _, file := range p.created {
		file.remove()
	}
	if p.Handover != nil {
		p.Handover.Close()
	}
	p.Listeners, p.StatsSockets, p.Admin, p.created = nil, nil, nil, nil
}
