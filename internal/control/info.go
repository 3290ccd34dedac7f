package control

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/whyspin/whyspin/internal/certificate"
	"github.com/whyspin/whyspin/internal/config"
	"github.com/whyspin/whyspin/internal/engine"
	"github.com/whyspin/whyspin/internal/report"
	"github.com/whyspin/whyspin/internal/stream"
	"github.com/whyspin/whyspin/internal/sys"
)

// facts are what the fields of "show info" are taken from, all read once.
type facts struct {
	server   *Server
	totals   engine.Totals
	workers  []engine.WorkerView
	sum      engine.WorkerView // of all workers, those of its fields that are shown
	uptime   time.Duration
	openFile uint64
	tls      engine.TLSTotals
	cached   certificate.Counters
	// sessions are the connections of the runtime API now, opened those since the start, sent and sentRate
	// the bytes written to them and those per second.
	sessions     int
	opened, sent uint64
	sentRate     float64
	// exact asks for fractions in those fields that HAProxy shows with them on request.
	exact bool
}

func (s *Server) facts() *facts {
	e := s.options.Engine
	f := &facts{
		server: s, totals: e.Totals(), workers: e.Workers(), tls: e.TLS(), sessions: len(s.allSessions()),
	}
	if s.options.Certificates != nil {
		f.cached = s.options.Certificates.Counters()
	}
	now := sys.Now()
	f.uptime = now.Sub(f.totals.Started)
	s.mu.Lock()
	f.opened, f.sent, f.sentRate = s.serial, s.sent, s.sentRate.PerSecond(now)
	s.mu.Unlock()
	// 0 when the limit cannot be read, as for everything that is not known.
	f.openFile, _ = sys.OpenFileLimit()
	for i := range f.workers {
		w := &f.workers[i]
		f.sum.Wakeups += w.Wakeups
		f.sum.Charged += w.Charged
		f.sum.Late += w.Late
		f.sum.Queue += w.Queue
		f.sum.Write.Bytes += w.Write.Bytes
		f.sum.SentRate += w.SentRate
		f.sum.Buffers += w.Buffers
		f.sum.BufferBytes += w.BufferBytes
		f.sum.BufferPeak += w.BufferPeak
		f.sum.BufferLimit += w.BufferLimit
		f.sum.BuffersRefused += w.BuffersRefused
		f.sum.Pipes += w.Pipes
		f.sum.PipesFree += w.PipesFree
		f.sum.PipeLimit += w.PipeLimit
		f.sum.PipesRefused += w.PipesRefused
		f.sum.Spliced += w.Spliced
	}
	return f
}

// field is one field of "show info".
type field struct {
	// position is the field's place in HAProxy's list, which never changes.
	position int
	name     string
	// tags are origin, nature and scope, kind is the type of the value: HAProxy's management manual,
	// section 9.2.
	tags, kind string
	of         func(*facts) any
	about      string
}

func showInfo(c *session, args []string) {
	format, about, exact := "", false, false
	for _, arg := range args {
		switch arg {
		case "typed", "json":
			format = arg
		case "desc":
			about = true
		case "float":
			exact = true
		}
	}
	f := c.server.facts()
	f.exact = exact
	switch format {
	case "typed":
		c.infoTyped(f, about)
	case "json":
		c.infoJSON(f, about)
	default:
		c.infoPlain(f, about)
	}
}

// present returns the fields that have a value, with it: a field whose function returns nil is left out.
func present(f *facts, each func(k *field, value any)) {
	for i := range fields {
		if value := fields[i].of(f); value != nil {
			k := fields[i]
			if _, is := value.(decimal); is {
				k.kind = "flt"
			}
			each(&k, value)
		}
	}
}

func (c *session) infoPlain(f *facts, about bool) {
	present(f, func(k *field, value any) {
		fmt.Fprintf(c.out, "%s: %v%s\n", k.name, value, k.quoted(about))
	})
}

func (c *session) infoTyped(f *facts, about bool) {
	present(f, func(k *field, value any) {
		fmt.Fprintf(c.out, "%d.%s.1:%s:%s:%v%s\n", k.position, k.name, k.tags, k.kind, value, k.quoted(about))
	})
}

// quoted is the description as it is put behind a value.
func (k *field) quoted(about bool) string {
	if !about {
		return ""
	}
	return ":" + strconv.Quote(k.about)
}

// tagNames are the words of the JSON format for the letters of the tags.
var (
	origins = map[byte]string{'M': "Metric", 'S': "Status", 'K': "Key", 'C': "Config", 'P': "Product"}
	natures = map[byte]string{
		'O': "Output", 'G': "Gauge", 'D': "Duration", 'L': "Limit", 'C': "Counter", 'M': "Max", 'R': "Rate",
		'a': "Avg",
	}
	scopes = map[byte]string{'S': "Service", 'P': "Process"}
)

// jsonField is a field in HAProxy's JSON format.
type jsonField struct {
	Field struct {
		Pos  int    `json:"pos"`
		Name string `json:"name"`
	} `json:"field"`
	ProcessNum int `json:"processNum"`
	Tags       struct {
		Origin string `json:"origin"`
		Nature string `json:"nature"`
		Scope  string `json:"scope"`
	} `json:"tags"`
	Value struct {
		Type  string `json:"type"`
		Value any    `json:"value"`
	} `json:"value"`
	Desc string `json:"desc,omitempty"`
}

func (c *session) infoJSON(f *facts, about bool) {
	var all []jsonField
	present(f, func(k *field, value any) {
		j := jsonField{ProcessNum: 1}
		j.Field.Pos, j.Field.Name = k.position, k.name
		j.Tags.Origin, j.Tags.Nature, j.Tags.Scope = origins[k.tags[0]], natures[k.tags[1]], scopes[k.tags[2]]
		j.Value.Type, j.Value.Value = k.kind, value
		if about {
			j.Desc = k.about
		}
		all = append(all, j)
	})
	encoder := json.NewEncoder(c.out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(all); err != nil {
		c.message(severityError, "The fields cannot be written: %v\n", err)
	}
}

// decimal is a number with a fraction, printed as HAProxy does: with six digits at most.
type decimal float64

func (d decimal) String() string {
	return strings.TrimRight(strings.TrimRight(strconv.FormatFloat(float64(d), 'f', 6, 64), "0"), ".")
}

// MarshalJSON writes it like that, too.
func (d decimal) MarshalJSON() ([]byte, error) { return []byte(d.String()), nil }

// number is the value of a field that HAProxy shows with its fraction on request.
func (f *facts) number(x float64) any {
	if f.exact {
		return decimal(x)
	}
	return uint64(x)
}

// uptime prints a duration as HAProxy does.
func uptime(d time.Duration) string {
	seconds := int64(d / time.Second)
	return fmt.Sprintf("%dd %dh%02dm%02ds", seconds/86400, seconds/3600%24, seconds/60%60, seconds%60)
}

// started is the time of the start in seconds since 1970.
func (f *facts) started() any {
	return f.number(float64(time.Now().Add(-f.uptime).UnixMicro()) / 1e6)
}

// idle is the mean idle share of the workers in percent.
func (f *facts) idle() int {
	sum := 0.0
	for i := range f.workers {
		sum += f.workers[i].Idle
	}
	return int(100*sum/float64(len(f.workers)) + 0.5)
}

func (f *facts) listeners() int {
	if f.totals.Stopping {
		return len(f.server.listeners)
	}
	return f.totals.Listeners + len(f.server.listeners)
}

// maxSockets is what the process needs at most, or what it may have when that is not known.
func (f *facts) maxSockets() any {
	if n := f.server.options.MaxSockets; n > 0 {
		return n
	}
	return f.openFile
}

func (f *facts) droppedLogs() any {
	if of := f.server.options.DroppedLogs; of != nil {
		return of()
	}
	return 0
}

func (f *facts) probes() any {
	if of := f.server.options.Probes; of != nil {
		return of()
	}
	return "unknown"
}

func (f *facts) description() any {
	if text := f.server.options.Config.Global.Description; text != "" {
		return report.Printable(text) // an empty line in it would end the answer
	}
	return nil
}

func (f *facts) stuckWorkers() int {
	n := 0
	for i := range f.workers {
		if f.workers[i].Stuck > 0 {
			n++
		}
	}
	return n
}

// tainted has HAProxy's form: a set of bits, of which we have one.
func (f *facts) tainted() string {
	if len(f.server.options.Config.Global.Whyspin.Faults) > 0 {
		return "0x1"
	}
	return "0"
}

// megabyte is how HAProxy counts memory in its fields ending in MB.
const megabyte = 1 << 20

// pid is the process in its own pid namespace.
var pid = os.Getpid()

// global is what section global says about TLS.
func (f *facts) global() *config.GlobalTLS { return &f.server.options.Config.Global.TLS }

// sessionReuse is the share in percent of the clients that had a session to go on with.
func (f *facts) sessionReuse() any {
	share := 0.0
	if f.tls.Rate > 0 {
		share = 100 * f.tls.ReuseRate / f.tls.Rate
	}
	return f.number(share)
}

func (f *facts) tlsConns() any { return f.tls.Current[stream.Client] + f.tls.Current[stream.Server] }

func (f *facts) allTLSConns() any {
	return f.tls.Cumulated[stream.Client] + f.tls.Cumulated[stream.Server]
}
