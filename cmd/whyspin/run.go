package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/whyspin/whyspin/internal/accesslog"
	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/control"
	"github.com/whyspin/whyspin/internal/diagnose"
	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/probe"
	"github.com/whyspin/whyspin/internal/process"
	"github.com/whyspin/whyspin/internal/profile"
	"github.com/whyspin/whyspin/internal/report"
	"github.com/whyspin/whyspin/internal/sys"
)

const runUsage = "-f FILE... [--allow-faults]"

// settings are what the command line says about running a proxy.
type settings struct {
	messages
	files         []string
	directory     string // to change to first; empty for none
	allowFaults   bool
	background    bool                 // if the configuration, or the command line, asks for it
	change        func(*config.Config) // what the command line overrides; nil for nothing
	fatalWarnings bool                 // warnings about the configuration are errors
	options       process.Options
	replaced      []int          // the processes that this one replaces
	farewell      syscall.Signal // what they are told
}

func runProxy(arguments []string) int {
	set := flag.NewFlagSet("run", flag.ContinueOnError)
	var names files
	set.Var(&names, "f", "a configuration `file`, or a directory of .cfg files; may be given several times")
	allowFaults := set.Bool("allow-faults", false, "accept whyspin.fault: engine faults, on purpose")
	words, code, ok := interspersed(set, runUsage, arguments)
	if !ok {
		return code
	}
	names = append(names, words...)
	if len(names) == 0 {
		return complain("run", errors.New("no configuration file was named"))
	}
	return run(settings{files: names, allowFaults: *allowFaults})
}

// run runs a proxy until it is stopped.
func run(s settings) int {
	signals := process.CatchSignals()
	startup, err := process.BeginStartup()
	if err != nil {
		return fail("run", err)
	}
	failed := func(err error) int {
		if !startup.Failed(err) {
			s.alert(err)
		}
		return exitFailed
	}
	sources, err := s.sources(startup)
	if err != nil {
		return failed(err)
	}
	c, err := parse(sources, s.allowFaults)
	if err != nil {
		return failed(err)
	}
	if s.change != nil {
		s.change(c)
	}
	if s.fatalWarnings && s.warnAll(c.Warnings) > 0 {
		return failed(errWarnings)
	}
	if s.background && c.Global.Daemon && !startup.InBackground() {
		return s.runInBackground(sources)
	}
	p := &service{settings: s, config: c, startup: startup}
	if err := p.start(); err != nil {
		p.end()
		if !s.haproxy && !startup.InBackground() {
			return fail("run", err)
		}
		return failed(err)
	}
	defer p.end()
	orderly := signals.Run(process.RunOptions{
		Proxy: p.engine, HardStopAfter: c.Global.HardStopAfter, State: p.state, Stopping: p.stopping,
		Log: func(format string, args ...any) { p.note(accesslog.Notice, format, args...) },
	})
	if !orderly {
		return exitFailed
	}
	return exitOK
}

// sources are the texts of the configuration. A background process gets them from the one that it was
// started by, and is in the right directory already.
func (s *settings) sources(startup *process.Startup) ([]config.File, error) {
	if startup.InBackground() {
		text, err := startup.Handed()
		if err != nil {
			return nil, err
		}
		var sources []config.File
		if err := json.Unmarshal(text, &sources); err != nil {
			return nil, fmt.Errorf("reading what the foreground process has handed over: %w", err)
		}
		return sources, nil
	}
	if err := s.changeDirectory(); err != nil {
		return nil, err
	}
	return read(s.files)
}

func (s *settings) changeDirectory() error {
	if s.directory == "" {
		return nil
	}
	if err := os.Chdir(s.directory); err != nil {
		return fmt.Errorf("changing the directory: %w", err)
	}
	return nil
}

// heapGrowth is by how many percent of what is in use the heap grows before garbage is collected, unless the
// environment variable GOGC says it. Bytes that are passed on leave no garbage; handshakes of TLS do, and
// idle connections should not pay for it for long (measured: a TLS connection then holds 6.5 KB instead of
// 8.3, and a handshake takes 10 % more CPU time).
const heapGrowth = 50

func keepHeapSmall() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
}

// runInBackground leaves the proxy to a process of its own.
func (s *settings) runInBackground(sources []config.File) int {
	text, err := json.Marshal(sources)
	if err == nil {
		err = process.RunInBackground(text)
	}
	if err != nil {
		s.alert(err)
		return exitFailed
	}
	return exitOK
}

// service is a running proxy and everything around it.
type service struct {
	settings
	config  *config.Config
	startup *process.Startup

	prepared   *process.Prepared
	log        *accesslog.Logger
	probe      *probe.Probe
	blind      error // why there is no probe
	engine     *engine.Engine
	users      control.Users
	control    *control.Server
	admin      *control.Admin
	supervisor *diagnose.Supervisor
	stop       context.CancelFunc // of the supervisor
	supervised chan struct{}
}

// start brings everything up, in the order that package process asks for: what needs rights first.
func (p *service) start() error {
	var err error
	if p.prepared, err = process.Prepare(p.config, p.options); err != nil {
		return err
	}
	if p.fatalWarnings && len(p.prepared.Warnings) > 0 {
		for _, text := range p.prepared.Warnings {
			p.messages.warn(text)
		}
		return errWarnings
	}
	if p.log, err = accesslog.New(accesslog.Options{Config: p.config, Resolve: process.Resolve}); err != nil {
		return err
	}
	if file := p.config.Global.Whyspin.AdminAuth; file != "" {
		if p.users, err = control.ReadUsers(file); err != nil {
			return err
		}
	}
	p.loadProbes()
	if err := p.prepared.WritePIDFile(); err != nil {
		return err
	}
	// From here on both processes listen; what the old one does not accept any more this one will.
	told := process.Replace(p.replaced, p.farewell)
	if err := p.prepared.DropPrivileges(); err != nil {
		return err
	}
	p.prepared.Warnings = append(p.prepared.Warnings, told...)
	p.warn()
	if err := p.startEngine(); err != nil {
		return err
	}
	if err := p.startControl(); err != nil {
		return err
	}
	p.engine.Start()
	p.control.Start()
	p.startAdmin()
	// What reading the configuration and the kernel's types took is not needed again.
	debug.FreeOSMemory()
	keepHeapSmall()
	p.supervise()
	p.note(accesslog.Notice, "whyspin %s started with %d workers, maxconn %d, probes: %s", version,
		p.prepared.Workers,
		p.prepared.MaxConn, p.supervisor.Probes())
	return p.startup.Ready(p.keep()...)
}

// keep are the standard streams that a background process logs to.
func (p *service) keep() []int {
	var fds []int
	for _, l := range p.config.Global.Logs {
		if l.Kind == config.LogFD {
			fds = append(fds, l.Address.FD)
		}
	}
	return fds
}

// loadProbes loads the probes for this process. The proxy runs without them, too, and says what it does not
// see.
func (p *service) loadProbes() {
	if p.config.Global.Whyspin.Tracing == config.TracingOff {
		return
	}
	p.probe, p.blind = probe.Load(probe.Options{PID: os.Getpid(), Samples: true})
	if p.blind != nil {
		return
	}
	if p.probe.WatchResets() != nil {
		return // the plan says why
	}
	for _, l := range p.prepared.Listeners {
		// A listener that cannot be marked is one whose connections' resets are not counted; the totals say
		// so.
		_ = p.probe.MarkListener(l.FD)
	}
}

// warn says what is not as the configuration asks.
func (p *service) warn() {
	for _, w := range p.config.Warnings {
		p.tell(w.String())
	}
	for _, text := range append(p.prepared.Warnings, p.log.Warnings()...) {
		p.tell("warning: " + text)
	}
	if text := p.startup.Warning(); text != "" {
		p.tell("warning: " + text)
	}
	if p.probe == nil {
		if p.blind != nil {
			p.tell("warning: " + p.blind.Error())
		}
		return
	}
	var missing []string
	for _, s := range p.probe.Plan() {
		if text := s.Unknown(); text != "" {
			missing = append(missing, text)
		}
	}
	if len(missing) > 0 {
		p.tell("warning: the proxy runs with fewer eyes: " + strings.Join(missing, "; "))
	}
}

func (p *service) startEngine() error {
	var err error
	p.engine, err = engine.New(engine.Options{
		Config: p.config, Listeners: p.prepared.Listeners, Kernel: sys.Linux{}, Workers: p.prepared.Workers,
		MaxConn: p.prepared.MaxConn, MaxPipes: p.prepared.MaxPipes, PipeSize: p.config.Global.PipeSize,
		Resolve: p.prepared.Resolve, ServerTLS: p.prepared.ServerTLS,
		Log:   p.log.Log,
		Alert: func(message string) { p.note(accesslog.Alert, "%s", message) },
		Seed:  uint64(sys.Now()),
	})
	if err != nil {
		return err
	}
	p.prepared.Listeners = nil
	if p.probe != nil {
		for _, w := range p.engine.Workers() {
			p.probe.DeclareDirect(w.EpollFD)
		}
	}
	p.supervisor = &diagnose.Supervisor{
		Engine: p.engine, Probe: p.probe, Blind: p.blind,
		Tracing: p.config.Global.Whyspin.Tracing, Action: p.config.Global.Whyspin.SpinAction,
		Log:   func(line string) { p.note(accesslog.Warning, "%s", line) },
		Abort: p.abort,
	}
	return nil
}

func (p *service) startControl() error {
	var sockets []control.Socket
	for _, s := range p.prepared.StatsSockets {
		sockets = append(sockets, control.Socket{FD: s.FD, Config: s.Config})
	}
	p.prepared.StatsSockets = nil
	var err error
	p.control, err = control.New(control.Options{
		Engine: p.engine, Config: p.config, Version: version, ReleaseDate: released, Sockets: sockets,
		MaxSockets: p.prepared.MaxSockets, Spin: p.supervisor, Probes: p.supervisor.Probes,
		DroppedLogs: p.log.Dropped, Certificates: p.prepared.Certificates,
		HandOver: p.handOver(),
		Alert:    func(message string) { p.note(accesslog.Alert, "%s", message) },
	})
	return err
}

// handOver is how the runtime API gives the listeners away, nil when no socket offers them.
func (p *service) handOver() func(net.Conn) error {
	if p.prepared.Handover == nil {
		return nil
	}
	return p.prepared.Handover.Give
}

// startAdmin serves the HTTP endpoints, if they are asked for.
func (p *service) startAdmin() {
	if p.prepared.Admin == nil {
		return
	}
	p.admin = control.NewAdmin(control.AdminOptions{
		Engine: p.engine, Listener: p.prepared.Admin, Name: p.config.Global.Whyspin.Admin.String(),
		MaxConns: process.AdminConns, Users: p.users, Findings: p.supervisor.Counts,
		Alert: func(message string) { p.note(accesslog.Alert, "%s", message) },
		Diagnose: func(ctx context.Context, window time.Duration) ([]byte, error) {
			d, err := p.supervisor.Diagnose(ctx, window)
			if err != nil {
				return nil, err
			}
			var text bytes.Buffer
			err = report.JSON(&text, d)
			return text.Bytes(), err
		},
		Profile: func(ctx context.Context, window time.Duration) ([]byte, error) {
			c, err := p.supervisor.Collect(ctx, window)
			if err != nil {
				return nil, err
			}
			var file bytes.Buffer
			err = profile.Write(&file, c, windowStart(c))
			return file.Bytes(), err
		},
	})
	p.prepared.Admin = nil
	p.admin.Start()
}

func (p *service) supervise() {
	ctx, stop := context.WithCancel(context.Background())
	p.stop, p.supervised = stop, make(chan struct{})
	go func() {
		p.supervisor.Run(ctx)
		close(p.supervised)
	}()
}

// stopping is called when the process begins to stop. Whoever has taken over the listeners answers there from
// now on.
func (p *service) stopping() {
	p.startup.Stopping()
	if p.prepared.Handover == nil || !p.prepared.Handover.Close() {
		return
	}
	p.control.StopListening()
	if p.admin != nil {
		p.admin.StopListening()
	}
}

// end takes everything down that start brought up.
func (p *service) end() {
	if p.stop != nil {
		p.stop()
		<-p.supervised
	}
	if p.admin != nil {
		p.admin.Close()
	}
	if p.control != nil {
		p.control.Close()
	}
	if p.probe != nil {
		_ = p.probe.Close()
	}
	if p.prepared != nil {
		p.prepared.Close()
	}
	if p.log != nil {
		p.log.Close()
	}
}

// note writes a message to the log.
func (p *service) note(level accesslog.Level, format string,
	args ...any) {
	p.log.Message(level, format, args...)
}

// tell says something to whoever started the proxy, and to the log.
func (p *service) tell(text string) {
	p.note(accesslog.Warning, "%s", text)
	if !p.config.Global.Quiet {
		p.messages.warn(text)
	}
}

// state is the one line that SIGHUP and SIGQUIT write to the log.
func (p *service) state() string {
	t := p.engine.Totals()
	return fmt.Sprintf("%d streams of %d, %d connections since the start, %d bytes in, %d out", t.Streams,
		t.MaxConn,
		t.CumulatedConns, t.BytesIn, t.BytesOut)
}

// abort ends the process with the stacks of all goroutines and a core dump, where the limits allow one.
func (p *service) abort() {
	p.log.Close()
	debug.SetTraceback("crash")
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGABRT)
	select {}
}
