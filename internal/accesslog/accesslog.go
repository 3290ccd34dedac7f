// Package accesslog writes the log lines of streams and the messages of the process, in the formats of
// HAProxy's log lines, to syslog servers and descriptors.
//
// Workers hand over records and never wait: what finds the queue full, or a target that takes no more, is
// dropped and counted. One goroutine formats and sends; a descriptor, whose writes may block, has a goroutine
// and a queue of its own, so that one that is stuck holds up nothing else.
package accesslog

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/sys"
)

// Level is a syslog severity. The lower it is, the worse.
type Level int

// The severities of syslog (RFC 5424, section 6.2.1).
const (
	Emergency Level = iota
	Alert
	Critical
	Error
	Warning
	Notice
	Info
	Debug
)

// Options say what to log and where.
type Options struct {
	// Config names the targets: those of each proxy for its streams, those of the global section for
	// messages of the process.
	Config *config.Config
	// Resolve returns the socket address of a syslog server that is given by name. Without it such a server
	// is an error.
	Resolve func(config.Address) (sys.Address, error)
	// Hostname is the machine's name, for a "log-send-hostname" without one; empty means to ask the system.
	Hostname string
	// PID is what lines show as the process id; 0 means the process's own.
	PID int
}

// queueLimit is how many records and messages may wait to be formatted: enough for all streams of a few
// thousand that end in the same moment, for which formatting takes some ten milliseconds.
const queueLimit = 4096

// flushPatience is how long Close waits for lines that are on their way.
const flushPatience = time.Second

// Logger formats and sends. Its methods may be called from any goroutine.
type Logger struct {
	process  processFacts
	global   group
	proxies  map[*config.Proxy]group
	outlets  map[outletKey]outlet
	warnings []string

	entries  chan entry
	stop     chan struct{}
	stopped  chan struct{}
	stopOnce sync.Once
	dropped  atomic.Uint64
}

// group is the targets of one proxy, or of the process.
type group struct {
	targets []target
	tag     string
}

// entry is one thing to log: a record, or a message of the process or of a proxy.
type entry struct {
	record *engine.Record
	proxy  *config.Proxy // nil for the process
	level  Level
	at     time.Time
	text   string
}

// New opens every target and starts the goroutine that serves them. A syslog socket of this machine that is
// not there yet is only warned about.
func New(o Options) (*Logger, error) {
	l := &Logger{
		process: processFacts{pid: o.PID, hostname: o.Hostname},
		proxies: map[*config.Proxy]group{}, outlets: map[outletKey]outlet{},
		entries: make(chan entry, queueLimit), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	if l.process.pid == 0 {
		l.process.pid = os.Getpid()
	}
	if l.process.hostname == "" {
		// Without one "%H" is empty.
		l.process.hostname, _ = os.Hostname()
	}
	if err := l.open(o); err != nil {
		l.closeOutlets(time.Now())
		return nil, err
	}
	go l.run()
	return l, nil
}

// Warnings are sentences about targets that cannot be reached yet.
func (l *Logger) Warnings() []string { return l.warnings }

// Log takes the record of a stream. It never blocks; it is what engine.Options.Log wants.
func (l *Logger) Log(r *engine.Record) {
	l.enqueue(entry{record: r, proxy: r.Frontend, level: Info, at: r.Accepted.Add(r.Total)})
}

// Message logs a message of the process to the targets of the global section. It never blocks.
func (l *Logger) Message(level Level, format string, args ...any) {
	l.enqueue(entry{level: level, at: time.Now(), text: fmt.Sprintf(format, args...)})
}

// ProxyMessage logs a message about a proxy to that proxy's targets. It never blocks.
func (l *Logger) ProxyMessage(p *config.Proxy, level Level, format string, args ...any) {
	l.enqueue(entry{proxy: p, level: level, at: time.Now(), text: fmt.Sprintf(format, args...)})
}

func (l *Logger) enqueue(e entry) {
	select {
	case l.entries <- e:
	default:
		l.dropped.Add(1)
	}
}

// Dropped is the number of lines that were lost: because the queue was full, or because a target did not
// take them.
func (l *Logger) Dropped() uint64 { return l.dropped.Load() }

// Close sends what was logged before and closes the targets. It waits no longer than flushPatience; what a
// target has not taken by then is dropped.
func (l *Logger) Close() {
	l.stopOnce.Do(func() {
		deadline := time.Now().Add(flushPatience)
		close(l.stop)
		<-l.stopped // the goroutine never blocks
		l.closeOutlets(deadline)
	})
}

func (l *Logger) closeOutlets(deadline time.Time) {
	for _, o := range l.outlets {
		o.close(deadline)
	}
}

// run formats and sends until Close is called and the queue is empty.
func (l *Logger) run() {
	defer close(l.stopped)
	var f formatter
	for {
		select {
		case e := <-l.entries:
			l.write(&f, &e)
		case <-l.stop:
			for {
				select {
				case e := <-l.entries:
					l.write(&f, &e)
				default:
					return
				}
			}
		}
	}
}

// write sends one entry to all its targets.
func (l *Logger) write(f *formatter, e *entry) {
	g := l.global
	if e.proxy != nil {
		g = l.proxies[e.proxy]
	}
	if len(g.targets) == 0 {
		return
	}
	f.body = appendBody(f.body[:0], e, &l.process)
	for i := range g.targets {
		t := &g.targets[i]
		if e.level > t.maxLevel {
			continue
		}
		if !t.outlet.send(f.line(t, g.tag, l.process.pid, max(e.level, t.minLevel), e.at)) {
			l.dropped.Add(1)
		}
	}
}
